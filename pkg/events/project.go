package events

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ProjectRequest asks for the pod of a project. What is left out is as at the last start.
type ProjectRequest struct {
	// ID is the project's, a UUID in lower case.
	ID string `json:"project_id"`
	// Image and Tag are what {PROJECT_IMAGE} and {PROJECT_TAG} become.
	Image string `json:"image,omitempty"`
	Tag   string `json:"tag,omitempty"`
	// Env is what {extra_env} becomes: variables, which may be secret. Config is what
	// {project_config} becomes: a JSON object.
	Env    map[string]string `json:"env,omitempty"`
	Config json.RawMessage   `json:"config,omitempty"`
	// Reset names those of the four that are to be as the site gives them, not as at the last
	// start: ResetImage and so on. One that is set all the same is as it is set.
	Reset []string `json:"reset,omitempty"`
	// Cause says who wants the project to run.
	Cause Cause `json:"cause,omitempty"`
	// LastStop is the place in the log of the last stop of the project that whoever asks knew
	// of, before anything else was looked at; 0 for none. A later stop calls the start off. nil
	// means that whoever asks does not know of stops, and that none calls it off.
	LastStop *uint64 `json:"last_stop,omitempty"`
}

// What [ProjectRequest.Reset] may name.
const (
	ResetImage  = "image"
	ResetTag    = "tag"
	ResetEnv    = "env"
	ResetConfig = "config"
)

// Resets says whether a member is to be as the site gives it.
func (r ProjectRequest) Resets(member string) bool { return slices.Contains(r.Reset, member) }

// check refuses a project that cannot be one, or is not the one of a user.
func (r ProjectRequest) check(user string) error {
	if !ProjectID(r.ID) || user != ProjectUser(r.ID) {
		return fmt.Errorf("project_id %.40q is no UUID in lower case, or not the one of user_id: %w", r.ID, ErrMalformed)
	}
	for _, member := range r.Reset {
		if !slices.Contains([]string{ResetImage, ResetTag, ResetEnv, ResetConfig}, member) {
			return fmt.Errorf("reset of %.40q, which is none of image, tag, env and config: %w", member, ErrMalformed)
		}
	}
	return nil
}

// Cause says why a project is started, stopped or started again.
type Cause string

// The causes.
const (
	CauseAsked         Cause = "asked"          // Over HTTP.
	CauseHub           Cause = "hub"            // Written into the project's row.
	CauseLicenses      Cause = "licenses"       // Its licenses make another pod of it.
	CauseAlwaysRunning Cause = "always_running" // It died, and is to run always.
)

// Restart says that a project's pod is deleted so that another one is made.
type Restart struct {
	// Command is the id of the create that follows.
	Command string `json:"command_id"`
	Cause   Cause  `json:"cause,omitempty"`
	// Message says why, for people.
	Message string `json:"message,omitempty"`
	// LastStop is that of the [ProjectRequest] that follows.
	LastStop *uint64 `json:"last_stop,omitempty"`
}

// Knows says whether a wish was made by somebody who knew of the stop at a place in the log, 0 for
// one that has none: then that stop does not end it.
func (r *Restart) Knows(stop uint64) bool {
	return r != nil && stop > 0 && r.LastStop != nil && *r.LastStop >= stop
}

// After says that there was a stop between an earlier wish and this one, which the earlier one did not know of.
func (r *Restart) After(earlier *Restart) bool {
	return earlier != nil && earlier.LastStop != nil && r.Knows(*earlier.LastStop+1)
}

// ProjectTask is something to do about a project or a license.
type ProjectTask struct {
	Do TaskKind `json:"do"`
	// Project or License is what it is about, a UUID in lower case.
	Project string `json:"project_id,omitempty"`
	License string `json:"license_id,omitempty"`
	// At is when it was to be done at the earliest; what is computed is computed for a
	// time not before.
	At time.Time `json:"at,omitzero"`
	// Cause says why a project is started.
	Cause Cause `json:"cause,omitempty"`
	// After is what a list of projects goes on behind, for a task that is done in parts.
	After string `json:"after,omitempty"`
}

// TaskKind is what a [ProjectTask] does.
type TaskKind string

// The tasks.
const (
	// TaskLicense finds the projects that a license touches, and has each computed again.
	TaskLicense TaskKind = "license"
	// TaskSettings has all projects that run computed again.
	TaskSettings TaskKind = "settings"
	// TaskRecompute computes a project that runs again, and restarts it if that makes
	// another pod of it.
	TaskRecompute TaskKind = "recompute"
	// TaskStart starts a project that does not run and should.
	TaskStart TaskKind = "start"
	// TaskIdle warns or stops a project that has been idle for long enough.
	TaskIdle TaskKind = "idle"
)

// ProjectUser is the user id of a project in the log: "project:<uuid>".
func ProjectUser(project string) string { return projectPrefix + project }

// ProjectOf returns the project of a user id; ok is false for the id of a person.
func ProjectOf(user string) (project string, ok bool) { return strings.CutPrefix(user, projectPrefix) }

// ProjectPod is the name of a project's pod.
func ProjectPod(project string) string { return projectPodPrefix + project }

// IsProjectPod says whether a pod's name is that of a project's pod, whoever has it.
func IsProjectPod(name string) bool {
	project, ok := strings.CutPrefix(name, projectPodPrefix)
	return ok && ProjectID(project)
}

const (
	projectPrefix    = "project:"
	projectPodPrefix = "project-"
)

// ProjectID says whether a text is a project's or a license's id as Berth writes it: a UUID (RFC 9562)
// in lower case.
func ProjectID(text string) bool {
	if len(text) != 36 {
		return false
	}
	for i, c := range []byte(text) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || !dash && !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	return true
}

// checkProjects refuses a command about something that is no project, or about the
// project of another user than the command's.
func (c Command) checkProjects() error {
	request := c.Project
	if c.Create != nil && c.Create.Project != nil {
		request = c.Create.Project
		if c.Create.ManifestURL != "" {
			return fmt.Errorf("create with manifest_url and project: %w", ErrMalformed)
		}
	}
	if request != nil {
		if err := request.check(c.User); err != nil {
			return err
		}
	}
	if c.Stage == StageRestart {
		if project, ok := ProjectOf(c.User); !ok || !ProjectID(project) {
			return fmt.Errorf("restart of %.60q, which is no project: %w", c.User, ErrMalformed)
		}
	}
	if t := c.Task; t != nil {
		about := map[TaskKind]string{TaskLicense: t.License, TaskRecompute: t.Project, TaskStart: t.Project, TaskIdle: t.Project}
		id, needed := about[t.Do]
		switch {
		case t.Do == TaskSettings:
		case !needed:
			return fmt.Errorf("task %.40q: %w", string(t.Do), ErrMalformed)
		case !ProjectID(id):
			return fmt.Errorf("task %s about %.40q, which is no UUID in lower case: %w", t.Do, id, ErrMalformed)
		}
	}
	return nil
}
