package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"berth/pkg/events"
)

// TestManifestFaults: refused at once, nothing is made.
func TestManifestFaults(t *testing.T) {
	t.Parallel()
	const user = "faults@example.org"
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/elsewhere/away.yaml":
			http.Redirect(w, r, "http://"+r.Host+"/secret/notebook.yaml", http.StatusFound)
		case "/elsewhere/broken.yaml":
			w.WriteHeader(http.StatusInternalServerError)
		default:
			t.Errorf("fetched %s", r.URL.Path)
		}
	}))
	t.Cleanup(elsewhere.Close)
	for name, tc := range map[string]struct {
		url         string
		wantStatus  int
		wantCode    events.Reason
		wantMessage string
	}{
		"missing":            {shared.ManifestsURL + "/nope.yaml", 502, events.ManifestUnreachable, "404"},
		"nobody there":       {"http://127.0.0.1:1/x.yaml", 403, events.ManifestForbidden, "not allowed"},
		"unreachable":        {"http://127.0.0.1:1/elsewhere/x.yaml", 502, events.ManifestUnreachable, "refused"},
		"a server's fault":   {elsewhere.URL + "/elsewhere/broken.yaml", 502, events.ManifestUnreachable, "500"},
		"redirected away":    {elsewhere.URL + "/elsewhere/away.yaml", 403, events.ManifestForbidden, "/secret/notebook.yaml"},
		"forbidden":          {"http://example.org/x.yaml", 403, events.ManifestForbidden, "not allowed"},
		"in a query":         {"http://example.org/?" + shared.ManifestsURL + "/notebook.yaml", 403, events.ManifestForbidden, "not allowed"},
		"user info":          {strings.Replace(shared.ManifestsURL, "://", "://me:pw@", 1) + "/notebook.yaml", 403, events.ManifestForbidden, ""},
		"too large":          {shared.ManifestsURL + "/huge.yaml", 422, events.ManifestInvalid, "262144"},
		"no pod":             {shared.ManifestsURL + "/no-pod.yaml", 422, events.ManifestInvalid, "line 3"},
		"two documents":      {shared.ManifestsURL + "/two.yaml", 422, events.ManifestInvalid, ""},
		"a typo":             {shared.ManifestsURL + "/typo.yaml", 422, events.ManifestInvalid, "line 8"},
		"no YAML":            {shared.ManifestsURL + "/broken.yaml", 422, events.ManifestInvalid, "line 4"},
		"an invalid image":   {shared.ManifestsURL + "/bad-image.yaml", 422, events.ManifestInvalid, "image"},
		"not a URL":          {"://", 403, events.ManifestForbidden, ""},
		"no URL":             {"", 400, events.RequestInvalid, "yaml_url"},
		"a file":             {"file:///etc/passwd", 403, events.ManifestForbidden, ""},
		"an endless address": {shared.ManifestsURL + "/" + strings.Repeat("x", 5000), 400, events.RequestInvalid, "yaml_url"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := shared.ask(t, "create_pod", map[string]any{"user_id": user, "yaml_url": tc.url})
			if a.Status != tc.wantStatus || a.Error.Code != string(tc.wantCode) || !strings.Contains(a.Error.Message, tc.wantMessage) || a.Pod != "" {
				t.Errorf("%d %s, want %d %s …%s…", a.Status, a.Text, tc.wantStatus, tc.wantCode, tc.wantMessage)
			}
			if pods := shared.list(t, user); len(pods) != 0 {
				t.Errorf("made all the same: %v", pods)
			}
		})
	}
}

// TestMalformedRequests are refused with the field at its zero value, by an api
// that goes on.
func TestMalformedRequests(t *testing.T) {
	t.Parallel()
	const good = `{"user_id":"mal@formed.org","pod_name":"x"}`
	for name, tc := range map[string]struct {
		method, path, kind, body string
		want                     int
	}{
		"GET":             {http.MethodGet, "/get_pods", "", "", 405},
		"an unknown path": {http.MethodPost, "/get_pods/", "application/json", good, 404},
		"the root":        {http.MethodGet, "/", "", "", 404},
		"no JSON":         {http.MethodPost, "/create_pod", "application/json", `{"user_id":`, 400},
		"another type":    {http.MethodPost, "/delete_pod", "application/x-www-form-urlencoded", good, 415},
		"no type":         {http.MethodPost, "/delete_pod", "", good, 415},
		"a huge body":     {http.MethodPost, "/create_pod", "application/json", `{"user_id":"` + strings.Repeat("a", 1<<20) + `"}`, 413},
		"no user":         {http.MethodPost, "/watch_create_pod", "application/json", `{}`, 400},
		"a bad user":      {http.MethodPost, "/get_pods", "application/json", `{"user_id":"pods.main.>"}`, 400},
		"a bad setting": {
			http.MethodPost, "/create_pod", "application/json",
			`{"user_id":"mal@formed.org","yaml_url":"` + shared.ManifestsURL + `/notebook.yaml","settings":{"notebook":{"A=B":"1"}}}`, 422,
		},
		"a missing pod":  {http.MethodPost, "/delete_pod", "application/json", good, 404},
		"a strange name": {http.MethodPost, "/delete_pod", "application/json", `{"user_id":"mal@formed.org","pod_name":"*.>"}`, 404},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			request, err := http.NewRequestWithContext(ctx, tc.method, shared.URL+tc.path, strings.NewReader(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			if tc.kind != "" {
				request.Header.Set("Content-Type", tc.kind)
			}
			response, err := shared.http.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			var a answer
			if err := json.NewDecoder(response.Body).Decode(&a); err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != tc.want || a.Error.Code == "" || a.Error.Message == "" || a.Pod != "" || a.Requested || a.Ready {
				t.Errorf("%d %+v, want %d and why", response.StatusCode, a, tc.want)
			}
		})
	}
	if pods := shared.list(t, "mal@formed.org"); len(pods) > 0 {
		t.Errorf("made all the same: %+v", pods)
	}
}
