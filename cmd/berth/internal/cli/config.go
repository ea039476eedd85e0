package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"berth/pkg/service/config"
)

func (a *app) config() *cobra.Command {
	return group("config", "Check a configuration, or write an example or the users of NATS", `
The configuration of a site: one file, and BACKEND_<KEY> variables, for all
services of Berth.`,
		`  berth config example >berth.yaml
  berth config check berth.yaml`,
		a.configCheck(), a.configExample(), a.configNATS())
}

func (a *app) configCheck() *cobra.Command {
	var withEnvironment bool
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Check a configuration",
		Long: `Check the configuration in FILE as the services do. Every fault goes to stdout,
one a line: file:line: key: message. Notices about a valid configuration go to
stderr. The exit code is 0 where there is no fault, else 1. With --json stdout
has one object: valid, faults, notices.`,
		Example: `  berth config check berth.yaml
  BACKEND_TIMEOUTCREATE=2m berth config check --env berth.yaml`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return []cobra.Completion{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(_ *cobra.Command, args []string) error { return a.runConfigCheck(args[0], withEnvironment) },
	}
	cmd.Flags().BoolVar(&withEnvironment, "env", false, "let the BACKEND_<KEY> variables of the environment win over the file")
	return cmd
}

// place is a fault or notice as JSON.
type place struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Path    string `json:"path,omitempty"`
	Message string `json:"message"`
}

func (a *app) runConfigCheck(file string, withEnvironment bool) error {
	if file == "" {
		return usage("FILE is empty")
	}
	var environ []string
	if withEnvironment {
		environ = a.Environ
	}
	_, notices, err := config.Load(file, environ)
	var faults config.Faults
	if err != nil && !errors.As(err, &faults) {
		return &failure{code: ExitFailed, reason: codeFailed, message: "check configuration: " + err.Error()}
	}
	invalid := &failure{code: ExitFailed, reason: codeFailed, told: true}
	if a.json {
		report := struct {
			Valid   bool    `json:"valid"`
			Faults  []place `json:"faults"`
			Notices []place `json:"notices"`
		}{err == nil, []place{}, []place{}}
		for _, f := range faults {
			report.Faults = append(report.Faults, place(f))
		}
		for _, n := range notices {
			report.Notices = append(report.Notices, place(n))
		}
		a.writeJSON(a.Stdout, report)
	} else {
		for _, f := range faults {
			fmt.Fprintln(a.Stdout, f)
		}
		for _, n := range notices {
			if !a.quiet {
				fmt.Fprintln(a.Stderr, n)
			}
		}
	}
	if err != nil {
		return invalid
	}
	return nil
}

func (a *app) configExample() *cobra.Command {
	return &cobra.Command{
		Use:     "example",
		Short:   "Write an example configuration",
		Long:    "Write a configuration with every key, and comments that say what it is for.",
		Example: `  berth config example >berth.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprint(a.Stdout, config.Example)
			return nil
		},
	}
}
