// Package offline answers cases that stand as JSON Lines, one answer a line, in
// their order. It is what scripts and checks use of the packages beside it, without
// a server: the same functions that a start calls.
package offline
