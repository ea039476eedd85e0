// Package probe gathers what package doctor judges: it asks the api, NATS and
// Kubernetes, all at once, each for a few seconds at most. It changes nothing.
package probe

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"time"

	"berth/cmd/berth/internal/doctor"
)

// Site says what there is to look at.
type Site struct {
	// API is where the api answers.
	API *url.URL
	// Token is what the api asks for; empty for none.
	Token string
	// NATSURL has the NATS servers, with commas between; empty for none.
	NATSURL string
	Cluster string
	// Kubeconfig is a file, or a list of them as in KUBECONFIG; empty for none.
	Kubeconfig string
	// Namespace is the one that Berth fills; empty where it is not known.
	Namespace string
	// Version is what the caller is, for those who are asked.
	Version string
}

const (
	// requestTimeout bounds each request and each connection.
	requestTimeout = 3 * time.Second
	// listenTime is for how long a heartbeat is waited for: three of them.
	listenTime = 3 * time.Second
	// moreBeats is for how long other watchers are listened for after the first beat.
	moreBeats = 1200 * time.Millisecond
)

// Gather looks at everything. It returns when all have answered or been given
// up; the end of ctx gives up those that are left. What could not be seen is
// a fault in the evidence.
func Gather(ctx context.Context, s Site) doctor.Evidence {
	e := doctor.Evidence{Version: s.Version, Cluster: s.Cluster}
	// The log is read after the cluster's pods have been listed: only then can a
	// pod that is in one of them alone be told from one that comes or goes.
	listed := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() { e.API = askAPI(ctx, s) })
	group.Go(func() {
		defer close(listed)
		e.Kubernetes = askKubernetes(ctx, s)
	})
	group.Go(func() { e.NATS = askNATS(ctx, s, listed) })
	group.Wait()
	e.At = time.Now().UTC()
	return e
}

// skew is how much another clock is ahead of this one, in seconds, as far as it
// is certain: the other read the time between asked and answered, and wrote it
// down with its resolution, cut off.
func skew(theirs, asked, answered time.Time, resolution time.Duration) *float64 {
	least, most := theirs.Sub(answered), theirs.Add(resolution).Sub(asked)
	d := time.Duration(0)
	switch {
	case least > 0:
		d = least
	case most < 0:
		d = most
	}
	seconds := d.Seconds()
	return &seconds
}

// dateSkew reads the time of an HTTP answer, which has whole seconds; nil where
// it has none.
func dateSkew(h http.Header, asked, answered time.Time) *float64 {
	at, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return nil
	}
	return skew(at, asked, answered, time.Second)
}
