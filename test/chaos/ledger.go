package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth/pkg/events"
	"berth/pkg/kube"
	"berth/test/chaos/verdict"
)

// ledger reads the database behind Berth's back. It is safe for concurrent use.
type ledger struct {
	db *pgxpool.Pool

	mu      sync.Mutex
	holders []verdict.Holders
	looks   int
	last    map[string]int
}

// watch notes how many seats are taken whenever that has changed, until ctx ends.
func (l *ledger) watch(ctx context.Context) {
	for ctx.Err() == nil {
		asking, cancel := context.WithTimeout(ctx, askTimeout)
		l.look(asking)
		cancel()
		pause(ctx, faultPause)
	}
}

// count is how often it has looked.
func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.looks
}

// look reads all in one statement, which sees one moment of the database.
func (l *ledger) look(ctx context.Context) {
	rows, err := l.db.Query(ctx, `SELECT l.id::text, l.run_limit, count(s.pod) FROM site_licenses l LEFT JOIN berth.seats s
		ON s.license_id = l.id AND (s.kept_until IS NULL OR s.kept_until > now()) WHERE l.run_limit > 0 GROUP BY l.id`)
	if err != nil {
		return // The database is away.
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looks++
	h := verdict.Holders{At: now}
	_, _ = pgx.ForEachRow(rows, []any{&h.License, &h.Limit, &h.Taken}, func() error { // As above.
		if was, known := l.last[h.License]; !known || was != h.Taken {
			l.holders = append(l.holders, h)
			l.last[h.License] = h.Taken
		}
		return nil
	})
}

// errMoves is returned where something has changed while the books were read.
var errMoves = errors.New("something still moves")

// books reads what is said of projects, of one moment: nothing may change in the log meanwhile, nor be left to be done.
func (r *run) books(ctx context.Context) (verdict.Books, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*askTimeout)
	defer cancel()
	before, err := r.observer.position(ctx)
	if err != nil {
		return verdict.Books{}, err
	}
	b := verdict.Books{At: time.Now(), Sequence: before}
	if err := r.ledger.read(ctx, &b); err != nil {
		return b, fmt.Errorf("read the database: %w", err)
	}
	pods, err := r.site.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "run=project"})
	if err != nil {
		return b, fmt.Errorf("list pods: %w", err)
	}
	for _, p := range pods.Items {
		b.Pods = append(b.Pods, verdict.ProjectPod{
			Pod: p.Name, UID: string(p.UID), Project: p.Labels["project_id"], Generation: p.Annotations[kube.AnnotationGeneration], Labels: p.Labels,
		})
	}
	commands, err := r.observer.stored(ctx, events.CommandStream)
	if err != nil {
		return b, err
	}
	for _, c := range commands {
		subject, _, _ := strings.Cut(c, " ")
		if !strings.Contains(subject, ".timer.") || strings.HasSuffix(subject, "."+string(events.TimerRecompute)) {
			return b, fmt.Errorf("%w: %s", errMoves, subject)
		}
	}
	after, err := r.observer.position(ctx)
	if err == nil && (after != before || r.observer.read() < before) {
		err = errMoves
	}
	return b, err
}

// read reads what the database says at one moment.
func (l *ledger) read(ctx context.Context, b *verdict.Books) error {
	tx, err := l.db.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // Nothing was written.
	if b.Seats, err = collect(ctx, tx, `SELECT license_id::text, pod, generation, kept_until IS NOT NULL FROM berth.seats
		WHERE kept_until IS NULL OR kept_until > now()`, seat); err != nil {
		return err
	}
	if b.Uses, err = collect(ctx, tx, `SELECT license_id::text, pod, generation, false FROM berth.usage_log WHERE stop IS NULL`, seat); err != nil {
		return err
	}
	if b.Projects, err = collect(ctx, tx, `SELECT p.project_id::text, coalesce(p.state ->> 'state', ''), coalesce(p.state ->> 'error', b.error, ''),
			coalesce(p.action_request::text, ''), coalesce(p.site_license, '{}'), coalesce(p.run_quota -> 'always_running' = 'true', false), b.retry_at
		FROM projects p LEFT JOIN berth.projects b USING (project_id) ORDER BY 1`, projectRow); err != nil {
		return err
	}
	b.Licenses, err = collect(ctx, tx, `SELECT id::text, activates <= now() AND (expires IS NULL OR expires > now()), coalesce(run_limit, 0),
			quota ->> 'patch' FROM site_licenses ORDER BY 1`, licenseRow)
	return err
}

func collect[T any](ctx context.Context, tx pgx.Tx, query string, read pgx.RowToFunc[T]) ([]T, error) {
	rows, err := tx.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, read)
}

func seat(row pgx.CollectableRow) (s verdict.Seat, err error) {
	err = row.Scan(&s.License, &s.Pod, &s.Generation, &s.Kept)
	return s, err
}

func projectRow(row pgx.CollectableRow) (p verdict.ProjectRow, err error) {
	var licenses map[string]struct {
		Status string `json:"status"`
	}
	var retry *time.Time
	if err := row.Scan(&p.ID, &p.State, &p.Error, &p.Request, &licenses, &p.AlwaysRunning, &retry); err != nil {
		return p, err
	}
	p.Licenses = map[string]string{}
	for id, l := range licenses {
		p.Licenses[id] = l.Status
	}
	if retry != nil {
		p.RetryAt = *retry
	}
	return p, nil
}

func licenseRow(row pgx.CollectableRow) (l verdict.LicenseRow, err error) {
	var patch string
	if err := row.Scan(&l.ID, &l.Valid, &l.Limit, &patch); err != nil {
		return l, err
	}
	var operations []struct {
		Path  string `json:"path"`
		Value string `json:"value"`
	}
	if err := json.Unmarshal([]byte(patch), &operations); err != nil || len(operations) != 1 {
		return l, fmt.Errorf("license %s has another patch than that of this test: %s", l.ID, patch)
	}
	l.Edition, l.Label = operations[0].Value, strings.TrimPrefix(operations[0].Path, "/metadata/labels/")
	return l, nil
}
