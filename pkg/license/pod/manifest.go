package pod

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"

	"berth/pkg/license/internal/tree"
)

// raise gives a manifest what the licenses give a project beyond the quota without
// any, and takes nothing from it: of what they raise, the greater counts, and what they do not
// raise stays. A limit that the manifest does not have is only set where its request
// is not above; a request is not set above the limit.
func (m *mapper) raise(licensed [2]share) error {
	unlicensed, err := m.opts.shares(m.opts.Unlicensed)
	if err != nil {
		return err
	}
	for i, s := range licensed {
		if err := m.raiseOne(s, unlicensed[i]); err != nil {
			return err
		}
	}
	return nil
}

func (m *mapper) raiseOne(licensed, unlicensed share) error {
	limitAt, requestAt := m.of("resources", "limits", licensed.resource), m.of("resources", "requests", licensed.resource)
	limit, err := m.asked(limitAt)
	if err != nil {
		return err
	}
	request, err := m.asked(requestAt)
	if err != nil {
		return err
	}
	own, implied := request, request.value == nil
	if implied {
		own = limit // As Kubernetes does.
	}

	bound := limit
	limited := false
	if licensed.limit.count > unlicensed.limit.count {
		given, most := licensed.limit.asked(), greater(limit, request)
		if limited = given.size > most.size; limited {
			bound = given
			if err := m.set(given.value, limitAt, licensed.limit.note, licensed.limit.field); err != nil {
				return err
			}
		} else {
			m.keep(licensed.limit.field, most)
		}
	}
	if licensed.request.count > unlicensed.request.count {
		given, note := licensed.request.asked(), licensed.request.note
		cut := bound.value != nil && given.size > bound.size
		if cut {
			given, note = bound, cutToLimit
		}
		if given.size > own.size {
			return m.set(given.value, requestAt, note, licensed.request.field)
		}
		if cut {
			m.ignore(licensed.request.field, "the manifest requests as much as its limit allows: %v", bound.value)
		} else {
			m.keep(licensed.request.field, own)
		}
	}
	if !limited || !implied {
		return nil
	}
	if own.value == nil {
		own = licensed.request.asked()
	}
	return m.set(own.value, requestAt, "without one Kubernetes takes the limit for it", licensed.limit.field)
}

// keep says that the manifest asks for as much as the licenses give.
func (m *mapper) keep(field string, own asked) {
	m.ignore(field, "the manifest asks for as much or more: %v", own.value)
}

// asked is a quantity of a pod; without a value, none. Its size is in cores, bytes or devices.
type asked struct {
	value any
	size  float64
}

func (a amount) asked() asked {
	size, _ := quantity(a.text()) // It is one.
	return asked{a.text(), size}
}

func greater(a, b asked) asked {
	if b.size > a.size {
		return b
	}
	return a
}

// asked reads a quantity of the pod.
func (m *mapper) asked(at []string) (asked, error) {
	value, _ := m.Get(at...)
	text := ""
	switch v := value.(type) {
	case nil:
		return asked{}, nil
	case string:
		text = v
	case json.Number:
		text = v.String()
	}
	size, ok := quantity(text)
	if !ok {
		return asked{}, fmt.Errorf("%s: %.40q is no quantity", tree.Pointer(at...), text)
	}
	return asked{value, size}, nil
}

var quantityForm = regexp.MustCompile(`^([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?)([KMGTPE]i|[numkMGTPE])?$`)

// What the suffixes of quantities multiply by, and divide by: 100m is exactly 0.1.
//
//nolint:gochecknoglobals // Constants.
var (
	multiples = map[string]float64{
		"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
		"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50, "Ei": 1 << 60,
	}
	parts = map[string]float64{"m": 1e3, "u": 1e6, "n": 1e9}
)

// quantity reads a quantity of Kubernetes.
func quantity(text string) (size float64, ok bool) {
	const longest = 64
	if len(text) > longest {
		return 0, false
	}
	found := quantityForm.FindStringSubmatch(text)
	if found == nil {
		return 0, false
	}
	size, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		return 0, false
	}
	if part, ok := parts[found[2]]; ok {
		return size / part, true
	}
	return size * multiples[found[2]], true
}
