package cli

import (
	"github.com/spf13/cobra"

	"berth/pkg/license/offline"
)

func (a *app) patch() *cobra.Command {
	return group("patch", "Apply the patches of licenses to documents, without a server", `
The JSON Patches of licenses, applied as at a start, but to documents from stdin
and without a server.`,
		`  berth patch apply <cases.jsonl >documents.jsonl`,
		a.patchApply())
}

func (a *app) patchApply() *cobra.Command {
	return a.answers(&cobra.Command{
		Use:   "apply",
		Short: "Apply patches, for each line of stdin those of one document",
		Long: `Read cases from stdin as JSON Lines, and write for each a line with its answer
to stdout, in their order: {"id","doc"}, or {"id","error":{"license","operation",
"path","code","message"}} with positions from 0. A case is {"id","doc",
"patches":[[operation,…],…]}, with a patch for each license. Either all operations
of a case are applied or none. No path is protected, as some are at a start. Cases
with errors do not change the exit code.`,
		Example: `  echo '{"id":1,"doc":{"a":[]},"patches":[[{"op":"add","path":"/a/7","value":"b"}]]}' | berth patch apply`,
	}, offline.ApplyPatches)
}
