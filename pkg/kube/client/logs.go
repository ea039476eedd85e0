package client

import (
	"io"

	"k8s.io/klog/v2"
)

// RedirectLogs makes client-go's own log, one of a process, go to w instead of
// stderr, a line a call: services log JSON there.
func RedirectLogs(w io.Writer) {
	klog.LogToStderr(false)
	klog.SetOutput(w)
}
