// Package access decides who calls the api and what they may ask for.
//
// A request is first admitted ([Guard.Admit]): who calls, judged by credentials and source address. Once its
// user is known, the user is asked for ([Guard.User]): whether the user asks too often, and whether the caller
// may speak for the user at all.
//
// # Users of others
//
// A user whom the caller may not name is answered exactly as a user who has nothing and never had anything:
// lists are empty, a pod of theirs is one that does not exist, a watch of it answers as for a name that does
// not exist, a delete of all they have has nothing left to delete, an address is nobody's. Nothing is asked
// of the log for such an answer, so that it cannot depend on what is there. What would make something is refused with
// 403 FORBIDDEN in a text that is the same for every user. [Denial.Foreign] tells this denial from others: an
// endpoint that reads or removes answers it with its own "nothing there".
package access

import (
	"context"
	"maps"
	"net/netip"
	"strings"
	"time"

	"berth/pkg/events"
)

// Caller is who a request comes from, after its credentials have been checked.
// The zero Caller may name nobody.
type Caller struct {
	// Silo is the server that asks, as its pods get to know it. It is empty for an
	// administrator who calls from nowhere in particular.
	Silo events.Silo
	// Address is the client's, after trusted proxies.
	Address netip.Addr
	// Admin says that the request has the token of the administrators.
	Admin bool
	// Projects says that the caller may start, stop and look at projects, all of them.
	Projects bool

	users users
}

// users are those whom a silo may speak for.
type users struct {
	all     bool
	domains map[string]bool
}

func usersOf(domains []string) users {
	u := users{domains: make(map[string]bool, len(domains))}
	for _, domain := range domains {
		u.all = u.all || domain == "*"
		u.domains[domain] = true
	}
	return u
}

// SameUsers says whether two callers may name the same users.
func (c Caller) SameUsers(other Caller) bool {
	return c.Projects == other.Projects && c.users.all == other.users.all && maps.Equal(c.users.domains, other.users.domains)
}

// MayName says whether the caller may speak for the user: one of the silo's
// domains, or any if it has "*". A project is only of those who may manage projects.
func (c Caller) MayName(user string) bool {
	if _, project := events.ProjectOf(user); project {
		return c.Projects
	}
	_, domain, found := strings.Cut(user, "@")
	return c.users.all || found && domain != "*" && c.users.domains[domain]
}

type callerKey struct{}

// With returns ctx with a caller, for [From].
func With(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// From returns the caller of a request, the zero Caller if there is none.
func From(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// Denial is why a request is refused. Its message is for the client.
type Denial struct { //nolint:errname // It is what a guard says first, and an error because it ends a request.
	// Status is the HTTP status.
	Status int
	Reason events.Reason
	// Message names the fault and the fix.
	Message string
	// RetryAfter is when to ask again, 0 if that would not help. An answer has it
	// as Retry-After in whole seconds, rounded up.
	RetryAfter time.Duration
	// Foreign says that the user is none of the caller's; see the package comment.
	Foreign bool
	// Silo is whose credentials the request has, where it has some: for the audit, not for the client.
	Silo string
	// Address is the client's, after trusted proxies, as far as it is known.
	Address netip.Addr
}

// Error returns reason and message.
func (d *Denial) Error() string { return string(d.Reason) + ": " + d.Message }
