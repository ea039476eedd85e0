package kube

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Label keys. The first three are those of the old backend and stay, since its
// pods are adopted by them.
const (
	// LabelUser holds the part of the user id before the "@".
	LabelUser = "user"
	// LabelDomain holds the part of the user id behind the "@", or nothing.
	LabelDomain = "domain"
	// LabelPodName holds the pod's own name.
	LabelPodName = "podName"
	// LabelCreatedForPod is on services and ingresses: the name of their pod.
	LabelCreatedForPod = "createdForPod"
	// LabelRun is RunProject on the pods of projects, LabelProject their project's id, and
	// LabelProjectTag the tag of their image.
	LabelRun        = "run"
	LabelProject    = "project_id"
	LabelProjectTag = "project_tag"
	RunProject      = "project"
)

// Selector is the label selector of watches and lists of pods. Every pod that
// Berth may touch matches it; not every pod that matches is one (see Ours).
const Selector = LabelPodName

// Annotation keys. Nobody but Berth may set what begins with AnnotationPrefix.
const (
	AnnotationPrefix = "berth.dev/"
	// AnnotationUser holds the whole user id and decides whose an object is.
	AnnotationUser = AnnotationPrefix + "user"
	// AnnotationSilo holds the name of the silo that asked for the pod.
	AnnotationSilo = AnnotationPrefix + "silo"
	// AnnotationCommand holds the id of the command that made the object.
	AnnotationCommand = AnnotationPrefix + "command"
	// AnnotationGeneration holds the generation of the pod that the object is or
	// belongs to: the position of its claim in the log.
	AnnotationGeneration = AnnotationPrefix + "generation"
	// AnnotationDataAddress holds the silo's address in the data network, on pods that
	// use their user's storage: it is the storage's server.
	AnnotationDataAddress = AnnotationPrefix + "data-address"
)

// Labels returns the labels of a user's pod of that name. They are for people
// and selectors: a part of the user id that is no valid label value is
// sanitised, so only AnnotationUser says for certain whose the pod is.
func Labels(name, user string) map[string]string {
	local, domain, _ := strings.Cut(user, "@")

	return map[string]string{
		LabelUser:    LabelValue(local),
		LabelDomain:  LabelValue(domain),
		LabelPodName: name,
	}
}

// ProjectLabels returns the labels of the pod of that name of a project, whose id as a
// user begins with "project:": those of [Labels], and what says that it is a project.
func ProjectLabels(name, user string) map[string]string {
	all := Labels(name, user)
	all[LabelRun], all[LabelProject] = RunProject, LabelValue(strings.TrimPrefix(user, projectPrefix))

	return all
}

// MarksProject says whether a label is one by which services and network policies take a
// pod for a project's.
func MarksProject(key, value string) bool {
	return key == LabelProject || key == LabelProjectTag || key == LabelRun && value == RunProject
}

// LabelValue returns s if it is a valid label value, else the nearest one:
// forbidden characters become "-", the ends lose what may not stand there, and
// what is longer than 63 bytes is cut and ends in a hash of s. The result may be
// empty. LabelValue is idempotent.
func LabelValue(s string) string {
	value := strings.Trim(strings.Map(labelValueRune, s), "-_.")
	if len(value) > validation.LabelValueMaxLength {
		return shorten(value, s, validation.LabelValueMaxLength)
	}

	return value
}

func labelValueRune(r rune) rune {
	if r == '_' || r == '.' || ('A' <= r && r <= 'Z') {
		return r
	}

	return labelRune(r)
}

// Owner returns the id of the user that an object belongs to. The annotation
// decides where there is one. Pods of the old backend have none: their labels
// user and domain say it, if podName says that they are the pod's own (a copy of
// such a pod under another name is nobody's). ok is false for everything else.
func Owner(obj metav1.Object) (user string, ok bool) {
	if user, annotated := obj.GetAnnotations()[AnnotationUser]; annotated {
		return owner(user)
	}

	labels := obj.GetLabels()
	local, hasUser := labels[LabelUser]
	domain, hasDomain := labels[LabelDomain]

	if !hasUser || !hasDomain || !named(obj) {
		return "", false
	}

	user = local
	if domain != "" {
		user += "@" + domain
	}

	if !userID(user) {
		return "", false
	}

	return user, true
}

// Ours says whether Berth may touch the pod: its label podName names the pod
// itself, and it has an owner.
func Ours(pod *corev1.Pod) bool {
	_, owned := Owner(pod)

	return owned && named(pod)
}

func named(obj metav1.Object) bool {
	return obj.GetLabels()[LabelPodName] == obj.GetName() && obj.GetName() != ""
}

// Limits of what an annotation of Berth's may say, in bytes. Anybody who may make
// objects in the namespace can write them, and what they say goes into subjects.
const (
	maxOwner = 190
	maxLife  = 128
)

// projectPrefix is what the ids of projects begin with, and no person's can.
const projectPrefix = "project:"

// Project says whether the id of a user is a project's.
func Project(user string) bool { return strings.HasPrefix(user, projectPrefix) }

// Person says whether the id of a user is a person's, as silos write it.
func Person(user string) bool { return len(user) <= maxOwner && userID(user) }

// owner checks the id that an annotation names: a user's, or a project's,
// "project:<uuid>". An object with anything else is nobody's.
func owner(id string) (string, bool) {
	user := strings.TrimPrefix(id, projectPrefix)
	if len(id) > maxOwner || !userID(user) {
		return "", false
	}

	return id, true
}

// userID says whether s is a user id as silos write it:
// ^[a-z0-9][-a-z0-9._]*[@]?[-a-z0-9._]*[a-z0-9]$.
func userID(s string) bool {
	if len(s) < 2 || strings.Count(s, "@") > 1 {
		return false
	}

	for i, r := range s {
		alphanumeric := 'a' <= r && r <= 'z' || '0' <= r && r <= '9'
		inside := i > 0 && i < len(s)-1 && strings.ContainsRune("-._@", r)

		if !alphanumeric && !inside {
			return false
		}
	}

	return true
}
