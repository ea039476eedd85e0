package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"

	"berth/pkg/kube"
)

// What is kept of the warnings of a trial: how many, and bytes of each.
const (
	maxWarnings = 20
	maxWarning  = 512
)

// trialName is how much of a pod's name the name of its trial has, in bytes: the API
// server adds a few.
const trialName = 48

// DryRun asks the API server what it would say to a pod, given as JSON, of which it
// makes nothing. The pod is tried in this namespace under another name, so that one that
// runs already is not in the way. warnings are the API server's, for members that it
// does not know among others. The error is a [*RejectedError] where it would refuse the
// pod, with the pod's own name in the message; any other may pass. What the API server cannot
// try, for a webhook that wants no trials, it is taken to accept, with a warning.
func (c *Cluster) DryRun(ctx context.Context, pod json.RawMessage) (warnings []string, err error) {
	trial, name, err := trialOf(pod, c.namespace)
	if err != nil {
		return nil, &RejectedError{Reason: kube.ReasonPodRejected, Message: err.Error(), Invalid: true}
	}
	// It is sent as it is: client-go's types would lose what they do not know.
	result := c.client.CoreV1().RESTClient().Post().Namespace(c.namespace).Resource("pods").
		VersionedParams(&metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationWarn}, scheme.ParameterCodec).
		SetHeader("Content-Type", runtime.ContentTypeJSON).Body(trial).Do(ctx)
	for _, w := range result.Warnings() {
		if len(warnings) < maxWarnings {
			warnings = append(warnings, strings.ToValidUTF8(w.Text[:min(len(w.Text), maxWarning)], "?"))
		}
	}
	err = result.Error()
	rejection := kube.Reject(err)
	message := unnamed(rejection.Message, name)
	switch {
	case rejection.Permanent && strings.Contains(message, untried):
		return append(warnings, "the API server could not try the pod: "+message), nil
	case rejection.Permanent:
		return warnings, &RejectedError{
			Reason: rejection.Reason, Message: message,
			// 400 is also what a webhook says that wants something else.
			Invalid: apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) && !strings.Contains(message, "admission webhook"),
		}
	case err != nil:
		return nil, fmt.Errorf("try pod: %w", err)
	}
	return warnings, nil
}

// untried is what the API server says where a webhook wants no trials.
// https://github.com/kubernetes/kubernetes/blob/v1.36.0/staging/src/k8s.io/apiserver/pkg/admission/plugin/webhook/errors/statuserror.go
const untried = "does not support dry run"

// trialSuffix is what the name of a trial has after the beginning of the pod's.
const trialSuffix = "-trial-"

// unnamed puts the pod's name into a message in the place of that of its trial, to which the API server adds a few
// letters, or none where it comes to its refusal before that.
func unnamed(message, name string) string {
	if name == "" {
		return message
	}
	return regexp.MustCompile(regexp.QuoteMeta(trialed(name))+"[a-z0-9]*").ReplaceAllLiteralString(message, name)
}

// trialed is what the name of a pod's trial begins with.
func trialed(name string) string {
	return cmp.Or(strings.TrimRight(name[:min(len(name), trialName)], "-."), "pod") + trialSuffix
}

// trialOf gives a pod a name that nobody has, and the namespace. It returns the pod's own name, too.
func trialOf(pod json.RawMessage, namespace string) (trial []byte, name string, err error) {
	object, meta := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if err := json.Unmarshal(pod, &object); err != nil {
		return nil, "", fmt.Errorf("pod is no JSON object: %w", err)
	}
	if text, ok := object["metadata"]; ok {
		if err := json.Unmarshal(text, &meta); err != nil {
			return nil, "", fmt.Errorf("metadata is no JSON object: %w", err)
		}
	}
	if object == nil || meta == nil {
		return nil, "", errors.New("pod or its metadata is null")
	}
	if text, ok := meta["name"]; ok {
		if err := json.Unmarshal(text, &name); err != nil {
			return nil, "", fmt.Errorf("metadata.name is no text: %w", err)
		}
	}
	delete(meta, "name")
	for member, value := range map[string]string{"generateName": trialed(name), "namespace": namespace} {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, "", fmt.Errorf("marshal %s: %w", member, err)
		}
		meta[member] = text
	}
	text, err := json.Marshal(meta)
	if err != nil {
		return nil, "", fmt.Errorf("marshal metadata: %w", err)
	}
	object["metadata"] = text
	if trial, err = json.Marshal(object); err != nil {
		return nil, "", fmt.Errorf("marshal pod: %w", err)
	}
	return trial, name, nil
}
