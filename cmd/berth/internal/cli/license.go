package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth/cmd/berth/internal/licensefile"
	"berth/cmd/berth/internal/progress"
	"berth/pkg/client"
	"berth/pkg/events"
)

// brief is how long the commands wait that only look or save.
const brief = 2 * time.Minute

func (a *app) license() *cobra.Command {
	return group("license", "List, save, delete and try the licenses of the site", `
The licenses of a site: what projects and users may have beyond the defaults. For
administrators: --token-file holds the token of adminTokenHash.

A license file is YAML, with one license or several as documents:

  id: 8e03978e-40d5-43e8-bc93-6894a57f9324
  title: Course in physics
  activates: 2026-01-01
  expires: 2026-07-01T00:00:00Z
  run_limit: 30
  quota:
    cpu: 2
    ram: 4
    patch:
      - {op: add, path: /metadata/labels/course, value: physics}`,
		`  berth license list --token-file admin.token
  berth license apply -f licenses/ --dry-run
  berth license preview --project 9b2c1f64-0c5e-4f55-8a6f-3a0d1a2b3c4d --change physics.yaml`,
		a.licenseList(), a.licenseGet(), a.licenseApply(), a.licenseDelete(), a.licenseSeats(), a.licenseUsage(),
		a.licenseAttachments(), a.licenseAttach(), a.licenseDetach(), a.licensePreview(), a.licenseReplay())
}

// aboutLicense is the body of a command about one license.
func (a *app) aboutLicense(cmd *cobra.Command, text string, do func(ctx context.Context, api *client.Client, id string) error) error {
	id, err := projectID("license", text)
	if err != nil {
		return err
	}
	return a.withService(cmd.Context(), brief, a.newDisplay(""), func(ctx context.Context, api *client.Client) error { return do(ctx, api, id) })
}

func (a *app) licenseList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the licenses of the site",
		Long: `List the licenses of the site by id: title, seats in use and how many there are, and
when each is valid. With --json stdout has an array of them, with everything.`,
		Example: `  berth license list --token-file admin.token
  berth license list --json | jq -r '.[] | select(.seats_used > 0).id'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withService(cmd.Context(), brief, a.newDisplay(""), func(ctx context.Context, api *client.Client) error {
				all := []client.SiteLicense{}
				for l, err := range api.Licenses(ctx) {
					if err != nil {
						return failed(ctx, "list the licenses at "+api.URL(), err)
					}
					all = append(all, l)
				}
				switch {
				case a.json:
					a.writeJSON(a.Stdout, all)
				case len(all) > 0:
					fmt.Fprint(a.Stdout, licenseTable(all))
				case !a.quiet:
					fmt.Fprintln(a.Stderr, "no licenses")
				}
				return nil
			})
		},
	}
}

func licenseTable(all []client.SiteLicense) string {
	rows := make([][]string, len(all))
	for i, l := range all {
		rows[i] = []string{l.ID, seatWords(l.SeatsUsed, l.RunLimit), day(l.Activates), day(l.Expires), l.Title}
	}
	return progress.Table([]string{"ID", "SEATS", "ACTIVATES", "EXPIRES", "TITLE"}, rows)
}

// seatWords is how many seats are taken, of how many.
func seatWords(used int, limit *int) string {
	if limit == nil || *limit == 0 {
		return strconv.Itoa(used)
	}
	return fmt.Sprintf("%d of %d", used, *limit)
}

func day(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// output is how a result is written that has more forms than two.
type output string

func (o *output) flag(cmd *cobra.Command, forms ...string) {
	cmd.Flags().StringVarP((*string)(o), "output", "o", "", "how to write the result: "+strings.Join(forms, " or "))
	completes(cmd, map[string]cobra.CompletionFunc{"output": cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp)})
}

// check takes json as --json.
func (o *output) check(a *app, forms ...string) error {
	if *o != "" && !slices.Contains(forms, string(*o)) {
		return usage("--output must be %s", strings.Join(forms, " or "))
	}
	a.json = a.json || *o == "json"
	return nil
}

func (a *app) licenseGet() *cobra.Command {
	var form output
	cmd := &cobra.Command{
		Use:   "get LICENSE_ID",
		Short: "Write a license as a file that apply takes",
		Long: `Write a license as YAML, which apply takes. With --json or -o json stdout has one
