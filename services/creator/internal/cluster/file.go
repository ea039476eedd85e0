package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream"
)

var (
	// ErrNoFile is returned for a file that is not there, cannot be read, or is empty.
	ErrNoFile = errors.New("there is no such file, or it is empty")
	// ErrNoPod is returned when the pod is not in the cluster any more.
	ErrNoPod = errors.New("there is no such pod")
	// ErrForbidden is returned when the API server does not let this service run
	// commands in pods.
	ErrForbidden = errors.New("the API server allows no exec")
	// ErrUnreachable is returned when the API server cannot be reached: nothing is
	// known about the file.
	ErrUnreachable = errors.New("the API server cannot be reached")
)

// Files reads files out of the containers of one namespace. It is safe for
// concurrent use.
type Files struct {
	client    rest.Interface
	config    *rest.Config
	namespace string
}

// NewFiles returns a Files that runs commands over the API server that a client and
// its configuration are for.
func NewFiles(client kubernetes.Interface, config *rest.Config, namespace string) *Files {
	return &Files{client: client.CoreV1().RESTClient(), config: rest.CopyConfig(config), namespace: namespace}
}

// Read returns the first bytes of a file in a container of a pod, limit of them at
// most, with one command there. The rest of the file is not waited for, so that one
// without an end is no harm.
//
// It returns [ErrNoFile], [ErrNoPod], [ErrForbidden], [ErrUnreachable], the end of ctx,
// or another fault on the way, which may pass. No error has anything of the file.
func (f *Files) Read(ctx context.Context, pod, container, path string, limit int) ([]byte, error) {
	// client-go would log that the connection of a file that is cut is closed.
	ctx, cut := context.WithCancel(klog.NewContext(ctx, klog.Logger{}))
	defer cut()

	request := f.client.Post().Resource("pods").Namespace(f.namespace).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			// The path is an argument, no shell reads it. cat is in every image that has
			// more than a single program in it; head is not.
			Container: container, Command: []string{"cat", path}, Stdout: true,
		}, scheme.ParameterCodec)

	out := &clipped{room: limit, full: cut}
	err := f.stream(ctx, request.URL(), remotecommand.StreamOptions{Stdout: out})
	content, full := out.content()

	switch {
	case full:
		return content, nil
	case err != nil:
		return nil, execFault(err)
	case len(content) == 0:
		return nil, ErrNoFile
	}

	return content, nil
}

// stream runs one command. WebSockets are what API servers want now; servers and
// proxies that do not speak them get SPDY.
func (f *Files) stream(ctx context.Context, address *url.URL, options remotecommand.StreamOptions) error {
	websocket, err := remotecommand.NewWebSocketExecutor(f.config, http.MethodGet, address.String())
	if err != nil {
		return fmt.Errorf("prepare exec: %w", err)
	}

	if err = websocket.StreamWithContext(ctx, options); err == nil || !fallBack(err) {
		return err
	}

	spdy, prepareErr := remotecommand.NewSPDYExecutor(f.config, http.MethodPost, address)
	if prepareErr != nil {
		return fmt.Errorf("prepare exec: %w", prepareErr)
	}

	// Roles name the two by different verbs: get and create. Only with both refused is it
	// forbidden, and of the second refusal client-go leaves no more than its text.
	again := spdy.StreamWithContext(ctx, options)
	if again != nil && upgradeStatus(err) == http.StatusForbidden && strings.Contains(again.Error(), "forbidden") {
		return err
	}

	return again
}

// fallBack says whether a command is worth a second try by SPDY. What the server
// says about the pod or its node it would only say again.
func fallBack(err error) bool {
	if httpstream.IsHTTPSProxyError(err) {
		return true
	}

	code := upgradeStatus(err)

	return httpstream.IsUpgradeFailure(err) && code != http.StatusNotFound && code < http.StatusInternalServerError
}

// upgradeStatus is the HTTP status by which a server has refused to open a stream, 0
// for none.
func upgradeStatus(err error) int {
	var upgrade *httpstream.UpgradeFailureError
	if !errors.As(err, &upgrade) {
		return 0
	}

	return statusOf(upgrade.Cause)
}

// statusOf is the HTTP status that the API server has answered with, 0 for none.
func statusOf(err error) int {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return int(status.Status().Code)
	}

	return 0
}

// exited finds the exit status of a command in a message.
var exited = regexp.MustCompile(`exit status [0-9]`)

// execFault sorts the faults of a command.
func execFault(err error) error {
	var (
		exit    exec.ExitError
		upgrade *httpstream.UpgradeFailureError
		dial    *net.OpError
	)

	switch {
	case errors.As(err, &exit):
		return fmt.Errorf("%w (exit status %d)", ErrNoFile, exit.ExitStatus())
	case errors.As(err, &upgrade):
		err = upgrade.Cause
	case errors.As(err, &dial) && dial.Op == "dial":
		return fmt.Errorf("exec: %w: %w", ErrUnreachable, err)
	}

	// Some nodes make an internal error of it, and quote what the command has printed.
	if exited.MatchString(err.Error()) {
		return ErrNoFile
	}

	switch statusOf(err) {
	case http.StatusNotFound:
		return ErrNoPod
	case http.StatusForbidden:
		return fmt.Errorf("%w: %w", ErrForbidden, err)
	default:
		return fmt.Errorf("exec: %w", err)
	}
}
