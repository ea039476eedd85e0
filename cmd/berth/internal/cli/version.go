package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Write the version of berth",
		Long:    "Write the version of berth, and of the Go that it was built with.",
		Example: `  berth version --json`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				a.writeJSON(a.Stdout, struct {
					Version string `json:"version"`
					Go      string `json:"go_version"`
				}{version(), runtime.Version()})
				return nil
			}
			fmt.Fprintln(a.Stdout, "berth", version(), runtime.Version())
			return nil
		},
	}
}

// version is what the program was built from: the version of its module, else
// the revision of its source, else "unknown". The process kit of the services
// says the same of them; it would bring its exporters of traces and metrics.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	revision, dirty := "unknown", ""
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision":
			revision = setting.Value[:min(len(setting.Value), 12)]
		case setting.Key == "vcs.modified" && setting.Value == "true":
			dirty = "-dirty"
		}
	}
	return revision + dirty
}
