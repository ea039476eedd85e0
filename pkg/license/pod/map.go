package pod

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"berth/pkg/license/internal/kubename"
	"berth/pkg/license/internal/tree"
	"berth/pkg/license/quota"
)

// Options say what of a pod is meant. The zero value of each field stands for the
// value that its comment gives.
type Options struct {
	// Container is the name of the container that gets the quota: project. Where
	// no container has it, the first gets it.
	Container string
	// Manifest says that the pod is from a manifest, which is not cut down to what a
	// project gets: where the quota gives more than Unlicensed, the quota without any
	// license, the pod gets that, unless it asks for as much itself. Anything else of it
	// stays, and the network label is only set where there is one.
	Manifest   bool
	Unlicensed quota.Quota
	// NetworkLabel is the label that network policies select by: network. It is
	// NetworkOn, outside, or NetworkOff, none.
	NetworkLabel, NetworkOn, NetworkOff string
	// SoftwareVolume is mounted at SoftwarePath: software at /ext.
	SoftwareVolume, SoftwarePath string
	// MemoryRequestLimit is the largest memory request in Mi, MemoryRequestPercent
	// the largest in percent of the memory limit; 0 for none.
	MemoryRequestLimit, MemoryRequestPercent float64
	// DedicatedKey is the taint and label of dedicated machines: cocalc-dedicated_vm.
	DedicatedKey string
}

// Defaults of [Options].
const (
	Container      = "project"
	NetworkLabel   = "network"
	NetworkOn      = "outside"
	NetworkOff     = "none"
	SoftwareVolume = "software"
	SoftwarePath   = "/ext"
	DedicatedKey   = "cocalc-dedicated_vm"
)

// Change is one operation of RFC 6902, and the reason for it.
type Change struct {
	Op, Path string
	Value    json.RawMessage
	// Fields are the fields of the quota that made it so.
	Fields []string
	// Note says what became of them, where it is not plain.
	Note string
}

// Result is a pod with its quota.
type Result struct {
	// Pod is the pod, members in order of their names.
	Pod json.RawMessage
	// Changes lead from the pod that was given to Pod. What is there already makes none.
	Changes []Change
	// Ignored is what of the quota has no place in the pod.
	Ignored []quota.Ignored
}

