package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The errors of the codec.
var (
	// ErrMalformed is returned for a message that is no event or command.
	ErrMalformed = errors.New("malformed message")
	// ErrUnknownType is returned for a well-formed event of a type or version
	// that this version does not know. Readers skip and count these.
	ErrUnknownType = errors.New("unknown event type")
	// ErrTooLarge is returned for a message over [MaxEvent] or [MaxCommand].
	ErrTooLarge = errors.New("message too large")
)

// MaxEvent is the size of a message in the log, in bytes, at the most. It stays
// far below a NATS server's default max_payload of 1 MiB.
const MaxEvent = 64 << 10

const (
	typePrefix  = "berth."
	typeVersion = ".v1"

	podFamily     = "pod"
	outcomeFamily = "outcome"
	markFamily    = "mark"
	storageFamily = "storage"
	auditFamily   = "audit"
	requestName   = "request"

	specVersion = "1.0"
)

// Event is a message of the log or of the audit stream: a CloudEvents 1.0 event in
// JSON (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md), whose
// data is a [Record], an [Outcome], a [Storage], a [Mark] or an [AuditRecord]. Just
// one of them is set.
type Event struct {
	// ID is unique; a writer recognises its own writes by it.
	ID string
	// Source is the service and instance that appended it, a URI reference.
	Source string
	// Time is when it was appended, in UTC.
	Time time.Time
	// Traceparent carries the W3C trace context; empty for none.
	Traceparent string

	Record  *Record
	Outcome *Outcome
	Storage *Storage
	Mark    *Mark
	Audit   *AuditRecord
}

// attributes are the members of an envelope besides its data.
type attributes struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"`
	Source          string    `json:"source"`
	Type            string    `json:"type"`
	Subject         string    `json:"subject,omitempty"`
	Time            time.Time `json:"time"`
	DataContentType string    `json:"datacontenttype"`
	Traceparent     string    `json:"traceparent,omitempty"`
}

type envelope struct {
	attributes

	Data json.RawMessage `json:"data"`
}

// CloudEventType is the type of the event on the wire: berth.pod.ready.v1.
func (e Event) CloudEventType() string {
	switch {
	case e.Record != nil:
		return e.Record.Event.CloudEventType()
	case e.Outcome != nil:
		return typePrefix + outcomeFamily + "." + string(e.Outcome.Verdict) + typeVersion
	case e.Storage != nil:
		return typePrefix + storageFamily + "." + string(e.Storage.State) + typeVersion
	case e.Mark != nil:
		return typePrefix + markFamily + "." + completeMark + typeVersion
	case e.Audit != nil:
		return typePrefix + auditFamily + "." + requestName + typeVersion
	}
	return ""
}

// data returns what the event is about and its data, ok false where there is none
// or more than one.
func (e Event) data() (subject string, data any, ok bool) {
	count := 0
	if e.Record != nil {
		subject, data, count = e.Record.Pod, e.Record, count+1
	}
	if e.Outcome != nil {
		subject, data, count = e.Outcome.Command, e.Outcome, count+1
	}
	if e.Storage != nil {
		subject, data, count = e.Storage.User, e.Storage, count+1
	}
	if e.Mark != nil {
		subject, data, count = e.Mark.Cluster, e.Mark, count+1
	}
	if e.Audit != nil {
		subject, data, count = e.Audit.User, e.Audit, count+1
	}
	return subject, data, count == 1
}

// CloudEventType is the type on the wire of the event of a pod.
func (t Type) CloudEventType() string { return typePrefix + podFamily + "." + string(t) + typeVersion }

// Marshal returns the event's wire form: one line of JSON, the same for the
// same event. It returns [ErrMalformed] for an event that nobody could read and
// [ErrTooLarge] over [MaxEvent] bytes.
func (e Event) Marshal() ([]byte, error) {
	env := envelope{attributes: attributes{
		SpecVersion: specVersion, ID: e.ID, Source: e.Source, Type: e.CloudEventType(), Time: e.Time.UTC(),
		DataContentType: "application/json", Traceparent: e.Traceparent,
	}}
	subject, data, ok := e.data()
	if !ok {
		return nil, fmt.Errorf("event with none or several of record, outcome, storage, mark and audit: %w", ErrMalformed)
	}
	env.Subject = subject
	var err error
	if env.Data, err = marshalData(data); err != nil {
		return nil, fmt.Errorf("marshal data: %w: %w", ErrMalformed, err)
	}
	b, err := env.marshal(e.Record != nil && len(e.Record.extra) > 0)
	if err != nil {
		return nil, fmt.Errorf("marshal event: %w: %w", ErrMalformed, err)
	}
	// What nobody could read must not get into the log. There is data by now.
	if err := env.check(); err != nil {
		return nil, err
	}
	if !known(env.Type) {
		return nil, fmt.Errorf("event type %q: %w", env.Type, ErrUnknownType)
	}
	if err := e.checkData(); err != nil {
		return nil, err
	}
	if len(b) > MaxEvent {
		return nil, fmt.Errorf("event of %d bytes, limit %d: %w", len(b), MaxEvent, ErrTooLarge)
	}
	return b, nil
}

// marshalData spares a record the second pass that encoding/json makes over what
// a MarshalJSON method returns.
func marshalData(data any) ([]byte, error) {
	if r, ok := data.(*Record); ok {
		return r.MarshalJSON()
	}
	return json.Marshal(data)
}

