package app

import (
	"regexp"
	"strings"

	"berth/pkg/license"
)

// unknownField is how the API server, and whoever reads pods as it does, name a member that they do not know.
var unknownField = regexp.MustCompile(`unknown field "([^"]+)"`)

// noteUnknown notes in the steps of licenses that what they write, or a part of it, has no effect, as far as the warnings of a trial
// say so.
func noteUnknown(steps []license.Step, warnings []string) {
	for _, warning := range warnings {
		for _, found := range unknownField.FindAllStringSubmatch(warning, -1) {
			// spec.containers[0].x is /spec/containers/0/x as a JSON Pointer.
			unknown := "/" + strings.NewReplacer(".", "/", "[", "/", "]", "").Replace(found[1]) + "/"
			for i := range steps {
				step := &steps[i]
				path := strings.TrimSuffix(step.Path, "-") + "/"
				if step.Kind != license.KindLicense || step.Op == "remove" || step.Op == "test" || !strings.HasPrefix(unknown, path) && !strings.HasPrefix(path, unknown) {
					continue
				}
				if step.Note != "" {
					step.Note += "; "
				}
				step.Note += "the API server does not know the field " + found[1]
			}
		}
	}
}
