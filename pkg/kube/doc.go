// Package kube says how Berth looks at Kubernetes: how its objects are named
// and labelled, whose they are, and what a pod's status means. It is pure:
// nothing here talks to a cluster, reads a clock or logs.
package kube
