package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"berth/cmd/berth/internal/progress"
	"berth/pkg/client"
	"berth/pkg/events"
)

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
