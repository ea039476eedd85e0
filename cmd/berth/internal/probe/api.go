package probe

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"berth/cmd/berth/internal/doctor"
	"berth/cmd/berth/internal/progress"
	"berth/pkg/events"
)

// maxAnswer is how much of an answer is read, in bytes: that of /metrics is the largest.
const maxAnswer = 4 << 20

// maxFault is how much of an error is shown, in columns.
const maxFault = 200

// askAPI asks the api how it is.
func askAPI(ctx context.Context, s Site) doctor.API {
	a := doctor.API{URL: s.API.Redacted()}
	client := &http.Client{
		Timeout: requestTimeout,
		Transport: &http.Transport{
			Proxy:             http.ProxyFromEnvironment,
			DialContext:       (&net.Dialer{Timeout: requestTimeout}).DialContext,
			ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()

	asked := time.Now()
	live, err := get(ctx, client, s, "livez")
	if err != nil {
		a.Fault = plain(err)
		return a
	}
	answered := time.Now()
	a.Live, a.Took = live.status, answered.Sub(asked).Seconds()
	a.Skew = dateSkew(live.header, asked, answered)
	if a.Live != http.StatusOK {
		return a
	}
	if ready, err := get(ctx, client, s, "readyz"); err == nil {
		a.Ready, a.Failing = ready.status, failingChecks(ready.body)
	}
	if s.Token != "" && a.Ready == http.StatusOK {
		if a.Licenses, a.LicensesFault = askLicenses(ctx, client, s); a.Licenses == http.StatusOK {
			a.Template, a.TemplateReason, a.TemplateFault = askTemplate(ctx, client, s)
		}
	}
	// A proxy may keep the metrics from strangers; then the version is unknown.
	if metrics, err := get(ctx, client, s, "metrics"); err == nil && metrics.status == http.StatusOK {
		a.Version, a.Instance = buildInfo(metrics.body)
	}
	return a
}

// licensesTimeout is more than the api lets a question to the licenser take, which says then why there is no answer.
const licensesTimeout = 8 * time.Second

// askLicenses asks for what the database answers: one license. It returns the status, and of a problem its detail.
func askLicenses(ctx context.Context, client *http.Client, s Site) (status int, fault string) {
	address := s.API.JoinPath("v1", "licenses")
	address.RawQuery = "limit=1"
	got, fault := askLicenser(ctx, client, s, http.MethodGet, address.String(), "")
	return got.status, fault
}

// nobodysProject asks for the pod of a project that nobody has, without a word to the API server.
const nobodysProject = `{"project_id":"00000000-0000-4000-8000-000000000000","licenses":[],"no_dry_run":true}`

// askTemplate asks which pod a project would get. It returns the status, and why there would be none.
func askTemplate(ctx context.Context, client *http.Client, s Site) (status int, reason events.Reason, fault string) {
	got, fault := askLicenser(ctx, client, s, http.MethodPost, s.API.JoinPath("v1", "preview").String(), nobodysProject)
	var preview struct {
		Fault struct {
			Reason  events.Reason `json:"reason"`
			Message string        `json:"message"`
		} `json:"fault"`
	}
	if got.status == http.StatusOK && json.Unmarshal([]byte(got.body), &preview) == nil {
		reason, fault = events.Reason(short(string(preview.Fault.Reason))), short(preview.Fault.Message)
	}
	return got.status, reason, fault
}

// askLicenser asks the api for what it asks the licenser for. The status is that of a gateway where there is no answer; of
// a problem fault is the detail.
func askLicenser(ctx context.Context, client *http.Client, s Site, method, address, body string) (got answer, fault string) {
	patient := *client
	patient.Timeout = licensesTimeout
	ctx, cancel := context.WithTimeout(ctx, licensesTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return answer{}, plain(err)
	}
	req.Header.Set("User-Agent", "berth/"+s.Version)
	req.Header.Set("Authorization", "Bearer "+s.Token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if got, err = do(&patient, req); err != nil {
		// The api has just answered: what does not is behind it.
		return answer{status: http.StatusGatewayTimeout}, plain(err)
	}
	var problem struct {
		Detail string `json:"detail"`
	}
	if got.status != http.StatusOK && json.Unmarshal([]byte(got.body), &problem) == nil {
		fault = short(problem.Detail)
	}
	return got, fault
}

// short is what a server says, as far as it is shown.
func short(text string) string { return progress.Clip(progress.Clean(text), maxFault) }

type answer struct {
	status int
	header http.Header
	body   string
}

func get(ctx context.Context, client *http.Client, s Site, path string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.API.JoinPath(path).String(), http.NoBody)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("User-Agent", "berth/"+s.Version)
	return do(client, req)
}

func do(client *http.Client, req *http.Request) (answer, error) {
	res, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return answer{}, err
	}
	return answer{res.StatusCode, res.Header, string(body)}, nil
}

// plain is the error of a request without its URL, which may hold a password.
func plain(err error) string {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		if wrapped.Timeout() {
			return "no answer in time"
		}
		err = wrapped.Err
	}
	// A server of another kind may be quoted with all that it said.
	return progress.Clip(progress.Clean(err.Error()), maxFault)
}

// failingChecks reads what /readyz says about the checks that fail.
func failingChecks(body string) []string {
	var failing []string
	for line := range strings.Lines(body) {
		if text, ok := strings.CutPrefix(line, "[-] "); ok {
			failing = append(failing, strings.TrimSpace(text))
		}
	}
	return failing
}

var labelForm = regexp.MustCompile(`(\w+)="([^"]*)"`)

// buildInfo reads version and instance from the metrics of a service.
func buildInfo(metrics string) (version, instance string) {
	lines := bufio.NewScanner(strings.NewReader(metrics))
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		if !strings.HasPrefix(lines.Text(), "berth_build_info{") {
			continue
		}
		for _, label := range labelForm.FindAllStringSubmatch(lines.Text(), -1) {
			switch label[1] {
			case "version":
				version = label[2]
			case "instance_id":
				instance = label[2]
			}
		}
	}
	return version, instance
}
