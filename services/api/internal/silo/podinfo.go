package silo

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"time"

	"berth/pkg/events"
)

// PodInfo is what /get_pods shows of a pod. The members up to k8s_pod_info are
// the old backend's; those after it are Berth's own.
type PodInfo struct {
	Name       string            `json:"pod_name"`
	Container  string            `json:"container_name"`
	Image      string            `json:"image_name"`
	IP         string            `json:"pod_ip"`
	NodeIP     string            `json:"node_ip"`
	Owner      string            `json:"owner"`
	Age        string            `json:"age"`
	Status     string            `json:"status"`
	URL        string            `json:"url"`
	SSHURL     string            `json:"ssh_url"`
	Tokens     map[string]string `json:"tokens"`
	Kubernetes map[string]string `json:"k8s_pod_info"`

	Event      events.Type   `json:"event"`
	Reason     events.Reason `json:"reason,omitempty"`
	Message    string        `json:"message,omitempty"`
	Generation string        `json:"generation"`
	Warnings   []string      `json:"warnings,omitempty"`
}

// InfoOf returns what is shown of a pod at a time, but for its tokens, which the record does not have.
// Without a domain a pod has no URLs.
func InfoOf(r events.Record, ingressDomain string, now time.Time) PodInfo {
	info := PodInfo{
		Name: r.Pod, Container: r.Container, Image: r.Image, NodeIP: r.Observed.NodeIP, Owner: r.User,
		Age: age(r.Observed.StartTime, now), Status: status(r),
		Tokens: map[string]string{}, Kubernetes: map[string]string{},
		Event: r.Event, Reason: r.Reason, Message: r.Message, Generation: r.Generation, Warnings: slices.Clone(r.Warnings),
	}
	if len(r.Observed.IPs) > 0 {
		info.IP = r.Observed.IPs[0]
	}
	if r.HTTP && ingressDomain != "" {
		info.URL = "https://" + r.Pod + "." + ingressDomain
	}
	if r.SSHPort != 0 {
		port := strconv.Itoa(r.SSHPort)
		info.Kubernetes["sshPort"] = port
		if ingressDomain != "" {
			login := url.URL{Scheme: "ssh", User: url.User(cmp.Or(r.SSHUser, "root")), Host: net.JoinHostPort(ingressDomain, port)}
			info.SSHURL = login.String()
		}
	}
	return info
}

// age is hours, minutes and seconds without zero padding, as the old clients
// parse it.
func age(start, now time.Time) string {
	if start.IsZero() || now.Before(start) {
		return "0:0:0"
	}
	seconds := int(now.Sub(start) / time.Second)
	return fmt.Sprintf("%d:%d:%d", seconds/3600, seconds/60%60, seconds%60)
}

// status is Creating or Deleting while one is under way, else the phase and the
// start time.
func status(r events.Record) string {
	switch r.Event {
	case events.Claimed, events.Licensed, events.Launching, events.Launched, events.Waiting, events.Running:
		return "Creating"
	case events.Failed, events.Deleting:
		return "Deleting"
	case events.Ready, events.Unready, events.Ended, events.Gone:
	}
	if r.Observed.StartTime.IsZero() {
		return r.Observed.Phase + ":"
	}
	return r.Observed.Phase + ":" + r.Observed.StartTime.UTC().Format("2006-01-02T15:04:05Z")
}
