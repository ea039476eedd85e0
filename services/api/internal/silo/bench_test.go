package silo_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"berth/pkg/events"
	"berth/pkg/service/config"
	"berth/services/api/internal/access"
	"berth/services/api/internal/silo"
)

// memory is a backend that knows all pods by heart.
type memory map[string][]events.Record

func (m memory) Pods(_ context.Context, user string) ([]silo.PodInfo, error) {
	now := time.Now()
	pods := []silo.PodInfo{}
	for _, r := range m[user] {
		pods = append(pods, silo.InfoOf(r, "", now))
	}
	return pods, nil
}

func (memory) Owner(context.Context, netip.Addr, func(string) bool) (string, error) { return "", nil }

// What a silo asks most often: the pods of a user, out of memory.
func BenchmarkGetPods(b *testing.B) {
	const user = "alice@example.org"
	for _, n := range []int{0, 1, 10} {
		b.Run(strconv.Itoa(n)+" pods", func(b *testing.B) {
			known := memory{}
			for i := range n {
				known[user] = append(known[user], events.Record{
					Event: events.Ready, Pod: "notebook-alice-" + strconv.Itoa(i), User: user, Generation: "1-7", Container: "main", Image: "debian:12",
					Observed: events.Observed{Phase: "Running", NodeIP: "192.0.2.1", IPs: []string{"10.0.0.1"}, StartTime: time.Now()},
				})
			}
			mux := http.NewServeMux()
			h := &silo.Handler{Guard: access.New(config.Default(), time.Now), Lists: known, Log: zerolog.Nop()}
			h.Register(mux)
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/get_pods", strings.NewReader(`{"user_id": "`+user+`"}`))
				r.RemoteAddr, r.Host = "127.0.0.1:4711", "localhost:8080"
				r.Header.Set("Content-Type", "application/json")
				w := httptest.NewRecorder()
				if mux.ServeHTTP(w, r); w.Code != http.StatusOK {
					b.Fatalf("status %d: %s", w.Code, w.Body)
				}
			}
		})
	}
}
