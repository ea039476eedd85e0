package pod

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"berth/pkg/license/quota"
)

// share is what a project gets of one resource.
type share struct {
	resource       string
	limit, request amount
}

// amount is a number of units: thousandths of a core, or Mi.
type amount struct {
	field string // of the quota
	count int64
	unit  string
	note  string // why it is another than the quota says
}

// text is the amount as Kubernetes reads it.
func (a amount) text() string { return strconv.FormatInt(a.count, 10) + a.unit }

// atMost cuts an amount to a bound.
func (a amount) atMost(bound int64, note string) amount {
	if a.count > bound {
		a.count, a.note = bound, note
	}
	return a
}

// shares are what a quota gives of CPU and memory: limits of at least one unit, and
// requests that no limit and no bound of the site is below.
func (o Options) shares(q quota.Quota) ([2]share, error) {
	cpu, memory := share{resource: "cpu"}, share{resource: "memory"}
	for _, field := range []struct {
		name  string
		value float64
		unit  string
		round func(float64) float64
		to    *amount
	}{
		{"cpu_limit", q.CPULimit * 1000, "m", math.Ceil, &cpu.limit},
		{"cpu_request", q.CPURequest * 1000, "m", math.Ceil, &cpu.request},
		{"memory_limit", q.MemoryLimit, "Mi", math.Floor, &memory.limit},
		{"memory_request", q.MemoryRequest, "Mi", math.Floor, &memory.request},
	} {
		count, err := whole(field.name, field.value, field.round)
		if err != nil {
			return [2]share{}, err
		}
		*field.to = amount{field: field.name, count: count, unit: field.unit}
	}
	for _, s := range []*share{&cpu, &memory} {
		// Kubernetes reads a limit of 0 as none, which no quota means.
		if s.limit.count < 1 {
			s.limit.count, s.limit.note = 1, "raised to the least limit: Kubernetes reads 0 as no limit"
		}
		s.request.count = max(s.request.count, 0)
		s.request = s.request.atMost(s.limit.count, cutToLimit)
	}
	if bound := o.MemoryRequestLimit; bound > 0 {
		memory.request = memory.request.atMost(int64(min(bound, most)), fmt.Sprintf("cut to the site's bound, %gMi", bound))
	}
	if percent := o.MemoryRequestPercent; percent > 0 && percent < 100 {
		part := int64(float64(memory.limit.count) * percent / 100)
		memory.request = memory.request.atMost(part, fmt.Sprintf("cut to the site's bound, %g%% of the limit", percent))
	}
	return [2]share{cpu, memory}, nil
}

const cutToLimit = "cut to the limit"

// most is more than any machine has, and fits a quantity of Kubernetes in any unit used here.
const most = 1e12

// whole makes a whole number of units; a number that a rounding error keeps from
// being whole is taken for it: 0.1 and 0.2 cores are 300m, not 301m.
func whole(field string, value float64, round func(float64) float64) (int64, error) {
	const error64 = 1e-6
	if math.IsNaN(value) || math.Abs(value) > most {
		return 0, &Error{Field: field, Err: errors.New("the amount is out of range: set a smaller one")}
	}
	if whole := math.Round(value); math.Abs(value-whole) < error64 {
		return int64(whole), nil
	}
	return int64(round(value)), nil
}
