package chaos

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"berth/test/chaos/verdict"
)

// recorder asks the replicas of the api as a silo does and writes down what
// became of it. It is safe for concurrent use.
type recorder struct {
	http *http.Client

	mu        sync.Mutex
	exchanges []verdict.Exchange
	open      int
}

// answer is the body of any answer, to a silo or below /v1.
type answer struct {
	Generation string `json:"generation"`
	Reason     string `json:"reason"`
	Detail     string `json:"detail"`
	Pod        string `json:"pod_name"`
	Ready      bool   `json:"ready"`
	Requested  bool   `json:"requested"`
	Deleted    bool   `json:"deleted"`
	Error      struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// maximum is how long a client waits for any answer: longer than anything may take.
const maximum = timeoutCreateMax + 3*time.Minute

// errAbandoned ends a request that its client gives up at random.
var errAbandoned = errors.New("the client went away")

// ask sends the request of a silo that x describes to an address, and returns x with the
// answer. Where patience is not zero the client goes away after it.
func (r *recorder) ask(ctx context.Context, url string, x verdict.Exchange, body map[string]any, patience time.Duration) verdict.Exchange {
	return r.call(ctx, call{method: http.MethodPost, url: url + "/" + x.Endpoint, body: body}, x, patience)
}

// call is a request as it is sent.
type call struct {
	method, url string
	body        any    // Nil for none.
	key         string // Idempotency-Key, empty for none.
	admin       bool
}

// call is [recorder.ask] of any request.
func (r *recorder) call(ctx context.Context, c call, x verdict.Exchange, patience time.Duration) verdict.Exchange {
	r.mu.Lock()
	r.open++
	r.mu.Unlock()
	limit, cause := maximum, context.DeadlineExceeded
	if patience > 0 {
		limit, cause = patience, errAbandoned
	}
	asking, cancel := context.WithTimeoutCause(ctx, limit, cause)
	defer cancel()
	x.Begun = time.Now()
	err := r.send(asking, c, &x)
	x.Ended = time.Now()
	if err != nil {
		x.Status, x.Message = 0, err.Error()
		x.Abandoned = ctx.Err() != nil || errors.Is(context.Cause(asking), errAbandoned)
		x.Left = !x.Abandoned && asking.Err() != nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open--
	r.exchanges = append(r.exchanges, x)
	return x
}

func (r *recorder) send(ctx context.Context, c call, x *verdict.Exchange) error {
	var text []byte
	if c.body != nil {
		var err error
		if text, err = json.Marshal(c.body); err != nil {
			return fmt.Errorf("write request: %w", err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, c.method, c.url, bytes.NewReader(text))
	if err != nil {
		return err
	}
	if c.body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.key != "" {
		request.Header.Set("Idempotency-Key", c.key)
	}
	if c.admin {
		request.Header.Set("Authorization", "Bearer "+adminToken)
	}
	if x.Trace != "" {
		request.Header.Set("Traceparent", "00-"+x.Trace+"-0000000000000001-01")
	}
	response, err := r.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var a answer
	if response.StatusCode == http.StatusNoContent {
		x.Status = response.StatusCode
		return nil
	}
	var raw json.RawMessage
	if err := json.NewDecoder(response.Body).Decode(&raw); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if x.Endpoint == verdict.GetPods && response.StatusCode == http.StatusOK {
		err = json.Unmarshal(raw, &x.Pods)
	} else {
		err = json.Unmarshal(raw, &a)
	}
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	x.Status, x.Code, x.Message = response.StatusCode, cmp.Or(a.Error.Code, problem(response, a.Reason)), cmp.Or(a.Error.Message, a.Detail)
	x.Generation, x.Yes = a.Generation, a.Ready || a.Requested || a.Deleted
	if x.Endpoint == verdict.Create {
		x.Pod = a.Pod
	}
	return nil
}

// problem is the reason in the problem detail (RFC 9457) that an answer may be.
func problem(response *http.Response, reason string) string {
	if response.StatusCode < http.StatusBadRequest {
		return "" // A pod has one, too.
	}
	return reason
}

// opened is how many requests wait for their answer.
func (r *recorder) opened() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open
}

// note writes down a request that was not sent.
func (r *recorder) note(x verdict.Exchange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.exchanges = append(r.exchanges, x)
}
