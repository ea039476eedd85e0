package license_test

import (
	"encoding/json"
	"errors"
	"testing"

	"berth/pkg/license"
	"berth/pkg/license/patchset"
	"berth/pkg/license/quota"
)

// No template and no value makes it panic; what it fills is JSON in its one form.
func FuzzFill(f *testing.F) {
	f.Add([]byte(template(f)), "image", "tag", "env")
	f.Add([]byte(`{"spec":{"containers":[{"volumeMounts":[{"name":"home","mountPath":"/home/user"}]}]}}`), "{project_id}", "\xff", "")
	f.Fuzz(func(t *testing.T, template []byte, image, tag, env string) {
		opts := options()
		opts.Image, opts.Tag, opts.ExtraEnv = image, tag, env
		filled, _, err := license.Fill(template, opts)
		if err != nil {
			return
		}
		if canonical, err := license.Canonical(filled); err != nil || string(canonical) != string(filled) {
			t.Errorf("filled %q, which is %q, %v", filled, canonical, err)
		}
	})
}

// A license's text that loads is applied or refused, with its operation.
func FuzzLoadPatch(f *testing.F) {
	f.Add(`[{"op":"add","path":"/metadata/labels/a","value":"b"}]`)
	f.Add(`[{"op":"move","path":"","from":"/spec"}]`)
	f.Add(`[{"op":"test","path":0}]`)
	f.Add(`{}`)
	f.Fuzz(func(t *testing.T, text string) {
		list, err := quota.LoadPatch(text)
		if err != nil {
			return
		}
		q := composed()
		for i, raw := range list {
			q.Quota.Patch = append(q.Quota.Patch, quota.Operation{License: "a", Index: i, Raw: raw})
		}
		base := json.RawMessage(`{"metadata":{"name":"p"},"spec":{"containers":[{}]}}`)
		_, err = license.Compose(base, q, license.Options{})
		var failed *patchset.Error
		if err != nil && (!errors.As(err, &failed) || failed.License != "a" || failed.Operation < 0 || failed.Operation >= len(list)) {
			t.Errorf("error %v", err)
		}
	})
}
