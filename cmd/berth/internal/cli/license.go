package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth/cmd/berth/internal/licensefile"
	"berth/cmd/berth/internal/progress"
	"berth/pkg/client"
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
			from, err := pastTime(since, time.Now(), 3650)
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
	cmd.Flags().StringVar(&since, "since", "7d", "leave out what ended before: a time like 12h or 30d ago, of at most 3650d")
	return cmd
}

// pastTime reads how long ago: a duration, which may be in days, of so many days at the most.
func pastTime(text string, now time.Time, days int) (time.Time, error) {
	ago, err := time.ParseDuration(text)
	if digits, isDays := strings.CutSuffix(text, "d"); isDays {
		var n float64
		n, err = strconv.ParseFloat(digits, 64)
		ago = time.Duration(n * float64(24*time.Hour))
	}
	if err != nil || ago <= 0 || ago > time.Duration(days)*24*time.Hour {
		return time.Time{}, usage("--since must be a time like 12h or 7d, of at most %dd", days)
	}
	return now.Add(-ago), nil
}
