package cli

import (
	"context"
	"net/url"
	"regexp"
	"strings"

	"berth/cmd/berth/internal/follow"
	"berth/pkg/events"
)

// The forms of names. That of user ids is the one that the service holds to,
// so that a wrong one is found before anything is asked.
const (
	userForm    = `[a-z0-9][-a-z0-9._]*[@]?[-a-z0-9._]*[a-z0-9]`
	projectForm = `[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`
	podForm     = `[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?`
	clusterForm = `[A-Za-z0-9][A-Za-z0-9_-]{0,62}`
	// labelForm is an RFC 1123 label, which the name of a namespace is.
	labelForm = `[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?`
	// A variable's name may be any printable ASCII (https://kubernetes.io/docs/tasks/inject-data-application/define-environment-variable-container/).
	settingForm = `[a-z0-9][-a-z0-9]*\.[!-<>-~]+`
)

func matches(form, text string) bool {
	return regexp.MustCompile(`^(?:` + form + `)$`).MatchString(text)
}

// userID returns the user whose pods are meant.
func (a *app) userID() (string, error) {
	if a.user == "" {
		return "", usage("whose pods? Set --user or BERTH_USER")
	}
	return a.user, checkUser(a.user)
}

func checkUser(user string) error {
	if project, ok := events.ProjectOf(user); ok && events.ProjectID(project) {
		return nil
	}
	if !matches(userForm, user) {
		return usage("%q is no user id: write one like alice@example.org, in lower case", user)
	}
	return nil
}

// projectID reads the id of a project, license or the like.
func projectID(what, text string) (string, error) {
	if !matches(projectForm, text) {
		return "", usage("%q is no id of a %s: write a UUID, like 8e03978e-40d5-43e8-bc93-6894a57f9324", text, what)
	}
	return strings.ToLower(text), nil
}

func checkPod(name string) error {
	if !matches(podForm, name) {
		return usage("%q is no name of a pod: use a-z, 0-9, - and . with a letter or digit at both ends", name)
	}
	return nil
}

// checkManifest wants the URL of a manifest. It does not repeat the URL, which
// may hold a token.
func checkManifest(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Host == "", u.Scheme != "http" && u.Scheme != "https":
		return usage("the manifest is no URL: write one like https://example.org/notebook.yaml")
	case u.User != nil:
		return usage("the URL of the manifest holds a user name: manifests are read without")
	}
	return nil
}

// parseSettings reads CONTAINER.NAME=VALUE. Its errors repeat no value.
func parseSettings(given []string) (map[string]map[string]string, error) {
	settings := map[string]map[string]string{}
	for i, text := range given {
		path, value, ok := strings.Cut(text, "=")
		if !ok || !matches(settingForm, path) {
			return nil, usage("--set number %d is not CONTAINER.NAME=VALUE", i+1)
		}
		container, name, _ := strings.Cut(path, ".")
		if _, twice := settings[container][name]; twice {
			return nil, usage("--set gives %s twice", path)
		}
		if settings[container] == nil {
			settings[container] = map[string]string{}
		}
		settings[container][name] = value
	}
	return settings, nil
}

// log connects to the log. It returns nil where no NATS server is configured.
func (a *app) log(ctx context.Context, notice func(text string)) (*follow.Log, error) {
	if a.natsURL == "" {
		return nil, nil
	}
	if err := a.checkLog(); err != nil {
		return nil, err
	}
	return follow.Open(ctx, a.natsURL, "berth-cli", notice)
}

// checkLog checks the flags about the log.
func (a *app) checkLog() error {
	if !matches(clusterForm, a.cluster) {
		return usage("%q is no name of a cluster: use letters, digits, - and _", a.cluster)
	}
	for server := range strings.SplitSeq(a.natsURL, ",") {
		if u, err := url.Parse(strings.TrimSpace(server)); err != nil || u.Host == "" && strings.Contains(server, "/") {
			return usage("--nats-url or NATS_URL is no URL: write one like nats://127.0.0.1:4222")
		}
	}
	return nil
}

// checkTypes reads the names of events.
func checkTypes(names []string) ([]events.Type, error) {
	types := make([]events.Type, 0, len(names))
	for _, name := range names {
		if t := events.Type(strings.TrimSpace(name)); t.Known() {
			types = append(types, t)
			continue
		}
		known := make([]string, 0, len(events.Types()))
		for _, info := range events.Types() {
			known = append(known, string(info.Type))
		}
		return nil, usage("%q is no event: use %s", name, strings.Join(known, ", "))
	}
	return types, nil
}
