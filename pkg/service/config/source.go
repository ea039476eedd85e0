package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// source is what values are read from: the file, or one environment variable.
type source struct {
	// file is the name of the file in faults, "" for a variable.
	file string
	// faults are those of this source, in the order in which they were found.
	faults Faults
	// lines are the lines of all paths that were read.
	lines map[string]int
	// broken are the paths that have a fault.
	broken map[string]bool
}

func newSource(file string) *source {
	return &source{file: file, lines: map[string]int{}, broken: map[string]bool{}}
}

func (s *source) fault(path string, line int, message string) {
	s.broken[path] = true
	s.faults = append(s.faults, Fault{File: s.file, Line: line, Path: path, Message: message})
}

// line returns the line of a path, or that of the nearest one above it.
func (s *source) line(path string) int {
	for {
		if line, ok := s.lines[path]; ok || path == "" {
			return line
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
}

// isBroken tells whether a path, one above it or one below it has a fault already, so that a
// second one about the value that is missing for it would only confuse.
func (s *source) isBroken(path string) bool {
	for broken := range s.broken {
		if isBelow(broken, path) || isBelow(path, broken) {
			return true
		}
	}
	return false
}

// isBelow tells whether a path is another one or a part of it.
func isBelow(path, above string) bool {
	rest, found := strings.CutPrefix(path, above)
	return found && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// document reads the one YAML document of a source; nil means that it is empty or has a fault.
// Anchors and aliases are refused, so nothing can be larger than its text.
func (s *source) document(path string, data []byte) (root *yaml.Node) {
	if len(data) > maxSize {
		s.fault(path, 0, "is larger than 1 MiB: this is no configuration of Berth")
		return nil
	}
	// The parser has panics for what its authors hold impossible.
	defer func() {
		if recover() != nil {
			s.fault(path, 0, "is not YAML")
			root = nil
		}
	}()
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	switch err := decoder.Decode(&first); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		s.syntax(path, err)
		return nil
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		if err != nil {
			s.syntax(path, err)
		} else {
			s.fault(path, second.Line, "starts a second document: one is read, so put all keys there")
		}
		return nil
	}
	if node := findAnchor(&first); node != nil {
		s.fault(path, node.Line, noAnchors)
		return nil
	}
	if len(first.Content) == 0 {
		return nil
	}
	return first.Content[0]
}

const noAnchors = "has an anchor or alias (& or *): write the value out, or in quotes if it begins so"

// findAnchor returns the first node with an anchor or alias, or nil.
func findAnchor(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode || node.Anchor != "" {
		return node
	}
	for _, child := range node.Content {
		if found := findAnchor(child); found != nil {
			return found
		}
	}
	return nil
}

// syntax adds the fault of the parser, whose message may begin with a line.
func (s *source) syntax(path string, err error) {
	message := oneLine(strings.TrimPrefix(err.Error(), "yaml: "))
	line := 0
	if parts := regexp.MustCompile(`^line (\d+): (.*)$`).FindStringSubmatch(message); parts != nil {
		line, _ = strconv.Atoi(parts[1]) // Digits of a line; 0 would do.
		message = parts[2]
	}
	if strings.HasPrefix(message, "unknown anchor") { // It repeats a value that begins with *.
		s.fault(path, line, noAnchors)
		return
	}
	if line > 0 && s.file != "" {
		message = "here or in the line below: " + message // The parser counts some from 0.
	}
	s.fault(path, line, "is not YAML: "+message)
}
