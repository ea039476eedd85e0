package render

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Limits of a manifest beyond its size, against documents that are small and
// unfold: aliases of aliases, brackets in brackets. Real manifests stay below a
// tenth of them.
const (
	maxValues = 20_000
	maxText   = 2 * MaxManifest
	maxDepth  = 64
	maxKey    = 512
)

// decoder fills a Go value from a YAML document by the JSON names of its fields,
// as Kubernetes does it, but so that each fault says its line. The decoders of
// Kubernetes go by way of JSON, where the lines are lost.
type decoder struct {
	faults faults
	// lines has the line of every value by its path.
	lines map[string]int
	// skip has the paths of values that are not even looked at.
	skip map[string]bool

	values int
	text   int
	full   bool
}

// decode fills into, which is settable, with node. Faults are collected.
func (d *decoder) decode(node *yaml.Node, into reflect.Value, path string, depth int) {
	node = d.enter(node, path, depth)
	if node == nil || node.ShortTag() == "!!null" {
		return
	}

	if into.Kind() == reflect.Pointer {
		into.Set(reflect.New(into.Type().Elem()))
		into = into.Elem()
	}

	if custom, ok := reflect.TypeAssert[json.Unmarshaler](into.Addr()); ok {
		d.custom(node, custom, path)

		return
	}

	switch into.Kind() {
	case reflect.Struct:
		d.object(node, into, path, depth)
	case reflect.Map:
		d.dictionary(node, into, path, depth)
	case reflect.Slice:
		d.list(node, into, path, depth)
	default:
		d.scalar(node, into, path)
	}
}

// enter follows an alias, keeps the line and counts. It returns nil when a limit
// is reached; the rest of the document is not decoded then.
func (d *decoder) enter(node *yaml.Node, path string, depth int) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}

	if _, known := d.lines[path]; !known {
		d.lines[path] = node.Line
	}

	d.values++
	d.text += len(node.Value)

	if !d.full && (d.values > maxValues || d.text > maxText || depth > maxDepth) {
		d.full = true
		d.faultf(path, "the document is too large once its aliases are followed, or nested too deeply")
	}

	if d.full {
		return nil
	}

	return node
}

// faultf adds a fault at a path; the document itself has the empty one.
func (d *decoder) faultf(path, format string, args ...any) {
	place := fmt.Sprintf("line %d: ", d.line(path))
	if path != "" {
		place += path + ": "
	}

	d.faults.addf("%s%s", place, fmt.Sprintf(format, args...))
}

