package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/cmd/devstack/stack"
	"berth/pkg/events"
)

// licensed is what licenses cost: project pods that share a license, with seats to count,
// beside pods of a manifest, both through Berth.
type licensed struct {
	Projects    int `json:"projects"`
	Concurrency int `json:"concurrency"`
	Rounds      int `json:"rounds"`
	// Plain and Licensed have the medians of the rounds.
	Plain    round `json:"plain"`
	Licensed round `json:"licensed"`
	// Ratio is the project pods a second by the plain pods', of the medians; RatioLow and RatioHigh
	// are of the rounds that came one after the other.
	Ratio     float64 `json:"ratio"`
	RatioLow  float64 `json:"ratio_low"`
	RatioHigh float64 `json:"ratio_high"`
	// Stage is the license stage's own time for a project, and Transaction that of the database's
	// part of it, in milliseconds, interpolated between the bounds of a histogram.
	Stage       quantiles `json:"license_stage_ms"`
	Transaction quantiles `json:"license_transaction_ms"`
}

// The license that the projects share. Its seats are counted at each start, and enough.
const (
	sharedLicense = "5e000000-0000-4000-8000-000000000001"
	sharedQuota   = `{"title": "Shared", "activates": "2020-01-01T00:00:00Z", "run_limit": 100000,
		"quota": {"cpu": 1, "ram": 2, "patch": "[{\"op\":\"add\",\"path\":\"/metadata/labels/course\",\"value\":\"perf\"}]"}}`
)

// measureProjects lets users, many at once, have a pod of a manifest each, and in turn with
// that a project's.
func measureProjects(ctx context.Context, l lab, r *report) error {
	return l.withSite(ctx, func(ctx context.Context, s *site) error {
		plain := newBerth(s.URL, s.ManifestsURL+"/notebook.yaml", s.clients, s.namespace, l.plan.Concurrency)
		defer plain.close()
		token, err := os.ReadFile(filepath.Join(s.dir, stack.AdminTokenFile))
		if err != nil {
			return fmt.Errorf("read the administrator's token: %w", err)
		}
		own := *plain
		own.admin = string(token)
		h := &hub{berth: &own}
		if err := h.prepare(ctx, l.plan.Users); err != nil {
			return err
		}
		b := bench{
			plan: l.plan, meter: newMeter(s.clients), progress: l.progress, floor: plain, berth: h,
			overspent: func(map[string]int, int) []string { return nil },
		}
		if err := b.warmUp(ctx); err != nil {
			return fmt.Errorf("warm up: %w", err)
		}
		before, err := s.licenserTimes(ctx, plain)
		if err != nil {
			return err
		}
		got := &licensed{Projects: l.plan.Users, Concurrency: l.plan.Concurrency, Rounds: l.plan.Rounds}
		both := load{}
		for n := 1; n <= l.plan.Rounds; n++ {
			for _, kind := range []string{kindFloor, kindBerth} {
				one, wrong, err := b.round(ctx, n, kind)
				if err != nil {
					return fmt.Errorf("%s round %d: %w", kind, n, err)
				}
				l.say("round %d/%d %s: %.1f pods/s, %d failures", n, l.plan.Rounds, licensedKind(kind), one.PodsPerSecond, len(wrong))
				both.Rounds, r.Failures = append(both.Rounds, one), append(r.Failures, wrong...)
			}
		}
		both.conclude()
		got.Plain, got.Licensed = both.Floor, both.Berth
		got.Ratio, got.RatioLow, got.RatioHigh = both.Ratio, both.RatioLow, both.RatioHigh
		after, err := s.licenserTimes(ctx, plain)
		if err != nil {
			return err
		}
		// Half of the stage's deliveries are of pods without licenses, which take next to
		// nothing; the upper half are the projects'.
		got.Stage = after.stage.since(before.stage).upperHalf()
		got.Transaction = after.transaction.since(before.transaction).all()
		r.Projects = got
		return nil
	})
}

func licensedKind(kind string) string {
	if kind == kindBerth {
		return "projects"
	}
	return "plain"
}

// hub starts and stops projects.
type hub struct{ *berth }

// prepare makes the license and attaches it to each project, which makes those.
func (h *hub) prepare(ctx context.Context, users int) error {
	if err := h.ask(ctx, http.MethodPut, "/v1/licenses/"+sharedLicense, sharedQuota, nil); err != nil {
		return fmt.Errorf("make the license: %w", err)
	}
	for n := range users + 1 {
		if err := h.ask(ctx, http.MethodPut, "/v1/licenses/"+sharedLicense+"/projects/"+projectOf(userID(n)), "", nil); err != nil {
			return fmt.Errorf("attach the license: %w", err)
		}
	}
	return nil
}

// projectOf is the project of a user.
func projectOf(user string) string {
	number, _, _ := strings.Cut(strings.TrimPrefix(user, "u"), "@")
	return fmt.Sprintf("7f000000-0000-4000-8000-%012s", number)
}

