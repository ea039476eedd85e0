package quota

import (
	"encoding/json"
	"errors"
	"strings"

	"berth/pkg/license/internal/rawjson"
)

// ErrInvalid is what a setting or a license has to be mended for: a value of a
// wrong type, or out of its range.
var ErrInvalid = errors.New("invalid")

// FieldError is a value that cannot be used. It is an [ErrInvalid].
type FieldError struct {
	License string // the license's id; empty for the other inputs, and while a license is checked
	Field   string // "quota.ram", "users.ID.upgrades"
	Fix     string // what it has to be
}

// Error implements error.
func (e *FieldError) Error() string {
	if e.License == "" {
		return e.Field + " " + e.Fix
	}
	return "license " + e.License + ": " + e.Field + " " + e.Fix
}

// Is reports that it is an [ErrInvalid].
func (e *FieldError) Is(target error) bool { return target == ErrInvalid }

// License is a license as it stands in a project: its id, and the value under it
// in the project's site_license, an object or null.
type License struct {
	ID    string
	Value json.RawMessage
	// Unused is, for one that was found ineffective, the value that it would have in use,
	// unset where it is not known. It is for the explanation alone.
	Unused json.RawMessage
}

// Grant is a license that has been read, for use in any number of computations.
// It shares memory with the value that it is from.
type Grant struct {
	id string
	// status is the one because of which it gives nothing: expired, exhausted, future.
	status string
	// null, old (upgrades beside no quota) and v2 (a quota) exclude each other;
	// an empty license is none of them.
	null, old, v2 bool
	// ineffective is its status; reason, beside it, and unused say why.
	ineffective bool
	reason      string
	unused      json.RawMessage
	// group is the rank of its hosting type and idle class, 0 for the best.
	group  int
	boost  bool
	gives  amounts // without idle where v2
	beside bool    // has upgrades beside its quota, which give nothing
	more   bool    // has more in its quota than a disk

	idleClass              int
	idleSet                bool
	idleUnknown            string // the idle_timeout that is no class
	disk, vm, machine, gpu []byte
	vmUseless              bool // has a dedicated_vm object that names no machine
	cpu, ram               float64
	cpuSet, ramSet         bool
	extRW                  bool
	patch                  []Operation
	badPatch               error
}

// The idle classes, the longest first.
const (
	idleDay = iota
	idleMedium
	idleShort
	idleClasses
)

var (
	idleNames   = [idleClasses]string{"day", "medium", "short"} //nolint:gochecknoglobals // A constant.
	idleSeconds = [idleClasses]float64{86400, 7200, 1800}       //nolint:gochecknoglobals // A constant.
)

// groups is the number of groups: always running or not, member or not, the class.
const groups = 2 * 2 * idleClasses

// groupOf ranks a license: always running before member before a long idle time.
func groupOf(always, member bool, class int) int {
	rank := class
	if !member {
		rank += idleClasses
	}
	if !always {
		rank += 2 * idleClasses
	}
	return rank
}

// groupName writes a group for people: "always running, member, day".
func groupName(group int) string {
	words := []string{"always running", "member", "idle_timeout " + idleNames[group%idleClasses]}
	if group/idleClasses%2 == 1 {
		words[1] = "not member"
	}
	if group/(2*idleClasses) == 1 {
		words[0] = "not always running"
	}
	return strings.Join(words, ", ")
}

// Group returns the rank of a license row for the examination at a start, 0 for the
// first: that of its quota as it is written, without implied values. A row without
// quota is in the last group, and an idle class that is none comes before all, as -1.
func Group(quota json.RawMessage) int {
	always, member, class := false, false, idleShort
	for name, value := range rawjson.Members(quota) {
		switch string(name) {
		case "always_running":
			always = rawjson.True(value)
		case "member":
			member = rawjson.True(value)
		case "idle_timeout":
			class = classOf(value)
		}
	}
	if class < 0 {
		return -1
	}
	return groupOf(always, member, class)
}

