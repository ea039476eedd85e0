package licensefile

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/pkg/client"
)

// Changes says in words what makes a license another one, a line for each field; nothing where both are the same
// license, however they are written. Of a patch it says which operations differ, not their values.
func Changes(before, after client.SiteLicense) []string {
	var lines []string
	say := func(name, old, now string) {
		if old != now {
			lines = append(lines, name+": "+old+" → "+now)
		}
	}
	say("title", quoted(before.Title), quoted(after.Title))
	if before.Description != after.Description {
		lines = append(lines, "description: another text")
	}
	say("activates", moment(before.Activates), moment(after.Activates))
	say("expires", moment(before.Expires), moment(after.Expires))
	lines = append(lines, fields("quota", before.Quota, after.Quota)...)
	lines = append(lines, fields("upgrades", before.Upgrades, after.Upgrades)...)
	say("run_limit", limit(before.RunLimit), limit(after.RunLimit))
	say("managers", list(before.Managers), list(after.Managers))
	return lines
}

func quoted(text string) string {
	if text == "" {
		return "none"
	}
	return strconv.Quote(text)
}

func moment(t *time.Time) string {
	if t == nil {
		return "never"
	}
	// A database keeps no more than microseconds.
	return t.UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano)
}

func limit(n *int) string {
	if n == nil || *n == 0 {
		return "none"
	}
	return strconv.Itoa(*n)
}

func list(texts []string) string {
	if len(texts) == 0 {
		return "none"
	}
	return strings.Join(texts, ", ")
}

// fields compares two values of JSON, objects member by member.
func fields(name string, before, after json.RawMessage) []string {
	old, now := membersOf(before), membersOf(after)
	if old == nil || now == nil {
		if isUnset(before) && isUnset(after) || same(before, after) {
			return nil
		}
		return []string{name + ": " + whole(before) + " → " + whole(after)}
	}
	var lines []string
	names := maps.Clone(old)
	maps.Copy(names, now)
	for _, member := range slices.Sorted(maps.Keys(names)) {
		a, had := old[member]
		b, has := now[member]
		at := name + "." + member
		switch {
		case had && has && same(a, b):
		case at == patchPath:
			lines = append(lines, patchChanges(a, b)...)
		case !had:
			lines = append(lines, at+": none → "+brief(b))
		case !has:
			lines = append(lines, at+": "+brief(a)+" → none")
		default:
			lines = append(lines, at+": "+brief(a)+" → "+brief(b))
		}
	}
	return lines
}

// whole is all of a license's quota or upgrades in few words.
func whole(text json.RawMessage) string {
	switch {
	case isUnset(text):
		return "none"
	case membersOf(text) == nil:
		return "what is no object"
	default:
		return brief(text)
	}
}

// membersOf are the members of an object that are set, nil for none.
func membersOf(text json.RawMessage) map[string]json.RawMessage {
	var members map[string]json.RawMessage
	if json.Unmarshal(text, &members) != nil {
		return nil
	}
	maps.DeleteFunc(members, func(_ string, v json.RawMessage) bool { return isUnset(v) })
	return members
}

// same says whether two values of JSON are the same, however they are written.
func same(a, b json.RawMessage) bool {
	x, okA := valueOf(a)
	y, okB := valueOf(b)
	return okA && okB && reflect.DeepEqual(plain(x), plain(y))
}

// valueOf reads JSON, with the numbers as they are written.
func valueOf(text json.RawMessage) (any, bool) {
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return nil, false
	}
	return value, true
}

// plain makes the same of numbers that are written in several ways, where that is certain.
func plain(value any) any {
	switch v := value.(type) {
	case json.Number:
		if f, err := v.Float64(); err == nil && f > -maxExact && f < maxExact {
			return f
		}
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = plain(v[name])
		}
	}
	return value
}

// maxExact is up to where a float64 tells whole numbers apart.
const maxExact = 1 << 53

// brief is a value in few words.
func brief(text json.RawMessage) string {
	const most = 80
	if value, ok := valueOf(text); ok {
		if again, err := json.Marshal(withoutPatch(value)); err == nil {
			text = again
		}
	}
	if len(text) > most {
		return strings.ToValidUTF8(string(text[:most]), "") + "…"
	}
	return string(text)
}

// withoutPatch hides the operations of a patch, which may hold secrets.
func withoutPatch(value any) any {
	if members, ok := value.(map[string]any); ok {
		if text, ok := members["patch"].(string); ok {
			raw, err := json.Marshal(text)
			if err == nil {
				members["patch"] = counted(len(operationsOf(raw)))
			}
		}
	}
	return value
}

// patchChanges says which operations of a patch are other ones.
func patchChanges(before, after json.RawMessage) []string {
	old, now := operationsOf(before), operationsOf(after)
	var lines []string
	if len(old) != len(now) {
		lines = append(lines, patchPath+": "+counted(len(old))+" → "+counted(len(now)))
	}
	for i := range max(len(old), len(now)) {
		switch {
		case i >= len(old):
			lines = append(lines, fmt.Sprintf("%s: operation %d is new: %s", patchPath, i, title(now[i])))
		case i >= len(now):
			lines = append(lines, fmt.Sprintf("%s: operation %d is gone: %s", patchPath, i, title(old[i])))
		case !same(old[i], now[i]):
			lines = append(lines, fmt.Sprintf("%s: operation %d is another one: %s", patchPath, i, title(now[i])))
		}
	}
	if len(lines) == 0 && !sameText(before, after) {
		return []string{patchPath + ": another text"}
	}
	return lines
}

// sameText says whether two patches are the same list, or the same text where they are none.
func sameText(before, after json.RawMessage) bool {
	var a, b string
	if json.Unmarshal(before, &a) != nil || json.Unmarshal(after, &b) != nil {
		return false
	}
	return a == b || same(json.RawMessage(a), json.RawMessage(b))
}

func counted(n int) string {
	if n == 1 {
		return "1 operation"
	}
	return strconv.Itoa(n) + " operations"
}

// operationsOf are the operations of a patch, none where it is no list.
func operationsOf(text json.RawMessage) []json.RawMessage {
	var patch string
	var operations []json.RawMessage
	if json.Unmarshal(text, &patch) != nil || json.Unmarshal([]byte(patch), &operations) != nil {
		return nil
	}
	return operations
}

// operation is what one of a patch does where.
type operation struct {
	Op   string `json:"op"`
	From string `json:"from"`
	Path any    `json:"path"`
}

// title is what an operation does where, without its value.
func title(text json.RawMessage) string {
	var o operation
	if json.Unmarshal(text, &o) != nil {
		return "no operation"
	}
	words := fmt.Sprintf("%s %v", o.Op, o.Path)
	if o.From != "" {
		words += " from " + o.From
	}
	return words
}
