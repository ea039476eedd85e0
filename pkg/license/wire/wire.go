// Package wire is what the services ask one another about licenses, projects and
// templates: the methods, and what goes in and comes out of each, as JSON. The HTTP API
// shows the same, and describes it by the jsonschema tags.
package wire

import (
	"encoding/json"
	"time"
)

// The methods of the licenser. Next to each stands what it takes and returns.
const (
	MethodLicenses = "licenses"         // ListLicenses → LicenseList
	MethodLicense  = "license"          // LicenseRef → License
	MethodPut      = "license.put"      // PutLicense → License
	MethodDelete   = "license.delete"   // LicenseRef → nothing
	MethodSeats    = "license.seats"    // LicenseRef → SeatList
	MethodUsage    = "license.usage"    // UsageQuery → UsageList
	MethodAttach   = "license.attach"   // Attachment → nothing
	MethodAttached = "license.attached" // AttachedQuery → AttachedList
	MethodDetach   = "license.detach"   // Attachment → nothing
	MethodProject  = "project"          // ProjectRef → Project
	MethodActivity = "project.activity" // ProjectRef → nothing
	MethodStop     = "project.stop"     // ProjectRef → nothing; it is not started again by itself, and its pod and starts under way are left alone
	MethodPreview  = "preview"          // PreviewQuestion → Preview
	MethodReplay   = "replay"           // ReplayRequest → Replay
)

// The methods of the creator.
const (
	MethodTemplate = "template" // ProjectRef → Template
	MethodRender   = "render"   // RenderRequest → Rendered
	MethodDryRun   = "dry_run"  // DryRunRequest → Verdict
)

// License is a site license as it is saved, with what is known of its use.
type License struct {
	// ID is a UUID in lower case.
	ID          string `json:"id" jsonschema:"a UUID"`
	Title       string `json:"title,omitempty" jsonschema:"what people call it"`
	Description string `json:"description,omitempty" jsonschema:"what it is for"`
	// Activates is when it begins to be valid; a license without one never is. Expires is
	// when it ends, nil for never.
	Activates *time.Time `json:"activates,omitempty" jsonschema:"when it begins to be valid; one without it never is"`
	Expires   *time.Time `json:"expires,omitempty" jsonschema:"when it ends, without it never"`
	// Quota is what it gives; Upgrades is the older form of the same. Both are JSON objects.
	Quota    json.RawMessage `json:"quota,omitempty" jsonschema:"what it gives, an object; patch in it is a text with a list of JSON Patch operations"`
	Upgrades json.RawMessage `json:"upgrades,omitempty" jsonschema:"the older form of quota, an object"`
	// RunLimit is how many pods may use it at the same time; nil and 0 mean any number.
	RunLimit *int `json:"run_limit,omitempty" jsonschema:"how many pods may use it at a time; 0 and nothing mean any number"`
	// Managers are the ids of the accounts that may see it.
	Managers []string `json:"managers,omitempty" jsonschema:"the ids of the accounts that may see it"`

	// The rest is told, and ignored in what is saved.
	Created  *time.Time `json:"created,omitempty" jsonschema:"when it was made; told, not taken"`
	LastUsed *time.Time `json:"last_used,omitempty" jsonschema:"when it was used last; told, not taken"`
	// SeatsUsed is how many pods use it now.
	SeatsUsed int `json:"seats_used" jsonschema:"how many pods use it now; told, not taken"`
	// Revision changes with each change of the license.
	Revision string `json:"revision,omitempty" jsonschema:"changes with each change; told, not taken: see If-Match"`
	// Warnings are what was noticed when it was saved, and is no reason to refuse it.
	Warnings []string `json:"warnings,omitempty" jsonschema:"what was noticed when it was saved, and is no reason to refuse it; told, not taken"`
}

// ListLicenses asks for licenses by id.
type ListLicenses struct {
	// After is the last id of the page before; Limit is how many at the most (default 100, at most 500).
	After string `json:"after,omitempty"`
	Limit int    `json:"limit,omitempty"`
}