// life is a project's: start, stop.
func (h *hub) life(ctx context.Context, user string, t *times) error {
	id := projectOf(user)
	begun := time.Now()
	var started struct {
		Licenses []struct {
			Status string `json:"status"`
		} `json:"licenses"`
	}
	if err := h.ask(ctx, http.MethodPost, "/v1/projects/"+id+"/start?wait=ready", "", &started); err != nil {
		return err
	}
	t.ready.add(begun)
	if l := started.Licenses; len(l) != 1 || l[0].Status != "active" {
		return fmt.Errorf("project %s has the licenses %v", id, l)
	}
	begun = time.Now()
	if err := h.ask(ctx, http.MethodPost, "/v1/projects/"+id+"/stop?wait=gone", "", nil); err != nil {
		return err
	}
	t.gone.add(begun)
	return absent(ctx, h.clients, h.namespace, events.ProjectPod(id))
}

// ask sends a request to /v1.
func (h *hub) ask(ctx context.Context, method, path, body string, out any) error {
	answer, err := h.do(ctx, method, path, []byte(body))
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// licenserTimes are what the licensers say of their times.
type licenserTimes struct{ stage, transaction histogram }

func (s *site) licenserTimes(ctx context.Context, b *berth) (all licenserTimes, err error) {
	for _, address := range s.Services["licenser"] {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", http.NoBody)
		if err != nil {
			return all, fmt.Errorf("ask a licenser: %w", err)
		}
		response, err := b.http.Do(request)
		if err != nil {
			return all, fmt.Errorf("ask a licenser: %w", err)
		}
		var text bytes.Buffer
		_, err = text.ReadFrom(response.Body)
		if err = errors.Join(err, response.Body.Close()); err != nil {
			return all, fmt.Errorf("ask a licenser: %w", err)
		}
		all.stage = all.stage.plus(parseHistogram(text.String(), "berth_command_duration_seconds", `stage="license"`))
		all.transaction = all.transaction.plus(parseHistogram(text.String(), "berth_license_transaction_seconds", ""))
	}
	return all, nil
}

// histogram has the counts of a Prometheus histogram up to each bound, in seconds.
type histogram map[float64]float64

// parseHistogram adds up the buckets of a metric whose labels have a text.
func parseHistogram(metrics, name, labels string) histogram {
	bucket := regexp.MustCompile(`^` + name + `_bucket\{(.*)le="([^"]+)"\} (\S+)$`)
	h := histogram{}
	for line := range strings.Lines(metrics) {
		match := bucket.FindStringSubmatch(strings.TrimSpace(line))
		if match == nil || !strings.Contains(match[1], labels) {
			continue
		}
		bound, err := strconv.ParseFloat(match[2], 64)
		count, err2 := strconv.ParseFloat(match[3], 64)
		if err == nil && err2 == nil {
			h[bound] += count
		}
	}
	return h
}

func (h histogram) plus(other histogram) histogram {
	sum := histogram{}
	for _, each := range []histogram{h, other} {
		for bound, count := range each {
			sum[bound] += count
		}
	}
	return sum
}

func (h histogram) since(before histogram) histogram {
	diff := histogram{}
	for bound, count := range h {
		diff[bound] = count - before[bound]
	}
	return diff
}

func (h histogram) all() quantiles { return quantiles{h.quantile(0.5), h.quantile(0.99)} }

// upperHalf are the quantiles of the longer half of what was measured.
func (h histogram) upperHalf() quantiles { return quantiles{h.quantile(0.75), h.quantile(0.995)} }

// quantile is in milliseconds; between two bounds all lengths are held to be as frequent.
func (h histogram) quantile(q float64) float64 {
	total := h[math.Inf(1)]
	if total == 0 {
		return 0
	}
	var bounds []float64
	for bound := range h {
		bounds = append(bounds, bound)
	}
	slices.Sort(bounds)
	low, below := 0.0, 0.0
	for _, bound := range bounds {
		count := h[bound]
		switch {
		case count < q*total:
			low, below = bound, count
		case math.IsInf(bound, 1) || count == below:
			return 1000 * low
		default:
			return 1000 * (low + (bound-low)*(q*total-below)/(count-below))
		}
	}
	return 1000 * low
}

func (p *licensed) table(s *sheet) {
	if p == nil {
		return
	}
	s.say("\nprojects: %d projects that share a license, %d at once; rounds each: %d, in turn; medians\n", p.Projects, p.Concurrency, p.Rounds)
	s.row("", "plain pods", "project pods")
	s.row("pods/s", rounded(p.Plain.PodsPerSecond), rounded(p.Licensed.PodsPerSecond))
	s.row("create to ready, ms", p.Plain.Ready, p.Licensed.Ready)
	s.row("delete to gone, ms", p.Plain.Gone, p.Licensed.Gone)
	s.say("\nprojects/plain %.2f (%.2f-%.2f)", p.Ratio, p.RatioLow, p.RatioHigh)
	s.say("the license stage's own time for a project: about %s ms, of which in the database: %s ms", p.Stage, p.Transaction)
}
