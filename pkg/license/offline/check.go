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
// "other_projects":[{"state","site_license"},…]}.
//
// A case does not have the purchase, so run_quota is that of the stored licenses
// also where one runs. It returns an error only if reading or writing fails, or
// ctx ends.
func CheckQuotas(ctx context.Context, in io.Reader, out io.Writer) error {
	return each(ctx, in, out, checkQuota)
}

// checkCase is one start.
type checkCase struct {
	Now      time.Time       `json:"now"`
	Purchase bool            `json:"paygo_active"`
	Site     json.RawMessage `json:"site_settings"`
	Rows     []struct {
		ID        string          `json:"id"`
		Activates *time.Time      `json:"activates"`
		Expires   *time.Time      `json:"expires"`
		Upgrades  json.RawMessage `json:"upgrades"`
		Quota     json.RawMessage `json:"quota"`
		RunLimit  seatLimit       `json:"run_limit"`
	} `json:"licenses"`
	Project struct {
		Settings    json.RawMessage `json:"settings"`
		Users       json.RawMessage `json:"users"`
		SiteLicense json.RawMessage `json:"site_license_list"`
	} `json:"project"`
	Others []struct {
		State       json.RawMessage `json:"state"`
		SiteLicense json.RawMessage `json:"site_license"`
	} `json:"other_projects"`
}

// seatLimit is a run_limit: any number, of which a fraction is a seat. nil for none.
type seatLimit struct{ seats *int64 }

// UnmarshalJSON implements json.Unmarshaler.
func (l *seatLimit) UnmarshalJSON(text []byte) error {
	switch rawjson.Of(text) {
	case rawjson.Unset:
		return nil
	case rawjson.Number:
	default:
		return errors.New("run_limit is not a number: write it without quotes")
	}
	const most = 1 << 53
	number := min(max(rawjson.Float(text), -most), most)
	seats := int64(math.Ceil(number))
	if number < 0 {
		seats = int64(math.Floor(number))
	}
	l.seats = &seats
	return nil
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

func readCheckCase(line []byte) (id []byte, start checkCase, err error) {
	object, err := rawjson.Trim(line)
	if err != nil {
		return nil, start, err
	}
	if rawjson.Of(object) != rawjson.Object {
		return nil, start, errNoObject
	}
	for name, value := range rawjson.Members(object) {
		if string(name) == "id" {
			id = value
		}
	}
	if err := json.Unmarshal(object, &start); err != nil {
		return id, start, fmt.Errorf("read case: %w", err)
	}
	if start.Now.IsZero() {
		return id, start, errors.New("now is missing: give the time as 2006-01-02T15:04:05Z")
	}
	return id, start, nil
}

func (c *checkCase) decide() (check.Result, quota.Quota, error) {
	licenses, err := readLicenses("project.site_license_list", c.Project.SiteLicense)
	if err != nil {
		return check.Result{}, quota.Quota{}, err
	}
	seats := c.seats()
	in := check.Input{
		Now: c.Now, Settings: c.Project.Settings, Users: c.Project.Users, Site: c.Site,
		SiteLicense: licenses, PayAsYouGo: c.Purchase,
		SeatsOfOthers: func(license string) int { return seats[license] },
	}
	for _, row := range c.Rows {
		in.Rows = append(in.Rows, check.Row{
			ID: row.ID, Activates: row.Activates, Expires: row.Expires, Upgrades: row.Upgrades, Quota: row.Quota, RunLimit: row.RunLimit.seats,
		})
	}
	result, err := check.Decide(in)
	if err != nil {
		return check.Result{}, quota.Quota{}, err
	}
	in.PayAsYouGo = false
	run, err := check.RunQuota(in, result.SiteLicense, nil)
	return result, run.Quota, err
}

// seats counts the seats that the other projects hold.
func (c *checkCase) seats() map[string]int {
	seats := map[string]int{}
	for _, other := range c.Others {
		if state := string(rawjson.Text(other.State)); state != "running" && state != "starting" {
			continue
		}
		for license, value := range rawjson.Members(other.SiteLicense) {
			for name, status := range rawjson.Members(value) {
				if string(name) == "status" && string(rawjson.Text(status)) == check.Active {
					seats[strings.ToLower(string(license))]++
				}
			}
		}
	}
	return seats
}
