package config

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// value is a node of a source with its path. Its methods return the zero value after a fault.
type value struct {
	from *source
	node *yaml.Node
	path string
}

func (v value) fault(message string) { v.from.fault(v.path, v.node.Line, message) }

// at returns the value of a node below this one, and remembers its line.
func (v value) at(path string, node *yaml.Node) value {
	v.from.lines[path] = node.Line
	return value{from: v.from, node: node, path: path}
}

func (v value) isScalar() bool { return v.node.Kind == yaml.ScalarNode }

// text accepts every plain scalar as it is written: a secret named 0123, or a domain named no.
func (v value) text() string {
	text, _ := v.scalar()
	return text
}

// scalar is text that also tells whether there was no fault.
func (v value) scalar() (string, bool) {
	if !v.isScalar() {
		v.fault("is a list or a mapping: write one text")
		return "", false
	}
	switch v.node.ShortTag() {
	case "!!null":
		return "", true
	case "!!str", "!!int", "!!float", "!!bool", "!!timestamp":
		return v.node.Value, true
	default:
		v.fault("has a tag: write the text without it")
		return "", false
	}
}

func (v value) integer() int {
	text, ok := v.scalar()
	n, err := strconv.ParseInt(text, 10, 32)
	if ok && err != nil {
		v.fault(quote(text) + " is not a whole number: write digits alone")
		return 0
	}
	return int(n)
}

func (v value) boolean() bool {
	text, ok := v.scalar()
	if ok && text != "true" && text != "false" {
		v.fault(quote(text) + " is not a switch: write true or false")
	}
	return text == "true"
}

func (v value) number() float64 {
	text, ok := v.scalar()
	n, err := strconv.ParseFloat(text, 64)
	if ok && (err != nil || math.IsNaN(n) || math.IsInf(n, 0)) {
		v.fault(quote(text) + " is not a number: write one like 5 or 0.5")
		return 0
	}
	return n
}

// duration accepts Go's durations, and digits alone as seconds.
func (v value) duration() time.Duration {
	text, ok := v.scalar()
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil {
		return time.Duration(seconds) * time.Second
	}
	d, err := time.ParseDuration(text)
	if ok && err != nil {
		v.fault(quote(text) + " is not a duration: write one like 90s, 15m or 1h30m, or whole seconds")
	}
	return d
}

func (v value) address() netip.Addr {
	text := v.text()
	if text == "" {
		return netip.Addr{}
	}
	address, err := netip.ParseAddr(text)
	if err != nil || address.Zone() != "" {
		v.fault(quote(text) + " is not an IP address: write one like 10.0.0.12 or fd00::12")
		return netip.Addr{}
	}
	return address.Unmap()
}

func (v value) hash() Hash {
	text := v.text()
	if text == "" {
		return Hash{}
	}
	hash, err := ParseHash(text)
	if err != nil {
		v.fault(err.Error())
	}
	return hash
}

// networks reads a list, or one text with commas.
func (v value) networks() []netip.Prefix {
	if !v.isScalar() {
		return list(v, "a list of networks", func(v value) netip.Prefix {
			text, ok := v.scalar()
			if !ok {
				return netip.Prefix{}
			}
			return v.network(text)
		})
	}
	var all []netip.Prefix
	for part := range strings.SplitSeq(v.text(), ",") {
		if part = strings.TrimSpace(part); part != "" {
			all = append(all, v.network(part))
		}
	}
	return all
}

// network reads one network. An address stands for the network of itself, and bits of the host
// are dropped, as in the old backend.
func (v value) network(text string) netip.Prefix {
	if address, err := netip.ParseAddr(text); err == nil && address.Zone() == "" {
		address = address.Unmap()
		return netip.PrefixFrom(address, address.BitLen())
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil || prefix.Addr().Is4In6() {
		v.fault(quote(text) + " is not a network: write one like 10.2.0.0/16 or fd00:2::/64")
		return netip.Prefix{}
	}
	return prefix.Masked()
}

// maxEntries is the longest list of a configuration.
const maxEntries = 1000

// list reads a sequence. What has a fault stays in the list as a zero value, so that indexes are
// those of the file.
func list[T any](v value, want string, read func(value) T) []T {
	if v.isScalar() && v.node.ShortTag() == "!!null" {
		return nil
	}
	if v.node.Kind != yaml.SequenceNode {
		v.fault("has another form: write " + want)
		return nil
	}
	if len(v.node.Content) > maxEntries {
		v.fault(fmt.Sprintf("has more than %d entries", maxEntries))
		return nil
	}
	all := make([]T, 0, len(v.node.Content))
	for i, node := range v.node.Content {
		all = append(all, read(v.at(fmt.Sprintf("%s[%d]", v.path, i), node)))
	}
	return all
}

// texts reads a mapping of texts, whose names are as they are written.
func (v value) texts(want string) map[string]string {
	all := map[string]string{}
	v.pairs(want, func(name, item value) {
		key := name.text()
		if _, twice := all[key]; twice {
			name.fault("is there twice: remove one")
			return
		}
		all[key] = item.text()
	})
	return all
}

// object reads a mapping with known names in any case, and refuses others and repeated ones.
func (v value) object(want string, fields map[string]func(value)) {
	names := slices.Sorted(maps.Keys(fields))
	seen := map[string]int{}
	v.pairs(want, func(key, item value) {
		i := slices.IndexFunc(names, func(name string) bool { return strings.EqualFold(name, key.node.Value) })
		if i < 0 {
			key.fault(unknownKey(key.node.Value, names))
			return
		}
		if line, twice := seen[names[i]]; twice {
			key.fault(fmt.Sprintf("is there twice, first in line %d: remove one", line))
			return
		}
		seen[names[i]] = key.node.Line
		fields[names[i]](v.at(v.below(names[i]), item.node))
	})
}

// pairs calls each with the name and the value of every entry of a mapping.
func (v value) pairs(want string, each func(name, item value)) {
	if v.isScalar() && v.node.ShortTag() == "!!null" {
		return
	}
	if v.node.Kind != yaml.MappingNode {
		v.fault("has another form: write " + want)
		return
	}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		name, item := v.node.Content[i], v.node.Content[i+1]
		path := v.below(name.Value)
		if name.Kind != yaml.ScalarNode {
			v.at(v.path, name).fault("has a key that is a list or a mapping: write a name")
			continue
		}
		each(value{from: v.from, node: name, path: path}, v.at(path, item))
	}
}

// below returns the path of an entry. A name that is no plain one is quoted, which keeps a fault on one line.
func (v value) below(name string) string {
	if !isPlainName(name) {
		return v.path + "[" + quote(name) + "]"
	}
	if v.path == "" {
		return name
	}
	return v.path + "." + name
}

// unknownKey is the message about a key that nobody knows, with the one that was meant, or all
// where they are few.
func unknownKey(name string, known []string) string {
	const few = 8
	if near := suggest(name, known); near != "" {
		return "is not a key: did you mean " + near + "?"
	}
	if len(known) <= few {
		return "is not a key: the keys here are " + strings.Join(known, ", ")
	}
	return "is not a key: remove it"
}
