package e2e

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// tally counts what the shared site is asked, and what it says that nobody knows. Tests ask again then, as silos do, and would
// not notice a site that says so to everybody first: nobody is stopped or killed there, so that only a machine that is too busy
// is an excuse. It is safe for concurrent use.
type tally struct {
	http.RoundTripper
	// host is the shared site's; others are not counted.
	host string

	mu sync.Mutex
	// asked are the requests, those that are the same as one, by whether any was told 503: how often a test asks again, and
	// for how long a machine stands still, is no matter.
	asked map[[sha256.Size]byte]bool
	// reasons are what was said, without the numbers in it.
	reasons map[string]int
}

// RoundTrip carries a request out and counts it.
func (c *tally) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.URL.Host != c.host {
		return c.RoundTripper.RoundTrip(request)
	}
	which, err := identity(request)
	if err != nil {
		return nil, err
	}
	response, err := c.RoundTripper.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	var text []byte
	refused := response.StatusCode == http.StatusServiceUnavailable
	if refused {
		text, err = io.ReadAll(response.Body)
		if err := errors.Join(err, response.Body.Close()); err != nil {
			return nil, err
		}
		response.Body = io.NopCloser(bytes.NewReader(text))
	}
	c.note(which, refused, string(text))
	return response, nil
}

// identity is the same for requests that ask for the same.
func identity(request *http.Request) (sum [sha256.Size]byte, err error) {
	hash := sha256.New()
	fmt.Fprintln(hash, request.Method, request.URL)
	if request.GetBody != nil {
		body, err := request.GetBody()
		if err != nil {
			return sum, err
		}
		if _, err := io.Copy(hash, body); err != nil {
			return sum, err
		}
	}
	return [sha256.Size]byte(hash.Sum(nil)), nil
}

var number = regexp.MustCompile(`[0-9]+`)

func (c *tally) note(which [sha256.Size]byte, refused bool, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked == nil {
		c.asked, c.reasons = map[[sha256.Size]byte]bool{}, map[string]int{}
	}
	c.asked[which] = c.asked[which] || refused
	if refused {
		c.reasons[number.ReplaceAllString(strings.TrimSpace(text), "N")]++
	}
}

// busy are the reasons of a site on a machine that stands still for seconds, whose connections and leases are lost
// thereby: somebody has not been heard of in time.
var busy = regexp.MustCompile(`has not answered for|heard of|in time|time to wait is over|connection was lost|NATS is|nats: |` +
	`deadline exceeded|the watcher cannot tell|its database`)

const (
	// fewRefused may be refused in a run however little is asked.
	fewRefused = 20
	// mostRefused is the part that may be refused, in percent. It is less than what any endpoint is asked for that every test
	// needs, and more than all who ask at the same time.
	mostRefused = 10
)

// verdict returns an error for more refusals than a busy machine explains.
func (c *tally) verdict() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	refused := 0
	for _, once := range c.asked {
		if once {
			refused++
		}
	}
	many := refused > fewRefused && 100*refused > mostRefused*len(c.asked)
	strange := 0 // With no excuse, and again and again.
	for reason, times := range c.reasons {
		if !busy.MatchString(reason) {
			strange += times
		}
	}
	if !many && strange <= fewRefused {
		return nil
	}
	said := &strings.Builder{}
	for _, reason := range slices.Sorted(maps.Keys(c.reasons)) {
		fmt.Fprintf(said, "\n%d times %s", c.reasons[reason], reason)
	}
	return fmt.Errorf("the shared site, where nobody is stopped, said 503 to %d of %d requests:%s", refused, len(c.asked), said)
}

func TestTally(t *testing.T) {
	t.Parallel()
	const silent = `{"error":{"code":"UNAVAILABLE","message":"the log's leader has not answered for 7s: the log is not available"}}`
	tests := map[string]struct {
		asked, refused int
		text           string
		faulty         bool
	}{
		"all are answered":               {asked: 300},
		"a pause of the machine":         {asked: 300, refused: 25, text: silent},
		"a few of few":                   {asked: fewRefused, refused: fewRefused, text: silent},
		"every request, first":           {asked: 300, refused: 300, text: silent, faulty: true},
		"one in five":                    {asked: 300, refused: 60, text: silent, faulty: true},
		"one, though nothing was silent": {asked: 300, refused: 1, text: `{"detail":"try again"}`},
		"ten, though nothing was silent": {asked: 300, refused: 10, text: `{"detail":"the service cannot answer now; try again"}`, faulty: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &tally{}
			for i := range tc.asked {
				// Each is asked until it is answered, and then once more.
				which := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
				for range 3 {
					if i < tc.refused {
						c.note(which, true, tc.text)
					}
				}
				c.note(which, false, "")
				c.note(which, false, "")
			}
			if err := c.verdict(); (err != nil) != tc.faulty {
				t.Errorf("the verdict is %v", err)
			} else if err != nil && !strings.Contains(err.Error(), number.ReplaceAllString(tc.text, "N")) {
				t.Errorf("%v does not name the reason", err)
			}
		})
	}
}
