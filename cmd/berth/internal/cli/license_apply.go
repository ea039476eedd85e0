package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"berth/cmd/berth/internal/licensefile"
	"berth/cmd/berth/internal/progress"
	"berth/pkg/client"
	"berth/pkg/events"
)

func (a *app) licenseApply() *cobra.Command {
	var files []string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "apply -f FILE...",
		Short: "Save licenses from files",
		Long: `Save the licenses in files: make those that are new, change those that differ, and
leave the others alone. A folder stands for the files in it that end with .yaml, .yml
or .json and do not begin with a dot; - is stdin. All are checked first, by the service
too: nothing is saved where one has a fault. What is saved so already is no fault, if a
hub has written it, say. A license that somebody else changes at the same moment is not
overwritten: apply it again.

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
	var faults []licensefile.Fault
	first.ofEach(ctx, all, func(s *saving) *failure {
		wrong, err := a.compare(ctx, api, s)
		faults = append(faults, wrong...)
		return err
	})
	if len(faults) > 0 {
		return a.faulty(faults)
	}
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

// compare finds out what saving a license would change, and what is wrong with that.
func (a *app) compare(ctx context.Context, api *client.Client, s *saving) ([]licensefile.Fault, *failure) {
	before, err := api.License(ctx, s.License.ID)
	isNew := client.NotFound(err)
	if err != nil && !isNew {
		return nil, failed(ctx, "read "+s.where()+" at "+api.URL(), err)
	}
	if isNew {
		s.result, s.save.Revision = "created", "*"
		return s.Faults(nil), nil
	}
	s.result, s.save.Revision = "changed", before.Revision
	if s.changes = licensefile.Changes(before, s.License); len(s.changes) == 0 {
		s.result = "unchanged"
	}
	return s.Faults(&before), nil
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

// neverValid says why a license is never valid, empty for one that is at some time.
func neverValid(l client.SiteLicense) string {
	switch {
	case l.Activates == nil:
		return "the license is never valid: it has no activates"
	case l.Expires != nil && !l.Activates.Before(*l.Expires):
		return "the license is never valid: expires is not after activates"
	default:
		return ""
	}
}

// applied tells what became of a license.
func (a *app) applied(s *saving, dryRun bool) {
	// The service says so of what it is asked to save, and is not asked about the others.
	never := neverValid(s.License)
	if never != "" && !slices.ContainsFunc(s.License.Warnings, func(w string) bool { return strings.Contains(w, "never valid") }) {
		s.License.Warnings = append(s.License.Warnings, never)
	}
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
		}{s.License.ID, s.License.Title, s.Name, s.result, s.changes, dryRun, never != "", s.License.Warnings})
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
	if a.quiet {
		return
	}
	for _, warning := range s.License.Warnings {
		fmt.Fprintln(a.Stderr, "berth:", progress.Clean(s.where()+": "+warning))
	}
}

// readLicenses reads the licenses of files and folders, each id once. Whether the service would take what they give is
// left open, as that depends on what is saved.
func (a *app) readLicenses(flag string, names []string) ([]licensefile.File, error) {
	if len(names) == 0 {
		return nil, usage("which licenses? Give a file or folder with %s", flag)
	}
	all, faults, err := licensefile.Load(names, a.input)
	if err != nil {
		return nil, unread(flag, err)
	}
	if len(faults) > 0 {
		return nil, a.faulty(faults)
	}
	return all, nil
}

// faulty tells what is wrong with files on stderr, a line each, or with --json as one error.
func (a *app) faulty(faults []licensefile.Fault) *failure {
	if !a.json {
		for _, f := range faults {
			fmt.Fprintln(a.Stderr, progress.Clean(f.String()))
		}
		return &failure{code: ExitFailed, told: true}
	}
	lines := make([]error, len(faults))
	for i, f := range faults {
		lines[i] = errors.New(f.String())
	}
	return &failure{code: ExitFailed, reason: string(events.LicenseInvalid), message: errors.Join(lines...).Error()}
}
