package kube

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Life returns which life of a pod's name an object was made for: the id of the
// create command and the generation, both empty for objects that Berth did not
// make.
func Life(obj metav1.Object) (command, generation string) {
	annotations := obj.GetAnnotations()
	command, generation = annotations[AnnotationCommand], annotations[AnnotationGeneration]

	if len(command) > maxLife || len(generation) > maxLife {
		return "", ""
	}

	return command, generation
}

// SameLife says whether two objects were made for the same life of a pod. Names
// are reused, so the name alone does not tell.
func SameLife(a, b metav1.Object) bool {
	commandA, generationA := Life(a)
	commandB, generationB := Life(b)
	return commandA != "" && commandA == commandB && generationA != "" && generationA == generationB
}
