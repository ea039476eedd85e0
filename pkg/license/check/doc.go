// Package check decides, when a project starts, which of its licenses it uses. It
// is pure: the time, the license rows and the seats that others hold are inputs.
// Who calls it holds the locks that keep the seats true until the result is stored.
package check
