package quota

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// ErrUnknownMachine is a license for a dedicated machine that does not exist.
var ErrUnknownMachine = errors.New("unknown VM machine")

// Why a license gives nothing, beside its own status.
const (
	ReasonMachine = "dedicated_vm"         // another one puts the project on a machine of its own
	ReasonHosting = "hosting_incompatible" // others, of another hosting type or idle class, are in use
)

// Result is a quota, and why it is so.
type Result struct {
	Quota Quota
	// Reasons says, by license id, why one was not chosen. What it gives beside
	// sizes (patch, ext_rw, gpu) may be in use.
	Reasons map[string]string
	// BadPatches are the patches that do not load. They gave no operations; a
	// start has to fail for them.
	BadPatches []BadPatch
	// Findings explain the fields of the quota, Ignored what of the licenses was
	// not used, in the order of the licenses.
	Findings []Finding
	Ignored  []Ignored
}

// Compute returns the quota of a project with all its explanations.
//
// It fails with [ErrUnknownMachine] if the license that puts the project on a
// machine of its own names none that is known, and with [ErrInvalid], as
// [*FieldError], for inputs that [NewProject] or [Read] refuse. It does not fail
// for bad patches. It is safe for concurrent use.
func Compute(in Input) (Result, error) {
	project, err := NewProject(in)
	if err != nil {
		return Result{}, err
	}
	grants := make([]Grant, len(in.Licenses))
	for i, license := range in.Licenses {
		if grants[i], err = Read(license); err != nil {
			return Result{}, err
		}
	}
	result, err := project.Compute(grants)
	if err != nil {
		return Result{}, err
	}
	project.explain(grants, &result)
	return result, nil
}

// Compute is the function [Compute] for licenses that have been read, without
// Findings and Ignored.
func (p *Project) Compute(grants []Grant) (Result, error) {
	var result Result
	quota := &result.Quota
	machine := -1
	for i := range grants {
		grant := &grants[i]
		switch {
		case grant.status != "":
			continue
		case grant.disk != nil:
			quota.DedicatedDisks = append(quota.DedicatedDisks, grant.disk)
			continue
		case grant.vm != nil && machine < 0:
			machine = i
		}
	}
	if machine >= 0 {
		err := p.onMachine(grants, machine, &result)
		return result, err
	}

	for i := range grants {
		grant := &grants[i]
		if !grant.remains() {
			continue
		}
		quota.ExtRW = quota.ExtRW || grant.extRW
		quota.Patch = append(quota.Patch, grant.patch...)
		if grant.gpu != nil {
			quota.GPU = grant.gpu
		}
		if grant.badPatch != nil {
			result.BadPatches = append(result.BadPatches, BadPatch{License: grant.id, Err: grant.badPatch})
		}
	}
	if len(quota.GPU) > 0 && quota.GPU[0] != '{' {
		quota.GPU = nil // true and false ask for nothing that a pod could be given.
	}
	quota.PayAsYouGo = p.payAsYouGo

	group := bestGroup(grants)
	for i := range grants {
		if grant := &grants[i]; grant.remains() && !grant.in(group) {
			result.because(grant.id, ReasonHosting)
		}
	}
	old, v2 := sums(grants, group)
	total := p.total(&old, &v2)
	total.fill(quota)
	return result, nil
}

// total makes the amounts of a quota of what licenses give.
func (p *Project) total(old, v2 *amounts) amounts {
	total := p.combine(old, v2)
	p.finish(&total)
	if p.noInternet {
		total.flag[network] = false
	}
	return total
}

// remains reports whether a license takes part beyond its status and disk.
func (g *Grant) remains() bool { return g.status == "" && g.disk == nil }

// in reports whether the license is chosen with that group.
func (g *Grant) in(group int) bool { return !g.null && g.group == group }

// bestGroup returns the best group that has a license that is no boost, -1 for none.
func bestGroup(grants []Grant) int {
	best := groups
	for i := range grants {
		if grant := &grants[i]; grant.remains() && !grant.null && !grant.boost {
			best = min(best, grant.group)
		}
	}
	if best == groups {
		return -1
	}
	return best
}

// sums adds what the licenses of a group give, the old-style ones and the others
// apart: first the regular ones, then the boosts, each in their order, as the
// order shows in the last digits.
func sums(grants []Grant, group int) (old, v2 amounts) {
	for _, boosts := range []bool{false, true} {
		for i := range grants {
			grant := &grants[i]
			if !grant.remains() || !grant.in(group) || grant.boost != boosts {
				continue
			}
			if !grant.v2 {
				old.add(&grant.gives)
				continue
			}
			v2.add(&grant.gives)
			v2.number[idle] = idleSeconds[grant.idleClass] // One class in a group; times do not add.
		}
	}
	return old, v2
}

