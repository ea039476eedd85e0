package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"berth/cmd/devstack/stack/project"
	"berth/pkg/events"
	"berth/pkg/service/config"
	"berth/test/chaos/verdict"
)

// projectID is the id of a project by its number.
func projectID(i int) string { return fmt.Sprintf("7f000000-0000-4000-8000-%012x", i) }

// provideProjects makes what a site has for projects before Berth comes: the template, the claims, and a hub's rows.
func (s *site) provideProjects(ctx context.Context, p Plan) error {
	site := config.Default().Projects
	if err := project.Provide(ctx, s.kube, namespace, site, nil); err != nil {
		return err
	}
	if err := project.ProvideClaims(ctx, s.kube, namespace, site); err != nil {
		return err
	}
	var batch pgx.Batch
	for _, l := range samples(p.Projects) {
		batch.Queue(`INSERT INTO site_licenses (id, title, activates, quota, run_limit) VALUES ($1, $2, '2020-01-01', $3, nullif($4, 0))`,
			l.id, l.id, l.quota(0), l.limit)
	}
	for i := range p.Projects {
		attached := map[string]struct{}{}
		for _, l := range samples(p.Projects) {
			if l.from <= i && i < l.to {
				attached[l.id] = struct{}{}
			}
		}
		batch.Queue(`INSERT INTO projects (project_id, users, site_license) VALUES ($1, '{}', $2)`, projectID(i), attached)
	}
	if err := s.database.pool.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("fill the database: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return eventually(ctx, "the claims of the projects are bound", func(ctx context.Context) error {
		for _, name := range project.Claims(site) {
			claim, err := s.kube.CoreV1().PersistentVolumeClaims(namespace).Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if claim.Status.Phase != corev1.ClaimBound {
				return fmt.Errorf("%s is %s", name, claim.Status.Phase)
			}
		}
		return nil
	})
}

// owner wishes for what becomes of one project. A wish comes after the one before has been answered, so that the
// last one is known.
type owner struct {
	project string
	site    *site
	record  *recorder
	random  *rand.Rand // Of this owner's one goroutine alone.
}

// deeds are what an owner does, and how often.
func deeds() []deed {
	return []deed{
		{verdict.StartProject, 34},
		{verdict.StopProject, 14},
		{verdict.RestartProject, 12},
		{verdict.UseProject, 10},
		{verdict.HubStart, 8},
		{verdict.HubStop, 6},
		{verdict.HubRestart, 6},
		{verdict.KillProject, 5},
	}
}

type deed struct {
	endpoint string
	weight   int
}

// choose takes a deed at random, by weight.
func choose(random *rand.Rand, deeds []deed) string {
	total := 0
	for _, d := range deeds {
		total += d.weight
	}
	n := random.IntN(total)
	for _, d := range deeds {
		if n -= d.weight; n < 0 {
			return d.endpoint
		}
	}
	return deeds[0].endpoint
}

// live does one thing after another until ctx ends; what has been begun is brought to its end.
func (o *owner) live(ctx context.Context) {
	for ctx.Err() == nil {
		switch endpoint := choose(o.random, deeds()); endpoint {
		case verdict.HubStart, verdict.HubStop, verdict.HubRestart:
			o.write(context.WithoutCancel(ctx), endpoint)
		case verdict.KillProject:
			if o.fail(ctx); o.random.IntN(2) == 0 {
				pause(ctx, revival) // It may come back by itself.
			}
		case verdict.UseProject:
			o.ask(ctx, endpoint, "", false, 0)
		default:
			o.wish(context.WithoutCancel(ctx), endpoint)
		}
		pause(ctx, time.Duration(100+o.random.IntN(2500))*time.Millisecond)
	}
}

// revival is after what a project comes back for the first time that is to run always, or a little more.
const revival = 14 * time.Second

// exchange is the beginning of one about the project.
func (o *owner) exchange(endpoint string) verdict.Exchange {
	return verdict.Exchange{Endpoint: endpoint, User: events.ProjectUser(o.project), Pod: events.ProjectPod(o.project)}
}

