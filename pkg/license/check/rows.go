package check

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"berth/pkg/license/internal/rawjson"
	"berth/pkg/license/quota"
)

// Licenses reads a project's site_license, a JSON object, in stored order. A text
// that is unset gives nil, and so does one that is no object, which a hub treats alike.
// It fails for what is not JSON.
func Licenses(siteLicense json.RawMessage) ([]quota.License, error) {
	object, err := rawjson.Trim(siteLicense)
	if err != nil {
		return nil, fmt.Errorf("read site_license: %w", err)
	}
	if rawjson.Of(object) != rawjson.Object {
		return nil, nil
	}
	licenses := []quota.License{}
	for name, value := range rawjson.Members(object) {
		licenses = append(licenses, quota.License{ID: string(name), Value: value})
	}
	return inStoredOrder(licenses), nil
}

// inStoredOrder sorts as PostgreSQL keeps the members of jsonb: short names first,
// then by bytes. Of two with one id the last one stays. nil stays nil.
func inStoredOrder(licenses []quota.License) []quota.License {
	if licenses == nil {
		return nil
	}
	order := func(a, b quota.License) int {
		return cmp.Or(cmp.Compare(len(a.ID), len(b.ID)), cmp.Compare(a.ID, b.ID))
	}
	sorted := slices.Clone(licenses)
	slices.Reverse(sorted)
	slices.SortStableFunc(sorted, order)
	return slices.CompactFunc(sorted, func(a, b quota.License) bool { return a.ID == b.ID })
}

// row is a row of a license that the project has, and when it is examined.
type row struct {
	Row

	// key is the id as the project has it; that of the row is in lower case.
	key string
	// stage is 0 for a dedicated machine, 1 for a disk, 2 for others, 3 for boosts;
	// group orders within the last two.
	stage, group int
	// besidePurchase says that it may be used beside a purchase.
	besidePurchase bool
	// broken is why the row gives nothing that could be used. It counts, and fails the
	// start, only where the row would be used.
	broken error
}

// uuid is the form of the ids that rows have, as PostgreSQL writes them but for the case.
var uuid = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)

// byID has the rows under their ids in lower case, the last of those with one id.
func byID(all []Row) map[string]*Row {
	rows := make(map[string]*Row, len(all))
	for i := range all {
		rows[strings.ToLower(all[i].ID)] = &all[i]
	}
	return rows
}

// inExaminationOrder returns the rows of the licenses that a project has. Ids are compared
// as those of the column are, in lower case; what is no UUID has no row. Of those that
// are one UUID the one in lower case has it, else the first.
func inExaminationOrder(stored []quota.License, all []Row) []*row {
	known := byID(all)
	rows := make([]*row, 0, len(stored))
	for _, license := range stored {
		id := strings.ToLower(license.ID)
		found, exists := known[id]
		if !exists || !uuid.MatchString(id) || id != license.ID && has(stored, id) {
			continue
		}
		delete(known, id)
		next, err := read(*found)
		next.ID, next.key, next.broken = id, license.ID, err
		rows = append(rows, next)
	}
	slices.SortStableFunc(rows, func(a, b *row) int {
		return cmp.Or(cmp.Compare(a.stage, b.stage), cmp.Compare(a.group, b.group))
	})
	return rows
}

func has(stored []quota.License, id string) bool {
	return slices.ContainsFunc(stored, func(l quota.License) bool { return l.ID == id })
}

// read checks the columns and finds out when the row is examined. With an error it has
// what could be read.
func read(columns Row) (*row, error) {
	r := &row{Row: columns}
	var broken error
	for _, column := range []struct {
		name  string
		value *json.RawMessage
	}{{"upgrades", &r.Upgrades}, {"quota", &r.Quota}} {
		value, err := rawjson.Trim(*column.value)
		kind := rawjson.Of(value)
		switch {
		case err != nil:
			broken = &quota.FieldError{License: r.ID, Field: column.name, Fix: "is not JSON: " + err.Error()}
		case kind != rawjson.Unset && kind != rawjson.Object:
			broken = &quota.FieldError{License: r.ID, Field: column.name, Fix: "is neither an object nor null"}
		default:
			*column.value = value
			continue
		}
		*column.value = nil
	}

	boost, machine, disk := false, false, false
	for name, value := range rawjson.Members(r.Quota) {
		set := rawjson.Of(value) != rawjson.Unset
		switch string(name) {
		case "boost":
			boost = rawjson.True(value)
		case "dedicated_vm":
			machine = set && !rawjson.False(value)
		case "dedicated_disk":
			disk = set
			r.besidePurchase = r.besidePurchase || set
		case "ext_rw":
			r.besidePurchase = r.besidePurchase || rawjson.True(value)
		case "patch":
			r.besidePurchase = r.besidePurchase || set
		}
	}
	switch {
	case machine:
		r.stage = 0
	case disk:
		r.stage = 1
	case boost:
		r.stage, r.group = 3, quota.Group(r.Quota)
	default:
		r.stage, r.group = 2, quota.Group(r.Quota)
	}
	return r, broken
}

// candidate is the value under which the row would be used: its upgrades without
// those that say nothing, its quota, and the status.
func (r *row) candidate() json.RawMessage {
	hasQuota := rawjson.Of(r.Quota) == rawjson.Object
	value := []byte{'{'}
	for name, upgrade := range rawjson.Members(r.Upgrades) {
		name := string(name)
		if !rawjson.Truthy(upgrade) || name == "status" || name == "reason" || hasQuota && name == "quota" {
			continue
		}
		value = append(rawjson.AppendString(value, name), ':')
		value = append(rawjson.AppendCompact(value, upgrade), ',')
	}
	if hasQuota {
		value = append(value, `"quota":`...)
		value = append(rawjson.AppendCompact(value, r.Quota), ',')
	}
	return append(value, `"status":"`+Active+`"}`...)
}
