package offline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"berth/pkg/license/check"
	"berth/pkg/license/internal/rawjson"
	"berth/pkg/license/quota"
)

// CheckQuotas answers each case, the start of a project, with
// {"id","site_license_list","run_quota","last_used"}: what is stored afterwards; or
// with {"id","error"}. A case is {"id","now","paygo_active","site_settings",
// "licenses":[row,…],"project":{"settings","users","site_license_list"},
// "other_projects":[{"state","site_license"},…]}. Other members are not read; one that
// is likely to be meant for one of these, which is not there, is refused.
//
// A case does not have the purchase, so run_quota is that of the stored licenses
// also where one runs. It returns an error only if reading or writing fails, or
// ctx ends.
func CheckQuotas(ctx context.Context, in io.Reader, out io.Writer) error {
	return each(ctx, in, out, checkQuota)
}

// checkCase is one start, but for what is decided from it.
type checkCase struct {
	in check.Input
	// seats are those that other projects hold, by license ids in lower case.
	seats map[string]int
}

func checkQuota(to, line []byte) []byte {
	id, start, err := readCheckCase(line)
	if err != nil {
		return appendError(to, id, err.Error())
	}
	result, run, err := start.decide()
	if errors.Is(err, quota.ErrUnknownMachine) {
		return appendError(to, id, unknownMachine)
	}
	if err != nil {
		return appendError(to, id, err.Error())
	}
	to = append(appendID(to, id), `,"site_license_list":`...)
	if result.SiteLicense == nil {
		to = append(to, "null"...)
	} else {
		to = append(to, '[')
		for i, license := range result.SiteLicense {
			if i > 0 {
				to = append(to, ',')
			}
			to = rawjson.AppendString(append(to, '['), license.ID)
			to = append(rawjson.AppendCompact(append(to, ','), license.Value), ']')
		}
		to = append(to, ']')
	}
	to = run.AppendJSON(append(to, `,"run_quota":`...))
	to = append(to, `,"last_used":[`...)
	for i, license := range result.LastUsed {
		if i > 0 {
			to = append(to, ',')
		}
		to = rawjson.AppendString(to, license)
	}
	return append(to, "]}"...)
}

// readCheckCase reads a line. Names are compared exactly, of members with one name the last counts, and null is as if it
// were not there.
func readCheckCase(line []byte) (id []byte, start checkCase, err error) {
	object, err := caseOf(line)
	if err != nil {
		return nil, start, err
	}
	members := membersOf(object)
	id = members["id"]
	if err := whole(object); err != nil {
		return id, start, err
	}
	now, err := moment("now", members["now"])
	switch purchase := members["paygo_active"]; {
	case err != nil:
		return id, start, err
	case now == nil:
		return id, start, errors.New("now is missing: give the time as 2006-01-02T15:04:05Z")
	case rawjson.Of(purchase) != rawjson.Unset && rawjson.Of(purchase) != rawjson.Bool:
		return id, start, errors.New("paygo_active is neither true nor false")
	}
	start.in = check.Input{Now: *now, Site: members["site_settings"], PayAsYouGo: rawjson.True(members["paygo_active"])}

	project, err := objectOf("project", members["project"])
	if err != nil {
		return id, start, err
	}
	if err := refuseMisnamedInCheck(members, project); err != nil {
		return id, start, err
	}
	start.in.Settings, start.in.Users = project["settings"], project["users"]
	if start.in.SiteLicense, err = readLicenses("project.site_license_list", project["site_license_list"]); err != nil {
		return id, start, err
	}
	if start.in.Rows, err = readRows(members["licenses"]); err != nil {
		return id, start, err
	}
	start.seats, err = readSeats(members["other_projects"])
	return id, start, err
}

func refuseMisnamedInCheck(members, project map[string]json.RawMessage) error {
	if err := refuseMisnamed(misnamedForCheck, members, "", members); err != nil {
		return err
	}
	if err := refuseMisnamed(misplacedForCheck, members, "project.", project); err != nil {
		return err
	}
	if err := refuseMisnamed(misnamedInProject, project, "", project); err != nil {
		return fmt.Errorf("project.%w", err)
	}
	return nil
}

// membersOf are the members of an object, of those with one name the last; none for other kinds.
func membersOf(object []byte) map[string]json.RawMessage {
	members := map[string]json.RawMessage{}
	for name, value := range rawjson.Members(object) {
		members[string(name)] = value
	}
	return members
}

