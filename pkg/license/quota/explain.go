package quota

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
)

// explanation collects why a quota is as it is. It walks the steps of
// [Project.Compute] once more, with names; tests hold the two together.
type explanation struct {
	*Project

	grants   []Grant
	group    int
	findings []Finding
	ignored  []Ignored
	// member is the flag by which floors are chosen.
	member bool
	// total is the quota, raised what it would be with another maximum.
	total  amounts
	raised func(raise func(maxima *amounts)) amounts
}

// explain adds the findings, and what was ignored.
func (p *Project) explain(grants []Grant, result *Result) {
	e := &explanation{Project: p, grants: grants, group: bestGroup(grants), member: result.Quota.MemberHost}
	for _, name := range p.unreadable {
		e.ignore("", name, "cannot be read as JSON, also not as a relaxed form of it: it counts as {}")
	}
	e.raising()
	if result.Quota.DedicatedVM != nil {
		e.machine(&result.Quota)
	} else {
		for i := range flagNames {
			e.flag(i)
		}
		for i := range numberNames {
			e.number(i)
		}
		e.rest(&result.Quota)
	}
	place := map[string]int{}
	for i := range grants {
		place[grants[i].id] = i
		e.license(&grants[i], &result.Quota)
	}
	slices.SortStableFunc(e.ignored, func(a, b Ignored) int { return cmp.Compare(place[a.License], place[b.License]) })
	result.Findings, result.Ignored = e.findings, e.ignored
}

// raising prepares raised. What the maximum keeps from a field shows, whatever the
// rules are by which it does, in the field without it.
func (e *explanation) raising() {
	old, v2 := sums(e.grants, e.group)
	e.raised = func(raise func(maxima *amounts)) amounts {
		p := *e.Project
		raise(&p.maxima)
		p.setBase()
		return p.total(&old, &v2)
	}
	e.total = e.raised(func(*amounts) {})
}

// chosen yields the licenses that were added up, old-style ones or the others, in
// the order of the sums.
func (e *explanation) chosen(v2 bool) []*Grant {
	var chosen []*Grant
	for _, boosts := range []bool{false, true} {
		for i := range e.grants {
			grant := &e.grants[i]
			if grant.remains() && grant.in(e.group) && grant.boost == boosts && grant.v2 == v2 {
				chosen = append(chosen, grant)
			}
		}
	}
	return chosen
}

func (e *explanation) ignore(license, field, why string) {
	e.ignored = append(e.ignored, Ignored{License: license, Field: field, Why: why})
}

// defaultSource names where a default is from.
func (e *explanation) defaultSource(bit keys, amount any) Source {
	if e.siteDefaults&bit != 0 {
		return Source{Kind: KindSiteDefault, Amount: amount}
	}
	return Source{Kind: KindDefault, Amount: amount}
}

// mostNumber names the maximum of a number.
func (e *explanation) mostNumber(i int) string {
	most := e.maxima.number[i]
	if i == cpuRequest {
		most *= 1024 // In shares, as it is written.
	}
	return e.most(numberBit(i), numberKeys[i]) + " " + format(most)
}

// mostFlag names the maximum of a flag that forbids it.
func (e *explanation) mostFlag(i int) string { return e.most(flagBit(i), flagKeys[i]) + " 0" }

func (e *explanation) most(bit keys, key string) string {
	if e.siteMaxima&bit != 0 {
		return "max_upgrades." + key
	}
	return "built-in maximum of " + key
}

// flag explains a flag.
func (e *explanation) flag(i int) {
	finding := Finding{Field: flagNames[i]}
	value, allowed := false, e.maxima.flag[i]
	give := func(given bool, source Source) {
		switch {
		case !given:
		case allowed || source.Kind == KindSettings:
			value = true
			finding.Sources = append(finding.Sources, source)
		case source.License != "":
			e.ignore(source.License, finding.Field, e.mostFlag(i))
		}
	}
	give(e.defaults.flag[i], e.defaultSource(flagBit(i), true))
	give(e.purchase.flag[i], Source{Kind: KindPayAsYouGo, Amount: true})
	give(e.settings.flag[i], Source{Kind: KindSettings, Amount: true})
	for _, user := range e.users {
		give(user.gives.flag[i], userSource(user, true))
	}
	for _, v2 := range []bool{false, true} {
		for _, grant := range e.chosen(v2) {
			give(grant.gives.flag[i], Source{Kind: KindLicense, License: grant.id, Amount: true})
		}
	}
	if i == network && e.noInternet {
		value = false
		finding.Sources = append(finding.Sources, Source{Kind: KindRule, Amount: false, Rule: "settings.disableInternet takes the network away"})
	}
	if len(finding.Sources) == 0 {
		finding.Sources = []Source{{Kind: KindDefault, Amount: false}}
	}
	if !allowed && e.raised(func(maxima *amounts) { maxima.flag[i] = true }).flag[i] != e.total.flag[i] {
		finding.Capped = e.mostFlag(i)
	}
	finding.Value = value
	e.findings = append(e.findings, finding)
}

