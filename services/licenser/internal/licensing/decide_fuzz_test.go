package licensing_test

import (
	"encoding/json"
	"errors"
	"testing"

	"berth/pkg/license/check"
	"berth/pkg/license/wire"
	"berth/services/licenser/internal/licensing"
)

// FuzzDecide: whatever a hub has written, there is a pod or a fault.
func FuzzDecide(f *testing.F) {
	f.Add(template, `{"cpu":1,"patch":"[{\"op\":\"add\",\"path\":\"/metadata/labels/a\",\"value\":1}]"}`, `{"memory":1000}`, `{"u":{"upgrades":{"cores":1}}}`, `{"cpu_limit":1}`)
	f.Add(`null`, `[]`, `1`, `"x"`, `{`)
	f.Add(`{"kind":"Pod"}`, `{"dedicated_vm":{"machine":"onprem"}}`, ``, `{}`, `null`)
	f.Fuzz(func(t *testing.T, base, gives, settings, users, purchase string) {
		in := input(check.Row{ID: first, Activates: at("2026-01-01T00:00:00Z"), Quota: json.RawMessage(gives), Upgrades: json.RawMessage(settings)})
		in.Base, in.Tracing = json.RawMessage(base), true
		in.Check.Settings, in.Check.Users, in.Purchase, in.RunQuota = json.RawMessage(settings), json.RawMessage(users), json.RawMessage(purchase), json.RawMessage(gives)
		r, err := licensing.Decide(in)
		fault := (*licensing.Fault)(nil)
		switch {
		case err == nil && (!json.Valid(r.Pod) || !json.Valid(r.RunQuota)):
			t.Errorf("the pod is %q, the quota %q", r.Pod, r.RunQuota)
		case err != nil && !errors.As(err, &fault):
			t.Errorf("Decide = %v, which is no fault", err)
		}
		_ = licensing.Validate(wire.License{ID: first, Quota: json.RawMessage(gives), Upgrades: json.RawMessage(settings)}, nil)
	})
}
