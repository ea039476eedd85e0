package v1

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"berth/pkg/events"
	"berth/services/api/internal/access"
)

func FuzzPageToken(f *testing.F) {
	for _, seed := range []string{"", "MTph", pageToken("notebook-alice"), pageToken(""), pageToken(">"), "=", "MTph=", base64.StdEncoding.EncodeToString([]byte("2:a")), strings.Repeat("A", 500)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		name, err := parsePageToken(token)
		if err != nil {
			return
		}
		if !podName(name) || pageToken(name) != token {
			t.Errorf("%q was taken as the page after %q, whose token is %q", token, name, pageToken(name))
		}
	})
}

func FuzzLastEventID(f *testing.F) {
	for _, seed := range []string{"", "1-1", "0-0", "-1-1", "01-1", "1-01", "+1-1", "1-", "-", "1767323045000000000-1767323045000001", "9223372036854775808-1", strings.Repeat("1", 70)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := lastEventID(http.Header{"Last-Event-Id": {text}})
		if err == nil && text != "" && p.String() != text {
			t.Errorf("%q was read as %q", text, p)
		}
	})
}

func FuzzIdempotencyKey(f *testing.F) {
	for _, seed := range []string{"", `""`, "a", `"a"`, `a"b`, "a b", "é", "\x00", "8e03978e-40d5-43e8-bc93-6894a57f9324", strings.Repeat("k", 256)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		key, err := keyOf(http.Header{"Idempotency-Key": {text}})
		if err != nil {
			return
		}
		if key == "" || len(key) > maxKey || strings.ContainsAny(key, " \"\\\r\n\x00") {
			t.Errorf("%q was taken as the key %q", text, key)
		}
		again, err := keyOf(http.Header{"Idempotency-Key": {`"` + key + `"`}})
		if err != nil || again != key {
			t.Errorf("the key %q in quotes is %q, %v", key, again, err)
		}
		if a, b := KeyID("s", "u", key), KeyID("su", "", key); a == b || strings.Contains(a, key) && len(key) > 8 {
			t.Errorf("key ids %s and %s", a, b)
		}
	})
}

// FuzzBody: whatever the body is, it is answered with a fault of the caller, or
// taken as a request that is within the limits.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{
		`{"user_id":"alice@example.org","manifest_url":"https://example.org/n.yaml"}`, `{}`, `null`, `[]`, ``, `{"user_id":7}`, `{"x":1}`, `{"settings":{"a":{"b":"c"}}}`, `{}{}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := httptest.NewRequest(http.MethodPost, "/v1/pods", strings.NewReader(text))
		r.Header.Set("Content-Type", "application/json")
		var body createBody
		err := readBody(httptest.NewRecorder(), r, &body)
		if err == nil {
			err = body.check()
		}
		if err != nil {
			if status := faultOf(err).Status; status < 400 || status > 499 {
				t.Errorf("%q is answered with %d: %v", text, status, err)
			}
			return
		}
		if len(body.User) > access.MaxUser || body.ManifestURL == "" {
			t.Errorf("%q was taken as %+v", text, body)
		}
		if _, err := body.hash(); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}

// FuzzParameters: a query is refused with the name of the parameter, or within the limits.
func FuzzParameters(f *testing.F) {
	for _, seed := range []string{"", "limit=1", "limit=0", "limit=501", "limit=1e2", "ready=yes", "event=ready,failed", "event=,", "x=1", "user_id=A", "user_id=project:8e03978e-40d5-43e8-bc93-6894a57f9324", "user_id=project:x", "user_id=a1&user_id=a1", "%zz", "page_token="} {
		f.Add(seed)
	}
	list := operations()[1]
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest(http.MethodGet, "/v1/pods", nil)
		r.URL.RawQuery = query
		values, err := list.parse(r)
		if err != nil {
			if faultOf(err).Status != http.StatusBadRequest {
				t.Errorf("%q: %v", query, err)
			}
			return
		}
		for name, value := range values {
			_, project := events.ProjectOf(value)
			if name == "user_id" && !access.IsUser(value) && !project || len(value) > maxPageToken {
				t.Errorf("%q gave %s = %q", query, name, value)
			}
		}
	})
}