func userSource(user user, amount any) Source {
	return Source{Kind: KindUser, Amount: amount, Rule: "upgrade of " + user.id}
}

// number explains a number.
func (e *explanation) number(i int) {
	finding := Finding{Field: numberNames[i]}
	value := e.start(i, &finding)
	value = e.upgraded(i, value, &finding)
	value = e.licensed(i, value, &finding)
	value = e.finished(i, value, &finding)
	if e.raised(func(maxima *amounts) { maxima.number[i] = most }).number[i] != e.total.number[i] {
		finding.Capped = e.mostNumber(i)
	}
	finding.Value = value
	e.findings = append(e.findings, finding)
}

// start explains the default, the purchase or the administrator's value.
func (e *explanation) start(i int, finding *Finding) float64 {
	finding.Sources = []Source{e.defaultSource(numberBit(i), e.defaults.number[i])}
	if e.payAsYouGo != nil && e.purchase.number[i] > e.defaults.number[i] {
		finding.Sources = []Source{{Kind: KindPayAsYouGo, Amount: e.purchase.number[i]}}
	}
	base := e.base.number[i]
	if own := e.settings.number[i]; own > base {
		finding.Sources = []Source{{Kind: KindSettings, Amount: own}}
		return own
	}
	return base
}

// upgraded explains what users and old-style licenses add.
func (e *explanation) upgraded(i int, value float64, finding *Finding) float64 {
	var users, licenses float64
	var sources []Source
	for _, user := range e.users {
		if amount := user.gives.number[i]; amount != 0 {
			users += amount
			sources = append(sources, userSource(user, amount))
		}
	}
	for _, grant := range e.chosen(false) {
		if amount := grant.gives.number[i]; amount != 0 {
			licenses += amount
			sources = append(sources, Source{Kind: KindLicense, License: grant.id, Amount: amount})
		}
	}
	room := max(0, e.maxima.number[i]-e.base.number[i])
	if added := min(users+licenses, room); added != 0 {
		finding.Sources = append(finding.Sources, sources...)
		return value + added
	}
	for _, source := range sources {
		if source.License != "" {
			e.ignore(source.License, finding.Field, "nothing is left up to "+e.mostNumber(i))
		}
	}
	return value
}

// licensed explains new-style licenses: together they count if they are more.
func (e *explanation) licensed(i int, value float64, finding *Finding) float64 {
	var sum float64
	var sources []Source
	idleSet := map[string]bool{}
	for _, grant := range e.chosen(true) {
		idleSet[grant.id] = grant.idleSet
		amount := grant.gives.number[i]
		source := Source{Kind: KindLicense, License: grant.id, Amount: amount}
		if sum += amount; i == idle {
			amount = idleSeconds[grant.idleClass]
			sum, source.Amount, source.Rule = amount, amount, "idle_timeout "+idleNames[grant.idleClass]
		}
		if amount != 0 {
			sources = append(sources, source)
		}
	}
	if counted := min(sum, e.maxima.number[i]); counted > value {
		for _, old := range finding.Sources {
			if old.License != "" {
				e.ignore(old.License, finding.Field, "newer licenses give more: "+format(counted))
			}
		}
		finding.Sources = sources
		if len(sources) == 0 {
			finding.Sources = []Source{{Kind: KindRule, Amount: counted, Rule: "negative upgrades take no more than there is"}}
		}
		return counted
	}
	for _, source := range sources {
		if i == idle && !idleSet[source.License] {
			continue // Nobody asked for it.
		}
		why := fmt.Sprintf("gives no more than there is without it: %v", value)
		if len(sources) > 1 {
			why = fmt.Sprintf("with the others gives no more than there is without: %v", value)
		}
		e.ignore(source.License, finding.Field, why)
	}
	return value
}

