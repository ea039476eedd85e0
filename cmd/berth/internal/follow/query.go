package follow

import (
	"strings"

	"berth/pkg/events"
)

// Query says what to read. Empty fields match everything.
type Query struct {
	Cluster, Pod, User string
	Types              []events.Type
	// From is where to begin.
	From From
}

// From is a place in the log to begin at.
type From int

// The places to begin at.
const (
	// FromEnd reads what happens from now on.
	FromEnd From = iota
	// FromStart reads everything that the log still has.
	FromStart
	// FromLife leaves out what happened to pods of the same names before.
	FromLife
)

// filters are the subjects of what a query asks for.
func (q Query) filters() []string {
	token := func(name string) string {
		if name == "" {
			return "*"
		}
		return events.Token(name)
	}
	root := strings.TrimSuffix(events.ClusterFilter(q.Cluster), ">")
	prefix := root + token(q.Pod) + "." + token(q.User) + "."
	if len(q.Types) == 0 {
		return []string{prefix + "*"}
	}
	subjects := make([]string, len(q.Types))
	for i, t := range q.Types {
		subjects[i] = prefix + token(string(t))
	}
	return subjects
}
