package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth/pkg/client"
	"berth/pkg/events"
)

// completionTimeout is how long a shell waits for the names of pods. Who
// presses tab would rather type a name than wait for longer.
const completionTimeout = 1500 * time.Millisecond

func (a *app) completion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Write a script that completes berth's command lines",
		Long: `Write a script for a shell, with which the tab key completes commands, flags,
the names of events, and the names of the pods of the user that --user or
BERTH_USER names. For the latter the service is asked; where it does not answer
at once there is nothing to choose from.`,
		Example: `  # bash, with the package bash-completion: now, and from the next login on
  source <(berth completion bash)
  berth completion bash >~/.local/share/bash-completion/completions/berth

  # zsh, with compinit in ~/.zshrc after this line: fpath=(~/.zsh/completions $fpath)
  mkdir -p ~/.zsh/completions && berth completion zsh >~/.zsh/completions/_berth

  # fish
  berth completion fish >~/.config/fish/completions/berth.fish

  # PowerShell; the line in $PROFILE keeps it
  berth completion powershell | Out-String | Invoke-Expression`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			root := cmd.Root()
			switch args[0] {
			case "bash":
				err = root.GenBashCompletionV2(a.Stdout, true)
			case "zsh":
				err = root.GenZshCompletion(a.Stdout)
			case "fish":
				err = root.GenFishCompletion(a.Stdout, true)
			default:
				err = root.GenPowerShellCompletionWithDesc(a.Stdout)
			}
			if err != nil {
				return &failure{code: ExitFailed, reason: codeFailed, message: "write the script: " + err.Error()}
			}
			return nil
		},
	}
}

// completePods completes the names of the user's pods, up to so many of them
// (0 is any number), each once. It says nothing where it cannot.
func (a *app) completePods(most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if most > 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []cobra.Completion
		for name, state := range a.podNames(cmd) {
			if !slices.Contains(args, name) {
				names = append(names, cobra.CompletionWithDesc(name, state))
			}
		}
		slices.Sort(names)
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// podNames are the states of the user's pods by their names, none where they
// cannot be known.
func (a *app) podNames(cmd *cobra.Command) map[string]string {
	if a.fromEnvironment(cmd) != nil {
		return nil
	}
	user, err := a.userID()
	if err != nil {
		return nil
	}
	api, err := a.client()
	if err != nil {
		return nil
	}
	defer api.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	// Nor wait for a service that is away.
	a.onRetry(func(error, time.Duration) { cancel() })
	defer a.onRetry(nil)
	names := map[string]string{}
	for p, err := range api.Pods(ctx, client.Query{User: user, Limit: 500}) {
		if err != nil {
			return nil
		}
		// What others wrote must not become more than one line of choices.
		if checkPod(p.Name) == nil && events.Type(p.Event).Known() {
			names[p.Name] = p.Event
		}
	}
	return names
}

// completeTypes completes a list of events with commas between.
func completeTypes(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	before := typed[:strings.LastIndex(typed, ",")+1]
	given := strings.Split(before, ",")
	var choices []cobra.Completion
	for _, info := range events.Types() {
		if !slices.Contains(given, string(info.Type)) {
			choices = append(choices, cobra.CompletionWithDesc(before+string(info.Type), info.Means))
		}
	}
	// Another may follow after a comma.
	return choices, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveKeepOrder
}

// completeTimes completes durations that people choose.
func completeTimes(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return []cobra.Completion{"10s", "1m", "5m", "15m"}, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// completeFiles leaves the choice to the shell.
func completeFiles(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

// completes says how flags of a command are completed. All others have values
// that only people know, for which nothing is offered.
func completes(cmd *cobra.Command, flags map[string]cobra.CompletionFunc) *cobra.Command {
	for name, f := range flags {
		if err := cmd.RegisterFlagCompletionFunc(name, f); err != nil {
			// The command line's own mistake, which any test of the command shows.
			cmd.RunE = func(*cobra.Command, []string) error {
				return fmt.Errorf("complete --%s: %w", name, err)
			}
		}
	}
	return cmd
}
