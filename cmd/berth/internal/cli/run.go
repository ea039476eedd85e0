// Package cli is the command line: its commands, flags, output and exit codes.
package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

const defaultURL = "http://127.0.0.1:8080"

// Process is what a run gets from its process.
type Process struct {
	// Args are the arguments after the program's name.
	Args []string
	// Environ is the environment, as NAME=value.
	Environ []string
	// Stdin is what commands that answer lines read; nil is empty.
	Stdin io.Reader
	// Stdout takes results, Stderr everything else. Progress is live where
	// Stderr is an *os.File that is a terminal.
	Stdout, Stderr io.Writer
}

// Run carries out one command line and returns its exit code. The end of ctx
// interrupts it.
func Run(ctx context.Context, p Process) int {
	out := &checked{to: p.Stdout}
	p.Stdout = out
	a := &app{Process: p, retried: &retried{}, interrupted: ctx.Done()}
	root := a.root()
	root.SetArgs(append([]string{}, p.Args...))
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		err = out.failed
	}
	if err == nil {
		return ExitOK
	}
	f := asFailure(err, command)
	// Where the command line was not understood, --json may not have been read.
	a.report(f, a.json || slices.Contains(p.Args, "--json"))
	return f.code
}

// checked remembers that a result could not be written.
type checked struct {
	to     io.Writer
	failed error
}

// Write implements io.Writer.
func (c *checked) Write(b []byte) (int, error) {
	n, err := c.to.Write(b)
	if err != nil && c.failed == nil {
		c.failed = &failure{code: ExitFailed, reason: codeFailed, message: "write the result: " + err.Error()}
	}
	return n, err
}

// app is one run: its process and the values of the global flags.
type app struct {
	Process

	url, user, natsURL, cluster string
	tokenFile, ca, cert, key    string
	json, quiet                 bool

	// interrupted is closed when the run is to end early.
	interrupted <-chan struct{}
	// retried is told that a request is made again; see [app.onRetry].
	retried *retried
}

func (a *app) root() *cobra.Command {
	root := group("berth", "Berth's command line: make, watch and delete pods, follow what happens to them", `
berth asks the service of Berth over HTTP for the pods of a user, and follows
what happens to them. With the address of a NATS server it follows the whole log.

A pod goes through these phases: requested, claimed (it has a name), licensed,
launching, launched (Kubernetes has it), waiting or running (with the reason),
ready. It ends as failed or ended, deleting, gone.

Results go to stdout, everything else to stderr, so that scripts can use
POD=$(berth pods create URL). With --json results are JSON, and so are errors:
{"error":{"code":"…","message":"…"},"exit_code":…}.

Exit codes:
`+exitCodes()+`
Environment:
  BERTH_URL, BERTH_USER, NATS_URL, BERTH_CLUSTER  for --url, --user, --nats-url, --cluster
  BERTH_TOKEN_FILE, BERTH_CACERT, BERTH_CERT, BERTH_KEY  for --token-file, --cacert, --cert, --key
  HTTP_PROXY, HTTPS_PROXY, NO_PROXY               as usual`,
		`  berth pods create https://example.org/notebook.yaml --user alice@example.org
  berth pods list --user alice@example.org
  berth why notebook-alice-example-org
  berth project start 8e03978e-40d5-43e8-bc93-6894a57f9324
  berth license apply -f licenses/ --dry-run
  berth events --nats-url nats://127.0.0.1:4222
  berth doctor
  berth config check berth.yaml`,
		a.pods(), a.project(), a.license(), a.why(), a.events(), a.doctor(), a.config(), a.migrate(), a.quota(), a.patch(), a.completion(), a.version())
	root.CompletionOptions.DisableDefaultCmd = true // There is one with a better help.
	// Few arguments are files; those say so.
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return a.fromEnvironment(cmd) }

	flags := root.PersistentFlags()
	flags.StringVar(&a.url, "url", defaultURL, "where the service of Berth answers (BERTH_URL)")
	flags.StringVar(&a.user, "user", "", "the user whose pods are meant, like alice@example.org (BERTH_USER)")
	flags.StringVar(&a.natsURL, "nats-url", "", "the NATS servers that keep the log, with commas between (NATS_URL); pods commands do without")
	flags.StringVar(&a.cluster, "cluster", "main", "the cluster of Berth whose log is followed (BERTH_CLUSTER)")
	flags.StringVar(&a.tokenFile, "token-file", "", "a `FILE` with the token that the service asks for (BERTH_TOKEN_FILE)")
	flags.StringVar(&a.ca, "cacert", "", "a `FILE` with the certificates of the authorities that vouch for the service (BERTH_CACERT)")
	flags.StringVar(&a.cert, "cert", "", "a `FILE` with the client certificate, for services that ask for one (BERTH_CERT)")
	flags.StringVar(&a.key, "key", "", "a `FILE` with the key of that certificate (BERTH_KEY)")
	flags.BoolVar(&a.json, "json", false, "write results and errors as JSON, and no progress")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "write results and errors alone")
	return completes(root, map[string]cobra.CompletionFunc{
		"token-file": completeFiles, "cacert": completeFiles, "cert": completeFiles, "key": completeFiles,
	})
}

// fromEnvironment gives the flags that are not set the values of their variables.
func (a *app) fromEnvironment(cmd *cobra.Command) error {
	for _, v := range []struct{ flag, variable string }{
		{"url", "BERTH_URL"},
		{"user", "BERTH_USER"},
		{"nats-url", "NATS_URL"},
		{"cluster", "BERTH_CLUSTER"},
		{"token-file", "BERTH_TOKEN_FILE"},
		{"cacert", "BERTH_CACERT"},
		{"cert", "BERTH_CERT"},
		{"key", "BERTH_KEY"},
		{"kubeconfig", "KUBECONFIG"},
		{"namespace", "BERTH_NAMESPACE"}, // Of doctor alone.
	} {
		flag := cmd.Flags().Lookup(v.flag)
		value := a.getenv(v.variable)
		if flag == nil || flag.Changed || value == "" {
			continue
		}
		if err := flag.Value.Set(value); err != nil {
			return fmt.Errorf("%s: %w", v.variable, err)
		}
	}
	return nil
}

// getenv returns the value of a variable, the last one of its name.
func (a *app) getenv(name string) string {
	value := ""
	for _, variable := range a.Environ {
		if text, ok := strings.CutPrefix(variable, name+"="); ok {
			value = text
		}
	}
	return value
}

// group is a command that only has others below it. Without one of them it
// shows its help.
func group(use, short, long, examples string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: strings.TrimPrefix(long, "\n"), Example: examples,
		SuggestionsMinimumDistance: 2,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			text := fmt.Sprintf("unknown command %q", args[0])
			if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
				text += fmt.Sprintf(": did you mean %s?", strings.Join(like, " or "))
			}
			return usage("%s", text)
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(children...)
	return cmd
}
