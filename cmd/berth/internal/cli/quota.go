package cli

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"berth/pkg/license/offline"
)

func (a *app) quota() *cobra.Command {
	return group("quota", "Compute the quotas of projects from their licenses, without a server", `
What a project may use, computed from its settings, its users' upgrades and its
licenses, as at a start, but from cases on stdin and without a server.`,
		`  berth quota compute <cases.jsonl >quotas.jsonl`,
		a.quotaCompute(), a.quotaCheck())
}

func (a *app) quotaCompute() *cobra.Command {
	return a.answers(&cobra.Command{
		Use:   "compute",
		Short: "Compute quotas, for each line of stdin one",
		Long: `Read cases from stdin as JSON Lines, and write for each a line with its answer
to stdout, in their order: {"id","quota","reasons"} or {"id","error"}. A case is
{"id","settings","users","site_licenses_list":[[id,value],…],"site_settings",
"pay_as_you_go"}, each but id optional. Cases with errors do not change the exit
code. A license's patch that is not valid counts as none here; a start would fail.`,
		Example: `  echo '{"id":1,"site_licenses_list":[["a",{"quota":{"cpu":2,"ram":4}}]]}' | berth quota compute`,
	}, offline.ComputeQuotas)
}

func (a *app) quotaCheck() *cobra.Command {
	return a.answers(&cobra.Command{
		Use:   "check",
		Short: "Decide which licenses projects use, for each line of stdin one start",
		Long: `Read starts from stdin as JSON Lines, and write for each a line with its answer
to stdout, in their order: {"id","site_license_list","run_quota","last_used"}, what
is stored afterwards, or {"id","error"}. A start is {"id","now","paygo_active",
"site_settings","licenses":[row,…],"project":{"settings","users",
"site_license_list"},"other_projects":[{"state","site_license"},…]}. run_quota does
not have the purchase of a project. Starts with errors do not change the exit code.`,
		Example: `  berth quota check <starts.jsonl`,
	}, offline.CheckQuotas)
}

// answers makes a command that answers the lines of stdin.
func (a *app) answers(cmd *cobra.Command, answer func(context.Context, io.Reader, io.Writer) error) *cobra.Command {
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		in := a.Stdin
		if in == nil {
			in = strings.NewReader("")
		}
		if err := answer(cmd.Context(), in, a.Stdout); err != nil {
			return failed(cmd.Context(), "answer stdin", err)
		}
		return nil
	}
	return cmd
}
