package cluster_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"berth/pkg/kube"
	"berth/services/creator/internal/cluster"
)

// tried is what an API server was asked.
type tried struct {
	path, query, contentType string
	pod                      map[string]any
}

// trialServer is an API server that says the same to every pod.
func trialServer(t *testing.T, status int, answer string, warnings ...string) (*cluster.Cluster, *tried) {
	t.Helper()
	asked := &tried{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.path, asked.query, asked.contentType = r.Method+" "+r.URL.Path, r.URL.RawQuery, r.Header.Get("Content-Type")
		body, err := io.ReadAll(r.Body)
		if err == nil && len(body) > 0 {
			err = json.Unmarshal(body, &asked.pod)
		}
		if err != nil {
			t.Error(err)
		}
		for _, text := range warnings {
			w.Header().Add("Warning", `299 - "`+text+`"`)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return cluster.New(client, namespace), asked
}

func refusal(code int, reason, message string) string {
	text, err := json.Marshal(map[string]any{
		"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
	})
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	const pod = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"project-1","namespace":"elsewhere","labels":{"a":"b"}},"spec":{"surprise":1}}`
	c, asked := trialServer(t, http.StatusCreated, `{"kind":"Pod","apiVersion":"v1"}`, `unknown field spec.surprise`)
	warnings, err := c.DryRun(t.Context(), json.RawMessage(pod))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"unknown field spec.surprise"}, warnings); d != "" {
		t.Errorf("warnings (-want +got):\n%s", d)
	}
	want := map[string]any{
		"apiVersion": "v1", "kind": "Pod", "spec": map[string]any{"surprise": 1.0},
		"metadata": map[string]any{"generateName": "project-1-trial-", "namespace": namespace, "labels": map[string]any{"a": "b"}},
	}
	if d := cmp.Diff(want, asked.pod); d != "" {
		t.Errorf("asked (-want +got):\n%s", d)
	}
	if asked.path != "POST /api/v1/namespaces/"+namespace+"/pods" || !strings.Contains(asked.query, "dryRun=All") || asked.contentType != "application/json" {
		t.Errorf("asked %s?%s as %s", asked.path, asked.query, asked.contentType)
	}
}

func TestDryRunRefused(t *testing.T) {
	t.Parallel()
	const pod = `{"metadata":{"name":"p"}}`
	tests := map[string]struct {
		status   int
		answer   string
		pod      string
		rejected string // The reason; empty for an error that may pass.
		says     string
	}{
		"invalid":        {http.StatusUnprocessableEntity, refusal(422, "Invalid", "spec.containers: Required value"), pod, kube.ReasonPodRejected, "Required value"},
		"a quota":        {http.StatusForbidden, refusal(403, "Forbidden", "exceeded quota: cpu"), pod, kube.ReasonQuotaExceeded, "exceeded quota"},
		"away":           {http.StatusServiceUnavailable, refusal(503, "ServiceUnavailable", "etcd is away"), pod, "", "etcd is away"},
		"no object":      {0, "", `[]`, kube.ReasonPodRejected, "no JSON object"},
		"null":           {0, "", `null`, kube.ReasonPodRejected, "null"},
		"no JSON":        {0, "", ``, kube.ReasonPodRejected, "no JSON object"},
		"no metadata":    {0, "", `{"metadata":"x"}`, kube.ReasonPodRejected, "metadata is no JSON object"},
		"null metadata":  {0, "", `{"metadata":null}`, kube.ReasonPodRejected, "null"},
		"no name at all": {0, "", `{"metadata":{"name":1}}`, kube.ReasonPodRejected, "metadata.name"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := trialServer(t, tt.status, tt.answer)
			_, err := c.DryRun(t.Context(), json.RawMessage(tt.pod))
			rejected := (*cluster.RejectedError)(nil)
			if errors.As(err, &rejected) != (tt.rejected != "") || err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("%v; want %s that says %q", err, tt.rejected, tt.says)
			}
			if rejected != nil && rejected.Reason != tt.rejected {
				t.Errorf("reason %s, want %s", rejected.Reason, tt.rejected)
			}
		})
	}
}

// TestDryRunTells: a refusal names the pod, not its trial, and says whether the pod itself is at fault.
func TestDryRunTells(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		code    int
		message string
		want    error // Nil where the pod is taken, with a warning.
	}{
		"invalid": {
			http.StatusUnprocessableEntity, `Pod "project-1-trial-x7k2p" is invalid: spec.containers: Required value`,
			&cluster.RejectedError{Reason: kube.ReasonPodRejected, Message: `Pod "project-1" is invalid: spec.containers: Required value`, Invalid: true},
		},
		"forbidden": {
			http.StatusForbidden, `pods "project-1-trial-" is forbidden: serviceaccount "x" not found`,
			&cluster.RejectedError{Reason: kube.ReasonPodRejected, Message: `pods "project-1" is forbidden: serviceaccount "x" not found`},
		},
		"unreadable": {
			http.StatusBadRequest, `Pod in version "v1" cannot be handled as a Pod`,
			&cluster.RejectedError{Reason: kube.ReasonPodRejected, Message: `Pod in version "v1" cannot be handled as a Pod`, Invalid: true},
		},
		"a webhook": {
			http.StatusBadRequest, `admission webhook "policy.example" denied the request: no`,
			&cluster.RejectedError{Reason: kube.ReasonPodRejected, Message: `admission webhook "policy.example" denied the request: no`},
		},
		"no trials": {http.StatusBadRequest, `admission webhook "old.example" does not support dry run`, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reason := map[int]string{http.StatusUnprocessableEntity: "Invalid", http.StatusForbidden: "Forbidden", http.StatusBadRequest: "BadRequest"}[tt.code]
			c, _ := trialServer(t, tt.code, refusal(tt.code, reason, tt.message))
			warnings, err := c.DryRun(t.Context(), json.RawMessage(`{"metadata":{"name":"project-1"}}`))
			if tt.want == nil {
				if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "old.example") {
					t.Errorf("%v, warnings %q; want one", err, warnings)
				}
				return
			}
			if d := cmp.Diff(tt.want, err); d != "" {
				t.Errorf("refusal (-want +got):\n%s", d)
			}
		})
	}
}

// TestDryRunBounds: neither long names nor many warnings are in the way.
func TestDryRunBounds(t *testing.T) {
	t.Parallel()
	c, asked := trialServer(t, http.StatusCreated, `{"kind":"Pod","apiVersion":"v1"}`, strings.Split(strings.Repeat(strings.Repeat("w", 600)+",", 30), ",")[:30]...)
	warnings, err := c.DryRun(t.Context(), json.RawMessage(`{"metadata":{"name":"`+strings.Repeat("n", 63)+`"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 20 || len(warnings[0]) != 512 {
		t.Errorf("%d warnings, the first of %d bytes", len(warnings), len(warnings[0]))
	}
	meta, _ := asked.pod["metadata"].(map[string]any)
	if got, _ := meta["generateName"].(string); len(got) > 58 || !strings.HasPrefix(got, "nnn") {
		t.Errorf("generateName %q", got)
	}
}