object, with everything that the service tells.`,
		Example: `  berth license get 8e03978e-40d5-43e8-bc93-6894a57f9324 -o yaml >physics.yaml`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := form.check(a, "yaml", "json"); err != nil {
				return err
			}
			return a.aboutLicense(cmd, args[0], func(ctx context.Context, api *client.Client, id string) error {
				l, err := api.License(ctx, id)
				if err != nil {
					return failed(ctx, "read license "+id+" at "+api.URL(), err)
				}
				if a.json {
					a.writeJSON(a.Stdout, l)
					return nil
				}
				text, err := licensefile.Write(l)
				if err != nil {
					return &failure{code: ExitFailed, reason: codeFailed, message: err.Error()}
				}
				fmt.Fprint(a.Stdout, string(text))
				return nil
			})
		},
	}
	form.flag(cmd, "yaml", "json")
	return cmd
}

func (a *app) licenseDelete() *cobra.Command {
	return &cobra.Command{
		Use:   "delete LICENSE_ID...",
		Short: "Delete licenses",
		Long: `Delete licenses. Projects that use one are restarted without it, some at a time. For each
stdout has a line that says how many projects and users had it, with --json an object.
The exit code is that of the first that failed.`,
		Example: `  berth license delete 8e03978e-40d5-43e8-bc93-6894a57f9324`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids := make([]string, len(args))
			for i, text := range args {
				var err error
				if ids[i], err = projectID("license", text); err != nil {
					return err
				}
			}
			return a.withService(cmd.Context(), brief, a.newDisplay(""), func(ctx context.Context, api *client.Client) error {
				first := &firstFailure{app: a}
				for _, id := range ids {
					// It may be deleted whether or not this is known.
					projects, users, unknown := api.CountAttachments(ctx, id)
					if err := api.DeleteLicense(ctx, id); err != nil {
						first.take(failed(ctx, "delete license "+id+" at "+api.URL(), err))
						continue
					}
					result, line := deletedLicense{License: id, Result: "deleted"}, "deleted "+id
					if unknown == nil {
						result.Projects, result.Users = &projects, &users
						line += ", which " + countOf(projects, users) + " had"
					}
					a.told(result, line)
				}
				return first.error()
			})
		},
	}
}

// deletedLicense is what is told of a license that was deleted: how many had it, nil for unknown.
type deletedLicense struct {
	License  string `json:"license_id"`
	Result   string `json:"result"`
	Projects *int   `json:"projects,omitempty"`
	Users    *int   `json:"users,omitempty"`
}

// countOf is how many projects and users there are, in words.
func countOf(projects, users int) string {
	if projects+users == 0 {
		return "nobody"
	}
	number := func(n int, one string) string {
		if n == 1 {
			return "1 " + one
		}
		return strconv.Itoa(n) + " " + one + "s"
	}
	return number(projects, "project") + " and " + number(users, "user")
}

// told writes a result, as JSON or as a line.
func (a *app) told(value any, line string) {
	if a.json {
		a.writeJSON(a.Stdout, value)
		return
	}
	fmt.Fprintln(a.Stdout, progress.Clean(line))
}

// firstFailure tells failures, and keeps the exit code of the first.
type firstFailure struct {
	*app

	first *failure
}

func (f *firstFailure) take(one *failure) {
	f.report(one, f.json)
	if f.first == nil {
		f.first = &failure{code: one.code, told: true}
	}
}

func (f *firstFailure) error() error {
	if f.first == nil {
		return nil
	}
	return f.first
}

func (a *app) licenseSeats() *cobra.Command {
	return &cobra.Command{
		Use:   "seats LICENSE_ID",
		Short: "Show who uses a license now",
		Long: `Show which pods use a license now, and since when. With --json stdout has one object:
run_limit, total and seats.`,
		Example: `  berth license seats 8e03978e-40d5-43e8-bc93-6894a57f9324`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.aboutLicense(cmd, args[0], func(ctx context.Context, api *client.Client, id string) error {
				s, err := api.Seats(ctx, id)
				switch {
				case err != nil:
					return failed(ctx, "read the seats of license "+id+" at "+api.URL(), err)
				case a.json:
					a.writeJSON(a.Stdout, s)
					return nil
				}
				rows := make([][]string, len(s.Seats))
				for i, seat := range s.Seats {
					rows[i] = []string{holder(seat.Project, seat.User), seat.Pod, seat.Since.UTC().Format(time.RFC3339)}
				}
				if len(rows) > 0 {
					fmt.Fprint(a.Stdout, progress.Table([]string{"PROJECT", "POD", "SINCE"}, rows))
				}
				if !a.quiet {
					fmt.Fprintln(a.Stderr, "seats in use:", seatWords(s.Total, s.RunLimit))
				}
				return nil
			})
		},
	}
}

// holder is whose pod it is: a project, or a user.
func holder(project, user string) string {
	if project != "" {
		return project
	}
	return user
}

func (a *app) licenseUsage() *cobra.Command {
	var since string
	cmd := &cobra.Command{
		Use:   "usage LICENSE_ID",
		Short: "Show who has used a license",
		Long: `Show which pods have used a license, the newest first. With --json stdout has an
array.`,
		Example: `  berth license usage 8e03978e-40d5-43e8-bc93-6894a57f9324 --since 30d`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := pastTime(since, time.Now())
			if err != nil {
				return err
			}
			return a.aboutLicense(cmd, args[0], func(ctx context.Context, api *client.Client, id string) error {
				all := []client.Usage{}
				for u, err := range api.Usage(ctx, id, from) {
					if err != nil {
						return failed(ctx, "read the usage of license "+id+" at "+api.URL(), err)
					}
					all = append(all, u)
				}
				if len(all) == 0 {
					// One that was deleted has a past; without one it may be a slip.
					if _, err := api.License(ctx, id); client.NotFound(err) {
						return failed(ctx, "read the usage of license "+id+" at "+api.URL()+": there is none since "+day(&from), err)
					}
				}
				if a.json {
					a.writeJSON(a.Stdout, all)
					return nil
				}
				if len(all) == 0 {
					if !a.quiet {
						fmt.Fprintln(a.Stderr, "nobody has used it since", day(&from))
					}
					return nil
				}
				rows := make([][]string, len(all))
				for i, u := range all {
					rows[i] = []string{holder(u.Project, u.User), u.Pod, u.Start.UTC().Format(time.RFC3339), day(u.Stop)}
				}
				fmt.Fprint(a.Stdout, progress.Table([]string{"PROJECT", "POD", "START", "STOP"}, rows))
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&since, "since", "7d", "leave out what ended before: a time like 12h or 30d ago")
	return cmd
}

// pastTime reads how long ago: a duration, which may be in days.
func pastTime(text string, now time.Time) (time.Time, error) {
	ago, err := time.ParseDuration(text)
	if digits, isDays := strings.CutSuffix(text, "d"); isDays {
		var n float64
		n, err = strconv.ParseFloat(digits, 64)
		ago = time.Duration(n * float64(24*time.Hour))
	}
	const most = 10 * 365 * 24 * time.Hour
	if err != nil || ago <= 0 || ago > most {
		return time.Time{}, usage("--since must be a time like 12h or 7d, of at most ten years")
	}
	return now.Add(-ago), nil
}

func (a *app) licenseAttachments() *cobra.Command {
	var form output
	cmd := &cobra.Command{
		Use:   "attachments LICENSE_ID",
		Short: "Show what a license is attached to",
		Long: `Show which projects and users have a license: projects by id, with what became of it at
