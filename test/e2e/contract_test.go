package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// transcript is what was asked and answered, made comparable between runs.
type transcript struct {
	strings.Builder
	replace *strings.Replacer
}

// volatile is what differs from run to run in an answer.
var volatile = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`"(pod_ip|node_ip)":"[0-9.]+"`), `"$1":"ADDRESS"`},
	{regexp.MustCompile(`"age":"0:\d+:\d+"`), `"age":"AGE"`},
	{regexp.MustCompile(`"generation":"[0-9-]+"`), `"generation":"GENERATION"`},
	{regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "TIME"},
	{regexp.MustCompile(`:3[0-2]\d\d\d"`), `:PORT"`},
	{regexp.MustCompile(`"sshPort":"\d+"`), `"sshPort":"PORT"`},
}

func (r *transcript) note(title string, status int, text string) {
	text = r.replace.Replace(strings.TrimSpace(text))
	for _, v := range volatile {
		text = v.pattern.ReplaceAllString(text, v.by)
	}
	fmt.Fprintf(r, "%s\n  %d %s\n", title, status, text)
}

// TestContract asks each endpoint for everything that it can be asked for: good,
// bad, foreign, missing, repeated and concurrent; the answers are in a golden file,
// to the letter.
func TestContract(t *testing.T) {
	t.Parallel()
	const alice, bob = "alice@contract.org", "bob@contract.org"
	token(t, "e2e-contract.token", "secret of the contract")
	r := &transcript{replace: strings.NewReplacer(shared.ManifestsURL, "MANIFESTS", tokenPrefix, "e2e-")}
	ask := func(title, endpoint, body string) string {
		t.Helper()
		status, text, header := 0, []byte{}, http.Header{}
		eventually(t, "/"+endpoint+" is answered", func() bool {
			status, text, header = shared.post(t, endpoint, body)
			return status != http.StatusServiceUnavailable
		})
		if kind := header.Get("Content-Type"); kind != "application/json" {
			t.Errorf("%s: content type %q", title, kind)
		}
		r.note(endpoint+", "+title, status, string(text))
		return string(text)
	}
	who := func(user, pod string) string { return fmt.Sprintf(`{"user_id":%q,"pod_name":%q}`, user, pod) }
	manifest := func(user, name string) string {
		return fmt.Sprintf(`{"user_id":%q,"yaml_url":"%s/%s.yaml"}`, user, shared.ManifestsURL, name)
	}

	ask("none", "get_pods", `{"user_id":"alice@contract.org"}`)
	for _, endpoint := range []string{"get_pods", "create_pod", "watch_create_pod", "delete_pod", "watch_delete_pod", "delete_all_user"} {
		ask("no body", endpoint, ``)
		ask("no JSON", endpoint, `{"user_id":`)
		ask("a list", endpoint, `[]`)
		ask("two values", endpoint, `{"user_id":"alice@contract.org"} {}`)
		ask("no user", endpoint, `{}`)
		ask("a number as user", endpoint, `{"user_id":7}`)
		for _, user := range []string{"", "A@b.c", "a>", "a.>", "*", "-a", "a@b@c", "a b", "a\\nb", strings.Repeat("x", 191)} {
			ask(fmt.Sprintf("user %.12q", user), endpoint, `{"user_id":"`+user+`","pod_name":"p","yaml_url":"x"}`)
		}
	}
	ask("no URL", "create_pod", `{"user_id":"alice@contract.org"}`)
	ask("a forbidden URL", "create_pod", `{"user_id":"alice@contract.org","yaml_url":"https://example.org/x.yaml"}`)
	ask("an allowed URL in a query", "create_pod", `{"user_id":"alice@contract.org","yaml_url":"https://example.org/?`+shared.ManifestsURL+`/notebook.yaml"}`)
	ask("user info", "create_pod", `{"user_id":"alice@contract.org","yaml_url":"`+strings.Replace(shared.ManifestsURL, "://", "://u:p@", 1)+`/notebook.yaml"}`)
	ask("no such manifest", "create_pod", manifest(alice, "nothing-here"))
	ask("no pod", "create_pod", manifest(alice, "no-pod"))
	ask("a typo", "create_pod", manifest(alice, "typo"))
	ask("an undeclared volume", "create_pod", manifest(alice, "sites/mount"))
	ask("a path as token", "create_pod", manifest(alice, "sites/token-trick"))
	ask("a bad setting", "create_pod", strings.Replace(manifest(alice, "notebook"), "}", `,"settings":{"notebook":{"A B":"c"}}}`, 1))

	// A life, with what may be asked at each point of it.
	if text := ask("good", "create_pod", manifest(alice, "sites/contract")); !strings.Contains(text, "contract-alice-contract-org") {
		t.Fatal(text)
	}
	pod := "contract-alice-contract-org"
	ask("good", "watch_create_pod", who(alice, pod))
	ask("repeated", "watch_create_pod", who(alice, pod))
	ask("good", "get_pods", `{"user_id":"alice@contract.org"}`)
	same := func(endpoint, title string) {
		t.Helper()
		foreign := ask("foreign"+title, endpoint, who(bob, pod))
		if missing := ask("missing"+title, endpoint, who(bob, "no-such-pod")); foreign != missing {
			t.Errorf("%s: foreign %s, missing %s: the two must not differ", endpoint, foreign, missing)
		}
	}
	for _, endpoint := range []string{"watch_create_pod", "delete_pod", "watch_delete_pod"} {
		same(endpoint, "")
	}
	ask("of another user", "get_pods", `{"user_id":"bob@contract.org"}`)
	ask("nobody deletes it", "watch_delete_pod", who(alice, pod))
	ask("good", "delete_pod", who(alice, pod))
	ask("good", "watch_delete_pod", who(alice, pod))
	ask("repeated", "watch_delete_pod", who(alice, pod))
	ask("gone", "delete_pod", who(alice, pod))
	ask("gone", "watch_create_pod", who(alice, pod))
	ask("gone", "get_pods", `{"user_id":"alice@contract.org"}`)

	// Concurrent: ten names for one manifest, and no eleventh.
	names := shared.atOnce(t, alice)
	r.note("create_pod, twelve at once", 0, strings.Join(names, " "))
	ask("all of a user", "delete_all_user", `{"user_id":"alice@contract.org"}`)
	ask("all of nobody", "delete_all_user", `{"user_id":"bob@contract.org"}`)

	for _, ip := range []string{"", "nonsense", "10.0.0.1/8", "198.51.100.7"} {
		status, text := shared.owner(t, ip)
		r.note(fmt.Sprintf("get_podip_owner, %q", ip), status, text)
	}
	for _, secret := range []string{"", "wrong"} {
		status, text := shared.admin(t, secret, `{"dry_run":true}`)
		r.note(fmt.Sprintf("clean_all_unused, token %q", secret), status, text)
	}
	for _, body := range []string{`{"dry_run":"yes"}`, `{"dry":true}`, `{`} {
		status, text := shared.admin(t, adminToken, body)
		r.note("clean_all_unused, "+body, status, text)
	}
	shared.compare(t, "contract.txt", r.String())
}

// atOnce makes twelve pods of one manifest at the same time, and returns their
// names, or why there is none, sorted.
func (s *site) atOnce(t *testing.T, user string) []string {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	var got []string
	for range 12 {
		all.Go(func() {
			a := s.tryCreate(t, user, "notebook", nil)
			name := a.Pod
			if a.Status != http.StatusOK {
				name = fmt.Sprintf("%d:%s", a.Status, a.Error.Code)
			}
			mu.Lock()
			defer mu.Unlock()
			got = append(got, name)
		})
	}
	all.Wait()
	slices.Sort(got)
	return got
}

// compare compares a text with a golden file.
func (s *site) compare(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *updateGolden {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got), run with -update if it should change:\n%s", name, diff)
	}
}
