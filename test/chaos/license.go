package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"berth/test/chaos/verdict"
)

// sample is a license of the site. Projects from..to have it at the beginning.
type sample struct {
	id       string
	label    string // The label that its patch gives each pod, with its edition.
	limit    int    // How many seats it has, 0 for any number.
	always   bool
	from, to int
}

// samples are the licenses of a site with so many projects.
func samples(projects int) []sample {
	all := []sample{
		{limit: max(1, projects*2/5), to: projects}, // Fewer seats than projects.
		{to: (projects + 1) / 2},
		{always: true, from: projects / 3, to: (5*projects + 5) / 6},
		{from: projects / 2, to: projects}, // The one that expires now and then.
	}
	for i := range all {
		all[i].id, all[i].label = fmt.Sprintf("5e000000-0000-4000-8000-%012x", i), fmt.Sprintf("edition-%d", i)
	}
	return all
}

// quota is what the license gives in an edition.
func (s sample) quota(edition int) map[string]any {
	return map[string]any{"cpu": 1, "ram": 1 + edition%2, "always_running": s.always, "patch": s.patch(edition)}
}

// patch is a text, as hubs keep it.
func (s sample) patch(edition int) string {
	text, err := json.Marshal([]map[string]string{{"op": "add", "path": "/metadata/labels/" + s.label, "value": strconv.Itoa(edition)}})
	if err != nil {
		return "" // Texts always marshal.
	}
	return string(text)
}

// office edits, attaches and detaches licenses, through Berth and behind its back.
type office struct {
	site     *site
	record   *recorder
	random   *rand.Rand // Of one goroutine alone.
	licenses []sample
	projects int
	edition  int // Of all licenses together.
}

// live does one thing after another until ctx ends; what has been begun is brought to its end.
func (o *office) live(ctx context.Context) {
	deeds := []deed{
		{verdict.PutLicense, 30},
		{verdict.HubLicense, 25},
		{verdict.AttachLicense, 12},
		{verdict.DetachLicense, 9},
		{verdict.HubAttach, 12},
		{verdict.HubDetach, 9},
	}
	for ctx.Err() == nil {
		o.do(context.WithoutCancel(ctx), choose(o.random, deeds), o.licenses[o.random.IntN(len(o.licenses))], projectID(o.random.IntN(o.projects)))
		pause(ctx, time.Duration(300+o.random.IntN(3000))*time.Millisecond)
	}
}

func (o *office) do(ctx context.Context, endpoint string, l sample, project string) {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	attachment := "/v1/licenses/" + l.id + "/projects/" + project
	switch endpoint {
	case verdict.PutLicense:
		o.edition++
		body := map[string]any{"title": "Edition", "activates": "2020-01-01T00:00:00Z", "quota": l.quota(o.edition), "run_limit": l.limit}
		if l.id == o.licenses[len(o.licenses)-1].id && o.random.IntN(2) == 0 {
			body["expires"] = time.Now().Add(time.Duration(1+o.random.IntN(4)) * time.Second).UTC().Format(time.RFC3339Nano)
		}
		o.ask(ctx, endpoint, l, http.MethodPut, "/v1/licenses/"+l.id, body)
	case verdict.AttachLicense:
		o.ask(ctx, endpoint, l, http.MethodPut, attachment, nil)
	case verdict.DetachLicense:
		o.ask(ctx, endpoint, l, http.MethodDelete, attachment, nil)
	case verdict.HubLicense:
		o.edition++
		o.write(ctx, endpoint, l, `UPDATE site_licenses SET quota = $2 WHERE id = $1`, l.id, l.quota(o.edition))
	case verdict.HubAttach:
		o.write(ctx, endpoint, l, `UPDATE projects SET site_license = coalesce(site_license, '{}') || jsonb_build_object($2::text, '{}'::jsonb)
			WHERE project_id = $1 AND NOT coalesce(site_license, '{}') ? $2`, project, l.id)
	case verdict.HubDetach:
		o.write(ctx, endpoint, l, `UPDATE projects SET site_license = site_license - $2::text WHERE project_id = $1`, project, l.id)
	}
}

// ask asks replicas until one has done it, or refuses.
func (o *office) ask(ctx context.Context, endpoint string, l sample, method, path string, body any) {
	for ctx.Err() == nil {
		replicas := o.site.of("api")
		r := replicas[o.random.IntN(len(replicas))]
		x := verdict.Exchange{Endpoint: endpoint, Replica: r.spec.Name, License: l.id}
		x = o.record.call(ctx, call{method: method, url: r.url + path, body: body, admin: true}, x, 0)
		if x.Status >= http.StatusOK && x.Status < http.StatusInternalServerError || x.Left {
			return
		}
		pause(ctx, time.Duration(100+o.random.IntN(400))*time.Millisecond)
	}
}

// write does it as a hub does.
func (o *office) write(ctx context.Context, endpoint string, l sample, statement string, values ...any) {
	x := verdict.Exchange{Endpoint: endpoint, Replica: postgres, License: l.id, Begun: time.Now()}
	err := o.site.write(ctx, statement, values...)
	x.Ended, x.Left = time.Now(), err != nil
	if err == nil {
		x.Status = http.StatusOK
	}
	o.record.note(x)
}
