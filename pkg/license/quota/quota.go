package quota

import (
	"encoding/json"
	"slices"
	"strconv"

	"berth/pkg/license/internal/rawjson"
)

// Quota is what a project may use. Its JSON form ([Quota.MarshalJSON]) is the
// one in which a hub stores it.
type Quota struct {
	Network, MemberHost, Privileged, AlwaysRunning bool

	MemoryRequest, MemoryLimit float64 // MB
	CPURequest, CPULimit       float64 // cores
	DiskQuota                  float64 // MB
	IdleTimeout                float64 // seconds
	// DiskQuotaRaw, where it is set, stands for DiskQuota in the JSON form: a maximum of the site that is no number,
	// as it was given.
	DiskQuotaRaw json.RawMessage

	// DedicatedVM is the license's own object, nil for none. With one, the
	// quota is that of the machine, and ExtRW, Patch, GPU and PayAsYouGo are unset.
	DedicatedVM json.RawMessage
	// DedicatedDisks are the licenses' own values, in license order.
	DedicatedDisks []json.RawMessage
	// GPU is the license's own object, nil for none.
	GPU json.RawMessage
	// ExtRW makes the software volume writable.
	ExtRW bool
	// Patch has the operations of all licenses, joined in license order.
	Patch []Operation
	// PayAsYouGo is the purchase as it was given, nil for none.
	PayAsYouGo json.RawMessage
}

// Operation is one operation of a license's patch, unchanged, with where it is from.
type Operation struct {
	License string
	Index   int // from 0, within the license's patch
	Raw     json.RawMessage
}

// Finding explains one field of the quota.
type Finding struct {
	Field   string   `json:"field"` // as in the JSON form: memory_limit
	Value   any      `json:"value"`
	Sources []Source `json:"sources,omitempty"` // what made it so, in the order in which it was applied
	Capped  string   `json:"capped,omitempty"`  // the maximum that cut it, in words: "max_upgrades.memory 16000"
}

// Source is one thing that made a field what it is.
type Source struct {
	Kind    string `json:"kind"` // one of the Kind constants
	License string `json:"license,omitempty"`
	Amount  any    `json:"amount,omitempty"`
	Rule    string `json:"rule,omitempty"` // in words, where Kind alone does not say it
}

// Kinds of a [Source].
const (
	KindDefault     = "default"
	KindSiteDefault = "site_default"
	KindSettings    = "settings"
	KindUser        = "user"
	KindLicense     = "license"
	KindPayAsYouGo  = "pay_as_you_go"
	KindOvercommit  = "overcommit"
	KindRounding    = "rounding"
	KindFloor       = "floor"
	KindRule        = "rule"
)

// Ignored is what of a license was not used, and why.
type Ignored struct {
	License string `json:"license"`
	Field   string `json:"field,omitempty"`
	Why     string `json:"why"`
}

// BadPatch is a license's patch string that does not load; it gave no operations.
type BadPatch struct {
	License string
	Err     error
}

// MarshalJSON gives the form in which the quota is stored and compared: the
// numbers and flags always; dedicated_vm and gpu an object or false;
// dedicated_disks a list; ext_rw, patch and pay_as_you_go only where they apply,
// pay_as_you_go also, as null, beside a dedicated machine.
func (q Quota) MarshalJSON() ([]byte, error) { return q.AppendJSON(nil), nil }

// AppendJSON appends the form of [Quota.MarshalJSON], on one line. The raw values
// of the quota have to be valid JSON, as those of [Compute] are.
func (q Quota) AppendJSON(to []byte) []byte {
	for _, member := range [...]struct {
		name  string
		value bool
	}{
		{`{"network":`, q.Network},
		{`,"member_host":`, q.MemberHost},
		{`,"privileged":`, q.Privileged},
		{`,"always_running":`, q.AlwaysRunning},
	} {
		to = append(to, member.name...)
		to = strconv.AppendBool(to, member.value)
	}
	for _, member := range [...]struct {
		name  string
		value float64
	}{
		{`,"memory_request":`, q.MemoryRequest},
		{`,"memory_limit":`, q.MemoryLimit},
		{`,"cpu_request":`, q.CPURequest},
		{`,"cpu_limit":`, q.CPULimit},
		{diskQuotaName, q.DiskQuota},
		{`,"idle_timeout":`, q.IdleTimeout},
	} {
		to = append(to, member.name...)
		if len(q.DiskQuotaRaw) > 0 && member.name == diskQuotaName {
			to = rawjson.AppendCompact(to, q.DiskQuotaRaw)
			continue
		}
		to = rawjson.AppendFloat(to, member.value)
	}
	to = appendRaw(append(to, `,"dedicated_vm":`...), q.DedicatedVM, "false")
	to = append(to, `,"dedicated_disks":[`...)
	for i, disk := range q.DedicatedDisks {
		if i > 0 {
			to = append(to, ',')
		}
		to = appendRaw(to, disk, "null")
	}
	to = appendRaw(append(to, `],"gpu":`...), q.GPU, "false")
	if q.ExtRW {
		to = append(to, `,"ext_rw":true`...)
	}
	for i, operation := range q.Patch {
		if i == 0 {
			to = append(to, `,"patch":[`...)
		} else {
			to = append(to, ',')
		}
		to = appendRaw(to, operation.Raw, "null")
		if i == len(q.Patch)-1 {
			to = append(to, ']')
		}
	}
	if q.PayAsYouGo != nil || q.DedicatedVM != nil {
		to = appendRaw(append(to, `,"pay_as_you_go":`...), q.PayAsYouGo, "null")
	}
	return append(to, '}')
}

const diskQuotaName = `,"disk_quota":`

func appendRaw(to []byte, value json.RawMessage, unset string) []byte {
	if len(value) == 0 {
		return append(to, unset...)
	}
	return rawjson.AppendCompact(to, value)
}

// Equal reports whether two quotas have the same JSON form, as values.
func (q Quota) Equal(other Quota) bool {
	return q.Network == other.Network && q.MemberHost == other.MemberHost &&
		q.Privileged == other.Privileged && q.AlwaysRunning == other.AlwaysRunning &&
		q.MemoryRequest == other.MemoryRequest && q.MemoryLimit == other.MemoryLimit &&
		q.CPURequest == other.CPURequest && q.CPULimit == other.CPULimit &&
		q.DiskQuota == other.DiskQuota && q.IdleTimeout == other.IdleTimeout && sameRaw(q.DiskQuotaRaw, other.DiskQuotaRaw) &&
		sameRaw(q.DedicatedVM, other.DedicatedVM) &&
		slices.EqualFunc(q.DedicatedDisks, other.DedicatedDisks, sameRaw) &&
		sameRaw(q.GPU, other.GPU) && q.ExtRW == other.ExtRW &&
		slices.EqualFunc(q.Patch, other.Patch, func(a, b Operation) bool { return sameRaw(a.Raw, b.Raw) }) &&
		sameRaw(q.PayAsYouGo, other.PayAsYouGo)
}

func sameRaw(a, b json.RawMessage) bool {
	return (len(a) == 0) == (len(b) == 0) && rawjson.Equal(a, b)
}