// LicenseList is a page of licenses; Next is missing on the last one.
type LicenseList struct {
	Licenses []License `json:"licenses" jsonschema:"the licenses of the page, by id"`
	Next     string    `json:"next,omitempty" jsonschema:"the page_token of the next page; missing on the last one"`
}

// LicenseRef names a license.
type LicenseRef struct {
	ID string `json:"id"`
	// Revision, where it is set, must be that of the license that is deleted: else the fault is CONFLICT.
	Revision string `json:"revision,omitempty"`
	// Actor is who deletes it, for the log.
	Actor string `json:"actor,omitempty"`
}

// PutLicense saves a license, a new one or in place of the one that has its id.
type PutLicense struct {
	License License `json:"license"`
	// Revision, where it is set, must be that of the license that is replaced, "any" for one
	// that must be there, "none" for one that must be new: else the fault is CONFLICT.
	Revision string `json:"revision,omitempty"`
	// Actor is who changes it, for the log.
	Actor string `json:"actor,omitempty"`
	// DryRun checks and does not save.
	DryRun bool `json:"dry_run,omitempty"`
}

// Seat is a pod that uses a license.
type Seat struct {
	License    string    `json:"license_id" jsonschema:"the license that is used"`
	User       string    `json:"user_id" jsonschema:"whose pod it is"`
	Project    string    `json:"project_id,omitempty" jsonschema:"the project whose pod it is"`
	Pod        string    `json:"pod_name" jsonschema:"the pod that has the seat"`
	Generation string    `json:"generation" jsonschema:"which pod of that name"`
	Since      time.Time `json:"since" jsonschema:"since when"`
}

// SeatList is who uses a license now, at most 1,000 of Total.
type SeatList struct {
	RunLimit *int   `json:"run_limit,omitempty" jsonschema:"how many seats there are; any number without it"`
	Total    int    `json:"total" jsonschema:"how many are taken"`
	Seats    []Seat `json:"seats" jsonschema:"who has them, at most 1000"`
}

// UsageQuery asks who has used a license, the newest first.
type UsageQuery struct {
	ID string `json:"id"`
	// Since leaves out what ended before it.
	Since time.Time `json:"since,omitzero"`
	// After is the Next of the page before; Limit is at most 500 (default 100).
	After string `json:"after,omitempty"`
	Limit int    `json:"limit,omitempty"`
}

// Usage is one use of a license by one pod. Stop is nil while it lasts.
type Usage struct {
	License    string     `json:"license_id" jsonschema:"the license that was used"`
	User       string     `json:"user_id" jsonschema:"whose pod it was"`
	Project    string     `json:"project_id,omitempty" jsonschema:"the project whose pod it was"`
	Pod        string     `json:"pod_name" jsonschema:"the pod that used it"`
	Generation string     `json:"generation" jsonschema:"which pod of that name"`
	Start      time.Time  `json:"start" jsonschema:"when the use began"`
	Stop       *time.Time `json:"stop,omitempty" jsonschema:"when it ended; missing while it lasts"`
}

// UsageList is a page of uses.
type UsageList struct {
	Usage []Usage `json:"usage" jsonschema:"who has used the license, the newest first"`
	Next  string  `json:"next,omitempty" jsonschema:"the page_token of the next page; missing on the last one"`
}

// Attachment is the use of a license by a project or by a user's pods; one of both is set.
type Attachment struct {
	License string `json:"license_id"`
	Project string `json:"project_id,omitempty"`
	User    string `json:"user_id,omitempty"`
	Actor   string `json:"actor,omitempty"`
}

// AttachedQuery asks what a license is attached to.
type AttachedQuery struct {
	ID string `json:"id"`
	// After is the Next of the page before; Limit is how many at the most (default 100, at most 500).
	After string `json:"after,omitempty"`
	Limit int    `json:"limit,omitempty"`
}