// line returns the line of a path, or of the nearest value that it is in.
func (d *decoder) line(path string) int {
	for {
		if line, ok := d.lines[path]; ok || path == "" {
			return line
		}

		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
}

// object decodes a mapping into a struct.
func (d *decoder) object(node *yaml.Node, into reflect.Value, path string, depth int) {
	d.entries(node, path, func(key string) string { return strings.TrimPrefix(path+"."+key, ".") },
		func(key string, value *yaml.Node, path string) {
			if d.skip[path] {
				return
			}

			field, ok := fieldNamed(into, key)
			if !ok {
				d.faultf(path, "unknown field")

				return
			}

			d.decode(value, field, path, depth+1)
		})
}

// fieldNamed finds a field by its JSON name, also in embedded structs.
func fieldNamed(in reflect.Value, name string) (reflect.Value, bool) {
	for i := range in.NumField() {
		field := in.Type().Field(i)
		tag, _, _ := strings.Cut(field.Tag.Get("json"), ",")

		if tag == name && tag != "" && tag != "-" {
			return in.Field(i), true
		}

		if field.Anonymous && tag == "" {
			if found, ok := fieldNamed(in.Field(i), name); ok {
				return found, true
			}
		}
	}

	return reflect.Value{}, false
}

// dictionary decodes a mapping into a map with keys of a string type.
func (d *decoder) dictionary(node *yaml.Node, into reflect.Value, path string, depth int) {
	into.Set(reflect.MakeMap(into.Type()))

	d.entries(node, path, func(key string) string { return path + "[" + key + "]" },
		func(key string, value *yaml.Node, path string) {
			element := reflect.New(into.Type().Elem()).Elem()
			d.decode(value, element, path, depth+1)
			into.SetMapIndex(reflect.ValueOf(key).Convert(into.Type().Key()), element)
		})
}

// entries visits the entries of a mapping in their order. A key that is there
// twice is a fault: YAML forbids it, and which one counts is anybody's guess.
func (d *decoder) entries(
	node *yaml.Node, path string, child func(key string) string, visit func(key string, value *yaml.Node, path string),
) {
	if node.Kind != yaml.MappingNode {
		d.faultf(path, "must be a mapping, not %s", describe(node))

		return
	}

	first := make(map[string]int, len(node.Content)/2)

	for i := 0; i+1 < len(node.Content) && !d.full; i += 2 {
		key := node.Content[i]
		if fault := keyFault(key); fault != "" {
			d.faults.addf("line %d: %s", key.Line, fault)

			continue
		}

		name := child(key.Value)
		if line, twice := first[key.Value]; twice {
			d.faults.addf("line %d: %s: is there already on line %d", key.Line, name, line)

			continue
		}

		first[key.Value] = key.Line
		d.lines[name] = key.Line
		visit(key.Value, node.Content[i+1], name)
	}
}

// keyFault says why a node cannot be the key of an entry.
func keyFault(key *yaml.Node) string {
	switch {
	case key.Kind != yaml.ScalarNode:
		return "a key must be plain text"
	case key.ShortTag() == "!!merge":
		return "merge keys (<<) are not supported: write the fields out"
	case len(key.Value) > maxKey:
		return "a key is too long"
	default:
		return ""
	}
}

// list decodes a sequence into a slice.
func (d *decoder) list(node *yaml.Node, into reflect.Value, path string, depth int) {
	if node.Kind != yaml.SequenceNode {
		d.faultf(path, "must be a list, not %s", describe(node))

		return
	}

	into.Set(reflect.MakeSlice(into.Type(), len(node.Content), len(node.Content)))

	for i, element := range node.Content {
		if d.full {
			return
		}

		d.decode(element, into.Index(i), fmt.Sprintf("%s[%d]", path, i), depth+1)
	}
}

// scalar decodes text, a truth value or a whole number; a Pod has no others.
func (d *decoder) scalar(node *yaml.Node, into reflect.Value, path string) {
	tag := node.ShortTag()

	switch kind := into.Kind(); {
	case kind == reflect.String && (tag == "!!str" || tag == "!!timestamp"):
		into.SetString(node.Value)
	case kind == reflect.String && node.Kind == yaml.ScalarNode:
		d.faultf(path, "must be text, not %s: put it in quotes", describe(node))
	case kind == reflect.String:
		d.faultf(path, "must be text, not %s", describe(node))
	case kind == reflect.Bool:
		// YAML 1.1, which Kubernetes reads, also has yes and no, on and off.
		var value bool
		if node.Kind != yaml.ScalarNode || node.Style != 0 || node.Decode(&value) != nil {
			d.faultf(path, "must be true or false, not %s", describe(node))

			return
		}

		into.SetBool(value)
	case into.CanInt():
		var value int64
		if tag != "!!int" || node.Decode(&value) != nil || into.OverflowInt(value) {
			d.faultf(path, "must be a whole number in range, not %s", describe(node))

			return
		}

		into.SetInt(value)
	default:
		d.faultf(path, "cannot be set in a manifest")
	}
}

// custom decodes a value that has a notation of its own: a quantity, a number or
// text, a time.
func (d *decoder) custom(node *yaml.Node, into json.Unmarshaler, path string) {
	var value any

	switch tag := node.ShortTag(); {
	case node.Kind != yaml.ScalarNode:
		d.faultf(path, "must be a single value, not %s", describe(node))

		return
	case tag == "!!str" || tag == "!!timestamp":
		value = node.Value
	default:
		if err := node.Decode(&value); err != nil {
			d.faultf(path, "cannot be read")

			return
		}
	}

	text, err := json.Marshal(value)
	if err == nil {
		err = into.UnmarshalJSON(text)
	}

	if err != nil {
		d.faultf(path, "%v", err)
	}
}

// describe names a value for a message. It quotes no text: that may be a secret.
func describe(node *yaml.Node) string {
	switch tag := node.ShortTag(); tag {
	case "!!map":
		return "a mapping"
	case "!!seq":
		return "a list"
	case "!!str", "!!timestamp":
		return "text"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!null":
		return "nothing"
	default:
		return "a value with the tag " + tag
	}
}
