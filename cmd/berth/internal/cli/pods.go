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
The pods of a user. Commands that wait follow what the service tells, and go on
where they were when it is restarted.`,
		`  berth pods create https://example.org/notebook.yaml --user alice@example.org
  berth pods list --user alice@example.org
  berth pods timeline notebook-alice-example-org`,
		a.podsCreate(), a.podsList(), a.podsGet(), a.podsWatch(), a.podsEvents(), a.podsTimeline(), a.podsTokens(), a.podsDelete())
}