// finished explains overcommitment, rounding and floors.
func (e *explanation) finished(i int, value float64, finding *Finding) float64 {
	switch {
	case i == cpuRequest && e.overcommit.cpuSet:
		value = e.overcommitted(cpuLimit, e.overcommit.cpu, i, value, finding)
	case i == memoryRequest && e.overcommit.memorySet:
		value = e.overcommitted(memoryLimit, e.overcommit.memory, i, value, finding)
	}
	if whole := math.Floor(value); (i == memoryLimit || i == memoryRequest) && whole != value {
		value = whole
		finding.Sources = append(finding.Sources, Source{Kind: KindRounding, Amount: whole, Rule: "down to whole MB"})
	}
	if floor := min(floors(e.member)[i], e.maxima.number[i]); floor > value {
		value = floor
		finding.Sources = append(finding.Sources, Source{Kind: KindFloor, Amount: floor, Rule: "no project gets less"})
	}
	return value
}

func (e *explanation) overcommitted(limit int, ratio float64, i int, value float64, finding *Finding) float64 {
	// The limit before rounding and floors; its own finding is made from it.
	old, v2 := sums(e.grants, e.group)
	whole := e.combine(&old, &v2)
	if share := whole.number[limit] / ratio; share > value {
		value = share
		finding.Sources = append(finding.Sources, Source{
			Kind: KindOvercommit, Amount: share,
			Rule: fmt.Sprintf("%s %v / %v", numberNames[limit], whole.number[limit], ratio),
		})
	}
	return min(value, e.maxima.number[i])
}

// rest explains what does not depend on groups.
func (e *explanation) rest(quota *Quota) {
	var writers, patchers []Source
	var gpu *Grant
	for i := range e.grants {
		grant := &e.grants[i]
		if !grant.remains() {
			continue
		}
		if grant.extRW {
			writers = append(writers, Source{Kind: KindLicense, License: grant.id, Amount: true})
		}
		if n := len(grant.patch); n > 0 {
			patchers = append(patchers, Source{Kind: KindLicense, License: grant.id, Amount: n, Rule: "operations"})
		}
		if grant.gpu == nil {
			continue
		}
		if gpu != nil {
			e.ignore(gpu.id, "gpu", "that of license "+grant.id+", a later one, counts")
		}
		gpu = grant
	}
	if quota.ExtRW {
		e.findings = append(e.findings, Finding{Field: "ext_rw", Value: true, Sources: writers})
	}
	if len(quota.Patch) > 0 {
		// What a patch writes may be secret; its size is not.
		e.findings = append(e.findings, Finding{Field: "patch", Value: len(quota.Patch), Sources: patchers})
	}
	if quota.GPU != nil {
		e.findings = append(e.findings, Finding{Field: "gpu", Value: quota.GPU, Sources: []Source{{Kind: KindLicense, License: gpu.id}}})
	} else if gpu != nil && len(gpu.gpu) > 0 && gpu.gpu[0] != 'f' {
		e.ignore(gpu.id, "gpu", "is not an object: write it as {\"num\": 1}")
	}
	if quota.PayAsYouGo != nil {
		e.findings = append(e.findings, Finding{Field: "pay_as_you_go", Value: quota.PayAsYouGo, Sources: []Source{{Kind: KindPayAsYouGo}}})
	}
	e.disks(quota)
}

func (e *explanation) disks(quota *Quota) {
	finding := Finding{Field: "dedicated_disks", Value: quota.DedicatedDisks}
	for i := range e.grants {
		if grant := &e.grants[i]; grant.status == "" && grant.disk != nil {
			finding.Sources = append(finding.Sources, Source{Kind: KindLicense, License: grant.id, Amount: json.RawMessage(grant.disk)})
		}
	}
	if len(finding.Sources) > 0 {
		e.findings = append(e.findings, finding)
	}
}