// Attached is a project, or a person, that has a license.
type Attached struct {
	Project string `json:"project_id,omitempty" jsonschema:"the project that has the license"`
	User    string `json:"user_id,omitempty" jsonschema:"the user whose pods have it; one of the two is there"`
	// Status and Reason are what became of it at the project's last start.
	Status string `json:"status,omitempty" jsonschema:"what became of it at the project's last start; missing before the first, and of a user"`
	Reason string `json:"reason,omitempty" jsonschema:"why it has that status"`
}

// AttachedList is a page of what a license is attached to: projects by id, then users. Next is missing on the last
// page. Projects and Users count all, and are told on the first page alone.
type AttachedList struct {
	Attached []Attached `json:"attachments" jsonschema:"what has the license: projects by id, then users by id"`
	Projects *int       `json:"projects,omitempty" jsonschema:"how many projects have it, of all pages; on the first one alone"`
	Users    *int       `json:"users,omitempty" jsonschema:"how many users have it, of all pages; on the first one alone"`
	Next     string     `json:"next,omitempty" jsonschema:"the page_token of the next page; missing on the last one"`
}

// ProjectRef names a project, a UUID in lower case.
type ProjectRef struct {
	ID string `json:"project_id"`
}

// Project is what the database knows of a project.
type Project struct {
	ID string `json:"project_id" jsonschema:"the id of the project"`
	// State is the member state of the column of that name: opened, starting, running, stopping.
	State string `json:"state,omitempty" jsonschema:"opened, starting, running or stopping"`
	// Error says why it does not run where it should, or, of one without a pod, why what its row asked for was refused.
	Error string `json:"error,omitempty" jsonschema:"why it does not run where it should"`
	// Licenses are those attached to it, with the status that the last check gave them.
	Licenses []LicenseStatus `json:"licenses" jsonschema:"the licenses attached to it, as the last check found them"`
	// RunQuota is the quota that it runs with, without patches.
	RunQuota json.RawMessage `json:"run_quota,omitempty" jsonschema:"the quota that it runs with, an object, without patches"`
	// LastActivity is when somebody last used it, nil where nobody has said.
	LastActivity *time.Time `json:"last_activity,omitempty" jsonschema:"when somebody last used it"`
	// IdleTimeout is after how many seconds without activity it is stopped, 0 for never.
	IdleTimeout float64 `json:"idle_timeout_seconds,omitempty" jsonschema:"after how many seconds without activity it is stopped; never without it"`
	// AlwaysRunning says that it is started again when it dies; Failures is how often in a
	// row that did not help, and RetryAt when it is tried next.
	AlwaysRunning bool       `json:"always_running,omitempty" jsonschema:"whether it is started again when it dies"`
	Failures      int        `json:"failures,omitempty" jsonschema:"how often in a row that did not help"`
	RetryAt       *time.Time `json:"retry_at,omitempty" jsonschema:"when it is tried next"`
}

// LicenseStatus is what became of a license in a check.
type LicenseStatus struct {
	ID     string `json:"id" jsonschema:"the id of the license"`
	Title  string `json:"title,omitempty" jsonschema:"what people call it"`
	Status string `json:"status,omitempty" jsonschema:"active, ineffective, exhausted, expired or future"`
	Reason string `json:"reason,omitempty" jsonschema:"why it gives nothing"`
	// Patched says that its patch has changed the pod, Machine that its gpu or dedicated_vm has; a project's row tells neither.
	Patched bool `json:"patched,omitempty" jsonschema:"whether its patch has changed the pod that is previewed"`
	Machine bool `json:"machine,omitempty" jsonschema:"whether its gpu or dedicated_vm has changed the pod that is previewed"`
}

