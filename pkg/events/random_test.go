package events_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"berth/pkg/events"
)

// interleavings is how many random histories are played.
const interleavings = 10_000

// TestRandomInterleavings plays random histories: commands that contend for
// names, an api that gives up, creators that crash and are delivered the same
// command again, and facts that come late, twice, out of order, with stale
// resource versions and with the generation of another pod. Everything goes
// through Next and NextOutcome; what must always hold is asserted at each step.
func TestRandomInterleavings(t *testing.T) {
	t.Parallel()
	seed, err := strconv.ParseUint(flag.Lookup("seed").Value.String(), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if seed == 0 {
		seed = rand.Uint64()
	}
	reached := map[events.Type]int{}
	for i := range uint64(interleavings) {
		h := &history{
			rand: rand.New(rand.NewPCG(seed, i)), newest: map[string]int{}, claims: map[[2]string]int{},
			outcomes: map[string]events.Outcome{}, lives: map[string]*life{}, thorough: i%64 == 0,
		}
		h.play()
		if len(h.faults) > 0 {
			t.Fatalf("history %d of -seed=%d: %v\n%v", i, seed, h.faults, h.log)
		}
		for _, e := range h.log {
			reached[e.Event]++
		}
	}
	for _, info := range events.Types() {
		if reached[info.Type] < interleavings/100 {
			t.Errorf("only %d records of %s in %d histories: the test does not test it", reached[info.Type], info.Type, interleavings)
		}
	}
}

// history is one play: a log, the outcomes, and what is still to be delivered.
type history struct {
	rand     *rand.Rand
	log      []events.Record
	newest   map[string]int    // Of each name, the place in the log.
	claims   map[[2]string]int // Of each name and command.
	outcomes map[string]events.Outcome
	lives    map[string]*life // By generation.
	creates  []*create
	pending  []events.Fact
	thorough bool // Every record goes through its wire form and is compared whole.
	faults   []string
}

// life is what has been seen of one generation.
type life struct {
	types   []events.Type
	readyAt bool
	version int  // The resource version of the newest record.
	asked   bool // A failure or a delete will be delivered.
}

// create is a command on its way through the creator. A crash takes it back to
// its beginning; another replica begins there too.
type create struct {
	id    string
	names []string // What it may be called, in order.
	step  int
	known events.Outcome
	over  bool
}

func (h *history) fault(format string, args ...any) {
	h.faults = append(h.faults, fmt.Sprintf(format, args...))
}

func (h *history) chance(percent int) bool { return h.rand.IntN(100) < percent }

func (h *history) play() {
	for i := range 1 + h.rand.IntN(3) {
		names := []string{"a", "b"}[:1+h.rand.IntN(2)]
		h.creates = append(h.creates, &create{id: fmt.Sprintf("cmd-%d", i), names: names})
	}
	// Random steps first, then everything that is left, until nothing changes.
	for range 80 {
		switch {
		case h.chance(40):
			h.creator(h.creates[h.rand.IntN(len(h.creates))])
		case h.chance(4):
			h.expire(h.creates[h.rand.IntN(len(h.creates))].id)
		case len(h.pending) > 0:
			// More often the older, so that lives get far.
			n := len(h.pending)
			h.deliver(min(h.rand.IntN(n), h.rand.IntN(n), h.rand.IntN(n)), h.chance(30))
		}
	}
	for range 100 {
		before := len(h.log)
		for _, c := range h.creates {
			for range 8 {
				h.creator(c)
			}
		}
		h.rand.Shuffle(len(h.pending), func(i, j int) { h.pending[i], h.pending[j] = h.pending[j], h.pending[i] })
		for i := range h.pending {
			h.deliver(i, true)
		}
		if len(h.log) == before {
			break
		}
	}
	h.conclude()
}

// creator takes a create one step further.
func (h *history) creator(c *create) {
	if h.chance(10) {
		c.step, c.over = 0, false // It crashed, or its acknowledgement was lost.
	}
	if c.over {
		return
	}
	switch c.step {
	case 0: // Read the outcome, or decide.
		c.known = h.outcomes[c.id]
		if c.known.Verdict == "" {
			c.known = h.decide(events.Outcome{Verdict: events.Accepted, Command: c.id, Pod: c.names[0]})
		}
		c.over = c.known.Verdict != events.Accepted
	case 1: // Claim, unless the command has.
		if h.claimed(c.known.Pod, c.id) {
			c.over = true
			return
		}
		f := claim()
		f.Record.Pod, f.Record.Command, f.Record.User = c.known.Pod, c.id, "user of "+c.id
		_, _, err := h.append(f)
		if !errors.Is(err, events.ErrTaken) {
			c.over = true
			return
		}
		next := slices.Index(c.names, c.known.Pod) + 1
		if next == len(c.names) {
			c.known = h.decide(events.Outcome{Verdict: events.Refused, Command: c.id, Reason: events.NameExhausted})
			c.over = true
			return
		}
		c.known = h.decide(events.Outcome{Verdict: events.Accepted, Command: c.id, Pod: c.names[next]})
		c.step = 0
	}
	c.step++
}

func (h *history) expire(id string) {
	h.decide(events.Outcome{Verdict: events.Expiry, Command: id, Reason: events.Expired})
}

// decide is a compare-and-set of an outcome.
func (h *history) decide(proposed events.Outcome) events.Outcome {
	current := h.outcomes[proposed.Command]
	next, changed, err := events.NextOutcome(current, proposed)
	if (err != nil || !changed) && next != current {
		h.fault("outcome of %s became %v without a change, error %v", proposed.Command, next, err)
	}
	if current.Verdict != "" && current.Verdict != events.Accepted && changed {
		h.fault("%s was %s and became %s", proposed.Command, current.Verdict, next.Verdict)
	}
	if again, twice, err := events.NextOutcome(next, next); twice || err != nil || again != next {
		h.fault("outcome of %s: twice is not once", proposed.Command)
	}
	h.outcomes[proposed.Command] = next
	return next
}

func (h *history) claimed(name, id string) bool { return h.claims[[2]string{name, id}] > 0 }

// last returns the newest record of a name with its generation.
func (h *history) last(name string) events.Record {
	i, ok := h.newest[name]
	if !ok {
		return events.Record{}
	}
	r := h.log[i]
	if r.Generation == "" {
		r.Generation = generationAt(i)
	}
	return r
}

// written is a record as its readers get it.
func (h *history) written(r events.Record) events.Record {
	if !h.thorough {
		return r
	}
	b, err := events.Event{ID: "e", Source: "test", Time: at(len(h.log)), Record: &r}.Marshal()
	if err != nil {
		h.fault("marshal: %v", err)
		return r
	}
	e, err := events.Parse(b)
	if err != nil {
		h.fault("parse: %v", err)
		return r
	}
	return *e.Record
}

func generationAt(i int) string { return events.At(at(0), uint64(i)+1).String() }

// deliver hands a fact in; again says that it stays to be delivered once more.
func (h *history) deliver(i int, again bool) {
	f := h.pending[i]
	_, _, err := h.append(f)
	if !again && !errors.Is(err, events.ErrOrder) {
		h.pending = slices.Delete(h.pending, i, i+1)
	}
}

// append is a compare-and-set of a fact about a name.
func (h *history) append(f events.Fact) (events.Record, bool, error) {
	before := h.last(f.Record.Pod)
	next, changed, err := events.Next(before, f)
	h.checkStep(before, f, next, changed, err)
	if err != nil || !changed {
		return next, false, err
	}
	if next.Event == events.Claimed {
		if before.Event != "" && before.Event != events.Gone {
			h.fault("%s claims %s, which is %s", next.Command, next.Pod, before.Event)
		}
		h.claims[[2]string{next.Pod, next.Command}]++
		h.begin(next.Pod, generationAt(len(h.log)), before.Generation)
	}
	h.newest[next.Pod] = len(h.log)
	h.log = append(h.log, h.written(next))
	l := h.lives[h.last(next.Pod).Generation]
	h.checkOrder(l, next)
	l.types = append(l.types, next.Event)
	l.readyAt = l.readyAt || !next.ReadyAt.IsZero()
	return next, true, nil
}

// begin makes all that may happen to a new pod pending, some of it twice, some
// of it with another generation.
func (h *history) begin(name, generation, other string) {
	story := []events.Fact{license(), launch(), launched(), wait(), launch(), gone()}
	for i, o := range []func() events.Fact{pulling, running, ready, unready, ready, ended, hopeless, terminating} {
		if h.chance(60) {
			f := o()
			f.Observed.ResourceVersion = strconv.Itoa(97 + i + h.rand.IntN(4))
			f.Observed.BackOff = h.chance(20)
			story = append(story, f)
		}
	}
	if h.chance(60) {
		story = append(story, fail())
	}
	if h.chance(50) {
		story = append(story, remove())
	}
	h.lives[generation] = &life{asked: slices.ContainsFunc(story, func(f events.Fact) bool {
		return f.Kind == events.FactFail || f.Kind == events.FactDelete
	})}
	for _, f := range story {
		f.Generation, f.Record = generation, events.Record{Pod: name}
		if f.Observed.UID != "" {
			f.Observed.UID = "uid of " + generation
		}
		if f.UID != "" {
			f.UID = "uid of " + generation
		}
		h.pending = append(h.pending, f)
		if h.chance(15) {
			h.pending = append(h.pending, f)
		}
		if h.chance(10) && other != "" {
			f.Generation = other
			h.pending = append(h.pending, f)
		}
	}
}
