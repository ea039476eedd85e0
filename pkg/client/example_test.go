package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"berth/pkg/client"
)

// Make a pod, wait until it is ready, and follow what happens to it until it goes.
func Example() {
	server := httptest.NewServer(berth())
	defer server.Close()

	c, err := client.New(server.URL, client.Options{Token: client.Token("secret of the silo")})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	ctx := context.Background()

	pod, err := c.CreatePod(ctx, client.Create{
		User: "alice@example.org", ManifestURL: "https://example.org/notebook.yaml",
		Settings:  map[string]map[string]string{"notebook": {"WORKING_DIRECTORY": "thesis"}},
		WaitReady: true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(pod.Name, "is", pod.Event)

	for event, err := range c.Events(ctx, client.Stream{User: pod.User, Pod: pod.Name, After: pod.Position}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		if event.Kind == client.PodChanged {
			fmt.Println(event.Pod.Name, "is", event.Pod.Event)
		}
		if event.Pod.Event == "gone" {
			break
		}
	}

	_, err = c.Pod(ctx, pod.User, pod.Name)
	if problem, ok := errors.AsType[*client.Problem](err); ok {
		fmt.Println(problem.Status, problem.Reason)
	}
	// Output:
	// notebook-alice is ready
	// notebook-alice is deleting
	// notebook-alice is gone
	// 404 NOT_FOUND
}

// berth plays the service.
func berth() http.Handler {
	mux := http.NewServeMux()
	answer := func(pattern, mediaType string, status int, body string) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer secret of the silo" {
				http.Error(w, "who are you?", http.StatusUnauthorized)
				return
			}
			w.Header().Set("Content-Type", mediaType)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
	}
	answer("POST /v1/pods", "application/json", http.StatusCreated, `{"name":"notebook-alice","user_id":"alice@example.org","event":"ready","position":"1-8"}`)
	answer("GET /v1/pods/notebook-alice/events", "text/event-stream", http.StatusOK,
		"event: synced\nid: 1-8\ndata: {\"position\":\"1-8\"}\n\n"+
			"event: pod\nid: 1-9\ndata: {\"name\":\"notebook-alice\",\"event\":\"deleting\"}\n\n"+
			"event: pod\nid: 1-10\ndata: {\"name\":\"notebook-alice\",\"event\":\"gone\"}\n\n")
	answer("GET /v1/pods/notebook-alice", "application/problem+json", http.StatusNotFound,
		`{"type":"/v1/docs#NOT_FOUND","title":"there is no such pod, or it is not the caller's","status":404,"detail":"you have no such pod","reason":"NOT_FOUND"}`)
	return mux
}
