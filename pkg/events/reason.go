package events

import "slices"

// Reason is a machine-readable cause. The list is closed: services write no
// others, readers keep those that they do not know.
type Reason string

// The reasons. [Reasons] says what each means.
const (
	ManifestForbidden   Reason = "MANIFEST_FORBIDDEN"
	ManifestUnreachable Reason = "MANIFEST_UNREACHABLE"
	ManifestInvalid     Reason = "MANIFEST_INVALID"
	SettingsInvalid     Reason = "SETTINGS_INVALID"
	RequestInvalid      Reason = "REQUEST_INVALID"
	NotFound            Reason = "NOT_FOUND"
	Forbidden           Reason = "FORBIDDEN"
	Unavailable         Reason = "UNAVAILABLE"
	NameExhausted       Reason = "NAME_EXHAUSTED"
	LicenseExhausted    Reason = "LICENSE_EXHAUSTED"
	PatchInvalid        Reason = "PATCH_INVALID"
	PodRejected         Reason = "POD_REJECTED"
	QuotaExceeded       Reason = "QUOTA_EXCEEDED"
	StorageFailed       Reason = "STORAGE_FAILED"
	StoragePending      Reason = "STORAGE_PENDING"
	NameOccupied        Reason = "NAME_OCCUPIED"
	TokensPending       Reason = "TOKENS_PENDING"
	RateLimited         Reason = "RATE_LIMITED"
	Unauthorized        Reason = "UNAUTHORIZED"
	Conflict            Reason = "CONFLICT"
	AlreadyRunning      Reason = "ALREADY_RUNNING"
	ProjectUnknown      Reason = "PROJECT_UNKNOWN"
	TemplateInvalid     Reason = "TEMPLATE_INVALID"
	LicenseInvalid      Reason = "LICENSE_INVALID"
	Idle                Reason = "IDLE"
	GaveUp              Reason = "GAVE_UP"
	Pulling             Reason = "PULLING"
	ImagePull           Reason = "IMAGE_PULL"
	Starting            Reason = "STARTING"
	ContainerConfig     Reason = "CONTAINER_CONFIG"
	Unschedulable       Reason = "UNSCHEDULABLE"
	NotReady            Reason = "NOT_READY"
	Crashed             Reason = "CRASHED"
	Completed           Reason = "COMPLETED"
	Evicted             Reason = "EVICTED"
	OOMKilled           Reason = "OOM_KILLED"
	NodeLost            Reason = "NODE_LOST"
	DeletedOutside      Reason = "DELETED_OUTSIDE"
	Deleted             Reason = "DELETED"
	Timeout             Reason = "TIMEOUT"
	Expired             Reason = "EXPIRED"
	RetriesExhausted    Reason = "RETRIES_EXHAUSTED"
)

// ReasonInfo describes a reason for people.
type ReasonInfo struct {
	Reason Reason
	Means  string
}

// Reasons is the registry of all reasons. The reference in docs/events.md is
// made from it.
func Reasons() []ReasonInfo {
	return []ReasonInfo{
		{ManifestForbidden, "the site does not allow this manifest URL, or where it redirects to"},
		{ManifestUnreachable, "the manifest could not be fetched; the message has the status or the network error"},
		{ManifestInvalid, "the manifest is no usable Pod; the message names line and field"},
		{SettingsInvalid, "a setting is no valid environment variable; or settings of a project, its users or the site cannot be used: the message names them"},
		{RequestInvalid, "the request is malformed; the message names the field"},
		{NotFound, "there is no such pod, or it is not the caller's"},
		{Forbidden, "the caller may not use this service"},
		{Unavailable, "the service cannot answer now; the message says what it waits for"},
		{NameExhausted, "the user has ten pods of this manifest already"},
		{LicenseExhausted, "no seat is free on a license that the pod needs"},
		{PatchInvalid, "a license's patch cannot be applied; the message names license, operation and path"},
		{PodRejected, "the Kubernetes API server refused the pod; the message is its own"},
		{QuotaExceeded, "a Kubernetes resource quota is used up"},
		{StorageFailed, "the user's storage could not be made"},
		{StoragePending, "a volume is not bound or mounted yet"},
		{NameOccupied, "an object of this name that is not this pod's exists in Kubernetes; waiting for it to go"},
		{TokensPending, "the tokens that the pod makes are still to be copied out of it"},
		{RateLimited, "the caller asks too often; Retry-After says when to ask again"},
		{Unauthorized, "the caller has not said who it is, or its credentials are wrong"},
		{Conflict, "what is to be changed has been changed by somebody else meanwhile"},
		{AlreadyRunning, "the project has a pod already"},
		{ProjectUnknown, "the database has no project of this id"},
		{TemplateInvalid, "the template of the project pods is missing or is no usable Pod; the message says what of it"},
		{LicenseInvalid, "a license cannot be used as it is; the message names license and field"},
		{Idle, "the project was stopped because nobody had used it for its idle timeout"},
		{GaveUp, "the project is to run always, and has failed too often in a row"},
		{Pulling, "an image is being pulled"},
		{ImagePull, "an image cannot be pulled"},
		{Starting, "the containers are being started"},
		{ContainerConfig, "a container cannot be set up; the message is the node's own"},
		{Unschedulable, "no node can take the pod; the message is the scheduler's"},
		{NotReady, "the containers run and their readiness is not reported yet"},
		{Crashed, "a container ended with an error; the message names container and exit code"},
		{Completed, "the containers ended by themselves, without an error"},
		{Evicted, "the node evicted the pod"},
		{OOMKilled, "a container used more memory than it may"},
		{NodeLost, "the pod's node is gone or does not answer"},
		{DeletedOutside, "somebody deleted the pod in Kubernetes, not through Berth"},
		{Deleted, "the pod was deleted through Berth while it was being made"},
		{Timeout, "the pod was not ready in time; the message says what it waited for last"},
		{Expired, "nobody took the command before its deadline; nothing has been made"},
		{RetriesExhausted, "a stage failed too often; the message has the last cause"},
	}
}

// Known says whether the reason is on the list.
func (r Reason) Known() bool {
	return slices.ContainsFunc(Reasons(), func(i ReasonInfo) bool { return i.Reason == r })
}
