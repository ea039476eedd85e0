package app

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/license/wire"
)

const (
	badTaint   = `"gpu":{"num":1,"toleration":"bad=c"}`
	badMachine = `"dedicated_vm":{"machine":"onprem","name":"bad-name"}`
	labels     = `"patch":"[{\"op\":\"add\",\"path\":\"/metadata/labels/a\",\"value\":\"b\"}]"`
	year       = `"patch":"[{\"op\":\"add\",\"path\":\"/metadata/labels/year\",\"value\":2026}]"`
	taint      = `spec.tolerations[0]: Invalid value`
	neverValid = "is never valid: it has no activates"
)

// strict is judge, before an API server that takes neither badTaint nor badMachine, whose form is right.
func strict(r wire.DryRunRequest) *wire.Verdict {
	if pod := string(r.Pod); !r.ReadOnly && (strings.Contains(pod, `"bad"`) || strings.Contains(pod, `"bad-name"`)) {
		return &wire.Verdict{Invalid: true, Reason: string(events.PodRejected), Message: taint}
	}
	return judge(r)
}

// TestPutTriesTheMachine: a gpu or dedicated_vm that makes no pod is refused as such, also beside a patch, and none where
// it is saved so already.
func TestPutTriesTheMachine(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		saved, quota string // Nothing is saved where saved is empty.
		refused      events.Reason
		says         []string // Of the refusal, or the one warning.
		asked        int      // How often the creator is asked for a verdict.
	}{
		"nothing to try":           {quota: `{"cpu":1,"gpu":false}`},
		"a good gpu":               {quota: `{"gpu":{"num":1,"toleration":"gpu"}}`, asked: 1},
		"a bad gpu":                {quota: `{` + badTaint + `}`, refused: events.LicenseInvalid, says: []string{": quota.gpu: " + taint}, asked: 2},
		"a bad machine":            {quota: `{` + badMachine + `}`, refused: events.LicenseInvalid, says: []string{": quota.dedicated_vm: " + taint}, asked: 2},
		"both":                     {quota: `{` + badTaint + `,` + badMachine + `}`, refused: events.LicenseInvalid, says: []string{": quota.gpu or quota.dedicated_vm: "}, asked: 2},
		"beside a harmless patch":  {quota: `{` + badTaint + `,` + labels + `}`, refused: events.LicenseInvalid, says: []string{": quota.gpu: " + taint}, asked: 3},
		"beside a bad patch":       {quota: `{"gpu":{"num":1},` + year + `}`, refused: events.PatchInvalid, says: []string{": patch: " + unreadable}, asked: 3},
		"saved, another member":    {saved: `{` + badTaint + `}`, quota: `{` + badTaint + `,"cpu":2}`},
		"saved, and left out":      {saved: `{` + badTaint + `}`, quota: `{"cpu":2}`},
		"saved, a patch is new":    {saved: `{` + badTaint + `}`, quota: `{` + badTaint + `,` + labels + `}`, says: []string{"no pod with it would be started", taint}, asked: 3},
		"saved, another is chosen": {saved: `{"gpu":{"num":1}}`, quota: `{` + badTaint + `}`, refused: events.LicenseInvalid, says: []string{taint}, asked: 2},
		"beside what is no number": {saved: `{"cpu":"2"}`, quota: `{"cpu":"2","gpu":{"num":1}}`, asked: 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			c := newCreator(t, p)
			asked := 0
			c.set(func(c *creator) {
				c.judge = func(r wire.DryRunRequest) *wire.Verdict {
					asked++
					return strict(r)
				}
			})
			if tt.saved != "" {
				p.save(t, valid(course, tt.saved))
			}
			got, err := ask[wire.License](t, p, wire.MethodPut, wire.PutLicense{License: valid(course, tt.quota)})
			switch {
			case tt.refused != "":
				refusedWith(t, err, tt.refused, append(tt.says, `license "Title 1111" (`+course+`)`)...)
			case err != nil:
				t.Error(err)
			case len(got.Warnings) != min(len(tt.says), 1):
				t.Errorf("warnings %q", got.Warnings)
			default:
				for _, says := range tt.says {
					if !strings.Contains(got.Warnings[0], says) {
						t.Errorf("%q does not say %q", got.Warnings[0], says)
					}
				}
			}
			c.set(func(*creator) {
				if asked != tt.asked {
					t.Errorf("asked %d times, want %d", asked, tt.asked)
				}
			})
		})
	}
}

