// Package patchset applies the JSON Patches of licenses to a pod.
//
// Administrators make patches from the JSON of running pods, for a template that
// has fewer list elements and members; the hub that they come from applies them
// with a library that is more forgiving than RFC 6902. So operations whose outcome
// is what they say, or is there already, succeed here too: an index past the end
// appends, a replace of a missing member adds it, a remove of a missing one does
// nothing. Where the library does something else than the operation says, [Apply]
// refuses. What it did comes back as operations that every strict applier
// understands.
//
// The applier works on a decoded tree. evanphx/json-patch cannot be configured to
// these rules, and a pre-flight that resolves each operation for it would already
// be this package; it panics on some tests with null, and does not compare numbers
// by value. The tests use it as an independent check of the operations returned.
package patchset
