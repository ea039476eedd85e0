package licensing_test

import (
	"encoding/json"
	"strings"
	"testing"

	"berth/pkg/license/wire"
	"berth/services/licenser/internal/licensing"
)

// TestValidateEdit: what a hub has saved in a license and an edit leaves as it is, is not checked again; all else is, whatever
// it is called.
func TestValidateEdit(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		saved, edited string // Quotas; saved is empty for a new license.
		refused       bool
	}{
		"new and good":               {edited: `{"cpu":1}`},
		"new and bad":                {edited: `{"cpu":"2"}`, refused: true},
		"a name with a dot, new":     {edited: `{"a.b":1}`, refused: true},
		"a long name, new":           {edited: `{"` + strings.Repeat("a", 100) + `":1}`, refused: true},
		"bad, and something else":    {saved: `{"cpu":"2","ram":1}`, edited: `{"cpu":"2","ram":3}`},
		"bad, and made worse":        {saved: `{"cpu":"2","ram":1}`, edited: `{"cpu":"3","ram":1}`, refused: true},
		"a dot, and something else":  {saved: `{"a.b":1,"ram":1}`, edited: `{"a.b":1,"ram":3}`},
		"a dot, and another value":   {saved: `{"a.b":1}`, edited: `{"a.b":2}`, refused: true},
		"inside, and something else": {saved: `{"gpu":{"num":0.5},"ram":1}`, edited: `{"gpu":{"num":0.5},"ram":3}`},
		"one of two that look alike": {saved: `{"gpu":{"num":0.5},"gpu.num":1}`, edited: `{"gpu":{"num":0.25},"gpu.num":1}`, refused: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var saved *wire.License
			if tt.saved != "" {
				saved = &wire.License{ID: first, Quota: json.RawMessage(tt.saved)}
			}
			err := licensing.Validate(wire.License{ID: first, Quota: json.RawMessage(tt.edited)}, saved)
			if (err != nil) != tt.refused {
				t.Errorf("%v; want it refused: %t", err, tt.refused)
			}
		})
	}
}
