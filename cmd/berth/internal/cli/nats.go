package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"berth/pkg/events/natsbus"
)

func (a *app) configNATS() *cobra.Command {
	return &cobra.Command{
		Use:   "nats",
		Short: "Write the users of the NATS server, with what each may do",
		Long: `Write the authorization block of a nats-server's configuration: a user for each
service and one, operator, for people and their tools, with what each may do in
one cluster (--cluster) and no more. Passwords are variables that nats-server
reads from its environment: BERTH_API_PASSWORD and so on, of letters and digits,
a letter first (it would take digits for a number). A service gets its own in NATS_PASSWORD, or a file's name in
NATS_PASSWORD_FILE. The server needs JetStream and version 2.12 or newer.`,
		Example: `  berth config nats >berth-users.conf
  printf 'jetstream { store_dir: /var/lib/nats }\ninclude berth-users.conf\n' >nats.conf`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if !matches(clusterForm, a.cluster) {
				return usage("%q is no name of a cluster: use letters, digits, - and _", a.cluster)
			}
			fmt.Fprint(a.Stdout, natsUsers(natsbus.Grants(a.cluster)))
			return nil
		},
	}
}

// natsUsers writes grants in the notation of
// https://docs.nats.io/running-a-nats-service/configuration/securing_nats/authorization.
func natsUsers(grants []natsbus.Grant) string {
	var b strings.Builder
	list := func(name string, subjects []string) {
		fmt.Fprintf(&b, "      %s: [\n", name)
		for _, s := range subjects {
			fmt.Fprintf(&b, "        %q\n", s)
		}
		b.WriteString("      ]\n")
	}
	b.WriteString("authorization {\n  users: [\n")
	for _, g := range grants {
		fmt.Fprintf(&b, "    { user: %q, password: $%s, permissions: {\n", g.User, passwordVariable(g.User))
		list("publish", g.Publish)
		list("subscribe", g.Subscribe)
		b.WriteString("    } }\n")
	}
	b.WriteString("  ]\n}\n")
	return b.String()
}

// passwordVariable is the variable that a nats-server reads a user's password from.
func passwordVariable(user string) string { return "BERTH_" + strings.ToUpper(user) + "_PASSWORD" }