// TestPutWarnsOfNever: that a license can never be valid is told with every save of it, also one that changes nothing.
func TestPutWarnsOfNever(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	newCreator(t, p).set(func(c *creator) { c.judge = judge })
	account := patching(course, accountPatch)
	account.Activates = nil
	without := valid(course, `{"cpu":1}`)
	without.Activates = nil
	over := valid(storage, `{"cpu":1}`)
	over.Expires = over.Activates
	p.save(t, over)
	for _, step := range []struct {
		license wire.License
		dry     bool
		want    []string
	}{
		{without, true, []string{neverValid}},
		{without, false, []string{neverValid}},
		{without, false, []string{neverValid}}, // Nothing has changed.
		{wire.License{ID: course}, false, []string{neverValid}},
		{account, false, []string{neverValid, noAccount}},
		{valid(course, `{"cpu":1}`), false, nil},
		{over, false, []string{"is never valid: expires is not after activates"}},
	} {
		step.license.Warnings = []string{"sent"} // It is not taken.
		got, err := ask[wire.License](t, p, wire.MethodPut, wire.PutLicense{License: step.license, DryRun: step.dry})
		if err != nil {
			t.Fatal(err)
		}
		same := len(got.Warnings) == len(step.want)
		for i := 0; same && i < len(step.want); i++ {
			same = strings.Contains(got.Warnings[i], step.want[i])
		}
		if !same {
			t.Errorf("%s, dry %t: warnings %q, want %q", step.license.Quota, step.dry, got.Warnings, step.want)
		}
	}
}

// TestDryRunIsTheSave: a dry run refuses the years that the save refuses, and tells of the license what is known, not what was sent.
func TestDryRunIsTheSave(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for _, year := range []int{-1, 0, 9999} {
		at := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
		for field, change := range map[string]func(*wire.License){
			"activates": func(l *wire.License) { l.Activates, l.Expires = &at, nil },
			"expires":   func(l *wire.License) { l.Activates, l.Expires = nil, &at },
		} {
			l := valid(course, `{"cpu":1}`)
			change(&l)
			for _, dry := range []bool{true, false} {
				_, err := p.putLicense(t.Context(), wire.PutLicense{License: l, DryRun: dry})
				refusedWith(t, p.told(err, wire.MethodPut), events.LicenseInvalid, field+" is in the year", "from 1 to 9998")
			}
		}
	}

	sent := valid(course, `{"cpu":1}`)
	sent.Created, sent.LastUsed, sent.SeatsUsed, sent.Revision = new(time.Unix(1, 0)), new(time.Unix(2, 0)), 9, "sent"
	got, err := ask[wire.License](t, p, wire.MethodPut, wire.PutLicense{License: sent, DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(valid(course, `{"cpu":1}`), got); d != "" {
		t.Errorf("of a new license (-want +got):\n%s", d)
	}
	p.save(t, valid(course, `{"cpu":1}`), alpha)
	if err := p.license(t.Context(), p.claimed(t, alpha, "cmd-1")); err != nil { // It is used.
		t.Fatal(err)
	}
	want, err := ask[wire.License](t, p, wire.MethodLicense, wire.LicenseRef{ID: course})
	if err != nil || want.LastUsed == nil || want.SeatsUsed != 1 {
		t.Fatalf("read %+v (%v)", want, err)
	}
	sent.Quota = json.RawMessage(`{"cpu":2}`)
	if got, err = ask[wire.License](t, p, wire.MethodPut, wire.PutLicense{License: sent, DryRun: true}); err != nil {
		t.Fatal(err)
	}
	want.Quota = sent.Quota
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("of one in use (-want +got):\n%s", d)
	}
}
