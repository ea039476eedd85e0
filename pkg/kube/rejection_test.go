package kube_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"berth/pkg/kube"
)

func TestReject(t *testing.T) {
	t.Parallel()

	pods := schema.GroupResource{Resource: "pods"}
	forbidden := func(text string) error { return apierrors.NewForbidden(pods, "p", errors.New(text)) }
	rejected := kube.Rejection{Permanent: true, Reason: kube.ReasonPodRejected}
	transient := kube.Rejection{}

	tests := map[string]struct {
		err  error
		want kube.Rejection
	}{
		"none": {nil, kube.Rejection{}},
		"invalid": {
			apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "p", field.ErrorList{
				field.NotFound(field.NewPath("spec.containers[0].volumeMounts[0].name"), "data"),
			}), rejected,
		},
		"bad request":           {apierrors.NewBadRequest("webhook denied it"), rejected},
		"too large":             {apierrors.NewRequestEntityTooLargeError("big"), rejected},
		"forbidden by a policy": {forbidden(`violates PodSecurity "restricted:latest"`), rejected},
		"namespace terminating": {forbidden("unable to create new content in namespace x because it is being terminated"), rejected},
		"namespace missing":     {apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "x"), rejected},
		"quota": {
			forbidden("exceeded quota: q, requested: pods=1, used: pods=5, limited: pods=5"),
			kube.Rejection{Permanent: true, Reason: kube.ReasonQuotaExceeded},
		},
		"exists":                   {apierrors.NewAlreadyExists(pods, "p"), kube.Rejection{Exists: true}},
		"wrapped":                  {fmt.Errorf("create pod: %w", apierrors.NewAlreadyExists(pods, "p")), kube.Rejection{Exists: true}},
		"quota written by another": {apierrors.NewConflict(schema.GroupResource{Resource: "resourcequotas"}, "q", errors.New("modified")), transient},
		"namespace just made":      {forbidden(`error looking up service account x/default: serviceaccount "default" not found`), transient},
		"quota just made":          {forbidden("status unknown for quota: q, resources: pods"), transient},
		"service account missing":  {forbidden(`error looking up service account x/robot: serviceaccount "robot" not found`), rejected},
		"credential expired":       {apierrors.NewUnauthorized("expired"), transient},
		"too many requests":        {apierrors.NewTooManyRequests("slow down", 1), transient},
		"internal":                 {apierrors.NewInternalError(errors.New("failed calling webhook")), transient},
		"a resource version": {
			&apierrors.StatusError{ErrStatus: metav1.Status{Code: http.StatusInternalServerError, Message: "resourceVersion should not be set on objects to be created"}}, rejected,
		},
		"unavailable":               {apierrors.NewServiceUnavailable("starting"), transient},
		"server timeout":            {apierrors.NewServerTimeout(pods, "create", 1), transient},
		"a proxy's page":            {apierrors.NewGenericServerResponse(http.StatusBadGateway, "create", pods, "p", "<html>", 0, true), transient},
		"network":                   {errors.New("dial tcp 127.0.0.1:6443: connect: connection refused"), transient},
		"caller's deadline":         {context.DeadlineExceeded, transient},
		"text of another's message": {apierrors.NewInternalError(errors.New("exceeded quota")), transient},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			got := kube.Reject(tc.err)
			if diff := cmp.Diff(tc.want, got, cmpopts.IgnoreFields(kube.Rejection{}, "Message")); diff != "" {
				t.Errorf("Reject (-want +got):\n%s", diff)
			}

			if tc.err != nil && got.Message != tc.err.Error() {
				t.Errorf("message %q, want %q", got.Message, tc.err)
			}
		})
	}
}

func TestRejectBoundsTheMessage(t *testing.T) {
	t.Parallel()

	got := kube.Reject(errors.New(strings.Repeat("ä", 2000) + "\xff"))
	if len(got.Message) > 1024 || !strings.HasSuffix(got.Message, "ä…") {
		t.Errorf("%d bytes, ends in %q", len(got.Message), got.Message[len(got.Message)-9:])
	}
}
