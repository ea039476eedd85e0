package service

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime"
	"strings"
)

const (
	defaultListen  = "127.0.0.1:0"
	defaultNATSURL = "nats://127.0.0.1:4222"
)

// options are the values of the flags.
type options struct {
	config, listen string
}

// parse reads the command line. done means that the program ends with the code.
func (p Program) parse(c call) (o options, code int, done bool) {
	var version bool
	flags := flag.NewFlagSet(p.Name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // What it prints has no one form; the text below has.
	flags.StringVar(&o.config, "config", "", "")
	flags.StringVar(&o.listen, "listen", cmp.Or(p.Listen, defaultListen), "")
	flags.BoolVar(&version, "version", false, "")
	err := flags.Parse(c.args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		say(c.stdout, "%s", p.help())
		return o, ExitClean, true
	case err == nil && flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case err == nil && version:
		say(c.stdout, "%s %s %s\n", p.Name, Version(), runtime.Version())
		return o, ExitClean, true
	}
	if err != nil {
		say(c.stderr, "%s: %v\nTry %s --help.\n", p.Name, err, p.Name)
		return o, ExitUsage, true
	}
	return o, ExitClean, false
}

func (p Program) help() string {
	title := "a service of Berth"
	if p.Summary != "" {
		title = p.Summary
	}
	return strings.NewReplacer("{name}", p.Name, "{title}", title, "{listen}", cmp.Or(p.Listen, defaultListen), "{nats}", defaultNATSURL).
		Replace(`{name}: {title}

Usage: {name} [flags]

Flags:
  --config FILE   the configuration of the site (YAML); none means defaults and environment
  --listen ADDR   where to answer /livez, /readyz and /metrics (default {listen}; port 0 is a
                  free one, which the log names; :9090 is port 9090 of every address)
  --version       print the version and exit
  --help          print this and exit

Environment:
  NATS_URL        the servers of the log, with commas between (default {nats})
  NATS_PASSWORD   the password of the service there, or NATS_PASSWORD_FILE the file that holds it;
                  none where the servers ask for none
  NATS_USER       its user there (default {name})
  KUBECONFIG      for services that use Kubernetes (default: the service account of the pod)
  DATABASE_URL    for services that use PostgreSQL
  LOG_LEVEL       trace, debug, info, warn or error; wins over the configuration
  BACKEND_<KEY>   a key of the configuration, as in BACKEND_TIMEOUTCREATE=2m; wins over the file
  OTEL_*          the variables of OpenTelemetry: OTEL_EXPORTER_OTLP_ENDPOINT turns on traces

Signals: SIGINT or SIGTERM drains and stops; a second one kills. SIGHUP reads the configuration again;
what has faults changes nothing, and the log names keys that need a restart.

Exit codes: 0 stopped, 1 failed, 2 wrong flags or configuration, 130 killed by a second signal.
`)
}
