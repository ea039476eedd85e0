package render

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Limits of settings, in bytes. A node gives one variable at most 128 KiB.
const (
	maxVariableName = 256
	maxVariable     = 32 << 10
	maxSettings     = 128 << 10
)

// Variables that every container has, so that what runs in it finds its user's
// silo.
const (
	variableAddress  = "HOME_SERVER_IP"
	variableUser     = "SD_UID"
	variableHostName = "HOME_SERVER_HOSTNAME"
)

// mandatory returns the variables that every container gets, in their order. The
// host name is left as the manifest has it where the site does not know it.
func mandatory(request Request) []corev1.EnvVar {
	list := []corev1.EnvVar{
		{Name: variableAddress, Value: request.SiloAddress},
		{Name: variableUser, Value: request.User},
	}

	if request.SiloHostName != "" {
		list = append(list, corev1.EnvVar{Name: variableHostName, Value: request.SiloHostName})
	}

	return list
}

func reserved(variable string) bool {
	return variable == variableAddress || variable == variableUser || variable == variableHostName
}

// environment sets the variables of all containers, init containers among them.
// The mandatory ones come first, so that others may refer to them as $(SD_UID);
// then the manifest's in their order, with the settings in place of what they
// overwrite; then the other settings by name.
func environment(pod *corev1.Pod, request Request) []string {
	var warnings []string

	unused := maps.Clone(request.Settings)

	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			container := &list[i]
			settings := request.Settings[container.Name]
			delete(unused, container.Name)

			for _, name := range slices.Sorted(maps.Keys(settings)) {
				if reserved(name) {
					warnings = append(warnings, "setting "+name+" of container "+container.Name+" is ignored: Berth sets it")

					continue
				}

				container.Env = set(container.Env, name, settings[name])
			}

			container.Env = prepend(mandatory(request), container.Env)
		}
	}

	for _, name := range slices.Sorted(maps.Keys(unused)) {
		warnings = append(warnings, "settings of container "+bounded(name)+" are ignored: the manifest has no such container")
	}

	return warnings
}

// set overwrites a variable where it first stands, whatever its value came from,
// drops further ones of its name, or adds it at the end.
func set(list []corev1.EnvVar, name, value string) []corev1.EnvVar {
	variable := corev1.EnvVar{Name: name, Value: value}
	first := slices.IndexFunc(list, func(v corev1.EnvVar) bool { return v.Name == name })

	if first < 0 {
		return append(list, variable)
	}

	list[first] = variable
	rest := slices.DeleteFunc(list[first+1:], func(v corev1.EnvVar) bool { return v.Name == name })

	return list[:first+1+len(rest)]
}

// prepend puts variables before others and drops those of their names.
func prepend(front, list []corev1.EnvVar) []corev1.EnvVar {
	names := make(map[string]bool, len(front))
	for _, variable := range front {
		names[variable.Name] = true
	}

	for _, variable := range list {
		if !names[variable.Name] {
			front = append(front, variable)
		}
	}

	return front
}

// checkSettings reports all faults of settings, also of those for containers that
// the manifest lacks. It never quotes a value.
func checkSettings(settings map[string]map[string]string) error {
	var (
		found faults
		total int
	)

	for _, container := range slices.Sorted(maps.Keys(settings)) {
		for _, name := range slices.Sorted(maps.Keys(settings[container])) {
			value := settings[container][name]
			total += len(name) + len(value)

			if fault := variableFault(name, value); fault != "" {
				found.addf("setting %q of container %q: %s", bounded(name), bounded(container), fault)
			}
		}
	}

	if total > maxSettings {
		found.addf("the settings have %d bytes, more than %d", total, maxSettings)
	}

	return found.err(ReasonSettingsInvalid)
}

func variableFault(name, value string) string {
	switch faults := validation.IsEnvVarName(name); {
	case len(faults) > 0:
		return faults[0]
	case len(name) > maxVariableName:
		return "the name is too long"
	case len(value) > maxVariable:
		return "the value is too long"
	case strings.ContainsRune(value, 0):
		return "the value contains a zero byte"
	case !utf8.ValidString(value):
		return "the value is not UTF-8"
	default:
		return ""
	}
}

// bounded makes a name of the caller's fit for a message.
func bounded(name string) string {
	const limit = 100

	return strings.ToValidUTF8(name[:min(len(name), limit)], "?")
}
