package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Fault is one mistake in a configuration, with its fix. It never holds the value of a secret.
type Fault struct {
	// File is the file as it was named to [Load], "" for the environment and for [Config.Validate].
	File string
	// Line counts from 1; 0 means that the place is not known.
	Line int
	// Path is the key, like hostnameList[1].address, or the environment variable. It is "" where
	// the fault is the whole file.
	Path string
	// Message is one line of text.
	Message string
}

// String returns the fault as "file:line: path: message", without the parts that it does not have.
func (f Fault) String() string {
	var text strings.Builder
	if f.File != "" {
		text.WriteString(f.File)
		if f.Line > 0 {
			text.WriteString(":" + strconv.Itoa(f.Line))
		}
		text.WriteString(": ")
	}
	if f.Path != "" {
		text.WriteString(f.Path + ": ")
	}
	return text.String() + f.Message
}

// Faults are all mistakes of a configuration, those of the file first, by line. As an error its
// text is one fault a line.
type Faults []Fault //nolint:errname // It is a list first: Validate returns it, and many print it.

// Error implements error.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

// sorted returns the faults in the order of the file, then those of the environment, by path.
func (f Faults) sorted() Faults {
	slices.SortStableFunc(f, func(a, b Fault) int {
		return cmp.Or(-cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Path, b.Path))
	})
	return f
}

// Notice is something that the operator should know about a configuration that is valid.
type Notice Fault

// String returns the notice in the form of [Fault.String].
func (n Notice) String() string { return Fault(n).String() }

// quote shows a value in a message: in quotes, and cut after 60 bytes.
func quote(value string) string {
	const shown = 60
	if len(value) > shown {
		return fmt.Sprintf("%q…", value[:shown])
	}
	return strconv.Quote(value)
}

// oneLine keeps the text of a foreign error on one line.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