// ask asks a replica for something about the project.
func (o *owner) ask(ctx context.Context, endpoint, key string, ready bool, patience time.Duration) verdict.Exchange {
	replicas := o.site.of("api")
	r := replicas[o.random.IntN(len(replicas))]
	x := o.exchange(endpoint)
	x.Replica, x.Ready = r.spec.Name, ready
	verb, _, _ := strings.Cut(endpoint, " ")
	c := call{method: http.MethodPost, url: r.url + "/v1/projects/" + o.project + "/" + verb, key: key, admin: true}
	if ready {
		c.url += "?wait=ready"
	}
	return o.record.call(ctx, c, x, patience)
}

// wish asks until there is an answer. What is repeated has the same key, so that an answer that was lost is told again;
// what was refused because the project was changing is another wish.
func (o *owner) wish(ctx context.Context, endpoint string) {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	ready := endpoint != verdict.StopProject && o.random.IntN(100) < 25
	var x verdict.Exchange
	for refused := 0; refused < 10 && ctx.Err() == nil; {
		key := ""
		if endpoint != verdict.StopProject {
			key = fmt.Sprintf("%016x", o.random.Uint64())
		}
		for ctx.Err() == nil {
			patience := time.Duration(0)
			if o.random.IntN(100) < 8 {
				patience = time.Duration(1+o.random.IntN(300)) * time.Millisecond
			}
			x = o.ask(ctx, endpoint, key, ready, patience)
			if x.Status >= http.StatusOK && x.Status < http.StatusBadRequest || x.Left {
				return
			}
			pause(ctx, time.Duration(100+o.random.IntN(400))*time.Millisecond)
			if x.Status >= http.StatusBadRequest && x.Code != string(events.Unavailable) && x.Code != string(events.Expired) {
				break // Of what is unavailable or has expired something may come of another attempt.
			}
		}
		refused, ready = refused+1, false
	}
	if ctx.Err() != nil {
		x.Left = true
		o.record.note(x)
	}
}

// hubLimit is how long a request in a project's row may stay there, whatever is broken.
const hubLimit = 90 * time.Second

// write asks as a hub does that only writes its database, and waits until the request is taken.
func (o *owner) write(ctx context.Context, endpoint string) {
	ctx, cancel := context.WithTimeout(ctx, hubLimit)
	defer cancel()
	x := o.exchange(endpoint)
	x.Replica, x.Begun = postgres, time.Now()
	action := map[string]string{verdict.HubStart: "start", verdict.HubStop: "stop", verdict.HubRestart: "restart"}[endpoint]
	err := o.site.write(ctx, `UPDATE projects SET action_request = $2 WHERE project_id = $1`, o.project, map[string]string{"action": action})
	for taken := false; err == nil && !taken; {
		pause(ctx, 100*time.Millisecond)
		if ctx.Err() != nil {
			err = context.Cause(ctx)
			break
		}
		asking, stop := context.WithTimeout(ctx, askTimeout)
		if o.site.database.pool.QueryRow(asking, `SELECT action_request IS NULL FROM projects WHERE project_id = $1`, o.project).Scan(&taken) != nil {
			taken = false // The database is away.
		}
		stop()
	}
	x.Ended, x.Left = time.Now(), err != nil
	if err == nil {
		x.Status = http.StatusOK
	}
	o.record.note(x)
}

// write changes the database, and tries again while that is away. The change has to be one that can be repeated.
func (s *site) write(ctx context.Context, statement string, values ...any) error {
	return eventually(ctx, "the database is changed", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		_, err := s.database.pool.Exec(ctx, statement, values...)
		return err
	})
}

// fail lets the project's pod die, if it has one.
func (o *owner) fail(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	x := o.exchange(verdict.KillProject)
	x.Replica, x.Begun = apiServer, time.Now()
	patch, err := json.Marshal(corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "The node was low on resource: memory."}})
	if err == nil {
		_, err = o.site.kube.CoreV1().Pods(namespace).Patch(ctx, events.ProjectPod(o.project), types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	}
	x.Ended = time.Now()
	if x.Abandoned = err != nil; err == nil {
		x.Status = http.StatusOK
	}
	o.record.note(x)
}
