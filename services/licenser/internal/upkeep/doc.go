// Package upkeep decides what becomes of a project when nobody starts it: what its state
// is, when it is started again after it has died, when it has been idle for long enough, and what a
// hub asks of it. It is pure: time and chance are parameters.
package upkeep
