package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"berth/services/creator/internal/template"
)

// TestTemplateLog: what becomes of the template is told once, as loudly as it matters.
func TestTemplateLog(t *testing.T) {
	t.Parallel()
	missing, broken := &template.Error{Message: "missing", Missing: true}, &template.Error{Message: "broken"}
	tests := map[string]struct {
		states []error
		want   []string
	}{
		"usable":                  {[]error{nil}, nil},
		"a site without projects": {[]error{missing}, []string{"info"}},
		"made later":              {[]error{missing, nil}, []string{"info", "info"}},
		"broken at first":         {[]error{broken, nil}, []string{"warn", "info"}},
		"broken, and mended":      {[]error{nil, broken, errors.New("otherwise"), nil}, []string{"warn", "warn", "info"}},
		"taken away":              {[]error{nil, missing}, []string{"warn"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			tell := templateLog(zerolog.New(&log))
			for _, err := range tt.states {
				tell(err)
			}
			var got []string
			for lines := json.NewDecoder(&log); ; {
				var line struct{ Level string }
				err := lines.Decode(&line)
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, line.Level)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("levels (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTemplateGauge(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		templates *fakeTemplates
		want      float64
	}{
		"usable":  {&fakeTemplates{text: templateText}, 1},
		"broken":  {&fakeTemplates{err: &template.Error{Message: "broken"}}, 0},
		"unknown": {&fakeTemplates{err: template.ErrUnknown}, 0},
	} {
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(templateGauge(tt.templates))
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		if got := families[0].GetMetric()[0].GetGauge().GetValue(); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