// PreviewRequest asks what pod would be made. Just one of Project and User is set.
type PreviewRequest struct {
	Project string `json:"project_id,omitempty" jsonschema:"the project whose pod is wanted"`
	User    string `json:"user_id,omitempty" jsonschema:"or the user whose pod is wanted"`
	// ManifestURL and Settings are for a user's pod.
	ManifestURL string                       `json:"manifest_url,omitempty" jsonschema:"what the user's pod is made from"`
	Settings    map[string]map[string]string `json:"settings,omitempty" jsonschema:"variables of the user's pod by container and name"`
	// Silo is the name of the silo that the user's pod would be for; without it that which asks.
	Silo string `json:"silo,omitempty" jsonschema:"the silo that the user's pod would be for, by its name; without it the one that asks"`
	// Image and Tag are for a project's; left out they are as at a start.
	Image string `json:"image,omitempty" jsonschema:"the image of the project's pod; without it as at a start"`
	Tag   string `json:"tag,omitempty" jsonschema:"the tag of that image"`
	// Licenses, where it is not nil, is the set of licenses instead of those attached: a license with
	// nothing but an id is the one that is saved, any other one is taken as it is here.
	Licenses []License `json:"licenses,omitzero" jsonschema:"these licenses instead of those attached: one with an id alone is the one that is saved"`
	// Change, where it is not nil, takes the place of the saved license of its id, where that is attached.
	Change *License `json:"change,omitempty" jsonschema:"in place of the saved license of its id, where that is attached"`
	// Template, where it is set, takes the place of the site's: a Pod as JSON.
	Template json.RawMessage `json:"template,omitempty" jsonschema:"in place of the site's template: a Pod"`
	// NoDryRun leaves the API server out.
	NoDryRun bool `json:"no_dry_run,omitempty" jsonschema:"do not ask the API server"`
}

// PreviewQuestion is a preview request as the licenser gets it: the api, which knows the silos, adds the one that a
// user's pod would be for. The zero Silo stands for none.
type PreviewQuestion struct {
	PreviewRequest
	For Silo `json:"for,omitzero"`
}

// Silo is a silo as its pods get to know it; see events.Silo.
type Silo struct {
	Name        string `json:"name"`
	DataAddress string `json:"data_address,omitempty"`
	HostName    string `json:"host_name,omitempty"`
}

// Preview is the pod that would be made now.
type Preview struct {
	Licenses []LicenseStatus `json:"licenses" jsonschema:"what becomes of each license"`
	Quota    json.RawMessage `json:"quota,omitempty" jsonschema:"what was computed, an object, without patches"`
	Pod      json.RawMessage `json:"pod,omitempty" jsonschema:"the pod that would be made"`
	// Diff leads from the template to the pod: a list of RFC 6902 operations.
	Diff json.RawMessage `json:"diff,omitempty" jsonschema:"the RFC 6902 operations that lead from the template to the pod"`
	// Explanation says what set what; package license defines it.
	Explanation json.RawMessage `json:"explanation,omitempty" jsonschema:"what set what: steps, quota, ignored"`
	// Fault says why there is no pod.
	Fault *PreviewFault `json:"fault,omitempty" jsonschema:"why there is no pod"`
	// Verdict is the API server's, nil where it was not asked; what cannot be read as a Pod is refused all the same.
	Verdict *Verdict `json:"verdict,omitempty" jsonschema:"what the API server says to it, or that it is no Pod; missing where the API server was not asked"`
}

// PreviewFault is why a start would fail.
type PreviewFault struct {
	Reason  string `json:"reason" jsonschema:"why a start would fail; one of the list in the documentation"`
	Message string `json:"message" jsonschema:"the reason in words"`
}

// ReplayRequest asks what past starts would come to with a changed license or template.
type ReplayRequest struct {
	// Since is how far back, at most 90 days.
	Since    time.Time       `json:"since" jsonschema:"how far back, at most 90 days"`
	Change   *License        `json:"change,omitempty" jsonschema:"the license as it would be"`
	Template json.RawMessage `json:"template,omitempty" jsonschema:"the template as it would be: a Pod"`
	// After is the Next of the part before.
	After string `json:"after,omitempty" jsonschema:"the next of the part before"`
	// DryRun asks the API server about each pod that differs.
	DryRun bool `json:"dry_run,omitempty" jsonschema:"ask the API server about each pod that differs"`
}