// combine joins all sources. Old-style upgrades come on top of the default or the
// administrator's value, into the room up to the maximum; new-style licenses,
// up to the maximum, are compared with that, not added.
func (p *Project) combine(old, v2 *amounts) amounts {
	var total amounts
	for i := range total.number {
		base, most := p.base.number[i], p.maxima.number[i]
		upgrades := p.upgrades.number[i] + old.number[i]
		total.number[i] = max(
			max(base, p.settings.number[i])+min(upgrades, max(0, most-base)),
			min(v2.number[i], most))
	}
	for i := range total.flag {
		given := p.upgrades.flag[i] || old.flag[i] || v2.flag[i]
		total.flag[i] = p.base.flag[i] || p.settings.flag[i] || p.maxima.flag[i] && given
	}
	return total
}

// The least that a project gets, unless a maximum is lower; for members and others.
const (
	leastCPURequestMember, leastCPURequest       = 0.05, 0.02
	leastMemoryRequestMember, leastMemoryRequest = 300, 200
	leastMemoryLimit                             = 1000
)

// finish applies overcommitment, rounding and the floors, in this order.
func (p *Project) finish(total *amounts) {
	if p.overcommit.cpuSet {
		p.request(total, cpuRequest, cpuLimit, p.overcommit.cpu)
	}
	if p.overcommit.memorySet {
		p.request(total, memoryRequest, memoryLimit, p.overcommit.memory)
	}
	total.number[memoryLimit] = math.Floor(total.number[memoryLimit])
	total.number[memoryRequest] = math.Floor(total.number[memoryRequest])
	for i, least := range floors(total.flag[memberHost]) {
		total.number[i] = max(total.number[i], min(least, p.maxima.number[i]))
	}
}

// request raises a request to the limit's share, and cuts it at its maximum.
func (p *Project) request(total *amounts, request, limit int, ratio float64) {
	total.number[request] = min(
		max(total.number[request], total.number[limit]/ratio),
		p.maxima.number[request])
}

// floors returns the least of each number; those without have the least of all.
func floors(member bool) [numbers]float64 {
	floor := [numbers]float64{}
	for i := range floor {
		floor[i] = math.Inf(-1)
	}
	floor[memoryLimit], floor[memoryRequest], floor[cpuRequest] = leastMemoryLimit, leastMemoryRequest, leastCPURequest
	if member {
		floor[memoryRequest], floor[cpuRequest] = leastMemoryRequestMember, leastCPURequestMember
	}
	return floor
}

// machines are the dedicated machines that a license can name, beside onprem.
var machines = map[string]struct{ cores, gigabytes float64 }{ //nolint:gochecknoglobals // A constant.
	"n2-standard-2": {2, 6}, "n2-standard-4": {4, 14}, "n2-standard-8": {8, 30}, "n2-standard-16": {16, 62},
	"n2-highmem-2": {2, 14}, "n2-highmem-4": {4, 30}, "n2-highmem-8": {8, 62}, "n2-highmem-16": {16, 126},
}

const machineOnPrem = "onprem"

// onMachine gives the quota of a dedicated machine. All other sources are left
// out, the administrator's settings too; the disks stay.
func (p *Project) onMachine(grants []Grant, chosen int, result *Result) error {
	grant := &grants[chosen]
	total := amounts{flag: [flags]bool{network: true, memberHost: true}}
	if machine, known := machines[string(grant.machine)]; known {
		total.flag[alwaysRunning] = true
		total.number[cpuLimit] = machine.cores
		total.number[memoryLimit] = 1000 * machine.gigabytes
		// The maximum is passed on as it was given: a text stays one, and a null, which is given, too.
		total.number[disk], result.Quota.DiskQuotaRaw = p.maxima.number[disk], p.mostDisk
		total.number[idle] = p.defaults.number[idle]
	} else if string(grant.machine) == machineOnPrem {
		total.flag[alwaysRunning] = grant.gives.flag[alwaysRunning]
		total.number[cpuLimit] = p.defaults.number[cpuLimit]
		if grant.cpuSet {
			total.number[cpuLimit] = grant.cpu
		}
		total.number[memoryLimit] = p.defaults.number[memoryLimit]
		if grant.ramSet {
			total.number[memoryLimit] = 1000 * grant.ram
		}
		total.number[idle] = idleSeconds[grant.idleClass]
	} else {
		*result = Result{}
		return fmt.Errorf("license %s: quota.dedicated_vm.machine %.80q: %w", grant.id, grant.machine, ErrUnknownMachine)
	}
	total.fill(&result.Quota)
	result.Quota.DedicatedVM = json.RawMessage(grant.vm)
	for i := range grants {
		if other := &grants[i]; i != chosen && other.remains() {
			result.because(other.id, ReasonMachine)
		}
	}
	return nil
}

func (r *Result) because(license, reason string) {
	if r.Reasons == nil {
		r.Reasons = map[string]string{}
	}
	r.Reasons[license] = reason
}

// fill writes the amounts into a quota.
func (a *amounts) fill(q *Quota) {
	q.Network, q.MemberHost = a.flag[network], a.flag[memberHost]
	q.AlwaysRunning, q.Privileged = a.flag[alwaysRunning], a.flag[privileged]
	q.DiskQuota, q.IdleTimeout = a.number[disk], a.number[idle]
	q.MemoryLimit, q.MemoryRequest = a.number[memoryLimit], a.number[memoryRequest]
	q.CPULimit, q.CPURequest = a.number[cpuLimit], a.number[cpuRequest]
}
