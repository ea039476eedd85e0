package chaos

import (
	"bytes"
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

// answer is the body of any answer.
type answer struct {
	Pod       string `json:"pod_name"`
	Ready     bool   `json:"ready"`
	Requested bool   `json:"requested"`
	Deleted   bool   `json:"deleted"`
	Error     struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// maximum is how long a client waits for any answer: longer than anything may take.
const maximum = timeoutCreateMax + 3*time.Minute

// errAbandoned ends a request that its client gives up at random.
var errAbandoned = errors.New("the client went away")

// ask sends the request that x describes to an address, and returns x with the
// answer. Where patience is not zero the client goes away after it.
func (r *recorder) ask(ctx context.Context, url string, x verdict.Exchange, body map[string]any, patience time.Duration) verdict.Exchange {
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
	err := r.send(asking, url, &x, body)
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

func (r *recorder) send(ctx context.Context, url string, x *verdict.Exchange, body map[string]any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("write request: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/"+x.Endpoint, bytes.NewReader(text))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	if x.Trace != "" {
		request.Header.Set("Traceparent", "00-"+x.Trace+"-0000000000000001-01")
	}
	response, err := r.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var a answer
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
	x.Status, x.Code, x.Message = response.StatusCode, a.Error.Code, a.Error.Message
	x.Yes = a.Ready || a.Requested || a.Deleted
	if x.Endpoint == verdict.Create {
		x.Pod = a.Pod
	}
	return nil
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