// classOf returns the idle class, short for none, -1 for one that does not exist.
func classOf(value []byte) int {
	if rawjson.Of(value) == rawjson.Unset {
		return idleShort
	}
	for class, name := range idleNames {
		if string(rawjson.Text(value)) == name {
			return class
		}
	}
	return -1
}

// Read reads a license. One whose status is expired, exhausted or future is not
// looked at further. A value or a quota that is no object, and an amount of a quota
// that is no number, are a [*FieldError] with the license's id: a wrong amount of a
// license that somebody has bought is to be mended, not guessed. A bad patch is no
// error here; see [Result.BadPatches].
func Read(license License) (Grant, error) {
	grant := Grant{id: license.ID, unused: license.Unused}
	value, err := rawjson.Trim(license.Value)
	if err != nil {
		return grant, &FieldError{License: license.ID, Field: "value", Fix: "is not JSON: " + err.Error()}
	}
	switch rawjson.Of(value) {
	case rawjson.Unset:
		grant.null = true
		return grant, nil
	case rawjson.Object:
	default:
		return grant, &FieldError{License: license.ID, Field: "value", Fix: "is neither an object nor null"}
	}

	var quota []byte
	for name, member := range rawjson.Members(value) {
		switch string(name) {
		case "status":
			grant.status, grant.ineffective = unusable(member), string(rawjson.Text(member)) == "ineffective"
		case "reason":
			grant.reason = string(rawjson.Text(member))
		case "quota":
			quota = member
		}
	}
	if grant.status != "" {
		return grant, nil
	}
	switch rawjson.Of(quota) {
	case rawjson.Unset:
		grant.readOld(value)
		return grant, nil
	case rawjson.Object:
		_, set := readUpgrades(value, new(amounts))
		grant.beside = set != 0
		return grant, grant.readQuota(quota)
	default:
		return grant, &FieldError{License: license.ID, Field: "quota", Fix: "is not an object"}
	}
}

// unusable returns the status if with it a license gives nothing.
func unusable(status []byte) string {
	switch string(rawjson.Text(status)) {
	case "expired":
		return "expired"
	case "exhausted":
		return "exhausted"
	case "future":
		return "future"
	default:
		return ""
	}
}

// readOld reads upgrades beside no quota. Without one of the keys that make an
// old-style license it is an empty one; privileged alone is none of them.
func (g *Grant) readOld(value []byte) {
	var gives amounts
	_, set := readUpgrades(value, &gives)
	g.old = set&anyOfLicense != 0
	var always, member bool
	for name, flag := range rawjson.Members(value) {
		switch string(name) {
		case "always_running":
			always = readGroupFlag(flag)
		case "member_host":
			member = readGroupFlag(flag)
		}
	}
	g.group = groupOf(always, member, idleShort)
	if g.old {
		g.gives = gives
	}
}

// readGroupFlag reads a flag for the group: a text is read as a number there, so that
// ".5e1" counts, which as a flag it does not.
func readGroupFlag(value []byte) bool {
	if rawjson.Of(value) == rawjson.String {
		return readNumber(value) >= 1
	}
	return readFlag(value)
}