their last start, then users. With --json or -o json stdout has an array of them.`,
		Example: `  berth license attachments 8e03978e-40d5-43e8-bc93-6894a57f9324
  berth license attachments 8e03978e-40d5-43e8-bc93-6894a57f9324 -o json | jq -r '.[] | select(.status == "exhausted").project_id'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := form.check(a, "json"); err != nil {
				return err
			}
			return a.aboutLicense(cmd, args[0], func(ctx context.Context, api *client.Client, id string) error {
				all, users := []client.Attached{}, 0
				for one, err := range api.Attachments(ctx, id) {
					if err != nil {
						return failed(ctx, "read what has license "+id+" at "+api.URL(), err)
					}
					all = append(all, one)
				}
				if a.json {
					a.writeJSON(a.Stdout, all)
					return nil
				}
				rows := make([][]string, len(all))
				for i, one := range all {
					kind := "project"
					if one.User != "" {
						kind = "user"
						users++
					}
					rows[i] = []string{kind, holder(one.Project, one.User), one.Status, one.Reason}
				}
				if len(rows) > 0 {
					fmt.Fprint(a.Stdout, progress.Table([]string{"KIND", "ID", "STATUS", "REASON"}, rows))
				}
				if !a.quiet {
					fmt.Fprintln(a.Stderr, "it is attached to", countOf(len(all)-users, users))
				}
				return nil
			})
		},
	}
	form.flag(cmd, "json")
	return cmd
}

func (a *app) licenseAttach() *cobra.Command {
	return a.attachment("attach", "Have a project, or a user's pods, use a license", (*client.Client).AttachProject, (*client.Client).AttachUser)
}

func (a *app) licenseDetach() *cobra.Command {
	return a.attachment("detach", "Have a project, or a user's pods, not use a license", (*client.Client).DetachProject, (*client.Client).DetachUser)
}

type attach func(api *client.Client, ctx context.Context, license, to string) error

