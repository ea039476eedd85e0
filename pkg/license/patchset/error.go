package patchset

import "fmt"

// Code says what is wrong with an operation. A code of a place of a list (idx-…),
// of a parent (parent-…) or of a pointer is about path; with from- before it, it
// is about from. With parent- before it, a code of a list's place is about a place
// on the way: from-parent-idx-dash.
type Code string

// Codes of the document, or a patch as a whole.
const (
	CodeDocument      Code = "document"        // the document is no JSON
	CodePatchNotArray Code = "patch-not-array" // a license's patch is no list
	CodePatchInvalid  Code = "patch-invalid"   // a license's patch string does not load
	CodeTooMany       Code = "too-many"        // more than MaxOperations operations
	CodeTooLarge      Code = "too-large"       // the document, the patch, what it adds, or the result
	CodeTooDeep       Code = "too-deep"        // nested too deeply
	CodeNumber        Code = "number"          // a number that no 64-bit floating-point number can hold
	CodeCharacter     Code = "character"       // a text with half a character (a lone surrogate)
	CodeNotObject     Code = "not-object"      // the result is no object
	CodeProtected     Code = "protected"       // changes what no license may change; Rule says which
)

// Codes of an operation's form.
const (
	CodeOpNotObject   Code = "op-not-object"
	CodeOpUnknown     Code = "op-unknown"
	CodePathAbsent    Code = "path-absent"
	CodePathNotString Code = "path-not-string"
	CodeFromAbsent    Code = "from-absent"
	CodeFromNotString Code = "from-not-string"
	CodeValueAbsent   Code = "value-absent"
	CodeValueInvalid  Code = "value-invalid" // a value that is no JSON
)

// Codes of pointers.
const (
	CodeNoSlash   Code = "path-no-slash" // from-no-slash
	CodeBadEscape Code = "bad-escape"
	CodeForbidden Code = "name-forbidden" // __proto__
)

// Codes of places.
const (
	CodeParentMissing Code = "parent-missing"
	CodeParentNull    Code = "parent-null"
	CodeParentScalar  Code = "parent-scalar"
	CodeMemberMissing Code = "member-missing"
	CodeAtEnd         Code = "idx-at-end"
	CodePastEnd       Code = "idx-past-end"
	CodeDash          Code = "idx-dash"
	CodeEmpty         Code = "idx-empty"
	CodeNegative      Code = "idx-negative"
	CodeNotNumber     Code = "idx-not-number"
	CodeLength        Code = "idx-length"
	CodeOverflow      Code = "idx-overflow"
)

// Codes of what one operation asks for.
const (
	CodeTestFailed   Code = "test-failed"
	CodeMoveIntoSelf Code = "move-into-self"
	CodeRootRemoved  Code = "root-removed"
)

// Error is why a patch was refused. It quotes no value: those may be secret.
type Error struct {
	// License and List say whose patch: its id, and its position among the
	// licenses. List is -1 where no license is at fault.
	License string
	List    int
	// Operation counts within that patch, from 0; -1 means the patch as a whole.
	Operation int
	// Path is the operation's, as it was written, cut to 256 bytes.
	Path string
	Code Code
	// Rule is, with [CodeProtected], the path or the prohibition that forbids it.
	Rule    string
	Message string
}

// Error implements error.
func (e *Error) Error() string {
	where := ""
	if e.License != "" {
		where = "license " + e.License + ", "
	}
	if e.Operation >= 0 {
		where += fmt.Sprintf("operation %d, path %q, ", e.Operation, e.Path)
	}
	return fmt.Sprintf("apply patch: %s%s: %s", where, e.Code, e.Message)
}

// fault is an error whose place is not known yet.
type fault struct {
	code    Code
	message string
}

// before adds a prefix to the code of a place: from, parent.
func (f *fault) before(prefix string) *fault {
	if f == nil {
		return nil
	}
	code := f.code
	if code == CodeNoSlash {
		code = "no-slash"
	}
	return &fault{Code(prefix + "-" + string(code)), prefix + ": " + f.message}
}
