package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth/cmd/berth/internal/progress"
	"berth/pkg/client"
	"berth/pkg/events"
	"berth/pkg/license"
)

// preview is the command line of license preview.
type preview struct {
	project, manifest, silo string
	image, tag              string
	set, licenses           []string
	none, noDryRun          bool
	change, template        string
	form                    output
}

func (a *app) licensePreview() *cobra.Command {
	var p preview
	cmd := &cobra.Command{
		Use:   "preview --project PROJECT_ID|--manifest URL",
		Short: "Show which pod would be made now, and why",
		Long: `Show the pod that a start would make now of a project, or of a user's manifest: what
differs from the template, what set what, what was capped or ignored and why, and what
the API server says to it. Nothing is made or changed. The licenses are those attached;
--license gives others in their place, --change one as it would be.

Values of variables are not shown; with --json or -o json stdout has everything, the
pod with its variables among it. The exit code is 1 where there would be no pod, or the
API server would refuse it.`,
		Example: `  berth license preview --project 9b2c1f64-0c5e-4f55-8a6f-3a0d1a2b3c4d
  berth license preview --project 9b2c1f64-0c5e-4f55-8a6f-3a0d1a2b3c4d --change physics.yaml
  berth license preview --project 9b2c1f64-0c5e-4f55-8a6f-3a0d1a2b3c4d --template project.json -o json | jq .pod
  berth license preview --user alice@example.org --manifest https://example.org/notebook.yaml --license physics.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// The user of the environment is for other commands, too.
			if p.project != "" && cmd.Flags().Changed("user") {
				return usage("give one of --project and --user")
			}
			return a.runPreview(cmd.Context(), p)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&p.project, "project", "", "the `ID` of the project whose pod is wanted")
	flags.StringVar(&p.manifest, "manifest", "", "the `URL` of the manifest of the pod of --user")
	flags.StringArrayVar(&p.set, "set", nil, "a variable of a container of the manifest, `CONTAINER.NAME=VALUE`; may be repeated")
	flags.StringVar(&p.silo, "silo", "", "the `NAME` of the silo that the pod of --user would be for; without it the one that asks")
	flags.StringVar(&p.image, "image", "", "the image of the project's pod")
	flags.StringVar(&p.tag, "tag", "", "the tag of that image")
	flags.StringArrayVar(&p.licenses, "license", nil, "a `FILE` with licenses, or the id of a saved one, in place of those attached; may be repeated")
	flags.BoolVar(&p.none, "no-licenses", false, "no licenses in place of those attached")
	flags.StringVar(&p.change, "change", "", "a `FILE` with a license as it would be, where that is attached")
	flags.StringVar(&p.template, "template", "", "a `FILE` with another template: a Pod as JSON")
	flags.BoolVar(&p.noDryRun, "no-dry-run", false, "do not ask the API server")
	p.form.flag(cmd, "json")
	return completes(cmd, map[string]cobra.CompletionFunc{"license": completeFiles, "change": completeFiles, "template": completeFiles})
}

// request is what the command line asks the service for.
func (a *app) previewRequest(p preview) (client.Preview, error) {
	q := client.Preview{Image: p.image, Tag: p.tag, ManifestURL: p.manifest, Silo: p.silo, NoDryRun: p.noDryRun}
	var err error
	switch {
	case p.project != "" && p.manifest != "":
		return q, usage("give one of --project and --manifest")
	case p.project != "" && p.silo != "":
		return q, usage("--silo is for the pod of --user: leave it out for a project")
	case p.project != "":
		q.Project, err = projectID("project", p.project)
	case p.manifest == "":
		return q, usage("which pod? Give --project, or --user and --manifest")
	default:
		if q.User, err = a.userID(); err == nil {
			err = checkManifest(p.manifest)
		}
	}
	if err != nil {
		return q, err
	}
	if q.Settings, err = parseSettings(p.set); err != nil {
		return q, err
	}
	if q.Licenses, err = a.hypothetical(p.licenses); err != nil {
		return q, err
	}
	switch {
	case p.none && len(p.licenses) > 0:
		return q, usage("give one of --license and --no-licenses")
	case p.none:
		q.Licenses = []client.SiteLicense{}
	}
	q.Change, q.Template, err = a.changed(p.change, p.template)
	return q, err
}

// hypothetical reads licenses from files, or by their ids.
func (a *app) hypothetical(given []string) ([]client.SiteLicense, error) {
	var all []client.SiteLicense
	for _, text := range given {
		if matches(projectForm, text) {
			all = append(all, client.SiteLicense{ID: strings.ToLower(text)})
			continue
		}
		files, err := a.readLicenses("--license", []string{text})
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			all = append(all, f.License)
		}
	}
	return all, nil
}

// changed reads a license and a template as they would be; empty names are for none.
func (a *app) changed(licenseFile, templateFile string) (*client.SiteLicense, json.RawMessage, error) {
	var change *client.SiteLicense
	if licenseFile != "" {
		files, err := a.readLicenses("--change", []string{licenseFile})
		if err != nil {
			return nil, nil, err
		}
		if len(files) != 1 {
			return nil, nil, usage("--change: %s must hold one license, not %d", licenseFile, len(files))
		}
		change = &files[0].License
	}
	if templateFile == "" {
		return change, nil, nil
	}
	template, err := a.readFile("--template", templateFile)
	if err == nil && !json.Valid(template) {
		err = usage("--template: %s is no JSON", templateFile)
	}
	return change, template, err
}

func (a *app) runPreview(ctx context.Context, p preview) error {
	if err := p.form.check(a, "json"); err != nil {
		return err
	}
	q, err := a.previewRequest(p)
	if err != nil {
		return err
	}
	return a.withService(ctx, brief, a.newDisplay(""), func(ctx context.Context, api *client.Client) error {
		made, err := api.Preview(ctx, q)
		if err != nil {
			return failed(ctx, "preview at "+api.URL(), err)
		}
		if a.json {
			a.writeJSON(a.Stdout, made)
		} else {
			fmt.Fprint(a.Stdout, previewWords(made))
			if c := q.Change; c != nil && made.Fault == nil && !slices.ContainsFunc(made.Licenses, func(l client.License) bool { return l.ID == c.ID }) {
				fmt.Fprintln(a.Stderr, "berth: the license", c.ID, "is not attached to it: the change changes nothing; use --license FILE to try it as if it were")
			}
		}
		if made.Fault != nil || made.Verdict != nil && !made.Verdict.Accepted {
			return &failure{code: ExitFailed, told: true}
		}
		return nil
	})
}

// previewWords is a preview for people, without values of variables.
func previewWords(p client.Previewed) string {
	text := &details{}
	switch v := p.Verdict; {
	case p.Fault != nil:
		text.line("verdict", "no pod: "+progress.Cause(events.Reason(p.Fault.Reason), p.Fault.Message))
	case v == nil:
		text.line("verdict", "not asked")
	case v.Accepted:
		text.line("verdict", "the API server would take the pod")
	case v.Invalid:
		text.line("verdict", "no start could use the pod: "+strings.TrimPrefix(v.Reason+": "+v.Message, ": "))
	default:
		text.line("verdict", "the API server would refuse the pod: "+strings.TrimPrefix(v.Reason+": "+v.Message, ": "))
	}
	if p.Verdict != nil {
		for _, warning := range p.Verdict.Warnings {
			text.line("warning", warning)
		}
	}
	for _, l := range p.Licenses {
		text.line("license", licenseWords(l))
	}
	return text.String() + differences(p.Diff) + explained(p.Explanation)
}

// differences are the operations of a diff, without values that may be secret.
func differences(diff json.RawMessage) string {
	var steps []license.Step
	if len(diff) == 0 || json.Unmarshal(diff, &steps) != nil || len(steps) == 0 {
		return ""
	}
	shown := license.Explanation{Steps: steps}.Redacted(maxInput)
	var text strings.Builder
	text.WriteString("\nThe pod differs from the template\n")
	for _, s := range shown.Steps {
		fmt.Fprintln(&text, progress.Clean(strings.TrimRight(fmt.Sprintf("%-7s %s  %s", s.Op, s.Path, progress.Clip(string(s.Value), maxShown)), " ")))
	}
	return text.String()
}

// maxShown is how many columns a value may have.
const maxShown = 100

// replay is the command line of license replay.
type replay struct {
	since, change, template string
	dryRun                  bool
	timeout                 time.Duration
}

func (a *app) licenseReplay() *cobra.Command {
	var r replay
	cmd := &cobra.Command{
		Use:   "replay --since TIME --change FILE|--template FILE",
		Short: "Show what a changed license or template would do to past starts",
		Long: `Run the starts of projects since a time again, with a license or the template as it
is and as it would be, and list those that would differ, fail, or work again. Nothing is
made or changed; values that may be secret are not shown. Progress goes to stderr, and a
warning where no start had the license. With --json stdout has an object for each, as
they are found.

The exit code is 0 where none would fail, also where some would differ, else 1.`,
		Example: `  berth license replay --since 7d --change physics.yaml
  berth license replay --since 24h --template project.json --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runReplay(cmd.Context(), r) },
	}
	cmd.Flags().StringVar(&r.since, "since", "7d", "how far back: a time like 12h or 7d, of at most 90d")
	cmd.Flags().StringVar(&r.change, "change", "", "a `FILE` with a license as it would be")
	cmd.Flags().StringVar(&r.template, "template", "", "a `FILE` with another template: a Pod as JSON")
	cmd.Flags().BoolVar(&r.dryRun, "dry-run", false, "ask the API server about each pod that differs")
	cmd.Flags().DurationVar(&r.timeout, "timeout", 0, "how long it may take in all; 0 is for ever")
	return completes(cmd, map[string]cobra.CompletionFunc{"change": completeFiles, "template": completeFiles, "timeout": completeTimes})
}

