package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"berth/cmd/berth/internal/doctor"
	"berth/cmd/berth/internal/probe"
)

// doctorTimeout is enough for a slow site; a healthy one takes two seconds, for
// which the watcher is listened to.
const doctorTimeout = 15 * time.Second

// doctorFlags is the command line of doctor.
type doctorFlags struct {
	kubeconfig, namespace string
	timeout               time.Duration
}

func (a *app) doctor() *cobra.Command {
	var f doctorFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look whether all of Berth works, and say what to do",
		Long: `Look at an installation of Berth: whether the api answers and is ready; whether
NATS has the streams as they must be, who takes the commands of each stage and
how far behind it is, whether the log is complete, whether a watcher leads;
commands that could not be done; pods that hang; clocks that differ. With the
token of the administrators also whether the licenser's database answers. With a
kubeconfig also whether the log and the cluster have the same pods.

It changes nothing, and needs the rights of the NATS user operator at the most.
In Kubernetes it gets the namespace and the watcher's lease, and lists pods.

Stdout has a line for each check, then what is wrong, why it matters and what to
do. With --quiet it has only what is wrong; with --json one object: healthy,
findings, evidence. The exit code is 0 where there is no problem (notices are
none), 1 where there is one, 4 where nothing answers at all.

Environment, besides that of every command:
  KUBECONFIG, BERTH_NAMESPACE  for --kubeconfig, --namespace
  NO_COLOR                     no colours in a terminal`,
		Example: `  NATS_URL=nats://127.0.0.1:4222 berth doctor
  KUBECONFIG=$HOME/.kube/config berth doctor --namespace berth
  berth doctor --json | jq -r '.findings[] | select(.severity == "problem").do'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runDoctor(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "a kubeconfig `FILE` of the cluster (KUBECONFIG)")
	flags.StringVar(&f.namespace, "namespace", "", "the namespace that Berth fills (BERTH_NAMESPACE)")
	flags.DurationVar(&f.timeout, "timeout", doctorTimeout, "how long to look in all; what has not answered by then counts as away")
	return completes(cmd, map[string]cobra.CompletionFunc{"kubeconfig": completeFiles, "timeout": completeTimes})
}

func (a *app) runDoctor(ctx context.Context, f doctorFlags) error {
	base, err := a.baseURL()
	if err != nil {
		return err
	}
	if err := a.checkLog(); err != nil {
		return err
	}
	switch {
	case f.namespace != "" && !matches(labelForm, f.namespace):
		return usage("%q is no name of a namespace: use a-z, 0-9 and - with a letter or digit at both ends", f.namespace)
	case f.timeout <= 0:
		return usage("--timeout must be more than 0")
	}
	token, err := a.token()
	if err != nil {
		return err
	}
	ctx, cancel := withTimeout(ctx, f.timeout)
	defer cancel()
	evidence := probe.Gather(ctx, probe.Site{
		API: base, Token: token, NATSURL: a.natsURL, Cluster: a.cluster, Kubeconfig: f.kubeconfig, Namespace: f.namespace, Version: version(),
	})
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errTimeout) {
		return &failure{code: ExitInterrupted, reason: codeInterrupted, message: "interrupted"}
	}
	findings := doctor.Diagnose(evidence)
	sick := doctor.Worst(findings) == doctor.Problem
	if a.json {
		a.writeJSON(a.Stdout, struct {
			Healthy  bool             `json:"healthy"`
			Findings []doctor.Finding `json:"findings"`
			Evidence doctor.Evidence  `json:"evidence"`
		}{!sick, findings, evidence})
	} else {
		fmt.Fprint(a.Stdout, doctor.Text(findings, a.colourful(), a.quiet))
	}
	switch {
	case !evidence.Reached():
		return &failure{code: ExitUnavailable, reason: codeUnreachable, told: true}
	case sick:
		return &failure{code: ExitFailed, reason: codeFailed, told: true}
	}
	return nil
}

// colourful says whether stdout shows colours; https://no-color.org.
func (a *app) colourful() bool {
	out, ok := a.Stdout.(*checked)
	if !ok || a.getenv("NO_COLOR") != "" || a.getenv("TERM") == "dumb" {
		return false
	}
	file, ok := out.to.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// baseURL is where the service answers.
func (a *app) baseURL() (*url.URL, error) {
	base, err := url.Parse(a.url)
	// The URL may hold a password, so it is not repeated.
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || base.RawQuery != "" || base.Fragment != "" {
		return nil, usage("--url or BERTH_URL is no URL: write one like http://127.0.0.1:8080")
	}
	return base, nil
}
