package quota

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"berth/pkg/license/internal/kubename"
	"berth/pkg/license/internal/rawjson"
)

// MaxLicense bounds the quota and the upgrades of a license, in bytes each: with
// more, a pod would not fit into the cluster's store.
const MaxLicense = 1 << 20

// CheckLicense checks what an administrator saves, each argument an object or
// unset. It is stricter than [Read], which has to live with what is stored already:
// what would be ignored, or read as something else than it looks, is refused. The
// error joins a [*FieldError] for each fault.
func CheckLicense(quota, upgrades json.RawMessage) error {
	c := &checker{}
	for _, column := range []struct {
		name  string
		text  json.RawMessage
		check func(name string, value []byte)
	}{
		{"quota", quota, c.quota},
		{"upgrades", upgrades, c.upgrade},
	} {
		if len(column.text) > MaxLicense {
			c.fault(column.name, fmt.Sprintf("is larger than %d bytes: make it smaller", MaxLicense))
			continue
		}
		value, err := object(column.name, column.text)
		if err != nil {
			c.faults = append(c.faults, err)
			continue
		}
		seen := map[string]bool{}
		for key, value := range rawjson.Members(value) {
			name := string(key)
			if seen[name] {
				c.fault(column.name+"."+name, "is there twice: leave one out")
			}
			seen[name] = true
			if rawjson.Of(value) != rawjson.Unset {
				column.check(name, value)
			}
		}
	}
	return errors.Join(c.faults...)
}

// checker collects faults.
type checker struct{ faults []error }

func (c *checker) fault(field, fix string) {
	c.faults = append(c.faults, &FieldError{Field: field, Fix: fix})
}

// quota checks one member of a quota that is set.
func (c *checker) quota(name string, value []byte) {
	field := "quota." + name
	switch name {
	case "cpu", "dedicated_cpu", "ram", "dedicated_ram", "disk":
		c.amount(field, value, "")
	case "member", "always_running", "boost", "ext_rw":
		if rawjson.Of(value) != rawjson.Bool {
			c.fault(field, "is not true or false")
		}
	case "idle_timeout":
		// The last one is what licenses for permanent uptime have; it counts as short.
		if word := string(rawjson.Text(value)); word != "always_running" && !slices.Contains(idleNames[:], word) {
			c.fault(field, "is none of short, medium, day, always_running")
		}
	case "user":
		if rawjson.Of(value) != rawjson.String {
			c.fault(field, "is not a string")
		}
	case "dedicated_vm":
		c.machine(field, value)
	case "dedicated_disk":
		c.disk(field, value)
	case "gpu":
		c.gpu(field, value)
	case "patch":
		c.patch(field, value)
	default:
		c.unknown("quota", name)
	}
}

func (c *checker) unknown(in, name string) {
	c.fault(fmt.Sprintf("%s.%.80s", in, name), "is not a field of a license: correct its name, or leave it out")
}

// amount checks a number from 0; unit is said where it helps.
func (c *checker) amount(field string, value []byte, unit string) {
	switch number := rawjson.Float(value); {
	case rawjson.Of(value) != rawjson.Number:
		c.fault(field, strings.TrimSpace("is not a number "+unit)+": write it without quotes")
	case number < 0:
		c.fault(field, "is negative: write 0 or more")
	case number > 1e12:
		c.fault(field, "is too large: write at most 1e12")
	}
}

func (c *checker) machine(field string, value []byte) {
	if rawjson.False(value) {
		return
	}
	if rawjson.Of(value) != rawjson.Object {
		c.fault(field, `is not an object: write it as {"machine":"onprem","name":"vm1"}`)
		return
	}
	known := append(slices.Sorted(maps.Keys(machines)), machineOnPrem)
	named := false
	for key, value := range rawjson.Members(value) {
		switch name := string(key); name {
		case "machine":
			named = true
			if !slices.Contains(known, string(rawjson.Text(value))) {
				c.fault(field+".machine", "is none of "+strings.Join(known, ", "))
			}
		case "name":
			c.text(field+".name", value)
			if vm := string(rawjson.Text(value)); strings.TrimSpace(vm) != "" && !kubename.Value(vm) {
				c.fault(field+".name", "is no label that a node can have: write at most 63 letters, digits and -, _ or . between them")
			}
		default:
			c.unknown(field, name)
		}
	}
	if !named {
		c.fault(field+".machine", "is missing: name one of "+strings.Join(known, ", "))
	}
}

