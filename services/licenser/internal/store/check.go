package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"berth/pkg/events"
)

// Mode is what a check is for.
type Mode int

// The modes.
const (
	// Start is the start of a pod: rows are locked, and what is decided is written.
	Start Mode = iota
	// Recompute is the same for a pod that runs: what the project asked for is not touched, and its row has to exist.
	Recompute
	// Preview reads, and neither locks nor writes.
	Preview
)

// CheckRequest names the pod whose licenses are checked.
type CheckRequest struct {
	Cluster, Pod, Generation string
	// Begun is when the life of the pod began, by when every earlier pod of its name was gone; zero for unknown.
	Begun time.Time
	// Command is the id of the create that a [Start] carries out.
	Command string
	// User is the pod's user id, project:<id> for a project's.
	User string
	// Project is what is asked for, nil for the pod of a person. In [Recompute] only its ID counts.
	Project *events.ProjectRequest
	Mode    Mode
	// Licenses, where it is not nil, are the ids to look at instead of those attached; for [Preview].
	Licenses []string
}

// Facts are what is decided on.
type Facts struct {
	// Now is the clock of the database, read after all locks were had.
	Now     time.Time
	Project ProjectFacts
	// Licenses are those attached that exist, ascending by id.
	Licenses []LicenseRow
	// Seats says how many seats of a license other pods hold, in all clusters; those kept for a restart count.
	Seats map[string]int
	Site  Site
}

// ProjectFacts are the project's; all zero for the pod of a person. What is NULL, or no column, is nil.
type ProjectFacts struct {
	Settings, Users, SiteLicense, PayAsYouGo, State, RunQuota json.RawMessage
	// Extras are what this start asks for, and where it does not say, what the last one did.
	Extras Extras
}

// Extras are what goes into the template. Env may be secret.
type Extras struct {
	Image, Tag string
	Env        map[string]string
	Config     json.RawMessage
}

// LicenseRow is a license as it is stored, besides what people read.
type LicenseRow struct {
	ID, Title          string
	Activates, Expires *time.Time
	Upgrades, Quota    json.RawMessage
	RunLimit           *int64
}

// Site are the settings of the site as package quota reads them: the texts of the rows, as JSON strings; nil for no row.
type Site struct{ DefaultQuotas, MaxUpgrades json.RawMessage }

// Decision is what a check writes.
type Decision struct {
	// Write is false where nothing is to be written, the seats included.
	Write bool
	// SiteLicense has the new values, each in place of the whole old one; keys that it does not have stay as they are.
	SiteLicense map[string]json.RawMessage
	// RunQuota takes the place of the old one; nil leaves that.
	RunQuota json.RawMessage
	// Seats are the licenses of which the pod has a seat from now on; it loses all others.
	Seats []string
	// LastUsed are the licenses that are used now.
	LastUsed []string
	// Reserve, which is for where nothing else is written, are licenses of which the pod gets a seat besides those that
	// it has, for the next pod of its name.
	Reserve []string
}

// Check reads what a start depends on, has decide decide, and writes the outcome, all in one transaction. The project's
// row and those of all licenses with a limit are locked from before they are read until the outcome is written, so
// that two starts never get the same last seat. decide must not wait for anything; it is called again when the
// database wants the transaction repeated. Its error is returned as it is, and then nothing is written.
//
// It fails with [ErrNoProject] where a hub's database does not have the project, for a database that is away with [ErrAway],
// and where a value cannot be kept with [ErrAsked] or [ErrInvalid]: the start's own, or another one.
// A check for a pod whose name a later generation has taken seats for writes nothing. A person without licenses costs one
// SELECT; Facts has nothing but Now then.
func (s *Store) Check(ctx context.Context, req CheckRequest, decide func(Facts) (Decision, error)) error {
	if req.Project != nil && !events.ProjectID(req.Project.ID) {
		return fmt.Errorf("check licenses of %.60q: %w", req.Project.ID, ErrNoProject)
	}
	tables, err := s.tables(ctx)
	if err != nil {
		return err
	}
	if req.Project == nil && req.Licenses == nil {
		now, none, err := s.unlicensed(ctx, req)
		if err != nil {
			return err
		}
		if none {
			_, err := decide(Facts{Now: now})
			return err
		}
	}
	options := pgx.TxOptions{}
	if req.Mode == Preview {
		options = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	}
	err = s.transact(ctx, options, func(ctx context.Context, tx pgx.Tx) error {
		c := check{hub: tables, tx: tx, req: req}
		facts, err := c.facts(ctx)
		if err != nil {
			return err
		}
		decision, err := decide(facts)
		if err != nil || req.Mode == Preview || c.late {
			return err
		}
		if !decision.Write {
			return c.reserve(ctx, decision.Reserve)
		}
		return c.write(ctx, decision)
	})
	if errors.Is(err, ErrInvalid) {
		return s.blame(ctx, req, err)
	}
	return err
}

// unlicensed says that a person has no licenses, and the pod no seats to lose.
func (s *Store) unlicensed(ctx context.Context, req CheckRequest) (now time.Time, none bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err = s.pool.QueryRow(ctx, `SELECT clock_timestamp(),
		NOT EXISTS (SELECT FROM berth.user_licenses WHERE user_id = $1) AND NOT EXISTS (SELECT FROM berth.seats WHERE cluster = $2 AND pod = $3)`,
		req.User, req.Cluster, req.Pod).Scan(&now, &none)
	return now, none, wrong(away(ctx, err))
}