// Error is a quota, or a pod, that cannot be brought together.
type Error struct {
	// Field is the field of the quota, "" where the pod is at fault.
	Field string
	Err   error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Field == "" {
		return "map quota to pod: " + e.Err.Error()
	}
	return "map quota to pod: " + e.Field + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Map brings a quota to a pod. The error is an [*Error]. Its arguments are not
// modified.
func Map(base json.RawMessage, q quota.Quota, opts Options) (Result, error) {
	root, err := tree.Decode(base)
	if err != nil {
		return Result{}, &Error{Err: err}
	}
	m := &mapper{Editor: tree.Editor{Root: root}, q: q, opts: opts.withDefaults()}
	if m.container, err = m.find(); err != nil {
		return Result{}, &Error{Err: err}
	}
	for _, step := range []func() error{m.resources, m.network, m.software, m.gpu, m.machine} {
		if err := step(); err != nil {
			if _, known := errors.AsType[*Error](err); !known {
				err = &Error{Err: err}
			}
			return Result{}, err
		}
	}
	return Result{Pod: tree.Encode(m.Root), Changes: m.changes, Ignored: m.ignored}, nil
}

func (o Options) withDefaults() Options {
	for _, field := range []struct {
		value    *string
		fallback string
	}{
		{&o.Container, Container},
		{&o.NetworkLabel, NetworkLabel},
		{&o.NetworkOn, NetworkOn},
		{&o.NetworkOff, NetworkOff},
		{&o.SoftwareVolume, SoftwareVolume},
		{&o.SoftwarePath, SoftwarePath},
		{&o.DedicatedKey, DedicatedKey},
	} {
		if *field.value == "" {
			*field.value = field.fallback
		}
	}
	return o
}

// mapper is one call of Map.
type mapper struct {
	tree.Editor

	q         quota.Quota
	opts      Options
	container []string // its path
	changes   []Change
	ignored   []quota.Ignored
}

// find returns the path of the container that gets the quota.
func (m *mapper) find() ([]string, error) {
	at, _ := m.Get("spec", "containers")
	list, _ := at.([]any)
	if len(list) == 0 {
		return nil, errors.New("/spec/containers: the pod has no containers")
	}
	chosen := 0
	for i, container := range list {
		if tree.Text(container, "name") == m.opts.Container {
			chosen = i
			break
		}
	}
	return []string{"spec", "containers", strconv.Itoa(chosen)}, nil
}

// of returns a path below the container.
func (m *mapper) of(tokens ...string) []string {
	return append(slices.Clip(m.container), tokens...)
}

// because keeps what the editor did since it had that many edits, with its reason.
func (m *mapper) because(before int, note string, fields []string) {
	for _, edit := range m.Edits[before:] {
		m.changes = append(m.changes, Change{Op: edit.Op, Path: edit.Path, Value: edit.Value, Fields: fields, Note: note})
	}
}

func (m *mapper) ignore(field, why string, values ...any) {
	m.ignored = append(m.ignored, quota.Ignored{Field: field, Why: fmt.Sprintf(why, values...)})
}

func (m *mapper) set(value any, at []string, note string, fields ...string) error {
	before := len(m.Edits)
	err := m.Set(value, at...)
	m.because(before, note, fields)
	return err
}

func (m *mapper) add(value any, at []string, note string, fields ...string) error {
	before := len(m.Edits)
	err := m.Append(value, at...)
	m.because(before, note, fields)
	return err
}

// resources sets requests and limits. A request of 0 is written too: where there
// is a limit and no request, Kubernetes takes the limit for one.
func (m *mapper) resources() error {
	shares, err := m.opts.shares(m.q)
	if err != nil {
		return err
	}
	if m.opts.Manifest {
		return m.raise(shares)
	}
	for _, s := range shares {
		if err := m.set(s.limit.text(), m.of("resources", "limits", s.resource), s.limit.note, s.limit.field); err != nil {
			return err
		}
	}
	for _, s := range shares {
		if err := m.set(s.request.text(), m.of("resources", "requests", s.resource), s.request.note, s.request.field); err != nil {
			return err
		}
	}
	return nil
}

func (m *mapper) network() error {
	at := []string{"metadata", "labels", m.opts.NetworkLabel}
	given := m.q.Network && !m.opts.Unlicensed.Network
	if _, there := m.Get(at...); m.opts.Manifest && (!there || !given) {
		return nil
	}
	value := m.opts.NetworkOff
	if m.q.Network {
		value = m.opts.NetworkOn
	}
	return m.set(value, at, "", "network")
}

// software makes the software volume writable: its mount in the container, and
// the claim where that says read-only.
func (m *mapper) software() error {
	if !m.q.ExtRW {
		return nil
	}
	mounts, _ := m.Get(m.of("volumeMounts")...)
	list, _ := mounts.([]any)
	found := false
	for i, mount := range list {
		if tree.Text(mount, "name") != m.opts.SoftwareVolume || path.Clean(tree.Text(mount, "mountPath")) != path.Clean(m.opts.SoftwarePath) {
			continue
		}
		found = true
		if err := m.set(false, m.of("volumeMounts", strconv.Itoa(i), "readOnly"), "", "ext_rw"); err != nil {
			return err
		}
		before := len(m.Edits)
		m.Remove(m.of("volumeMounts", strconv.Itoa(i), "recursiveReadOnly")...)
		m.because(before, "only a read-only mount may have it", []string{"ext_rw"})
	}
	if !found {
		m.ignore("ext_rw", "the container mounts no volume %s at %s", m.opts.SoftwareVolume, m.opts.SoftwarePath)
		return nil
	}
	volumes, _ := m.Get("spec", "volumes")
	list, _ = volumes.([]any)
	for i, volume := range list {
		if tree.Text(volume, "name") != m.opts.SoftwareVolume || tree.Object(volume, "persistentVolumeClaim")["readOnly"] != true {
			continue
		}
		if err := m.set(false, []string{"spec", "volumes", strconv.Itoa(i), "persistentVolumeClaim", "readOnly"}, "", "ext_rw"); err != nil {
			return err
		}
	}
	return nil
}

func (m *mapper) gpu() error {
	if m.q.GPU == nil {
		return nil
	}
	wanted, ignored, err := readGPU(m.q.GPU)
	if err != nil {
		return err
	}
	m.ignored = append(m.ignored, ignored...)
	if wanted.num == "" {
		return nil
	}
	if given, err := m.devices(wanted); err != nil || !given {
		return err
	}
	for _, label := range wanted.labels {
		if err := m.set(label.value, []string{"spec", "nodeSelector", label.key}, "", "gpu"); err != nil {
			return err
		}
	}
	for _, t := range wanted.tolerations {
		if err := m.add(t.object(), []string{"spec", "tolerations"}, "", "gpu"); err != nil {
			return err
		}
	}
	return nil
}

// devices sets how many there are, and says whether it did: a manifest may have as many.
func (m *mapper) devices(wanted gpu) (given bool, err error) {
	limit, request := m.of("resources", "limits", wanted.resource), m.of("resources", "requests", wanted.resource)
	if m.opts.Manifest {
		own, err := m.asked(limit)
		if err != nil {
			return false, err
		}
		if count, err := wanted.num.Float64(); err == nil && own.size >= count && own.value != nil {
			m.keep("gpu", own)
			return false, nil
		}
	}
	if err := m.set(wanted.num, limit, "", "gpu"); err != nil {
		return false, err
	}
	// The request of such a resource must be its limit; Kubernetes sees to that where there is none.
	if _, there := m.Get(request...); there {
		return true, m.set(wanted.num, request, "it must be the limit", "gpu")
	}
	return true, nil
}

// machine lets the pod on its dedicated machine, and makes it prefer that one.
func (m *mapper) machine() error {
	if m.q.DedicatedVM == nil {
		return nil
	}
	vm, err := tree.Decode(m.q.DedicatedVM)
	if err != nil {
		return &Error{Field: "dedicated_vm", Err: err}
	}
	name := tree.Text(vm, "name")
	if strings.TrimSpace(name) == "" {
		m.ignore("dedicated_vm", "it has no name: the pod may run on any machine")
		return nil
	}
	if !kubename.Value(name) {
		return &Error{Field: "dedicated_vm.name", Err: fmt.Errorf("%.60q is no label that a node can have", name)}
	}
	if err := m.add(pair{m.opts.DedicatedKey, name}.object(), []string{"spec", "tolerations"}, "", "dedicated_vm"); err != nil {
		return err
	}
	const heaviest = "100"
	term := map[string]any{
		"weight": json.Number(heaviest),
		"preference": map[string]any{"matchExpressions": []any{
			map[string]any{"key": m.opts.DedicatedKey, "operator": "In", "values": []any{name}},
		}},
	}
	return m.add(term, []string{"spec", "affinity", "nodeAffinity", "preferredDuringSchedulingIgnoredDuringExecution"}, "", "dedicated_vm")
}
