// Package database is Berth's part of a PostgreSQL: its own tables in the schema berth, the tables of a
// project hub in the schema public where there are none, and the notifications of what changes in those.
package database