// Parse reads what [Event.Marshal] wrote, and the same from later versions: it
// ignores members of the envelope that it does not know and keeps those of a
// record. It returns [ErrMalformed], [ErrTooLarge] or [ErrUnknownType].
func Parse(b []byte) (Event, error) {
	if len(b) > MaxEvent {
		return Event{}, fmt.Errorf("event of %d bytes, limit %d: %w", len(b), MaxEvent, ErrTooLarge)
	}
	if e, ok := parsePlain(b); ok {
		return e, nil
	}
	return parseAny(b)
}

// parseAny reads any event, and says what is wrong with one that it cannot read.
func parseAny(b []byte) (Event, error) {
	var env envelope
	if err := json.Unmarshal(b, &env); err != nil {
		return Event{}, fmt.Errorf("read event: %w: %w", ErrMalformed, err)
	}
	if env.check() != nil || len(env.Data) == 0 {
		return Event{}, errNoEvent
	}
	e := Event{ID: env.ID, Source: env.Source, Time: env.Time.UTC(), Traceparent: env.Traceparent}
	var target any
	switch family, _, _ := parseType(env.Type); {
	case !known(env.Type):
		return Event{}, fmt.Errorf("event type %q: %w", env.Type, ErrUnknownType)
	case family == podFamily:
		e.Record = &Record{}
		target = e.Record
	case family == outcomeFamily:
		e.Outcome = &Outcome{}
		target = e.Outcome
	case family == storageFamily:
		e.Storage = &Storage{}
		target = e.Storage
	case family == auditFamily:
		e.Audit = &AuditRecord{}
		target = e.Audit
	default:
		e.Mark = &Mark{}
		target = e.Mark
	}
	if err := json.Unmarshal(env.Data, target); err != nil {
		return Event{}, fmt.Errorf("read data of %s: %w: %w", env.Type, ErrMalformed, err)
	}
	if e.CloudEventType() != env.Type {
		return Event{}, fmt.Errorf("data of %s in an event of type %s: %w", e.CloudEventType(), env.Type, ErrMalformed)
	}
	if err := e.checkData(); err != nil {
		return Event{}, err
	}
	return e, nil
}

// marshal writes the envelope. Data that came from elsewhere is checked, and
// brought into the form of the rest; other data has it already.
func (env envelope) marshal(foreign bool) ([]byte, error) {
	if foreign {
		return json.Marshal(env)
	}
	b, err := json.Marshal(env.attributes)
	if err != nil {
		return nil, err
	}
	b = append(b[:len(b)-1], `,"data":`...)
	return append(append(b, env.Data...), '}'), nil
}

// check refuses an envelope that is not CloudEvents as Berth writes it.
func (a attributes) check() error {
	// Outside these years time.Time cannot be written again.
	year := a.Time.UTC().Year()
	if a.SpecVersion != specVersion || a.ID == "" || a.Source == "" || a.Time.IsZero() || year < 1 || year > 9999 {
		return errNoEvent
	}
	return nil
}

var errNoEvent = fmt.Errorf("not a CloudEvents %s event with id, source, time and data: %w", specVersion, ErrMalformed)

// plainEvent is an event with a record all of whose members are known, which
// almost every message of the log is: it is read in one pass.
type plainEvent struct {
	attributes

	Data struct {
		plainRecord

		// Observed hides the one that would keep unknown members.
		Observed plainObserved `json:"observed"`
	} `json:"data"`
}

// parsePlain reads a [plainEvent]. ok is false for anything else, whether or not
// it can be read.
func parsePlain(b []byte) (e Event, ok bool) {
	var plain plainEvent
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if d.Decode(&plain) != nil || len(bytes.TrimRight(b[d.InputOffset():], " \t\r\n")) > 0 || plain.check() != nil || !known(plain.Type) {
		return Event{}, false
	}
	r := Record(plain.Data.plainRecord)
	r.Observed = Observed(plain.Data.Observed)
	e = Event{ID: plain.ID, Source: plain.Source, Time: plain.Time.UTC(), Traceparent: plain.Traceparent, Record: &r}
	return e, e.CloudEventType() == plain.Type && e.checkData() == nil
}

// checkData refuses data without what every reader needs.
func (e Event) checkData() error {
	switch {
	case e.Record != nil && (e.Record.Pod == "" || e.Record.User == "" || e.Record.Cluster == ""):
		return fmt.Errorf("record without cluster, pod_name or user_id: %w", ErrMalformed)
	case e.Record != nil:
		return checkName(e.Record.Cluster, e.Record.Pod, e.Record.User)
	case e.Outcome != nil && e.Outcome.Command == "":
		return fmt.Errorf("outcome without command_id: %w", ErrMalformed)
	case e.Mark != nil && (e.Mark.Cluster == "" || e.Mark.Created == 0):
		return fmt.Errorf("mark without cluster or created: %w", ErrMalformed)
	case e.Storage != nil:
		return e.Storage.check()
	case e.Audit != nil && (e.Audit.Cluster == "" || e.Audit.Action == ""):
		return fmt.Errorf("audit record without cluster or action: %w", ErrMalformed)
	}
	return nil
}

// known says whether this version can read events of a CloudEvents type.
func known(t string) bool {
	family, name, ok := parseType(t)
	switch family {
	case podFamily:
		return ok && Type(name).Known()
	case outcomeFamily:
		return ok && Verdict(name).known()
	case storageFamily:
		return ok && StorageState(name).known()
	case auditFamily:
		return ok && name == requestName
	case markFamily:
		return ok && name == completeMark
	}
	return false
}

// parseType splits berth.<family>.<name>.v1.
func parseType(t string) (family, name string, ok bool) {
	t, ok = strings.CutPrefix(t, typePrefix)
	if !ok {
		return "", "", false
	}
	t, ok = strings.CutSuffix(t, typeVersion)
	if !ok {
		return "", "", false
	}
	return strings.Cut(t, ".")
}
