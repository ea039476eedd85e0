package kube

import (
	"errors"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Rejection is what the failure to create an object means.
type Rejection struct {
	// Reason is ReasonPodRejected or ReasonQuotaExceeded when Permanent, else
	// empty.
	Reason string
	// Message is the API server's, bounded.
	Message string
	// Permanent says that the same request will never be accepted. Everything
	// that is neither Permanent nor Exists is worth another try.
	Permanent bool
	// Exists says that an object of this name exists already; whose it is, is for
	// the caller to find out.
	Exists bool
}

// Reject classifies the error of a create request. A nil error is no rejection.
func Reject(err error) Rejection {
	if err == nil {
		return Rejection{}
	}

	message := err.Error()
	rejection := Rejection{Message: bound(message)}

	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return rejection
	}

	switch code := int(status.Status().Code); {
	case apierrors.IsAlreadyExists(err):
		rejection.Exists = true
	case code == http.StatusForbidden && settling(message):
	case code == http.StatusForbidden && strings.Contains(message, "exceeded quota"):
		rejection.Permanent, rejection.Reason = true, ReasonQuotaExceeded
	case permanent(code), code == http.StatusInternalServerError && strings.Contains(message, alreadyStored):
		rejection.Permanent, rejection.Reason = true, ReasonPodRejected
	}

	return rejection
}

// alreadyStored is what the API server's storage says to an object that has a resource
// version before it is made. The API server takes that for a fault of its own (500).
// https://github.com/kubernetes/kubernetes/blob/v1.36.0/staging/src/k8s.io/apiserver/pkg/storage/errors.go
const alreadyStored = "resourceVersion should not be set on objects to be created"

// permanent says whether an HTTP status blames the request itself. 401 blames
// the credential, which is renewed; 409 another writer (of a quota, for one).
func permanent(code int) bool {
	switch code {
	case http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return false
	default:
		return code >= http.StatusBadRequest && code < http.StatusInternalServerError
	}
}

// settling recognises two refusals of a namespace that is only just made: the
// controllers have not added its default service account, or not yet counted
// what its quota limits.
func settling(message string) bool {
	return strings.Contains(message, `serviceaccount "default" not found`) ||
		strings.Contains(message, "status unknown for quota")
}
