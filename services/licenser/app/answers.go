package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/license"
	"berth/pkg/license/wire"
	"berth/services/licenser/internal/licensing"
	"berth/services/licenser/internal/store"
)

// method answers one method of package wire.
type method func(l *licenser, ctx context.Context, params json.RawMessage) (any, error)

// methods are all that the licensers answer.
func methods() map[string]method {
	return map[string]method{
		wire.MethodLicenses: answering((*licenser).listLicenses),
		wire.MethodLicense:  answering((*licenser).getLicense),
		wire.MethodPut:      answering((*licenser).putLicense),
		wire.MethodDelete:   answering((*licenser).deleteLicense),
		wire.MethodSeats: answering(func(l *licenser, ctx context.Context, ref wire.LicenseRef) (wire.SeatList, error) {
			return l.store.Seats(ctx, ref.ID)
		}),
		wire.MethodUsage: answering(func(l *licenser, ctx context.Context, q wire.UsageQuery) (wire.UsageList, error) {
			return l.store.Usage(ctx, q)
		}),
		wire.MethodAttached: answering(func(l *licenser, ctx context.Context, q wire.AttachedQuery) (wire.AttachedList, error) {
			return l.store.Attached(ctx, q)
		}),
		wire.MethodAttach: answering((*licenser).attach),
		wire.MethodDetach: answering((*licenser).detach),
		wire.MethodProject: answering(func(l *licenser, ctx context.Context, ref wire.ProjectRef) (wire.Project, error) {
			return l.store.Project(ctx, ref.ID)
		}),
		wire.MethodActivity: answering(func(l *licenser, ctx context.Context, ref wire.ProjectRef) (any, error) {
			return nil, l.store.Activity(ctx, ref.ID)
		}),
		wire.MethodStop:    answering((*licenser).stopProject),
		wire.MethodPreview: answering((*licenser).preview),
		wire.MethodReplay:  answering((*licenser).replay),
	}
}

// answering makes a method of a function with typed parameters.
func answering[P, R any](f func(*licenser, context.Context, P) (R, error)) method {
	return func(l *licenser, ctx context.Context, params json.RawMessage) (any, error) {
		var p P
		if err := json.Unmarshal(params, &p); err != nil {
			return nil, refused("the parameters are malformed: %.200s", err.Error())
		}
		return f(l, ctx, p)
	}
}

// refused is a fault of the request.
func refused(format string, values ...any) error {
	return &licensing.Fault{Reason: events.RequestInvalid, Message: fmt.Sprintf(format, values...)}
}

// answer answers a question of another service.
func (l *licenser) answer(ctx context.Context, q natsbus.Question) (any, error) {
	if l.store == nil {
		return nil, &natsbus.Fault{Reason: events.Unavailable, Message: noDatabase}
	}
	answer, known := l.methods[q.Method]
	if !known {
		return nil, &natsbus.Fault{Reason: events.RequestInvalid, Message: fmt.Sprintf("the licenser does not know the method %.60q", q.Method)}
	}
	result, err := answer(l, ctx, q.Params)
	return result, l.told(err, q.Method)
}

// told is an error as the asker reads it. What is not its own fault is logged where it is told.
func (l *licenser) told(err error, method string) error {
	for _, known := range []struct {
		err    error
		reason events.Reason
	}{
		{store.ErrNoProject, events.ProjectUnknown},
		{store.ErrNoLicense, events.NotFound},
		{store.ErrConflict, events.Conflict},
		{store.ErrInvalid, events.RequestInvalid},
	} {
		if errors.Is(err, known.err) {
			return &natsbus.Fault{Reason: known.reason, Message: err.Error()}
		}
	}
	fault := (*licensing.Fault)(nil)
	switch {
	case errors.As(err, &fault):
		return &natsbus.Fault{Reason: fault.Reason, Message: fault.Message}
	case errors.Is(err, store.ErrAway):
		l.log.Warn().Err(err).Str("method", method).Msg("The database cannot be asked")
		return &natsbus.Fault{Reason: events.Unavailable, Message: "the licenser cannot reach its database now; try again"}
	default:
		return err
	}
}

// maxAnswer is what an answer may have, in bytes, at the most: below the size of a message.
const maxAnswer = 512 << 10

func (l *licenser) getLicense(ctx context.Context, ref wire.LicenseRef) (wire.License, error) {
	there, err := l.store.License(ctx, ref.ID)
	if err != nil {
		return wire.License{}, err
	}
	text, err := json.Marshal(there)
	switch {
	case err != nil:
		return wire.License{}, fmt.Errorf("encode license: %w", err)
	case len(text) > maxAnswer:
		return wire.License{}, refused("license %s has %d bytes, and %d can be shown: shorten its description or its patch in the database",
			there.ID, len(text), maxAnswer)
	}
	return there, nil
}

// short is what a list shows of a license that is too large for an answer.
func short(l wire.License, size int) wire.License {
	return wire.License{
		ID: l.ID, Title: fmt.Sprintf("%.128s", l.Title), Activates: l.Activates, Expires: l.Expires, RunLimit: l.RunLimit,
		Created: l.Created, LastUsed: l.LastUsed, SeatsUsed: l.SeatsUsed, Revision: l.Revision,
		Warnings: []string{fmt.Sprintf("it has %d bytes, and %d can be shown: its description, quota, upgrades and managers are left out here", size, maxAnswer)},
	}
}

