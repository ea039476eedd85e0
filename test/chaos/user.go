package chaos

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"berth/test/chaos/verdict"
)

// user is somebody who makes, watches and deletes pods at random, through
// whatever replica answers.
type user struct {
	name   string
	site   *site
	record *recorder
	random *rand.Rand // Of this user's one goroutine alone.
	// others tells whose pods there are, by name.
	others func() map[string]string
}

// userName gives every two users ids that make the same pod names.
func userName(i int) string {
	separator := "."
	if i%2 == 1 {
		separator = "-"
	}
	return fmt.Sprintf("kim%s%d@chaos.org", separator, i/2)
}

// live leads one life after the other until ctx ends.
func (u *user) live(ctx context.Context) {
	for ctx.Err() == nil {
		u.life(ctx)
		pause(ctx, time.Duration(u.random.IntN(300))*time.Millisecond)
	}
}

// chance is true in so many of a hundred cases.
func (u *user) chance(percent int) bool { return u.random.IntN(100) < percent }

// life is a pod from its create to its end, or a part of that.
func (u *user) life(ctx context.Context) {
	if u.chance(15) {
		u.nose(ctx)
	}
	if u.chance(20) {
		u.tidy(ctx)
	}
	pod := u.create(ctx)
	if pod == "" {
		return
	}
	if u.chance(30) {
		u.list(ctx)
	}
	if !u.chance(10) {
		u.watch(ctx, verdict.WatchCreate, pod)
	}
	if u.chance(10) {
		u.once(ctx, verdict.WatchDelete, pod, 0)
	}
	if u.chance(30) {
		pause(ctx, time.Duration(u.random.IntN(2000))*time.Millisecond)
	}
	if !u.chance(12) {
		u.remove(ctx, pod)
	}
}

// create asks for a pod until somebody says yes or no, and returns its name.
func (u *user) create(ctx context.Context) string {
	manifest := pick(u.random)
	url := u.site.manifests + "/" + manifest + ".yaml"
	if manifest == "forbidden" {
		url = "http://example.org/notebook.yaml"
	}
	for range 5 {
		x := verdict.Exchange{
			Endpoint: verdict.Create, User: u.name, Manifest: manifest,
			Trace: fmt.Sprintf("%016x%016x", u.random.Uint64(), u.random.Uint64()|1),
		}
		var patience time.Duration
		if u.chance(4) {
			patience = time.Duration(1+u.random.IntN(300)) * time.Millisecond
		}
		x = u.ask(ctx, x, map[string]any{"user_id": u.name, "yaml_url": url}, patience)
		switch {
		case x.Status == http.StatusOK:
			return x.Pod
		case ctx.Err() != nil, x.Status >= http.StatusBadRequest && x.Status < http.StatusInternalServerError, x.Status == http.StatusBadGateway:
			return ""
		case x.Status != http.StatusServiceUnavailable && u.chance(50):
			// Nobody knows whether there is a pod; one that is there will do.
			if pods := u.list(ctx).Pods; len(pods) > 0 {
				return pods[u.random.IntN(len(pods))].Pod
			}
		}
		u.rest(ctx)
	}
	return ""
}

func (u *user) rest(ctx context.Context) {
	pause(ctx, time.Duration(100+u.random.IntN(400))*time.Millisecond)
}

// ask sends a request to a replica.
func (u *user) ask(ctx context.Context, x verdict.Exchange, body map[string]any, patience time.Duration) verdict.Exchange {
	replicas := u.site.of("api")
	r := replicas[u.random.IntN(len(replicas))]
	x.Replica, x.User = r.spec.Name, u.name
	return u.record.ask(ctx, r.url, x, body, patience)
}

// once asks about a pod one time.
func (u *user) once(ctx context.Context, endpoint, pod string, patience time.Duration) verdict.Exchange {
	return u.ask(ctx, verdict.Exchange{Endpoint: endpoint, Pod: pod}, map[string]any{"user_id": u.name, "pod_name": pod}, patience)
}

func (u *user) list(ctx context.Context) verdict.Exchange {
	return u.ask(ctx, verdict.Exchange{Endpoint: verdict.GetPods}, map[string]any{"user_id": u.name}, 0)
}

// stubborn is how often a question is asked that must finally be answered.
const stubborn = 600

// until asks about a pod until there is an answer.
func (u *user) until(ctx context.Context, endpoint, pod string) verdict.Exchange {
	var x verdict.Exchange
	for range stubborn {
		x = u.once(ctx, endpoint, pod, 0)
		if ctx.Err() != nil || x.Status == http.StatusOK || x.Status == http.StatusNotFound || x.Left {
			return x
		}
		u.rest(ctx)
	}
	x.Left = true
	u.record.note(x)
	return x
}

// watch waits for a pod, perhaps after having gone away from it, perhaps twice at once.
func (u *user) watch(ctx context.Context, endpoint, pod string) verdict.Exchange {
	if u.chance(20) {
		u.once(ctx, endpoint, pod, time.Duration(20+u.random.IntN(1500))*time.Millisecond)
	}
	if !u.chance(15) {
		return u.until(ctx, endpoint, pod)
	}
	var second sync.WaitGroup
	twin := *u
	twin.random = rand.New(rand.NewPCG(u.random.Uint64(), 0))
	second.Go(func() { twin.until(ctx, endpoint, pod) })
	x := u.until(ctx, endpoint, pod)
	second.Wait()
	return x
}

// remove deletes a pod and waits until it is gone.
func (u *user) remove(ctx context.Context, pod string) {
	if u.chance(10) {
		u.once(ctx, verdict.Delete, pod, time.Duration(1+u.random.IntN(200))*time.Millisecond)
	}
	u.until(ctx, verdict.Delete, pod)
	if u.chance(15) {
		u.until(ctx, verdict.Delete, pod)
	}
	if u.chance(10) {
		return
	}
	for range 10 {
		if x := u.watch(ctx, verdict.WatchDelete, pod); x.Yes || ctx.Err() != nil || x.Left {
			return
		}
	}
}

// tidy deletes one of the user's pods.
func (u *user) tidy(ctx context.Context) {
	if pods := u.list(ctx).Pods; len(pods) > 0 {
		u.remove(ctx, pods[u.random.IntN(len(pods))].Pod)
	}
}

// nose asks about somebody else's pod.
func (u *user) nose(ctx context.Context) {
	others := u.others()
	maps.DeleteFunc(others, func(_, owner string) bool { return owner == u.name })
	if len(others) == 0 {
		return
	}
	names := slices.Sorted(maps.Keys(others))
	endpoints := []string{verdict.WatchCreate, verdict.Delete, verdict.WatchDelete}
	u.once(ctx, endpoints[u.random.IntN(len(endpoints))], names[u.random.IntN(len(names))], 0)
}