// objectOf is membersOf for what has to be an object or unset.
func objectOf(field string, value []byte) (map[string]json.RawMessage, error) {
	if kind := rawjson.Of(value); kind != rawjson.Unset && kind != rawjson.Object {
		return nil, fmt.Errorf("%s is neither an object nor null", field)
	}
	return membersOf(value), nil
}

// objectsOf are the members of each object of a list. A null in it is nothing.
func objectsOf(field string, list []byte) ([]map[string]json.RawMessage, error) {
	if kind := rawjson.Of(list); kind != rawjson.Unset && kind != rawjson.Array {
		return nil, fmt.Errorf("%s is neither a list nor null", field)
	}
	var all []map[string]json.RawMessage
	for element := range rawjson.Elements(list) {
		members, err := objectOf(fmt.Sprintf("%s[%d]", field, len(all)), element)
		if err != nil {
			return nil, err
		}
		all = append(all, members)
	}
	return all, nil
}

// moment reads a time, nil where it is unset.
func moment(field string, value []byte) (*time.Time, error) {
	if rawjson.Of(value) == rawjson.Unset {
		return nil, nil
	}
	at, err := time.Parse(time.RFC3339, string(rawjson.Text(value)))
	if err != nil {
		return nil, fmt.Errorf("%s is not a time: give it as 2006-01-02T15:04:05Z", field)
	}
	return &at, nil
}

func readRows(list []byte) ([]check.Row, error) {
	objects, err := objectsOf("licenses", list)
	if err != nil {
		return nil, err
	}
	rows := make([]check.Row, len(objects))
	for i, members := range objects {
		field := fmt.Sprintf("licenses[%d].", i)
		if kind := rawjson.Of(members["id"]); kind != rawjson.Unset && kind != rawjson.String {
			return nil, fmt.Errorf("%sid is not a string", field)
		}
		row := check.Row{ID: string(rawjson.Text(members["id"])), Upgrades: members["upgrades"], Quota: members["quota"]}
		if row.Activates, err = moment(field+"activates", members["activates"]); err != nil {
			return nil, err
		}
		if row.Expires, err = moment(field+"expires", members["expires"]); err != nil {
			return nil, err
		}
		if row.RunLimit, err = seatLimit(field+"run_limit", members["run_limit"]); err != nil {
			return nil, err
		}
		rows[i] = row
	}
	return rows, nil
}

// seatLimit reads a run_limit: any number, of which a fraction is a seat. nil for none.
func seatLimit(field string, value []byte) (*int64, error) {
	switch rawjson.Of(value) {
	case rawjson.Unset:
		return nil, nil
	case rawjson.Number:
	default:
		return nil, fmt.Errorf("%s is not a number: write it without quotes", field)
	}
	const most = 1 << 53
	number := min(max(rawjson.Float(value), -most), most)
	seats := int64(math.Ceil(number))
	if number < 0 {
		seats = int64(math.Floor(number))
	}
	return &seats, nil
}

// readSeats counts the seats that the other projects hold. One holds one of a license at the most, however often, and in
// whatever case, it has the id.
func readSeats(list []byte) (map[string]int, error) {
	others, err := objectsOf("other_projects", list)
	if err != nil {
		return nil, err
	}
	seats := map[string]int{}
	for i, other := range others {
		if err := refuseMisnamed(misnamedInOther, other, "", other); err != nil {
			return nil, fmt.Errorf("other_projects[%d].%w", i, err)
		}
		if state := string(rawjson.Text(other["state"])); state != "running" && state != "starting" {
			continue
		}
		held := map[string]bool{}
		for license, value := range membersOf(other["site_license"]) {
			if string(rawjson.Text(membersOf(value)["status"])) == check.Active {
				held[strings.ToLower(license)] = true
			}
		}
		for license := range held {
			seats[license]++
		}
	}
	return seats, nil
}

func (c *checkCase) decide() (check.Result, quota.Quota, error) {
	in := c.in
	in.SeatsOfOthers = func(license string) int { return c.seats[license] }
	result, err := check.Decide(in)
	if err != nil {
		return check.Result{}, quota.Quota{}, err
	}
	in.PayAsYouGo = false
	run, err := check.RunQuota(in, result.SiteLicense, nil)
	return result, run.Quota, err
}
