// Package store is the licenser's database: the licenses, projects and settings of a hub, read as they are,
// and Berth's own tables beside them. All of it that has to hold together is one transaction.
package store
