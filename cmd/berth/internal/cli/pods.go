package cli

import (
	"time"

	"github.com/spf13/cobra"
)

// defaultTimeout is how long commands wait for a pod. A service that makes
// progress may take longer; it says itself when it gives up.
const defaultTimeout = 5 * time.Minute

func (a *app) pods() *cobra.Command {
	return group("pods", "Make, list, watch and delete the pods of a user", `
The pods of a user. Commands that wait follow the log where --nats-url or
NATS_URL is set, and ask the service twice a second where it is not.`,
		`  berth pods create https://example.org/notebook.yaml --user alice@example.org
  berth pods list --user alice@example.org`,
		a.podsCreate(), a.podsList(), a.podsWatch(), a.podsDelete())
}