func (l *licenser) listLicenses(ctx context.Context, list wire.ListLicenses) (wire.LicenseList, error) {
	licenses, next, err := l.store.Licenses(ctx, list.After, list.Limit)
	if err != nil {
		return wire.LicenseList{}, err
	}
	size := 0
	for i := range licenses {
		text, err := json.Marshal(licenses[i])
		if err == nil && len(text) > maxAnswer {
			licenses[i] = short(licenses[i], len(text))
			text, err = json.Marshal(licenses[i])
		}
		if err != nil {
			return wire.LicenseList{}, fmt.Errorf("encode license: %w", err)
		}
		if size += len(text); size > maxAnswer && i > 0 {
			licenses, next = licenses[:i], licenses[i-1].ID
			break
		}
	}
	if licenses == nil {
		licenses = []wire.License{}
	}
	return wire.LicenseList{Licenses: licenses, Next: next}, nil
}

func (l *licenser) putLicense(ctx context.Context, put wire.PutLicense) (wire.License, error) {
	there, err := l.validate(ctx, put.License)
	if err != nil {
		return wire.License{}, err
	}
	put.License.Warnings = nil
	if never := licensing.NeverValid(put.License); never != "" {
		put.License.Warnings = append(put.License.Warnings, never)
	}
	if there == nil || !licensing.SameContent(put.License, *there) {
		warnings, err := l.try(ctx, put.License, there)
		if err != nil {
			return wire.License{}, err
		}
		put.License.Warnings = append(put.License.Warnings, warnings...)
	}
	if put.DryRun {
		return tried(put.License, there), unchanged(put, there)
	}
	saved, err := l.store.PutLicense(ctx, put.License, put.Revision)
	if err == nil {
		saved.Warnings = put.License.Warnings
		l.log.Info().Str("license_id", saved.ID).Str("actor", put.Actor).Msg("A license was saved")
	}
	return saved, err
}

// validate says what is wrong with a license that is to be saved, and returns the one that is there now, nil for none.
func (l *licenser) validate(ctx context.Context, w wire.License) (there *wire.License, err error) {
	saved, err := l.store.License(ctx, w.ID)
	switch {
	case err == nil:
		there = &saved
	case !errors.Is(err, store.ErrNoLicense):
		return nil, err
	}
	return there, licensing.Validate(w, there)
}

// tried is the answer to a license that is not to be saved: what is told and not taken is that of the one that is there now.
func tried(l wire.License, there *wire.License) wire.License {
	now := wire.License{}
	if there != nil {
		now = *there
	}
	l.Created, l.LastUsed, l.SeatsUsed, l.Revision = now.Created, now.LastUsed, now.SeatsUsed, now.Revision
	return l
}

// unchanged says whether a license could be saved as far as its revision goes.
func unchanged(put wire.PutLicense, there *wire.License) error {
	revision := store.NoRevision
	if there != nil {
		revision = there.Revision
	}
	if there != nil && put.Revision == store.AnyRevision {
		return nil
	}
	if put.Revision != "" && put.Revision != revision {
		return fmt.Errorf("try license %s: %w", put.License.ID, store.ErrConflict)
	}
	return nil
}

// noTemplate says that an error is the template's.
func noTemplate(err error) bool {
	fault := (*licensing.Fault)(nil)
	return errors.As(err, &fault) && fault.Reason == events.TemplateInvalid
}

func (l *licenser) deleteLicense(ctx context.Context, ref wire.LicenseRef) (any, error) {
	err := l.store.DeleteLicense(ctx, ref.ID, ref.Revision)
	if err == nil {
		l.log.Info().Str("license_id", ref.ID).Str("actor", ref.Actor).Msg("A license was deleted")
	}
	return nil, err
}

// maxUser is the length of a user id, in bytes, at the most.
const maxUser = 253

func (l *licenser) attach(ctx context.Context, a wire.Attachment) (any, error) {
	if err := checkUser(a.User); err != nil {
		return nil, err
	}
	if a.Project != "" {
		p, err := l.store.Project(ctx, a.Project)
		if err != nil && !errors.Is(err, store.ErrNoProject) {
			return nil, err
		}
		if len(p.Licenses) >= licensing.MaxLicenses {
			return nil, refused("the project has %d licenses already: detach those that are over", len(p.Licenses))
		}
	}
	err := l.store.Attach(ctx, a)
	if err == nil {
		l.logAttachment(a, "A license was attached")
	}
	return nil, err
}

func (l *licenser) detach(ctx context.Context, a wire.Attachment) (any, error) {
	err := l.store.Detach(ctx, a)
	if err == nil {
		l.logAttachment(a, "A license was detached")
	}
	return nil, err
}

func (l *licenser) logAttachment(a wire.Attachment, what string) {
	l.log.Info().Str("license_id", a.License).Str("project_id", a.Project).Str("user_id", a.User).Str("actor", a.Actor).Msg(what)
}

// checkUser refuses an id that no person can have.
func checkUser(user string) error {
	switch {
	case len(user) > maxUser:
		return refused("user_id has more than %d bytes", maxUser)
	case strings.ContainsRune(user, 0):
		return refused("user_id has the character NUL: take it out")
	}
	if _, project := events.ProjectOf(user); project {
		return refused("user_id is a project's: write its id into project_id")
	}
	return nil
}

// diff is what leads from one pod to another, as JSON.
func diff(before, after json.RawMessage) (json.RawMessage, error) {
	operations, err := license.Diff(before, after)
	if err != nil {
		return nil, err
	}
	return json.Marshal(operations)
}
