// Package licensefile reads and writes licenses of a site as YAML files, and says what a change of a license is.
//
// A file has one license, or several as documents with --- between, or in a list. Each is as the HTTP API has it, but
// that the patch may be a list instead of the text that is stored; what the API tells and does not take is left out.
// Whatever is not known is a fault with its line.
package licensefile

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"berth/pkg/client"
	"berth/pkg/events"
)

// The limits of a file.
const (
	// MaxFile is its size, in bytes, at the most.
	MaxFile      = 4 << 20
	maxDocuments = 1000
)

// File is a license with the place where it stands.
type File struct {
	Name    string
	Line    int
	License client.SiteLicense

	places places
}

// Fault is something wrong with a file.
type Fault struct {
	Name    string
	Line    int
	Message string
}

// String is the fault in a line, as compilers write theirs.
func (f Fault) String() string {
	if f.Line == 0 {
		return f.Name + ": " + f.Message
	}
	return f.Name + ":" + strconv.Itoa(f.Line) + ": " + f.Message
}

// Read returns the licenses of a file in their order, or all because of which it cannot be read. What they give and
// whether a service would take it is seen with [File.Faults]. name is for the faults; none quotes a value of a patch.
// A byte order mark at the beginning of the text is left out.
func Read(name string, text []byte) ([]File, []Fault) {
	r := &reader{name: name}
	if len(text) > MaxFile {
		r.fault(0, "is larger than "+strconv.Itoa(MaxFile)+" bytes")
		return nil, r.faults
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var files []File
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			r.fault(lineOf(err), "is no YAML: "+withoutLine(err))
			break
		}
		if len(document.Content) != 1 || isNull(document.Content[0]) {
			continue // An empty document, as after a last ---.
		}
		licenses := []*yaml.Node{document.Content[0]}
		if licenses[0].Kind == yaml.SequenceNode {
			licenses = licenses[0].Content
		}
		if len(files)+len(licenses) > maxDocuments {
			r.fault(document.Line, "has more than "+strconv.Itoa(maxDocuments)+" licenses: use more files")
			break
		}
		for _, license := range licenses {
			files = append(files, r.license(license))
		}
	}
	if len(files)+len(r.faults) == 0 {
		r.fault(0, "has no license")
	}
	if len(r.faults) > 0 {
		slices.SortStableFunc(r.faults, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
		return nil, r.faults
	}
	return files, nil
}

// lineOf is the line that an error of the YAML parser names, 0 for none.
func lineOf(err error) int {
	_, rest, found := strings.Cut(err.Error(), "line ")
	digits, _, ok := strings.Cut(rest, ":")
	line, notNumber := strconv.Atoi(digits)
	if !found || !ok || notNumber != nil {
		return 0
	}
	return line
}

func withoutLine(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, found := strings.CutPrefix(text, "line "); found {
		if _, message, ok := strings.Cut(rest, ": "); ok {
			return message
		}
	}
	return text
}

// reader reads one file.
type reader struct {
	name   string
	faults []Fault
}

func (r *reader) fault(line int, message string) {
	r.faults = append(r.faults, Fault{Name: r.name, Line: line, Message: message})
}

// license reads one document.
func (r *reader) license(node *yaml.Node) File {
	f := File{Name: r.name, Line: node.Line, places: places{}}
	if node.Kind != yaml.MappingNode {
		r.fault(node.Line, "a license must be a mapping, with keys like id, title and quota")
		return f
	}
	l := &f.License
	known := map[string]func(value *yaml.Node){
		"id":          func(v *yaml.Node) { l.ID = strings.ToLower(r.text("id", v)) },
		"title":       func(v *yaml.Node) { l.Title = r.text("title", v) },
		"description": func(v *yaml.Node) { l.Description = r.text("description", v) },
		"activates":   func(v *yaml.Node) { l.Activates = r.moment("activates", v) },
		"expires":     func(v *yaml.Node) { l.Expires = r.moment("expires", v) },
		"quota":       func(v *yaml.Node) { l.Quota = r.value("quota", v, f.places) },
		"upgrades":    func(v *yaml.Node) { l.Upgrades = r.value("upgrades", v, f.places) },
		"run_limit":   func(v *yaml.Node) { l.RunLimit = r.limit(v, f.places) },
		"managers":    func(v *yaml.Node) { l.Managers = r.texts("managers", v) },
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		read, ok := known[key.Value]
		switch {
		case slices.Contains(toldFields(), key.Value):
		case !ok:
			r.fault(key.Line, fmt.Sprintf("there is no %.40q in a license; there are %s", key.Value, fieldNames))
		case seen[key.Value]:
			r.fault(key.Line, key.Value+" is there twice: leave one out")
		case !isNull(value):
			read(value)
		}
		seen[key.Value] = true
	}
	if l.ID == "" {
		r.fault(node.Line, "id is missing: a UUID, as uuidgen writes; it is what the license is found by")
	} else if !events.ProjectID(l.ID) {
		r.fault(node.Line, "id must be a UUID, like 8e03978e-40d5-43e8-bc93-6894a57f9324")
	}
	return f
}

// toldFields are in what the service tells of a license, and are not saved.
func toldFields() []string {
	return []string{"created", "last_used", "seats_used", "revision", "warnings"}
}

const fieldNames = "id, title, description, activates, expires, quota, upgrades, run_limit, managers"

func (r *reader) text(name string, v *yaml.Node) string {
	if v.Kind != yaml.ScalarNode || v.ShortTag() == "!!binary" {
		r.fault(v.Line, name+" must be a text")
		return ""
	}
	return v.Value
}

func (r *reader) texts(name string, v *yaml.Node) []string {
	if v.Kind != yaml.SequenceNode {
		r.fault(v.Line, name+" must be a list of texts")
		return nil
	}
	var all []string
	for _, one := range v.Content {
		all = append(all, r.text(name, one))
	}
	return all
}

func (r *reader) limit(v *yaml.Node, places places) *int {
	n, err := strconv.Atoi(v.Value)
	if v.Kind != yaml.ScalarNode || err != nil {
		r.fault(v.Line, noLimit)
		return nil
	}
	places["run_limit"] = v.Line
	return &n
}

// moment reads a time; one without a zone is in UTC.
func (r *reader) moment(name string, v *yaml.Node) *time.Time {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", time.DateTime, time.DateOnly} {
		if t, err := time.Parse(layout, v.Value); err == nil && v.Kind == yaml.ScalarNode {
			t = t.UTC()
			return &t
		}
	}
	r.fault(v.Line, name+" must be a time, like 2026-01-02 or 2026-01-02T15:04:05Z")
	return nil
}

// value reads anything as JSON, and a patch in it as the text that is stored.
func (r *reader) value(name string, v *yaml.Node, places places) json.RawMessage {
	c := converter{reader: r, places: places}
	text := c.value(v, name, 0)
	if c.failed {
		return nil
	}
	return text
}
