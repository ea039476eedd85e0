package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// SiteLicense is a license of the site as it is saved, with what is known of its use.
type SiteLicense struct {
	// ID is a UUID in lower case.
	ID          string `json:"id,omitempty"`
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	// Activates is when it begins to be valid; a license without one never is. Expires is when it
	// ends, nil for never.
	Activates *time.Time `json:"activates,omitempty"`
	Expires   *time.Time `json:"expires,omitempty"`
	// Quota is what it gives; Upgrades is the older form of the same. Both are JSON objects.
	Quota    json.RawMessage `json:"quota,omitempty"`
	Upgrades json.RawMessage `json:"upgrades,omitempty"`
	// RunLimit is how many pods may use it at the same time; nil and 0 mean any number.
	RunLimit *int `json:"run_limit,omitempty"`
	// Managers are the ids of the accounts that may see it.
	Managers []string `json:"managers,omitempty"`

	// The rest is told, and ignored in what is saved. Revision changes with each change.
	Created   *time.Time `json:"created,omitempty"`
	LastUsed  *time.Time `json:"last_used,omitempty"`
	SeatsUsed int        `json:"seats_used"`
	Revision  string     `json:"revision,omitempty"`
	// Warnings are what was noticed when it was saved, and is no reason to refuse it.
	Warnings []string `json:"warnings,omitempty"`
}

// Save says how a license is saved.
type Save struct {
	// Revision is the one that the license must still have, "*" for a license that must be new, empty
	// for any.
	Revision string
	// DryRun checks and saves nothing.
	DryRun bool
}

// Seat is a pod that uses a license.
type Seat struct {
	License    string    `json:"license_id"`
	User       string    `json:"user_id"`
	Project    string    `json:"project_id,omitempty"`
	Pod        string    `json:"pod_name"`
	Generation string    `json:"generation"`
	Since      time.Time `json:"since"`
}

// Seats is who uses a license now: at most 1,000 of Total.
type Seats struct {
	RunLimit *int   `json:"run_limit,omitempty"`
	Total    int    `json:"total"`
	Seats    []Seat `json:"seats"`
}

// Usage is one use of a license by one pod. Stop is nil while it lasts.
type Usage struct {
	License    string     `json:"license_id"`
	User       string     `json:"user_id"`
	Project    string     `json:"project_id,omitempty"`
	Pod        string     `json:"pod_name"`
	Generation string     `json:"generation"`
	Start      time.Time  `json:"start"`
	Stop       *time.Time `json:"stop,omitempty"`
}

// Attached is a project, or a user, that has a license; one of the two is set. Status and Reason are what became of it at
// the project's last start, empty before the first.
type Attached struct {
	Project string `json:"project_id,omitempty"`
	User    string `json:"user_id,omitempty"`
	Status  string `json:"status,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// Preview asks which pod would be made. Just one of Project and User is set.
type Preview struct {
	Project string `json:"project_id,omitempty"`
	User    string `json:"user_id,omitempty"`
	// ManifestURL, Settings and Silo are for a user's pod, Image and Tag for a project's. Silo is the name of the silo
	// that the pod would be for, empty for the one that asks.
	ManifestURL string                       `json:"manifest_url,omitempty"`
	Settings    map[string]map[string]string `json:"settings,omitempty"`
	Silo        string                       `json:"silo,omitempty"`
	Image       string                       `json:"image,omitempty"`
	Tag         string                       `json:"tag,omitempty"`
	// Licenses, where it is not nil, is the set of licenses instead of those attached: one with
	// nothing but an id is the one that is saved.
	Licenses []SiteLicense `json:"licenses,omitzero"`
	// Change, where it is not nil, takes the place of the saved license of its id, where that is attached.
	Change *SiteLicense `json:"change,omitempty"`
	// Template, where it is set, takes the place of the site's: a Pod as JSON.
	Template json.RawMessage `json:"template,omitempty"`
	// NoDryRun leaves the API server out.
	NoDryRun bool `json:"no_dry_run,omitempty"`
}

// Previewed is the pod that would be made now. It may hold values of variables, which may be secret.
type Previewed struct {
	Licenses []License       `json:"licenses"`
	Quota    json.RawMessage `json:"quota,omitempty"`
	Pod      json.RawMessage `json:"pod,omitempty"`
	// Diff leads from the template to the pod: a list of RFC 6902 operations.
	Diff json.RawMessage `json:"diff,omitempty"`
	// Explanation is an [Explanation]: what set what.
	Explanation json.RawMessage `json:"explanation,omitempty"`
	// Fault says why there is no pod.
	Fault *Refusal `json:"fault,omitempty"`
	// Verdict is the API server's, nil where it was not asked; what is no Pod is refused all the same.
	Verdict *Verdict `json:"verdict,omitempty"`
}

// Refusal is why a start would fail.
type Refusal struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// Verdict is what the API server says to a pod that it is asked to make for a trial.
type Verdict struct {
	Accepted bool `json:"accepted"`
	// Invalid says that a refusal is of the pod itself, whatever else the namespace has.
	Invalid bool   `json:"invalid,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// MakesRoom says of a pod that a full namespace refuses that there is room for it when the one that has its name now is gone.
	MakesRoom bool     `json:"makes_room,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`
}