func (a *app) runReplay(ctx context.Context, r replay) error {
	since, err := pastTime(r.since, time.Now(), 90)
	if err != nil {
		return err
	}
	if r.change == "" && r.template == "" {
		return usage("what would be different? Give --change or --template")
	}
	q := client.Replay{Since: since, DryRun: r.dryRun}
	if q.Change, q.Template, err = a.changed(r.change, r.template); err != nil {
		return err
	}
	return a.withService(ctx, r.timeout, a.newDisplay(""), func(ctx context.Context, api *client.Client) error {
		looked, different, failing, concerned := 0, 0, 0, 0
		for part, err := range api.Replay(ctx, q) {
			if err != nil {
				return failed(ctx, "replay at "+api.URL(), err)
			}
			looked += part.Looked
			if part.Concerned == nil || *part.Concerned > 0 {
				concerned++
			}
			for _, one := range part.Different {
				different++
				if fails(one) {
					failing++
				}
				a.told(one, replayedLine(one))
			}
			if !a.quiet && !a.json && part.Next != "" {
				fmt.Fprintf(a.Stderr, "%d starts run again, %d differ, %d would fail\n", looked, different, failing)
			}
		}
		if !a.quiet && !a.json {
			fmt.Fprintf(a.Stderr, "in all %d starts run again, %d differ, %d would fail\n", looked, different, failing)
		}
		a.warnUntried(q, looked, concerned)
		if failing > 0 {
			return &failure{code: ExitFailed, told: true}
		}
		return nil
	})
}