// readQuota reads a new-style license.
func (g *Grant) readQuota(quota []byte) error {
	g.v2, g.idleClass = true, idleShort
	// ram, dedicated_ram, cpu, dedicated_cpu, disk, and the name of each that is no number.
	var amount [5]float64
	var wrong [len(amount)]string
	var member, always, idleTimeout, patch []byte
	for name, value := range rawjson.Members(quota) {
		to := -1
		g.more = g.more || string(name) != "dedicated_disk" && rawjson.Truthy(value)
		switch string(name) {
		case "ram":
			to, g.ramSet = 0, rawjson.Of(value) != rawjson.Unset
		case "dedicated_ram":
			to = 1
		case "cpu":
			to, g.cpuSet = 2, rawjson.Of(value) != rawjson.Unset
		case "dedicated_cpu":
			to = 3
		case "disk":
			to = 4
		case "member":
			member = value
		case "always_running":
			always = value
		case "idle_timeout":
			idleTimeout = value
		case "boost":
			g.boost = rawjson.True(value)
		case "dedicated_vm":
			g.vm = value
		case "dedicated_disk":
			g.disk = value
		case "ext_rw":
			g.extRW = rawjson.True(value)
		case "gpu":
			g.gpu = value
		case "patch":
			patch = value
		}
		if to < 0 {
			continue
		}
		// Of two members of one name the last one counts.
		amount[to], wrong[to] = bounded(rawjson.Float(value)), ""
		if kind := rawjson.Of(value); kind != rawjson.Unset && kind != rawjson.Number {
			wrong[to] = string(name)
		}
	}
	for _, name := range wrong {
		if name != "" {
			return &FieldError{License: g.id, Field: "quota." + name, Fix: "is not a number: write it without quotes"}
		}
	}
	g.ram, g.cpu = amount[0], amount[2]

	memberTrue, memberTruthy := rawjson.True(member), rawjson.Truthy(member)
	if g.idleSet = rawjson.Of(idleTimeout) != rawjson.Unset; g.idleSet {
		g.idleClass = classOf(idleTimeout)
		if g.idleClass < 0 {
			g.idleClass, g.idleUnknown = idleShort, string(rawjson.AppendCompact(nil, idleTimeout))
		}
		if !rawjson.False(member) {
			memberTrue, memberTruthy = true, true
		}
	}
	g.group = groupOf(rawjson.True(always), memberTrue, g.idleClass)

	// Within a license gigabytes are added, then multiplied; floor shows the difference.
	// The conversions keep a compiler from fusing the products with later sums.
	g.gives.number[disk] = float64(1000 * amount[4])
	g.gives.number[memoryLimit] = float64(1000 * (amount[0] + amount[1]))
	g.gives.number[memoryRequest] = float64(1000 * amount[1])
	g.gives.number[cpuLimit] = amount[2] + amount[3]
	g.gives.number[cpuRequest] = amount[3]
	g.gives.flag[network] = true
	g.gives.flag[memberHost] = memberTruthy
	g.gives.flag[alwaysRunning] = rawjson.Truthy(always)

	g.readUnset()
	if g.disk == nil {
		g.readMachine()
		g.readPatch(patch)
	}
	return nil
}

// readUnset makes nil of values that are null.
func (g *Grant) readUnset() {
	for _, value := range []*[]byte{&g.disk, &g.vm, &g.gpu} {
		if rawjson.Of(*value) == rawjson.Unset {
			*value = nil
		}
	}
}

// readMachine keeps the dedicated machine if it is an object that names one.
func (g *Grant) readMachine() {
	var machine []byte
	for name, value := range rawjson.Members(g.vm) {
		if string(name) == "machine" {
			machine = value
		}
	}
	if rawjson.Of(machine) == rawjson.String {
		g.machine = rawjson.Text(machine)
		return
	}
	g.vmUseless, g.vm = rawjson.Of(g.vm) == rawjson.Object, nil
}

// readPatch loads the patch. A blank one, as forms leave it behind, asks for nothing.
func (g *Grant) readPatch(patch []byte) {
	switch rawjson.Of(patch) {
	case rawjson.Unset:
		return
	case rawjson.String:
	default:
		g.badPatch = errors.New("not a string: write the JSON list as text")
		return
	}
	text := string(rawjson.Text(patch))
	if strings.TrimSpace(text) == "" {
		return
	}
	operations, err := LoadPatch(text)
	if err != nil {
		g.badPatch = err
		return
	}
	for i, raw := range operations {
		g.patch = append(g.patch, Operation{License: g.id, Index: i, Raw: raw})
	}
}
