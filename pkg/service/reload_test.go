package service

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"berth/pkg/service/config"
)

func TestReloads(t *testing.T) {
	t.Parallel()
	named := func(name, namespace string) config.Config {
		c := config.Default()
		c.AllowedHosts, c.Namespace = []string{name}, namespace
		return c
	}
	load := func(c config.Config, err error) func() (config.Config, []config.Notice, error) {
		return func() (config.Config, []config.Notice, error) {
			return c, []config.Notice{{Path: "podCacheDir", Message: "is ignored"}}, err
		}
	}
	var log strings.Builder
	logger := zerolog.New(&log)
	r := NewReloads(named("first", "berth"))
	var early, late []string
	cancel := r.Subscribe(func(c config.Config) { early = append(early, c.AllowedHosts[0]) })

	r.Reload(load(named("second", "berth"), nil), logger)
	if text := log.String(); !strings.Contains(text, "podCacheDir") || strings.Contains(text, "restart") {
		t.Errorf("log of a reload: %s", text)
	}
	r.Subscribe(func(c config.Config) { late = append(late, c.AllowedHosts[0]) })

	log.Reset()
	r.Reload(load(config.Config{}, config.Faults{{Path: "silos", Message: "one"}, {Path: "namespace", Message: "two"}}), logger)
	if text := log.String(); !strings.Contains(text, `"faults":["silos: one","namespace: two"]`) {
		t.Errorf("log of faults: %s", text)
	}

	log.Reset()
	cancel()
	r.Reload(load(named("third", "other"), nil), logger)
	if text := log.String(); !strings.Contains(text, `"keys":["namespace"]`) {
		t.Errorf("log of a key that needs a restart: %s", text)
	}
	if d := cmp.Diff([][]string{{"second"}, {"second", "third"}}, [][]string{early, late}); d != "" {
		t.Errorf("taken (-want +got):\n%s", d)
	}

	var none *Reloads
	none.Reload(load(config.Config{}, errors.New("x")), logger)
	none.Subscribe(func(config.Config) { t.Error("called") })()
}

// TestReloadKeepsSilos: a file that was emptied opens nothing.
func TestReloadKeepsSilos(t *testing.T) {
	t.Parallel()
	silos := config.Default()
	silos.Silos = []config.Silo{{Name: "a"}, {Name: "b"}}
	silos.AdminTokenHash = config.Sum([]byte("admin"))
	fewer := silos
	fewer.Silos, fewer.AdminTokenHash = silos.Silos[:1], config.Hash{}
	tests := map[string]struct {
		before, after config.Config
		wantTaken     int
		wantLog       string
	}{
		"to none":                {silos, config.Default(), 0, `"faults":["silos: none is left, `},
		"to fewer, no admin":     {silos, fewer, 1, "Configuration reloaded"},
		"from none to some":      {config.Default(), silos, 1, "Configuration reloaded"},
		"from none to none":      {config.Default(), config.Default(), 1, "Configuration reloaded"},
		"the last one, no admin": {fewer, config.Default(), 0, `"faults":["silos: none is left, `},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log strings.Builder
			taken := 0
			r := NewReloads(tt.before)
			r.Subscribe(func(config.Config) { taken++ })
			r.Reload(func() (config.Config, []config.Notice, error) { return tt.after, nil, nil }, zerolog.New(&log))
			if taken != tt.wantTaken || !strings.Contains(log.String(), tt.wantLog) {
				t.Errorf("taken %d times, want %d; log: %s", taken, tt.wantTaken, log.String())
			}
		})
	}
}

// TestProgramReloads changes the file of a program that runs, and says SIGHUP.
func TestProgramReloads(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "site.yaml")
	write := func(text string) { // At once: the program may be reading.
		if err := errors.Join(os.WriteFile(file+".new", []byte(text), 0o600), os.Rename(file+".new", file)); err != nil {
			t.Error(err)
		}
	}
	write("allowedHosts: [first.example.org]\n")
	signals := make(chan os.Signal)
	var seen []string
	got := runProgram(Program{Name: "api", Run: func(ctx context.Context, p Process) error {
		taken := make(chan config.Config, 1)
		defer p.Reloads.Subscribe(func(c config.Config) { taken <- c })()
		seen = append(seen, p.Config.AllowedHosts[0])
		write("allowedHosts: [UPPER, second.example.org]\nnonsense: 1\n")
		signals <- syscall.SIGHUP
		write("allowedHosts: [third.example.org]\n") // The signal has been taken; the file may have been read or not.
		signals <- syscall.SIGHUP
		c := <-taken
		seen = append(seen, c.AllowedHosts[0])
		signals <- syscall.SIGTERM
		<-ctx.Done()
		return nil
	}}, []string{"--config", file}, nil, signals)
	if got.code != ExitClean || seen[0] != "first.example.org" || seen[1] != "third.example.org" {
		t.Errorf("program = %+v, seen %v", got, seen)
	}
	if !strings.Contains(got.stderr, "Configuration reloaded") {
		t.Errorf("log: %s", got.stderr)
	}
}