// Explanation says what set what in a pod. Members that a later version adds are left out.
type Explanation struct {
	Steps   []ExplainedStep  `json:"steps"`
	Quota   []ExplainedQuota `json:"quota,omitempty"`
	Ignored []Ignored        `json:"ignored,omitempty"`
}

// ExplainedStep is one operation (RFC 6902) of those that lead from the template to the pod.
type ExplainedStep struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	From  string          `json:"from,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
	// Kind is placeholder, rule, quota or license.
	Kind string `json:"kind,omitempty"`
	// License and Operation say which operation of a license's patch it is.
	License   string `json:"license,omitempty"`
	Operation *int   `json:"operation,omitempty"`
	// Fields are the fields of the quota that set it, Rule says so in words.
	Fields []string `json:"fields,omitempty"`
	Rule   string   `json:"rule,omitempty"`
	// Note says where the outcome is not what the operation says to the letter.
	Note string `json:"note,omitempty"`
	// Withheld says that the value is not told.
	Withheld bool `json:"withheld,omitempty"`
}

// ExplainedQuota is one field of the quota, with what made it so.
type ExplainedQuota struct {
	Field   string          `json:"field"`
	Value   json.RawMessage `json:"value"`
	Sources []QuotaSource   `json:"sources,omitempty"`
	// Capped is the maximum that cut it, in words.
	Capped string `json:"capped,omitempty"`
}

// QuotaSource is something that made a field of the quota what it is.
type QuotaSource struct {
	Kind    string          `json:"kind"`
	License string          `json:"license,omitempty"`
	Amount  json.RawMessage `json:"amount,omitempty"`
	Rule    string          `json:"rule,omitempty"`
}

// Ignored is what of a license was not used, and why.
type Ignored struct {
	License string `json:"license"`
	Field   string `json:"field,omitempty"`
	Why     string `json:"why"`
}

// Replay asks what past starts would come to with a changed license or template.
type Replay struct {
	// Since is how far back.
	Since    time.Time       `json:"since"`
	Change   *SiteLicense    `json:"change,omitempty"`
	Template json.RawMessage `json:"template,omitempty"`
	// After is the Next of the part before.
	After string `json:"after,omitempty"`
	// DryRun asks the API server about each pod that differs.
	DryRun bool `json:"dry_run,omitempty"`
}

// ReplayPart is a part of the answer. Looked counts the starts that were run again, Concerned those of them
// whose project has the license that is changed; it is nil where none is.
type ReplayPart struct {
	Looked    int        `json:"looked"`
	Concerned *int       `json:"concerned,omitempty"`
	Different []Replayed `json:"different"`
	Next      string     `json:"next,omitempty"`
}

// Replayed is a past start that would come to another end.
type Replayed struct {
	Project   string    `json:"project_id,omitempty"`
	User      string    `json:"user_id,omitempty"`
	Pod       string    `json:"pod_name"`
	StartedAt time.Time `json:"started_at"`
	// Diff leads from the pod as it would be made today to the changed one: [ExplainedStep]s, without values that may be secret.
	Diff json.RawMessage `json:"diff,omitempty"`
	// Fault or Verdict says that it would fail. Today is why it fails today, nil where it does not.
	Fault   *Refusal `json:"fault,omitempty"`
	Today   *Refusal `json:"today,omitempty"`
	Verdict *Verdict `json:"verdict,omitempty"`
}

// Licenses returns all licenses of the site, by id, page after page. An error ends it.
func (c *Client) Licenses(ctx context.Context) iter.Seq2[SiteLicense, error] {
	return pages(func(after string) ([]SiteLicense, string, error) {
		var page struct {
			Licenses []SiteLicense `json:"licenses"`
			Next     string        `json:"next"`
		}
		err := c.ask(ctx, request{path: []string{"licenses"}, query: pageAfter(after)}, &page)
		return page.Licenses, page.Next, err
	})
}

// License returns one license of the site.
func (c *Client) License(ctx context.Context, id string) (SiteLicense, error) {
	var l SiteLicense
	err := c.ask(ctx, request{path: []string{"licenses", id}}, &l)
	return l, err
}

// SaveLicense saves a license under its id, a new one or in place of the one that has it, and returns it as it is
// then. Of a license that was changed meanwhile the [*Problem] has the status 412.
func (c *Client) SaveLicense(ctx context.Context, l SiteLicense, save Save) (SiteLicense, error) {
	r := request{method: http.MethodPut, path: []string{"licenses", l.ID}, query: url.Values{}, body: l, match: save.Revision}
	if save.DryRun {
		r.query.Set("dry_run", "true")
	}
	var saved SiteLicense
	err := c.ask(ctx, r, &saved)
	return saved, err
}

// DeleteLicense deletes a license.
func (c *Client) DeleteLicense(ctx context.Context, id string) error {
	return c.DeleteLicenseAs(ctx, id, "")
}

// DeleteLicenseAs deletes a license if it still has a revision, any where that is empty. Of a license that was changed
// meanwhile the [*Problem] has the status 412.
func (c *Client) DeleteLicenseAs(ctx context.Context, id, revision string) error {
	return c.ask(ctx, request{method: http.MethodDelete, path: []string{"licenses", id}, match: revision}, nil)
}

// Seats returns who uses a license now.
func (c *Client) Seats(ctx context.Context, id string) (Seats, error) {
	var s Seats
	err := c.ask(ctx, request{path: []string{"licenses", id, "seats"}}, &s)
	return s, err
}

// Usage returns who has used a license, the newest first, page after page; a zero since is for all. An
// error ends it.
func (c *Client) Usage(ctx context.Context, id string, since time.Time) iter.Seq2[Usage, error] {
	return pages(func(after string) ([]Usage, string, error) {
		query := pageAfter(after)
		if !since.IsZero() {
			query.Set("since", since.UTC().Format(time.RFC3339))
		}
		var page struct {
			Usage []Usage `json:"usage"`
			Next  string  `json:"next"`
		}
		err := c.ask(ctx, request{path: []string{"licenses", id, "usage"}, query: query}, &page)
		return page.Usage, page.Next, err
	})
}

// Attachments returns what a license is attached to, projects by id and then users, page after page; also of one that was
// deleted. An error ends it.
func (c *Client) Attachments(ctx context.Context, id string) iter.Seq2[Attached, error] {
	return pages(func(after string) ([]Attached, string, error) {
		page, err := c.attached(ctx, id, pageAfter(after))
		return page.Attached, page.Next, err
	})
}

// CountAttachments returns how many projects and users have a license.
func (c *Client) CountAttachments(ctx context.Context, id string) (projects, users int, err error) {
	page, err := c.attached(ctx, id, url.Values{"limit": {"1"}})
	return page.Projects, page.Users, err
}

// attachedPage is a page of what has a license; the numbers are on the first one.
type attachedPage struct {
	Attached []Attached `json:"attachments"`
	Projects int        `json:"projects"`
	Users    int        `json:"users"`
	Next     string     `json:"next"`
}

func (c *Client) attached(ctx context.Context, id string, query url.Values) (page attachedPage, err error) {
	err = c.ask(ctx, request{path: []string{"licenses", id, "attachments"}, query: query}, &page)
	return page, err
}

// AttachProject has a project use a license.
func (c *Client) AttachProject(ctx context.Context, license, project string) error {
	return c.ask(ctx, request{method: http.MethodPut, path: []string{"licenses", license, "projects", project}}, nil)
}

// DetachProject has a project not use a license any more.
func (c *Client) DetachProject(ctx context.Context, license, project string) error {
	return c.ask(ctx, request{method: http.MethodDelete, path: []string{"licenses", license, "projects", project}}, nil)
}

// AttachUser has the pods of a user use a license.
func (c *Client) AttachUser(ctx context.Context, license, user string) error {
	return c.ask(ctx, request{method: http.MethodPut, path: []string{"licenses", license, "users", user}}, nil)
}

// DetachUser has the pods of a user not use a license any more.
func (c *Client) DetachUser(ctx context.Context, license, user string) error {
	return c.ask(ctx, request{method: http.MethodDelete, path: []string{"licenses", license, "users", user}}, nil)
}

// Preview returns the pod that would be made now. Nothing is made or changed.
func (c *Client) Preview(ctx context.Context, p Preview) (Previewed, error) {
	var made Previewed
	err := c.ask(ctx, request{method: http.MethodPost, path: []string{"preview"}, body: p}, &made)
	return made, err
}

// Replay runs past starts again, part after part. An error ends it.
func (c *Client) Replay(ctx context.Context, r Replay) iter.Seq2[ReplayPart, error] {
	return func(yield func(ReplayPart, error) bool) {
		for {
			var part ReplayPart
			err := c.ask(ctx, request{method: http.MethodPost, path: []string{"replay"}, body: r}, &part)
			if !yield(part, err) || err != nil || part.Next == "" || part.Next == r.After {
				return
			}
			r.After = part.Next
		}
	}
}

// pageAfter asks for the largest page after another one.
func pageAfter(after string) url.Values {
	query := url.Values{"limit": {strconv.Itoa(largestPage)}}
	if after != "" {
		query.Set("page_token", after)
	}
	return query
}

// largestPage is how many things a page may have.
const largestPage = 500

// pages yields the things of all pages. read returns those of the page after one, and what the next one is after.
func pages[T any](read func(after string) ([]T, string, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		after := ""
		for {
			found, next, err := read(after)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, one := range found {
				if !yield(one, nil) {
					return
				}
			}
			if next == "" || next == after {
				return
			}
			after = next
		}
	}
}