func (c *checker) disk(field string, value []byte) {
	if rawjson.False(value) {
		c.fault(field, "is false, which uses up the license: leave it out")
		return
	}
	if rawjson.Of(value) != rawjson.Object {
		c.fault(field, `is not an object: write it as {"size_gb":128,"speed":"ssd"}`)
		return
	}
	for key, value := range rawjson.Members(value) {
		switch name := string(key); name {
		case "size_gb":
			c.amount(field+".size_gb", value, "of GB")
		case "speed", "name":
			c.text(field+"."+name, value)
		default:
			c.unknown(field, name)
		}
	}
}

func (c *checker) gpu(field string, value []byte) {
	if rawjson.False(value) {
		return
	}
	if rawjson.Of(value) != rawjson.Object {
		c.fault(field, `is not an object: write it as {"num":1}`)
		return
	}
	for key, value := range rawjson.Members(value) {
		switch name := string(key); name {
		case "num":
			c.amount(field+".num", value, "of devices")
			if number := rawjson.Float(value); number != float64(int64(min(number, 1e12))) {
				c.fault(field+".num", "is not whole: devices are not shared")
			}
		case "resource":
			c.text(field+".resource", value)
			if device := string(rawjson.Text(value)); device != "" && !kubename.Device(device) {
				c.fault(field+".resource", "is no resource for devices: write it as domain/name, like nvidia.com/gpu")
			}
		case "toleration":
			c.pairs(field+".toleration", value, "", "taint")
		case "nodeLabel":
			c.pairs(field+".nodeLabel", value, "has a label without a value: write it as key=value,key2=value2", "label")
		default:
			c.unknown(field, name)
		}
	}
}

// pairs checks a list of key=value with commas; bare is what is wrong with a key alone,
// empty for nothing.
func (c *checker) pairs(field string, value []byte, bare, what string) {
	c.text(field, value)
	for piece := range strings.SplitSeq(string(rawjson.Text(value)), ",") {
		piece = strings.TrimSpace(piece)
		key, rest, valued := strings.Cut(piece, "=")
		text, _, _ := strings.Cut(rest, "=") // What follows is not read.
		switch {
		case piece == "":
		case !valued && bare != "":
			c.fault(field, bare)
		case !kubename.Key(key) || !kubename.Value(text):
			c.fault(field, fmt.Sprintf("has %.60q, which is no %s that a node can have: write it as key=value, without spaces", piece, what))
		}
	}
}

func (c *checker) text(field string, value []byte) {
	if kind := rawjson.Of(value); kind != rawjson.String && kind != rawjson.Unset {
		c.fault(field, "is not a string")
	}
}

func (c *checker) patch(field string, value []byte) {
	if rawjson.Of(value) != rawjson.String {
		c.fault(field, "is not a string: write the JSON list of operations as text")
		return
	}
	if _, err := LoadPatch(string(rawjson.Text(value))); err != nil {
		c.fault(field, "does not load: "+err.Error())
	}
}

// upgrade checks one member of old-style upgrades that is set.
func (c *checker) upgrade(name string, value []byte) {
	field := "upgrades." + name
	switch {
	case slices.Contains(flagKeys[:], name):
		number := rawjson.Float(value)
		switch rawjson.Of(value) {
		case rawjson.Bool:
		case rawjson.Number:
			if number != 0 && number != 1 {
				c.fault(field, "is neither 0 nor 1")
			}
		default:
			c.fault(field, "is none of 0, 1, true, false")
		}
	case slices.Contains(numberKeys[:], name), name == "ephemeral_state", name == "ephemeral_disk":
		c.amount(field, value, "")
	default:
		c.unknown("upgrades", name)
	}
}