func (a *app) attachment(verb, short string, project, user attach) *cobra.Command {
	var userID bool
	cmd := &cobra.Command{
		Use:   verb + " LICENSE_ID PROJECT_ID|USER",
		Short: short,
		Long: short + ". A project that runs is restarted where that\nmakes another pod of it. What is no UUID and has no @ is taken for the id of a user with\n" +
			"--user-id alone. Stdout has a line that says what was done, with --json an object.",
		Example: "  berth license " + verb + " 8e03978e-40d5-43e8-bc93-6894a57f9324 9b2c1f64-0c5e-4f55-8a6f-3a0d1a2b3c4d\n" +
			"  berth license " + verb + " 8e03978e-40d5-43e8-bc93-6894a57f9324 alice@example.org",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			do, what, to := project, "project", strings.ToLower(args[1])
			switch {
			case userID, !events.ProjectID(to) && strings.Contains(to, "@"):
				do, what, to = user, "user", args[1]
				if err := checkUser(to); err != nil {
					return err
				}
			case !events.ProjectID(to):
				return usage("%q is neither the id of a project, a UUID, nor a user like alice@example.org; if it is the id of a user, add --user-id", args[1])
			}
			return a.aboutLicense(cmd, args[0], func(ctx context.Context, api *client.Client, id string) error {
				result := verb + "ed"
				if verb == "detach" && lacks(ctx, api, id, what, to) {
					result = notAttached
				}
				if err := do(api, ctx, id, to); err != nil {
					return failed(ctx, verb+" license "+id+" at "+api.URL(), err)
				}
				line := result + " license " + id + ": " + what + " " + to
				if result == notAttached {
					line = "license " + id + " " + result + ": " + what + " " + to
				}
				a.told(map[string]string{"license_id": id, what + "_id": to, "result": result}, line)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&userID, "user-id", false, "the second argument is the id of a user, whatever it looks like")
	return cmd
}

// notAttached is the result of a detach that had nothing to do.
const notAttached = "was not attached"

// lacks says whether a project, or a user, is known not to have a license.
func lacks(ctx context.Context, api *client.Client, license, what, to string) bool {
	if what == "project" {
		p, err := api.Project(ctx, to)
		row := p.Database.Project
		return err == nil && row != nil && !slices.ContainsFunc(row.Licenses, func(l client.License) bool { return l.ID == license })
	}
	for one, err := range api.Attachments(ctx, license) {
		if err != nil || one.User == to {
			return false
		}
	}
	return true
}

func (a *app) licenseApply() *cobra.Command {
	var files []string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "apply -f FILE...",
		Short: "Save licenses from files",
		Long: `Save the licenses in files: make those that are new, change those that differ, and
leave the others alone. A folder stands for the files in it that end with .yaml, .yml
or .json and do not begin with a dot; - is stdin. All are checked first, by the service
too: nothing is saved where one has a fault. A license that somebody else changes at
the same moment is not overwritten: apply it again.

For each license stdout has a line, created, changed or unchanged, and below it what
changes. With --json it has an object each. The exit code is that of the first that
failed. A license without activates is saved, with a warning: it is never valid. So is
one with which no pod would be started as things are, for a service account that is
not there yet, say; one whose patch can never make a pod is refused.`,
		Example: `  berth license apply -f physics.yaml
  berth license apply -f licenses/ --dry-run
  berth license get 8e03978e-40d5-43e8-bc93-6894a57f9324 | sed 's/^run_limit:.*/run_limit: 40/' | berth license apply -f -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			licenses, err := a.readLicenses("-f", files)
			if err != nil {
				return err
			}
			return a.withService(cmd.Context(), 0, a.newDisplay(""), func(ctx context.Context, api *client.Client) error {
				return a.runApply(ctx, api, licenses, dryRun)
			})
		},
	}
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "a `FILE` or folder with licenses; - is stdin; may be repeated")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "check and tell what would change, and save nothing")
	return completes(cmd, map[string]cobra.CompletionFunc{"file": completeFiles})
}

// saving is one license on its way: what becomes of it, and how it is saved.
type saving struct {
	licensefile.File
	// result is created, changed or unchanged.
	result  string
	changes []string
	save    client.Save
}

func (s saving) where() string {
	return "license " + s.License.ID + " (" + s.Name + ":" + strconv.Itoa(s.Line) + ")"
}

// runApply saves licenses where they differ, all that the service takes, or none.
func (a *app) runApply(ctx context.Context, api *client.Client, licenses []licensefile.File, dryRun bool) error {
	all := make([]saving, len(licenses))
	for i, f := range licenses {
		all[i] = saving{File: f}
	}
	first := &firstFailure{app: a}
	first.ofEach(ctx, all, func(s *saving) *failure { return a.compare(ctx, api, s) })
	different := len(slices.DeleteFunc(slices.Clone(all), func(s saving) bool { return s.result == "unchanged" }))
	if !dryRun && different > 1 && first.first == nil { // One alone is saved or not.
		first.ofEach(ctx, all, func(s *saving) *failure { return a.store(ctx, api, s, true) })
	}
	if first.first != nil && (!dryRun || ctx.Err() != nil) {
		if !a.json && !a.quiet && len(all) > 1 {
			fmt.Fprintln(a.Stderr, "berth: nothing was saved")
		}
		return first.error()
	}
	// What could not be compared has been told.
	all = slices.DeleteFunc(all, func(s saving) bool { return s.result == "" })
	first.ofEach(ctx, all, func(s *saving) *failure {
		err := a.store(ctx, api, s, dryRun)
		if err == nil {
			a.applied(s, dryRun)
		}
		return err
	})
	return first.error()
}

// ofEach does something with each license. Where the command is to end, one failure says so.
func (f *firstFailure) ofEach(ctx context.Context, all []saving, do func(*saving) *failure) {
	for i := range all {
		if err := do(&all[i]); err != nil {
			if f.take(err); ctx.Err() != nil {
				return
			}
		}
	}
}

// compare finds out what saving a license would change.
func (a *app) compare(ctx context.Context, api *client.Client, s *saving) *failure {
	before, err := api.License(ctx, s.License.ID)
	isNew := client.NotFound(err)
	if err != nil && !isNew {
		return failed(ctx, "read "+s.where()+" at "+api.URL(), err)
	}
	s.result, s.save.Revision = "changed", before.Revision
	if isNew {
		s.result, s.save.Revision = "created", "*"
		return nil
	}
	if s.changes = licensefile.Changes(before, s.License); len(s.changes) == 0 {
		s.result = "unchanged"
	}
	return nil
}

// store saves a license that differs, or has it checked alone.
func (a *app) store(ctx context.Context, api *client.Client, s *saving, dryRun bool) *failure {
	if s.result == "unchanged" {
		return nil
	}
	save := s.save
	save.DryRun = dryRun
	saved, err := api.SaveLicense(ctx, s.License, save)
	if err == nil {
		s.License.Warnings = saved.Warnings
		return nil
	}
	f := failed(ctx, "save "+s.where()+" at "+api.URL(), err)
	if client.Uncertain(err) && !dryRun {
		f.message += "; it may have been saved all the same: apply it again to see"
	}
	return f
}

// applied tells what became of a license.
func (a *app) applied(s *saving, dryRun bool) {
	if a.json {
		a.writeJSON(a.Stdout, struct {
			License string   `json:"license_id"`
			Title   string   `json:"title,omitempty"`
			File    string   `json:"file"`
			Result  string   `json:"result"`
			Changes []string `json:"changes,omitempty"`
			DryRun  bool     `json:"dry_run,omitempty"`
			Never   bool     `json:"never_valid,omitempty"`
			Warns   []string `json:"warnings,omitempty"`
		}{s.License.ID, s.License.Title, s.Name, s.result, s.changes, dryRun, s.License.Activates == nil, s.License.Warnings})
		return
	}
	result := s.result
	if dryRun && result != "unchanged" {
		result = "would be " + result
	}
	fmt.Fprintln(a.Stdout, progress.Clean(strings.TrimSpace(result+" "+s.License.ID+" "+s.License.Title)))
	for _, line := range s.changes {
		fmt.Fprintln(a.Stdout, "  "+progress.Clean(line))
	}
	for _, warning := range s.License.Warnings {
		fmt.Fprintln(a.Stderr, "berth:", progress.Clean(s.where()+": "+warning))
	}
	if s.License.Activates == nil && s.result != "unchanged" && !a.quiet {
		fmt.Fprintln(a.Stderr, "berth:", progress.Clean(s.where()+" is never valid: it has no activates"))
	}
}

// readLicenses reads the licenses of files and folders, each id once. Faults go to stderr, a line each.
func (a *app) readLicenses(flag string, names []string) ([]licensefile.File, error) {
	if len(names) == 0 {
		return nil, usage("which licenses? Give a file or folder with %s", flag)
	}
	all, faults, err := licensefile.Load(names, a.input)
	if err != nil {
		return nil, unread(flag, err)
	}
	if len(faults) > 0 {
		if !a.json {
			for _, f := range faults {
				fmt.Fprintln(a.Stderr, progress.Clean(f.String()))
			}
			return nil, &failure{code: ExitFailed, told: true}
		}
		lines := make([]error, len(faults))
		for i, f := range faults {
			lines[i] = errors.New(f.String())
		}
		return nil, &failure{code: ExitFailed, reason: string(events.LicenseInvalid), message: errors.Join(lines...).Error()}
	}
	return all, nil
}
