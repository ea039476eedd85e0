package client_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/client"
)

// TestAdministration: what each method of projects and licenses asks for, and how often.
func TestAdministration(t *testing.T) {
	t.Parallel()
	const pod = `{"name":"project-p","restarting":true,"idle_stop_at":"2026-01-02T03:04:05Z"}`
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := map[string]struct {
		status int
		answer string
		do     func(ctx context.Context, c *client.Client) error
		want   string
	}{
		"start": {201, pod, func(ctx context.Context, c *client.Client) error {
			p, err := c.StartProject(ctx, client.StartProject{ID: "p", Tag: "t", Env: map[string]string{"A": "1"}, Config: json.RawMessage(`{}`), Key: "k", WaitReady: true})
			if !p.Restarting || !p.IdleStopAt.Equal(since) {
				t.Errorf("pod %+v", p)
			}
			return err
		}, `POST /v1/projects/p/start?wait=ready k  {"tag":"t","env":{"A":"1"},"config":{}}`},
		"restart": {
			202, pod, func(ctx context.Context, c *client.Client) error {
				_, err := c.RestartProject(ctx, "p", false)
				return err
			},
			`POST /v1/projects/p/restart KEY  `,
		},
		"stop": {202, pod, func(ctx context.Context, c *client.Client) error {
			p, err := c.StopProject(ctx, "p", true)
			if p == nil {
				t.Error("no pod")
			}
			return err
		}, `POST /v1/projects/p/stop?wait=gone   `},
		"stop what does not run": {204, "", func(ctx context.Context, c *client.Client) error {
			p, err := c.StopProject(ctx, "p", false)
			if p != nil {
				t.Errorf("pod %+v", p)
			}
			return err
		}, `POST /v1/projects/p/stop   `},
		"activity": {204, "", func(ctx context.Context, c *client.Client) error { return c.ProjectActivity(ctx, "p") }, `POST /v1/projects/p/activity   `},
		"save over a revision": {200, `{}`, func(ctx context.Context, c *client.Client) error {
			_, err := c.SaveLicense(ctx, client.SiteLicense{ID: "l"}, client.Save{Revision: "r", DryRun: true})
			return err
		}, `PUT /v1/licenses/l?dry_run=true  "r" {"id":"l","seats_used":0}`},
		"save a new one": {200, `{}`, func(ctx context.Context, c *client.Client) error {
			_, err := c.SaveLicense(ctx, client.SiteLicense{ID: "l"}, client.Save{Revision: "*"})
			return err
		}, `PUT /v1/licenses/l  * {"id":"l","seats_used":0}`},
		"attachments": {200, `{"attachments":[{"user_id":"a"}],"projects":3}`, func(ctx context.Context, c *client.Client) error {
			for a, err := range c.Attachments(ctx, "l") {
				if err != nil || a.User != "a" {
					t.Errorf("%+v, %v", a, err)
				}
			}
			return nil
		}, `GET /v1/licenses/l/attachments?limit=500   `},
		"count attachments": {200, `{"attachments":[{"user_id":"a"}],"projects":3,"users":1}`, func(ctx context.Context, c *client.Client) error {
			projects, users, err := c.CountAttachments(ctx, "l")
			if projects != 3 || users != 1 {
				t.Errorf("%d projects and %d users", projects, users)
			}
			return err
		}, `GET /v1/licenses/l/attachments?limit=1   `},
		"usage": {200, `{"usage":[{"pod_name":"a"}]}`, func(ctx context.Context, c *client.Client) error {
			for u, err := range c.Usage(ctx, "l", since) {
				if err != nil || u.Pod != "a" {
					t.Errorf("%+v, %v", u, err)
				}
			}
			return nil
		}, `GET /v1/licenses/l/usage?limit=500&since=2026-01-02T03%3A04%3A05Z   `},
		"a user with signs": {204, "", func(ctx context.Context, c *client.Client) error { return c.AttachUser(ctx, "l", "a/b@c") }, `PUT /v1/licenses/l/users/a%2Fb@c   `},
		"a user's pod for a silo": {200, `{}`, func(ctx context.Context, c *client.Client) error {
			_, err := c.Preview(ctx, client.Preview{User: "alice", ManifestURL: "u", Silo: "silo1"})
			return err
		}, `POST /v1/preview   {"user_id":"alice","manifest_url":"u","silo":"silo1"}`},
		"no licenses at all": {200, `{}`, func(ctx context.Context, c *client.Client) error {
			_, err := c.Preview(ctx, client.Preview{Project: "p", Licenses: []client.SiteLicense{}})
			return err
		}, `POST /v1/preview   {"project_id":"p","licenses":[]}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				key := r.Header.Get("Idempotency-Key")
				if len(key) > 1 {
					key = "KEY" // Made by the client.
				}
				got = append(got, r.Method+" "+r.RequestURI+" "+key+" "+r.Header.Get("If-Match")+r.Header.Get("If-None-Match")+" "+string(body))
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.answer)
			}))
			defer server.Close()
			c, err := client.New(server.URL, client.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := tt.do(t.Context(), c); err != nil {
				t.Error(err)
			}
			if d := cmp.Diff([]string{tt.want}, got); d != "" {
				t.Errorf("requests (-want +got):\n%s", d)
			}
		})
	}
}
