package license_test

import (
	"encoding/json"
	"fmt"

	"berth/pkg/license"
	"berth/pkg/license/patchset"
	"berth/pkg/license/quota"
)

func ExampleCompose() {
	base := json.RawMessage(`{"metadata":{"name":"project-1"},"spec":{"containers":[{"name":"project","volumeMounts":[]}]}}`)
	q := quota.Result{Quota: quota.Quota{
		Network: true, CPULimit: 1, CPURequest: 0.1, MemoryLimit: 3000, MemoryRequest: 600,
		Patch: []quota.Operation{{License: "files", Raw: json.RawMessage(
			`{"op":"add","path":"/spec/containers/0/volumeMounts/7","value":{"name":"home","mountPath":"/global"}}`)}},
	}}
	composed, err := license.Compose(base, q, license.Options{Protection: patchset.Protection{Paths: patchset.Identity("run", "project_id")}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, step := range composed.Explanation.Steps {
		from := step.Kind
		if step.License != "" {
			from += " " + step.License + ", " + step.Note
		}
		fmt.Println(from+":", step.Op, step.Path, string(step.Value))
	}
	// Output:
	// quota: add /spec/containers/0/resources {"limits":{"cpu":"1000m"}}
	// quota: add /spec/containers/0/resources/limits/memory "3000Mi"
	// quota: add /spec/containers/0/resources/requests {"cpu":"100m"}
	// quota: add /spec/containers/0/resources/requests/memory "600Mi"
	// quota: add /metadata/labels {"network":"outside"}
	// license files, index 7 is past the end of 0 elements: appended: add /spec/containers/0/volumeMounts/0 {"mountPath":"/global","name":"home"}
}