// machine explains the quota of a dedicated machine: the machine makes all of it.
func (e *explanation) machine(quota *Quota) {
	var grant *Grant
	for i := range e.grants {
		if grant = &e.grants[i]; grant.remains() && grant.vm != nil {
			break
		}
	}
	source := Source{Kind: KindLicense, License: grant.id, Rule: "dedicated machine " + string(grant.machine)}
	add := func(field string, value any) {
		e.findings = append(e.findings, Finding{Field: field, Value: value, Sources: []Source{source}})
	}
	add("dedicated_vm", quota.DedicatedVM)
	add("network", quota.Network)
	add("member_host", quota.MemberHost)
	add("always_running", quota.AlwaysRunning)
	add("privileged", quota.Privileged)
	if len(quota.DiskQuotaRaw) > 0 {
		add("disk_quota", quota.DiskQuotaRaw)
	} else {
		add("disk_quota", quota.DiskQuota)
	}
	if string(grant.machine) != machineOnPrem {
		e.findings[len(e.findings)-1].Capped = e.mostNumber(disk) // All that there may be.
	}
	add("memory_limit", quota.MemoryLimit)
	add("memory_request", quota.MemoryRequest)
	add("cpu_limit", quota.CPULimit)
	add("cpu_request", quota.CPURequest)
	add("idle_timeout", quota.IdleTimeout)
	e.disks(quota)

	for i := range e.grants {
		other := &e.grants[i]
		switch {
		case !other.remains():
		case other != grant:
			e.ignore(other.id, "", "license "+grant.id+" puts the project on a machine of its own")
		case len(grant.patch) > 0 || grant.extRW || grant.gpu != nil:
			e.ignore(grant.id, "patch, ext_rw, gpu", "a license for a machine gives the machine alone")
		}
	}
}

// ineffective says why a license was found to give nothing: by what it would give, not by
// the empty value that is stored for it, which only stands in its place.
func (e *explanation) ineffective(grant *Grant) string {
	if grant.reason != ReasonHosting {
		return "ineffective: gives nothing beyond the others"
	}
	inUse := groups
	for i := range e.grants {
		if other := &e.grants[i]; other.remains() && !other.boost && (other.old || other.v2) {
			inUse = min(inUse, other.group)
		}
	}
	own, err := Read(License{ID: grant.id, Value: grant.unused})
	known := err == nil && len(grant.unused) > 0
	switch {
	case inUse == groups:
		return "ineffective: " + baseless
	case !known:
		return "ineffective: of another hosting type than the one in use (" + groupName(inUse) + ")"
	case own.group == inUse:
		return "ineffective: gives nothing beyond the others"
	default:
		return "ineffective: of another hosting type (" + groupName(own.group) + ") than the one in use (" + groupName(inUse) + ")"
	}
}

// baseless says why a boost alone gives nothing.
const baseless = "a boost adds to a license of its hosting type and idle class, and there is none"

// license says what of a license did not count whatever the others are.
func (e *explanation) license(grant *Grant, quota *Quota) {
	switch {
	case grant.status != "":
		e.ignore(grant.id, "", "its status is "+grant.status)
		return
	case grant.null:
		e.ignore(grant.id, "", "its value is null")
		return
	case grant.disk != nil:
		if grant.more {
			e.ignore(grant.id, "", "a license for a disk gives the disk alone")
		}
		return
	case quota.DedicatedVM != nil:
		return // Said with the machine.
	case grant.ineffective && !grant.old && !grant.v2:
		e.ignore(grant.id, "", e.ineffective(grant))
		return
	case !grant.in(e.group) && e.group < 0:
		e.ignore(grant.id, "", baseless)
	case !grant.in(e.group):
		e.ignore(grant.id, "", "its sizes are for: "+groupName(grant.group)+"; in use are those for: "+groupName(e.group))
	case !grant.old && !grant.v2:
		e.ignore(grant.id, "", "it gives nothing")
	}
	if grant.beside {
		e.ignore(grant.id, "upgrades", "beside a quota they do not count")
	}
	if grant.idleUnknown != "" {
		e.ignore(grant.id, "idle_timeout", grant.idleUnknown+" is none of short, medium, day: it counts as short")
	}
	if grant.vmUseless {
		e.ignore(grant.id, "dedicated_vm", "it names no machine")
	}
	if grant.badPatch != nil {
		e.ignore(grant.id, "patch", "does not load: "+grant.badPatch.Error())
	}
}
