package kube

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
)

// Limits of what a manifest may ask to be copied out of its pod.
const (
	maxTokenKeys = 16
	maxTokenKey  = 100
)

// TokenKeys returns the names of the files in /tmp that are copied out of a pod
// with these annotations, each once and in their order; nil for none. Blanks around
// a name and empty names are passed over.
//
// The error names the annotation and the name that is no plain file name: one with
// "/" or "..", with a leading "-", with control characters, or one that is too long.
func TokenKeys(annotations map[string]string) ([]string, error) {
	var keys []string

	for key := range strings.SplitSeq(annotations[AnnotationCopyToken], ",") {
		key = strings.TrimSpace(key)

		switch fault := tokenKeyFault(key); {
		case key == "" || slices.Contains(keys, key):
		case fault != "":
			return nil, fmt.Errorf("annotation %s: %q %s; list names of files in /tmp", AnnotationCopyToken, clipKey(key), fault)
		case len(keys) == maxTokenKeys:
			return nil, fmt.Errorf("annotation %s: it lists more than %d files", AnnotationCopyToken, maxTokenKeys)
		default:
			keys = append(keys, key)
		}
	}

	return keys, nil
}

func tokenKeyFault(key string) string {
	switch {
	case strings.Contains(key, "/"):
		return `has a "/"`
	case key == "." || strings.Contains(key, ".."):
		return "leads out of the folder"
	case strings.HasPrefix(key, "-"):
		return `begins with "-"`
	case len(key) > maxTokenKey:
		return fmt.Sprintf("is longer than %d bytes", maxTokenKey)
	case !utf8.ValidString(key) || strings.ContainsFunc(key, unicode.IsControl):
		return "has characters that no name has"
	default:
		return ""
	}
}

// clipKey makes a name of a manifest's fit for a message.
func clipKey(key string) string {
	return strings.ToValidUTF8(key[:min(len(key), maxTokenKey)], "?")
}

// errPort says what an annotation for a port must be.
var errPort = errors.New("it must be a port, 1 to 65535")

// IngressPort returns the port that a pod with these annotations asks to be served
// at its host name, 0 for none. The error names the annotation, and says that its
// value is no port.
func IngressPort(annotations map[string]string) (int32, error) {
	value, asked := annotations[AnnotationIngressPort]
	if !asked {
		return 0, nil
	}

	port, err := strconv.ParseUint(strings.TrimSpace(value), 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("annotation %s is %q: %w", AnnotationIngressPort, clipKey(value), errPort)
	}

	return int32(port), nil
}

// Whom to log in as: what the container says, else the default.
const (
	variableUserName = "USERNAME"
	defaultSSHUser   = "root"
	maxSSHUser       = 256
)

// SSHUser returns whom to log in as over ssh: the variable USERNAME of the
// first container that has the port [SSHPort], else root. It returns nothing for a pod
// without such a port.
func SSHUser(pod *corev1.Pod) string {
	for i := range pod.Spec.Containers {
		container := &pod.Spec.Containers[i]
		if !slices.ContainsFunc(container.Ports, isSSH) {
			continue
		}

		user := ""
		// A node takes the last of several variables of one name.
		for _, variable := range container.Env {
			if variable.Name == variableUserName {
				user = variable.Value
			}
		}

		if user == "" || len(user) > maxSSHUser || strings.ContainsFunc(user, unicode.IsControl) || !utf8.ValidString(user) {
			return defaultSSHUser
		}

		return user
	}

	return ""
}

func isSSH(port corev1.ContainerPort) bool {
	return port.ContainerPort == SSHPort && (port.Protocol == "" || port.Protocol == corev1.ProtocolTCP)
}
