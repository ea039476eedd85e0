// Package quota computes what a project may use from its settings, its users'
// upgrades, its licenses and the site's settings, and explains each field of the
// result. It is pure and modifies nothing that it is given.
package quota
