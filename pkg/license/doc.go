// Package license makes a project's pod out of a template, a quota and the patches
// of site licenses, and explains each step: [Fill], then [Compose]. It is pure: no
// cluster, clock, logger or network.
//
// Documents go in as JSON of any form and come out in one: members in order of
// their names, no white space, numbers in one form (see [Canonical]). The steps of
// an explanation are operations of RFC 6902 that every strict applier understands;
// applied to the canonical document before, they give the document after.
package license