// Replay is a part of the answer. Looked counts the starts that were run again, Concerned those
// of them that have the license which is changed; it is missing where none is.
type Replay struct {
	Looked    int        `json:"looked" jsonschema:"how many starts were run again"`
	Concerned *int       `json:"concerned,omitempty" jsonschema:"how many of them are of projects that have the license of change"`
	Different []Replayed `json:"different" jsonschema:"those that come to another end"`
	Next      string     `json:"next,omitempty" jsonschema:"the after of the next part; missing on the last one"`
}

// Replayed is a past start that would come to another end.
type Replayed struct {
	Project   string    `json:"project_id,omitempty" jsonschema:"the project that was started"`
	User      string    `json:"user_id,omitempty" jsonschema:"the user whose pod was made"`
	Pod       string    `json:"pod_name" jsonschema:"the name of the pod"`
	StartedAt time.Time `json:"started_at" jsonschema:"when it was started"`
	// Diff leads from the pod as it would be made today to the changed one. Values that may be secret are not in it: such
	// an operation says "withheld": true.
	Diff json.RawMessage `json:"diff,omitempty" jsonschema:"the RFC 6902 operations from today's pod to the changed one; withheld says that a value is not shown"`
	// Fault or Verdict says that it would fail. Today is why it fails today, nil where it does not: with neither of the
	// others the change mends it.
	Fault   *PreviewFault `json:"fault,omitempty" jsonschema:"why it would fail"`
	Today   *PreviewFault `json:"today,omitempty" jsonschema:"why it fails today"`
	Verdict *Verdict      `json:"verdict,omitempty" jsonschema:"what the API server says to it, or that it is no Pod; missing where the API server was not asked"`
}

// Template is the template of the project pods as the site keeps it.
type Template struct {
	// JSON is the text of the pod; Source says where it is from.
	JSON   json.RawMessage `json:"json"`
	Source string          `json:"source"`
	// Labels and Annotations are those by which Berth would know the project's pod.
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// AnnotationPrefix is what the annotations begin with that are Berth's own, and
// [Labels] are the labels: no patch may change them.
const AnnotationPrefix = "berth.dev/"

// Labels returns the keys of the labels by which Berth knows the pods of users and
// projects.
func Labels() []string { return []string{"user", "domain", "podName", "run", "project_id"} }

// RenderRequest asks for the pod of a manifest, as it is before licenses.
type RenderRequest struct {
	User        string                       `json:"user_id"`
	ManifestURL string                       `json:"manifest_url"`
	Settings    map[string]map[string]string `json:"settings,omitempty"`
	// Silo is the one that the pod would be for, zero for none.
	Silo Silo `json:"silo,omitzero"`
}

// Rendered is that pod.
type Rendered struct {
	Pod json.RawMessage `json:"pod"`
}

// DryRunRequest asks what a start would say to a pod: first the creator, which has to read it as
// a Pod, and then the API server.
type DryRunRequest struct {
	Pod json.RawMessage `json:"pod"`
	// Licenses are those of the pod: a refusal names those that have changed it by a patch, gpu or dedicated_vm.
	Licenses []LicenseStatus `json:"licenses,omitempty"`
	// ReadOnly leaves the API server out.
	ReadOnly bool `json:"read_only,omitempty"`
}

// Verdict is what the API server says to a pod that it is asked to make for a trial. A refusal is
// told as that of a start is, without values that may be secret.
type Verdict struct {
	Accepted bool `json:"accepted" jsonschema:"whether it would take the pod"`
	// Invalid says that a refusal is of the pod itself, whatever else the namespace has.
	Invalid bool   `json:"invalid,omitempty" jsonschema:"whether the pod itself is wrong, whatever else the namespace has"`
	Reason  string `json:"reason,omitempty" jsonschema:"why not, in a word"`
	Message string `json:"message,omitempty" jsonschema:"why not"`
	// MakesRoom says of a pod that a full namespace refuses that there is room for it when the one that has its name now is gone.
	MakesRoom bool `json:"makes_room,omitempty" jsonschema:"whether there is room for it when the pod that has its name now is gone"`
	// Warnings are the API server's, and say which members it does not know, also where it was not asked.
	Warnings []string `json:"warnings,omitempty" jsonschema:"what it warns of"`
}
