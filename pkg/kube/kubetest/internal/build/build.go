// Package build makes programs from pinned Go modules, once, into a cache folder.
package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"berth/pkg/kube/kubetest/proc"
)

// Program is a program to build.
type Program struct {
	Name    string
	Version string        // Of its module; another version is another entry of the cache.
	Module  string        // The folder below Config.Source whose go.mod pins it.
	Package string        // The import path of its main package.
	Usual   time.Duration // How long a build takes on 2 cores, for the reader of the progress.
}

// Config says where to build.
type Config struct {
	Cache    string                 // The folder of the built programs; made if missing.
	Source   func() (string, error) // Finds the folder of the modules; called only if something has to be built.
	Progress io.Writer              // Gets lines for a person; must not be nil.
	Tick     time.Duration          // Between two lines while nothing else happens.
	Go       string                 // The go command; the one in PATH if empty.
}

// Path is where a program is, or will be.
func (c Config) Path(p Program) string {
	return filepath.Join(c.Cache, p.Name+"-"+p.Version, p.Name)
}

// All sees to it that every program is in the cache and complete, and builds those that are not, one after the other. It can be called by several
// processes at once: one builds, the others wait and say so. Whatever ends it, half a program is never taken for one, and what
// was built before stays. A cancelled ctx ends the build at once.
func (c Config) All(ctx context.Context, programs []Program) error {
	if len(c.missing(programs)) == 0 {
		return nil
	}
	if err := os.MkdirAll(c.Cache, 0o750); err != nil {
		return fmt.Errorf("make cache folder: %w", err)
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	// Another process may have built them while this one waited.
	missing := c.missing(programs)
	if len(missing) == 0 {
		return nil
	}
	source, err := c.Source()
	if err != nil {
		return err
	}
	goTool, err := exec.LookPath(cmp.Or(c.Go, "go"))
	if err != nil {
		return fmt.Errorf("build %s: install Go and put it into PATH: %w", missing[0].Name, err)
	}
	// What a killed build left is here, and nobody else uses it: we hold the lock.
	temp := filepath.Join(c.Cache, ".tmp")
	if err := errors.Join(proc.EndLeftovers(temp), os.RemoveAll(temp), os.Mkdir(temp, 0o700)); err != nil {
		return fmt.Errorf("clean up after an earlier build: %w", err)
	}
	for i, p := range missing {
		fmt.Fprintf(c.Progress, "building %s %s (%d of %d, usually %s on 2 cores)\n", p.Name, p.Version, i+1, len(missing), short(p.Usual))
		if err := c.build(ctx, goTool, filepath.Join(source, p.Module), temp, p); err != nil {
			return errors.Join(fmt.Errorf("build %s %s: %w", p.Name, p.Version, err), os.RemoveAll(temp))
		}
	}
	if err := os.RemoveAll(temp); err != nil {
		return fmt.Errorf("remove build folder: %w", err)
	}
	return nil
}

func (c Config) missing(programs []Program) []Program {
	var missing []Program
	for _, p := range programs {
		if !complete(c.Path(p)) {
			missing = append(missing, p)
		}
	}
	return missing
}

func (c Config) build(ctx context.Context, goTool, module, temp string, p Program) (err error) {
	starter := proc.NewStarter()
	defer func() { err = errors.Join(err, starter.Close()) }()
	out := filepath.Join(temp, p.Name)
	begin := time.Now()
	process, err := starter.Start(proc.Spec{
		Name: "go build", Path: goTool, Dir: module,
		Args: []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", out, p.Package},
		Env:  environ(os.Environ(), temp),
		Log:  out + ".log", Note: out + ".json", Parent: true,
	})
	if err != nil {
		return err
	}
	// An early return kills the build.
	if err := c.watch(ctx, process, p, begin); err != nil {
		return err
	}
	if err := process.Err(); err != nil {
		return err
	}
	if err := install(out, c.Path(p)); err != nil {
		return err
	}
	fmt.Fprintf(c.Progress, "built %s in %s\n", p.Name, time.Since(begin).Round(time.Second))
	return nil
}

// watch waits for the end of the process or of ctx and shows that time passes.
func (c Config) watch(ctx context.Context, process *proc.Process, p Program, begin time.Time) error {
	tick := time.NewTicker(c.Tick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-process.Done():
			return nil
		case <-tick.C:
			fmt.Fprintf(c.Progress, "building %s: %s so far\n", p.Name, time.Since(begin).Round(time.Second))
		}
	}
}

// environ is env without what would change which program is built. The variables are set, not removed: one that is unset or empty comes from
// the file that "go env -w" writes.
func environ(env []string, temp string) []string {
	ours := map[string]string{
		"GOWORK": "off", "GOFLAGS": "-mod=readonly", "GOOS": runtime.GOOS, "GOARCH": runtime.GOARCH, "GOTMPDIR": temp,
	}
	kept := slices.DeleteFunc(slices.Clone(env), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		_, replaced := ours[name]
		return replaced
	})
	for _, name := range slices.Sorted(maps.Keys(ours)) {
		kept = append(kept, name+"="+ours[name])
	}
	return kept
}

// install moves a built program to its place in one step, its bytes on disk first: a name without the bytes would survive a power loss.
func install(from, to string) error {
	if !complete(from) {
		return fmt.Errorf("go build made no program at %s", from)
	}
	file, err := os.Open(from)
	if err != nil {
		return err
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// short is d without the seconds that it does not have.
func short(d time.Duration) string { return strings.Replace(d.String(), "m0s", "m", 1) }
