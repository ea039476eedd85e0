package quota_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/license/quota"
)

func raw(text string) json.RawMessage { return json.RawMessage(text) }

func license(id, value string) quota.License { return quota.License{ID: id, Value: raw(value)} }

func TestComputeRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		in   quota.Input
		is   error
		want string
	}{
		"settings": {
			quota.Input{Settings: raw(`3`)}, quota.ErrInvalid, `settings is neither an object nor null`,
		},
		"users, no JSON": {
			quota.Input{Users: raw(`{]`)},
			quota.ErrInvalid,
			`users is not JSON: parse JSON: invalid character ']' looking for beginning of object key string`,
		},
		"a user": {
			quota.Input{Users: raw(`{"u":[]}`)}, quota.ErrInvalid, `users.u is neither an object nor null`,
		},
		"a user's upgrades": {
			quota.Input{Users: raw(`{"u":{"upgrades":"x"}}`)}, quota.ErrInvalid, `users.u.upgrades is neither an object nor null`,
		},
		"site settings": {
			quota.Input{Site: raw(`"x"`)}, quota.ErrInvalid, `site_settings is neither an object nor null`,
		},
		"purchase": {
			quota.Input{PayAsYouGo: raw(`true`)}, quota.ErrInvalid, `pay_as_you_go is neither an object nor null`,
		},
		"not UTF-8": {
			quota.Input{Settings: raw("{\"\xff\":1}")}, quota.ErrInvalid, `settings is not JSON: parse JSON: the text is not UTF-8`,
		},
		"a license": {
			quota.Input{Licenses: []quota.License{license("a", `"x"`)}},
			quota.ErrInvalid,
			`license a: value is neither an object nor null`,
		},
		"a license's quota": {
			quota.Input{Licenses: []quota.License{license("a", `{"quota":1}`)}},
			quota.ErrInvalid,
			`license a: quota is not an object`,
		},
		"an amount": {
			quota.Input{Licenses: []quota.License{license("a", `{"quota":{"dedicated_ram":"3"}}`)}},
			quota.ErrInvalid,
			`license a: quota.dedicated_ram is not a number: write it without quotes`,
		},
		"machine": {
			quota.Input{Licenses: []quota.License{license("a", `{"quota":{"dedicated_vm":{"machine":""}}}`)}},
			quota.ErrUnknownMachine,
			`license a: quota.dedicated_vm.machine "": unknown VM machine`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := quota.Compute(test.in)
			if !errors.Is(err, test.is) {
				t.Fatalf("error %v, want %v", err, test.is)
			}
			if diff := cmp.Diff(test.want, err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

// A license that is over, or gives a disk alone, cannot fail a computation.
func TestComputeLeavesOut(t *testing.T) {
	t.Parallel()
	in := quota.Input{Licenses: []quota.License{
		license("over", `{"status":"expired","quota":{"ram":"3"}}`),
		license("disk", `{"quota":{"dedicated_disk":{"size_gb":1},"dedicated_vm":{"machine":"cray"},"patch":"["}}`),
	}}
	result, err := quota.Compute(in)
	if err != nil || len(result.BadPatches) > 0 {
		t.Errorf("error %v, bad patches %v, want none", err, result.BadPatches)
	}
}

func TestPatches(t *testing.T) {
	t.Parallel()
	in := quota.Input{Licenses: []quota.License{
		license("a", `{"quota":{"patch":"[ {\"op\":\"test\", \"path\":\"/a\", \"value\":12345678901234567890},\n{\"op\":\"remove\",\"path\":5} ]"}}`),
		license("b", `{"quota":{"patch":"[{\"op\":\"add\"}]"}}`),
		license("c", `{"quota":{"patch":" ","member":true}}`),
		license("d", `{"quota":{"patch":["x"]}}`),
		license("e", `{"status":"ineffective","quota":{"patch":"[{\"op\":\"copy\",\"path\":\"/e\",\"from\":\"\"}]"}}`),
	}}
	result, err := quota.Compute(in)
	if err != nil {
		t.Fatal(err)
	}
	want := []quota.Operation{
		{License: "a", Index: 0, Raw: raw(`{"op":"test","path":"/a","value":12345678901234567890}`)},
		{License: "a", Index: 1, Raw: raw(`{"op":"remove","path":5}`)},
		{License: "e", Index: 0, Raw: raw(`{"op":"copy","path":"/e","from":""}`)},
	}
	if diff := cmp.Diff(want, result.Quota.Patch); diff != "" {
		t.Errorf("patch (-want +got):\n%s", diff)
	}
	var bad []string
	for _, patch := range result.BadPatches {
		bad = append(bad, patch.License+": "+patch.Err.Error())
	}
	wantBad := []string{
		"b: operation 0: path is missing: name the member, as /metadata/labels/name",
		"d: not a string: write the JSON list as text",
	}
	if diff := cmp.Diff(wantBad, bad); diff != "" {
		t.Errorf("bad patches (-want +got):\n%s", diff)
	}
}

// What is passed on keeps large integers and members that nobody knows.
func TestPassedOn(t *testing.T) {
	t.Parallel()
	in := quota.Input{
		PayAsYouGo: raw(`{ "purchase_id" : 12345678901234567890 }`),
		Licenses: []quota.License{
			license("a", `{"quota":{"gpu":{"num": 9007199254740993, "x": " y "}}}`),
			license("b", `{"quota":{"dedicated_disk":{"size_gb": 9007199254740993}}}`),
		},
	}
	result, err := quota.Compute(in)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(result.Quota)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"network":true,"member_host":false,"privileged":false,"always_running":false,` +
		`"memory_request":200,"memory_limit":1000,"cpu_request":0.02,"cpu_limit":1,"disk_quota":3000,"idle_timeout":1800,` +
		`"dedicated_vm":false,"dedicated_disks":[{"size_gb":9007199254740993}],"gpu":{"num":9007199254740993,"x":" y "},` +
		`"pay_as_you_go":{"purchase_id":12345678901234567890}}`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("quota (-want +got):\n%s", diff)
	}
}

// The site's members may be the text that the hub stores.
func TestSiteAsText(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		site string
		want float64
	}{
		"objects":        {`{"default_quotas":{"mem":2000},"max_upgrades":{"memory":1500}}`, 1500},
		"texts":          {`{"default_quotas":"{\"mem\":2000}","max_upgrades":"{\"memory\":1500}"}`, 1500},
		"no JSON":        {`{"default_quotas":"{mem","max_upgrades":""}`, 1000},
		"other kinds":    {`{"default_quotas":5,"max_upgrades":[1]}`, 1000},
		"nothing":        {``, 1000},
		"a null maximum": {`{"default_quotas":{"mem":2000},"max_upgrades":{"memory":null}}`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result, err := quota.Compute(quota.Input{Site: raw(test.site)})
			if err != nil {
				t.Fatal(err)
			}
			if got := result.Quota.MemoryLimit; got != test.want {
				t.Errorf("memory %v, want %v", got, test.want)
			}
		})
	}
}

// A machine's disk is the site's maximum as it was given; for all others it is the number that it stands for.
func TestDiskOfMachine(t *testing.T) {
	t.Parallel()
	const n2, onprem = `{"quota":{"dedicated_vm":{"machine":"n2-standard-2"}}}`, `{"quota":{"dedicated_vm":{"machine":"onprem"}}}`
	for name, test := range map[string]struct{ maxima, license, want string }{
		"nothing":               {`{}`, n2, `20000`},
		"unreadable":            {`"{disk_quota"`, n2, `20000`},
		"a number":              {`{"disk_quota":9000.0}`, n2, `9000`},
		"a text":                {`{"disk_quota":"9000"}`, n2, `"9000"`},
		"a text with a unit":    {`{"disk_quota": "9 GB"}`, n2, `"9 GB"`},
		"null":                  {`{"disk_quota":null}`, n2, `null`},
		"a flag":                {`{"disk_quota":true}`, n2, `true`},
		"a text in a text":      {`"disk_quota: '9000'"`, n2, `"9000"`},
		"a text, then a number": {`{"disk_quota":"1","disk_quota":2}`, n2, `2`},
		"a number, then a text": {`{"disk_quota":1,"disk_quota":"2"}`, n2, `"2"`},
		"on the premises":       {`{"disk_quota":"9000"}`, onprem, `0`},
		"no machine":            {`{"disk_quota":"2000"}`, `{"quota":{"disk":9}}`, `2000`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result, err := quota.Compute(quota.Input{Site: raw(`{"max_upgrades":` + test.maxima + `}`), Licenses: []quota.License{license("a", test.license)}})
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]json.RawMessage
			if err := json.Unmarshal(result.Quota.AppendJSON(nil), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, string(got["disk_quota"])); diff != "" {
				t.Errorf("disk_quota (-want +got):\n%s", diff)
			}
		})
	}
}

// Of two members of one name the last one counts, whatever the first one is.
func TestTwice(t *testing.T) {
	t.Parallel()
	site, users := raw(`{"default_quotas":{"mem":5000,"mem":"x","internet":true,"internet":1,"disk_quota":"x","disk_quota":4000}}`),
		raw(`{"u":5,"u":{"upgrades":7,"upgrades":{"cores":"x","cores":1}}}`)
	result, err := quota.Compute(quota.Input{Site: site, Users: users, Licenses: []quota.License{license("a", `{"quota":{"dedicated_cpu":"x","dedicated_cpu":2,"network":false}}`)}})
	if err != nil {
		t.Fatal(err)
	}
	q := result.Quota
	if q.MemoryLimit != 1000 || q.DiskQuota != 4000 || q.CPULimit != 2 || q.CPURequest != 2 {
		t.Errorf("quota %+v", q)
	}
	for field, in := range map[string]quota.Input{
		"users.u":          {Users: raw(`{"u":{},"u":5}`)},
		"users.u.upgrades": {Users: raw(`{"u":{"upgrades":{},"upgrades":5}}`)},
		"quota.ram":        {Licenses: []quota.License{license("a", `{"quota":{"ram":1,"ram":"1"}}`)}},
	} {
		_, err := quota.Compute(in)
		if wrong, ok := errors.AsType[*quota.FieldError](err); !ok || wrong.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestEqual(t *testing.T) {
	t.Parallel()
	base := quota.Quota{
		MemoryLimit: 1, DedicatedDisks: []json.RawMessage{raw(`{"a":1,"b":2}`)}, GPU: raw(`{"num":1}`),
		Patch: []quota.Operation{{License: "x", Raw: raw(`{"op":"test"}`)}},
	}
	for name, test := range map[string]struct {
		change func(*quota.Quota)
		want   bool
	}{
		"same":            {func(*quota.Quota) {}, true},
		"order of a disk": {func(q *quota.Quota) { q.DedicatedDisks = []json.RawMessage{raw(`{"b":2.0,"a":1}`)} }, true},
		"license of op":   {func(q *quota.Quota) { q.Patch = []quota.Operation{{License: "y", Raw: raw(`{"op":"test"}`)}} }, true},
		"memory":          {func(q *quota.Quota) { q.MemoryLimit = 2 }, false},
		"the disk's text": {func(q *quota.Quota) { q.DiskQuotaRaw = raw(`"0"`) }, false},
		"disk":            {func(q *quota.Quota) { q.DedicatedDisks = nil }, false},
		"gpu":             {func(q *quota.Quota) { q.GPU = nil }, false},
		"operation":       {func(q *quota.Quota) { q.Patch = []quota.Operation{{Raw: raw(`{"op":"add"}`)}} }, false},
		"ext_rw":          {func(q *quota.Quota) { q.ExtRW = true }, false},
		"purchase":        {func(q *quota.Quota) { q.PayAsYouGo = raw(`{}`) }, false},
	} {
		other := base
		test.change(&other)
		if got := base.Equal(other); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestExplanation(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		in          quota.Input
		want        map[string]quota.Finding
		wantIgnored []quota.Ignored
	}{
		"the site's defaults, shares and a license": {
			in: quota.Input{
				Site:     raw(`{"default_quotas":{"mem":1000,"mem_oc":5},"max_upgrades":{"memory_request":500}}`),
				Licenses: []quota.License{license("a", `{"quota":{"ram":3,"idle_timeout":"always_running","member":false},"cores":1}`)},
			},
			want: map[string]quota.Finding{
				"memory_limit": {Value: 3000.0, Sources: []quota.Source{{Kind: quota.KindLicense, License: "a", Amount: 3000.0}}},
				"memory_request": {
					Value: 500.0, Capped: "max_upgrades.memory_request 500",
					Sources: []quota.Source{
						{Kind: quota.KindSiteDefault, Amount: 200.0},
						{Kind: quota.KindOvercommit, Amount: 600.0, Rule: "memory_limit 3000 / 5"},
					},
				},
			},
			wantIgnored: []quota.Ignored{
				{License: "a", Field: "idle_timeout", Why: "gives no more than there is without it: 1800"},
				{License: "a", Field: "upgrades", Why: "beside a quota they do not count"},
				{License: "a", Field: "idle_timeout", Why: `"always_running" is none of short, medium, day: it counts as short`},
			},
		},
		"upgrades on top of the settings, cut at the room": {
			in: quota.Input{
				Settings: raw(`{"cores":2,"disableInternet":1}`),
				Users:    raw(`{"u":{"upgrades":{"cores":1.5,"privileged":1}},"w":{"upgrades":{"network":1}}}`),
				Licenses: []quota.License{
					license("a", `{"cores":2,"privileged":1}`), license("b", `{"quota":{"cpu":3,"member":false}}`),
					license("c", `{"status":"future"}`), license("d", `null`), license("e", `{"quota":{"boost":true,"member":true}}`),
				},
			},
			want: map[string]quota.Finding{
				"cpu_limit": {
					Value: 4.0, Capped: "built-in maximum of cores 3",
					Sources: []quota.Source{
						{Kind: quota.KindSettings, Amount: 2.0},
						{Kind: quota.KindUser, Amount: 1.5, Rule: "upgrade of u"},
						{Kind: quota.KindLicense, License: "a", Amount: 2.0},
					},
				},
				"network": {
					Value: false,
					Sources: []quota.Source{
						{Kind: quota.KindUser, Amount: true, Rule: "upgrade of w"},
						{Kind: quota.KindLicense, License: "b", Amount: true},
						{Kind: quota.KindRule, Amount: false, Rule: "settings.disableInternet takes the network away"},
					},
				},
				"privileged": {
					Value: false, Capped: "built-in maximum of privileged 0",
					Sources: []quota.Source{{Kind: quota.KindDefault, Amount: false}},
				},
			},
			wantIgnored: []quota.Ignored{
				{License: "a", Field: "privileged", Why: "built-in maximum of privileged 0"},
				{License: "b", Field: "cpu_limit", Why: "gives no more than there is without it: 4"},
				{License: "c", Why: "its status is future"},
				{License: "d", Why: "its value is null"},
				{License: "e", Why: "its sizes are for: not always running, member, idle_timeout short; " +
					"in use are those for: not always running, not member, idle_timeout short"},
			},
		},
		"a purchase, rounding, a floor that a maximum lowers": {
			in: quota.Input{
				PayAsYouGo: raw(`{"quota":{"memory":1500.5}}`),
				Site:       raw(`{"max_upgrades":{"cpu_shares":5}}`),
			},
			want: map[string]quota.Finding{
				"memory_limit": {
					Value: 1500.0,
					Sources: []quota.Source{
						{Kind: quota.KindPayAsYouGo, Amount: 1500.5},
						{Kind: quota.KindRounding, Amount: 1500.0, Rule: "down to whole MB"},
					},
				},
				"cpu_request": {
					Value: 5.0 / 1024, Capped: "max_upgrades.cpu_shares 5",
					Sources: []quota.Source{
						{Kind: quota.KindDefault, Amount: 0.0},
						{Kind: quota.KindFloor, Amount: 5.0 / 1024, Rule: "no project gets less"},
					},
				},
			},
		},
		"a machine": {
			in: quota.Input{Licenses: []quota.License{
				license("a", `{"quota":{"dedicated_vm":{"machine":"n2-highmem-2"},"ext_rw":true}}`),
				license("b", `{"quota":{"cpu":3}}`),
			}},
			want: map[string]quota.Finding{
				"memory_limit": {
					Value:   14000.0,
					Sources: []quota.Source{{Kind: quota.KindLicense, License: "a", Rule: "dedicated machine n2-highmem-2"}},
				},
			},
			wantIgnored: []quota.Ignored{
				{License: "a", Field: "patch, ext_rw, gpu", Why: "a license for a machine gives the machine alone"},
				{License: "b", Why: "license a puts the project on a machine of its own"},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result, err := quota.Compute(test.in)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]quota.Finding{}
			for _, finding := range result.Findings {
				if _, asked := test.want[finding.Field]; asked {
					field := finding.Field
					finding.Field = ""
					got[field] = finding
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.wantIgnored, result.Ignored); diff != "" {
				t.Errorf("ignored (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCheckLicense(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		quota, upgrades string
		want            []string
	}{
		"nothing": {},
		"all fields": {
			quota: `{"cpu":1,"dedicated_cpu":0.5,"ram":2,"dedicated_ram":1,"disk":3,"member":true,"always_running":false,` +
				`"idle_timeout":"always_running","boost":false,"user":"academic","dedicated_vm":{"machine":"onprem","name":"vm1"},` +
				`"dedicated_disk":{"size_gb":64,"speed":"ssd","name":"d"},"ext_rw":true,` +
				`"patch":"[{\"op\":\"remove\",\"path\":\"/a\"}]","gpu":{"num":1,"toleration":"gpu","nodeLabel":"a=b, c=d,","resource":"amd.com/gpu"}}`,
			upgrades: `{"cores":1,"memory":2000,"network":1,"member_host":true,"ephemeral_disk":0}`,
		},
		"unset members": {quota: `{"cpu":null,"patch":null,"dedicated_vm":null}`, upgrades: `null`},
		"amounts": {
			quota: `{"cpu":"1","ram":-1,"disk":1e13}`, upgrades: `{"memory":"1000","cores":-2}`,
			want: []string{
				"quota.cpu is not a number: write it without quotes",
				"quota.ram is negative: write 0 or more",
				"quota.disk is too large: write at most 1e12",
				"upgrades.memory is not a number: write it without quotes",
				"upgrades.cores is negative: write 0 or more",
			},
		},
		"flags and words": {
			quota: `{"member":1,"idle_timeout":"week","user":3}`, upgrades: `{"network":2,"privileged":"1"}`,
			want: []string{
				"quota.member is not true or false",
				"quota.idle_timeout is none of short, medium, day, always_running",
				"quota.user is not a string",
				"upgrades.network is neither 0 nor 1",
				"upgrades.privileged is none of 0, 1, true, false",
			},
		},
		"names": {
			quota: `{"rma":1,"cpu":1,"cpu":2}`, upgrades: `{"ram":1}`,
			want: []string{
				"quota.rma is not a field of a license: correct its name, or leave it out",
				"quota.cpu is there twice: leave one out",
				"upgrades.ram is not a field of a license: correct its name, or leave it out",
			},
		},
		"machine": {
			quota: `{"dedicated_vm":{"machine":"cray","size":1}}`,
			want: []string{
				"quota.dedicated_vm.machine is none of n2-highmem-16, n2-highmem-2, n2-highmem-4, n2-highmem-8, " +
					"n2-standard-16, n2-standard-2, n2-standard-4, n2-standard-8, onprem",
				"quota.dedicated_vm.size is not a field of a license: correct its name, or leave it out",
			},
		},
		"machine, disk and gpu of other kinds": {
			quota: `{"dedicated_vm":true,"dedicated_disk":false,"gpu":true}`,
			want: []string{
				`quota.dedicated_vm is not an object: write it as {"machine":"onprem","name":"vm1"}`,
				"quota.dedicated_disk is false, which uses up the license: leave it out",
				`quota.gpu is not an object: write it as {"num":1}`,
			},
		},
		"gpu": {
			quota: `{"gpu":{"num":0.5,"nodeLabel":"gpu","toleration":1}}`,
			want: []string{
				"quota.gpu.num is not whole: devices are not shared",
				"quota.gpu.nodeLabel has a label without a value: write it as key=value,key2=value2",
				"quota.gpu.toleration is not a string",
			},
		},
		"names that Kubernetes does not take": {
			quota: `{"gpu":{"num":1,"resource":"memory","nodeLabel":"a b=c,d=e f,=x","toleration":" gpu,a = b"},"dedicated_vm":{"machine":"onprem","name":"Bad Name!"}}`,
			want: []string{
				"quota.gpu.resource is no resource for devices: write it as domain/name, like nvidia.com/gpu",
				`quota.gpu.nodeLabel has "a b=c", which is no label that a node can have: write it as key=value, without spaces`,
				`quota.gpu.nodeLabel has "d=e f", which is no label that a node can have: write it as key=value, without spaces`,
				`quota.gpu.nodeLabel has "=x", which is no label that a node can have: write it as key=value, without spaces`,
				`quota.gpu.toleration has "a = b", which is no taint that a node can have: write it as key=value, without spaces`,
				"quota.dedicated_vm.name is no label that a node can have: write at most 63 letters, digits and -, _ or . between them",
			},
		},
		"names that it takes": {
			quota: `{"gpu":{"num":1,"resource":"","nodeLabel":"x=,example.org/a=b=c","toleration":"gpu=,a=b=c d"},"dedicated_vm":{"machine":"onprem","name":""}}`,
		},
		"patch": {
			quota: `{"patch":"[{\"op\":\"add\",\"path\":\"/a\"},{\"op\":\"Add\",\"path\":\"/a\"}]"}`,
			want:  []string{"quota.patch does not load: operation 1: op is not one of add, remove, replace, move, copy, test"},
		},
		"no text": {quota: `{"patch":[]}`, want: []string{"quota.patch is not a string: write the JSON list of operations as text"}},
		"empty":   {quota: `{"patch":""}`, want: []string{`quota.patch does not load: not a list: write operations as [{"op":"add","path":"/metadata/labels/name","value":"x"}]`}},
		"size":    {quota: `{"user":"` + strings.Repeat("x", quota.MaxLicense) + `"}`, want: []string{"quota is larger than 1048576 bytes: make it smaller"}},
		"no objects": {
			quota: `[]`, upgrades: `{`,
			want: []string{"quota is neither an object nor null", "upgrades is not JSON: parse JSON: unexpected end of JSON input"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := quota.CheckLicense(raw(test.quota), raw(test.upgrades))
			if want := strings.Join(test.want, "\n"); want == "" {
				if err != nil {
					t.Error(err)
				}
			} else if !errors.Is(err, quota.ErrInvalid) {
				t.Errorf("error %v, want %v", err, quota.ErrInvalid)
			} else if diff := cmp.Diff(want, err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

// For the group of an old-style license a text is a number, for what it gives it is a flag.
func TestGroupOfOldLicense(t *testing.T) {
	t.Parallel()
	for text, first := range map[string]bool{`".5e1"`: true, `"1.9"`: true, `true`: true, `1`: true, `".5"`: false, `0.9`: false, `"true"`: false, `null`: false} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			result, err := quota.Compute(quota.Input{Licenses: []quota.License{
				license("a", `{"always_running":`+text+`,"memory":1}`), license("b", `{"quota":{"ram":5,"member":true}}`),
			}})
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"a": quota.ReasonHosting}
			if first {
				want = map[string]string{"b": quota.ReasonHosting}
			}
			if diff := cmp.Diff(want, result.Reasons); diff != "" {
				t.Errorf("reasons (-want +got):\n%s", diff)
			}
		})
	}
}
