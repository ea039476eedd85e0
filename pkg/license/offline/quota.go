package offline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"berth/pkg/license/internal/rawjson"
	"berth/pkg/license/quota"
)

// unknownMachine is the error of a case for [quota.ErrUnknownMachine]; other
// errors have their own text.
const unknownMachine = "unknown_vm_machine"

// ComputeQuotas answers each case, {"id","settings","users","site_licenses_list":
// [[id,value],…],"site_settings","pay_as_you_go"}, with {"id","quota","reasons"} or
// {"id","error"}. Other members are not read; one that is likely to be meant for one
// of these, which is not there, is refused. A license's patch that does not load gives no operations; one that
// loads is passed on as it is, also where it could not be applied, as for a number that
// is too large. It returns an error only if reading or writing fails, or ctx ends.
func ComputeQuotas(ctx context.Context, in io.Reader, out io.Writer) error {
	return each(ctx, in, out, computeQuota)
}

func computeQuota(to, line []byte) []byte {
	id, in, err := readQuotaCase(line)
	if err != nil {
		return appendError(to, id, err.Error())
	}
	project, err := quota.NewProject(in)
	if err != nil {
		return appendError(to, id, err.Error())
	}
	grants := make([]quota.Grant, len(in.Licenses))
	for i, license := range in.Licenses {
		if grants[i], err = quota.Read(license); err != nil {
			return appendError(to, id, err.Error())
		}
	}
	result, err := project.Compute(grants)
	if errors.Is(err, quota.ErrUnknownMachine) {
		return appendError(to, id, unknownMachine)
	}
	if err != nil {
		return appendError(to, id, err.Error())
	}
	to = append(appendID(to, id), `,"quota":`...)
	to = result.Quota.AppendJSON(to)
	to = append(to, `,"reasons":{`...)
	for i, license := range slices.Sorted(maps.Keys(result.Reasons)) {
		if i > 0 {
			to = append(to, ',')
		}
		to = append(rawjson.AppendString(to, license), ':')
		to = rawjson.AppendString(to, result.Reasons[license])
	}
	return append(to, "}}"...)
}

func readQuotaCase(line []byte) (id []byte, in quota.Input, err error) {
	object, err := caseOf(line)
	if err != nil {
		return nil, in, err
	}
	var licenses []byte
	suspect := false
	for name, value := range rawjson.Members(object) {
		switch string(name) {
		case "id":
			id = value
		case "settings":
			in.Settings = value
		case "users":
			in.Users = value
		case "site_settings":
			in.Site = value
		case "pay_as_you_go":
			in.PayAsYouGo = value
		case "site_licenses_list":
			licenses = value
		default:
			suspect = suspect || slices.ContainsFunc(misnamedForQuota, func(m misnaming) bool { return m.name == string(name) })
		}
	}
	if err := whole(object); err != nil {
		return id, in, err
	}
	if suspect {
		members := membersOf(object)
		if err := refuseMisnamed(misnamedForQuota, members, "", members); err != nil {
			return id, in, err
		}
	}
	in.Licenses, err = readLicenses("site_licenses_list", licenses)
	return id, in, err
}

// readLicenses reads [[id,value],…]. Of two with one id the last value counts, at
// the place of the first, as in an object.
func readLicenses(field string, list []byte) ([]quota.License, error) {
	if rawjson.Of(list) == rawjson.Unset {
		return nil, nil
	}
	malformed := func() error { return fmt.Errorf("%s is not a list of [id, value]", field) }
	if rawjson.Of(list) != rawjson.Array {
		return nil, malformed()
	}
	licenses := []quota.License{}
	places := map[string]int{}
	for pair := range rawjson.Elements(list) {
		var parts [2][]byte
		n := 0
		for part := range rawjson.Elements(pair) {
			if n < len(parts) {
				parts[n] = part
			}
			n++
		}
		if n != len(parts) || rawjson.Of(parts[0]) != rawjson.String {
			return nil, malformed()
		}
		license := quota.License{ID: string(rawjson.Text(parts[0])), Value: parts[1]}
		if place, twice := places[license.ID]; twice {
			licenses[place] = license
			continue
		}
		places[license.ID] = len(licenses)
		licenses = append(licenses, license)
	}
	return licenses, nil
}
