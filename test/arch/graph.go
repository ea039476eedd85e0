// Package arch holds the import rules of this repository and checks them over
// the graph that `go list -deps` prints, so that it also sees what a package
// reaches through others. The compiler (internal folders, one module a
// service) and the linter's depguard lists are the first two walls; this is
// the third.
package arch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Graph has the direct imports of every package, by import path. Only files
// of the built program count, no test files.
type Graph map[string][]string

// Load returns the graph of all packages of the workspace around dir, with
// all that they depend on. It runs the go command and fails where that does,
// for one when an import cannot be resolved.
func Load(ctx context.Context, dir string) (Graph, error) {
	out, err := run(ctx, dir, "go", "list", "-deps", "-json=ImportPath,Imports", "work")
	if err != nil {
		return nil, err
	}

	graph := Graph{}
	for dec := json.NewDecoder(strings.NewReader(out)); ; {
		var pkg struct {
			ImportPath string
			Imports    []string
		}
		switch err := dec.Decode(&pkg); {
		case errors.Is(err, io.EOF):
			return graph, nil
		case err != nil:
			return nil, fmt.Errorf("decode go list: %w", err)
		}
		graph[pkg.ImportPath] = pkg.Imports
	}
}

// Root returns the folder of the go.work that is in force in dir.
func Root(ctx context.Context, dir string) (string, error) {
	out, err := run(ctx, dir, "go", "env", "GOWORK")
	if err != nil {
		return "", err
	}
	work := strings.TrimSpace(out)
	if work == "" || work == "off" {
		return "", fmt.Errorf("find go.work above %s: there is none, or GOWORK=off", dir)
	}
	return filepath.Dir(work), nil
}

// chain returns the shortest way from a package to one that bad accepts, both
// ends included, or nil where there is none.
func (g Graph) chain(from string, bad func(string) bool) []string {
	cameFrom := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		for _, next := range g[queue[0]] {
			if _, seen := cameFrom[next]; seen {
				continue
			}
			cameFrom[next] = queue[0]
			if bad(next) {
				var way []string
				for at := next; at != ""; at = cameFrom[at] {
					way = append(way, at)
				}
				slices.Reverse(way)
				return way
			}
			queue = append(queue, next)
		}
	}
	return nil
}

func run(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("run %s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}