// warnUntried says on stderr, with --json as an object, where no start was of a project that has the license which is changed.
func (a *app) warnUntried(q client.Replay, looked, concerned int) {
	if q.Change == nil || concerned > 0 {
		return
	}
	text := fmt.Sprintf("none of the %d starts is of a project that has the license %s: its change was not tried; is that its id?", looked, q.Change.ID)
	if a.json {
		a.writeJSON(a.Stderr, struct {
			Warning string `json:"warning"`
		}{text})
		return
	}
	fmt.Fprintln(a.Stderr, "berth:", progress.Clean(text))
}

// fails says whether a start would fail.
func fails(r client.Replayed) bool {
	return r.Fault != nil || r.Verdict != nil && !r.Verdict.Accepted
}

// replayedLine is a start that would come to another end, in a line, without values.
func replayedLine(r client.Replayed) string {
	var what string
	switch {
	case r.Fault != nil:
		what = "fails: " + progress.Cause(events.Reason(r.Fault.Reason), r.Fault.Message) + todayWords(r)
	case r.Verdict != nil && !r.Verdict.Accepted:
		what = "is refused: " + r.Verdict.Message + todayWords(r)
	case r.Today != nil:
		what = "would work again" + todayWords(r)
	default:
		what = "differs: " + strings.Join(pathsOf(r.Diff), ", ")
	}
	return r.StartedAt.UTC().Format(time.RFC3339) + "  " + holder(r.Project, r.User) + "  " + what
}

// todayWords say why a start fails today, where it does.
func todayWords(r client.Replayed) string {
	if r.Today == nil {
		return ""
	}
	return " (today: " + progress.Cause(events.Reason(r.Today.Reason), r.Today.Message) + ")"
}

// pathsOf are the paths of the operations of a diff.
func pathsOf(diff json.RawMessage) []string {
	var operations []client.ExplainedStep
	if json.Unmarshal(diff, &operations) != nil {
		return nil
	}
	paths := make([]string, len(operations))
	for i, o := range operations {
		paths[i] = fmt.Sprintf("%s %s", o.Op, o.Path)
	}
	return paths
}
