package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/template"
	"time"

	"berth/pkg/events"
)

//go:embed reference.md.tmpl
var page string

// row is a line of a table.
type row struct{ Name, Appended, Means string }

// Reference returns the page, with an event in its wire form as the example. It
// is the same for the same registries.
func Reference(event []byte) ([]byte, error) {
	e, err := events.Parse(event)
	if err != nil {
		return nil, fmt.Errorf("read example: %w", err)
	}
	if e.Record == nil {
		return nil, fmt.Errorf("read example: %w: not a pod's", events.ErrMalformed)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, bytes.TrimSpace(event), "", "  "); err != nil {
		return nil, fmt.Errorf("read example: %w", err)
	}
	r := e.Record
	t, err := template.New("reference").Parse(page)
	if err != nil {
		return nil, fmt.Errorf("read page: %w", err)
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{
		"Example": indented.String(), "ExampleType": e.CloudEventType(),
		"ExampleSubject": events.PodSubject(r.Cluster, r.Pod, r.User, r.Event),
		"Project":        events.PodSubject(r.Cluster, "lab", "project:3f0c", events.Ready),
		"User":           r.User, "UserToken": events.Token(r.User), "UserFilter": events.UserFilter(r.Cluster, r.User),
		"PodFilter":   events.PodFilter(r.Cluster, r.Pod),
		"ReadyFilter": events.EventFilter(r.Cluster, events.Ready), "FailedFilter": events.EventFilter(r.Cluster, events.Failed),
		"Cluster": r.Cluster, "Pod": r.Pod, "ClusterFilter": events.ClusterFilter(r.Cluster),
		"Outcome": events.OutcomeSubject(r.Cluster, r.Command), "Mark": events.MarkSubject(r.Cluster), "Heartbeat": events.HeartbeatSubject(r.Cluster),
		"Log": events.LogStream, "Commands": events.CommandStream, "DeadLetters": events.DeadLetterStream,
		"Types": types(), "Reasons": reasons(), "Verdicts": verdicts(), "Stages": stages(r), "Timers": timers(r),
		"MaxEvent": kib(events.MaxEvent), "MaxCommand": kib(events.MaxCommand), "MaxManifest": kib(events.MaxManifest),
		"OutcomeTTL": strings.TrimSuffix(events.OutcomeTTL.Truncate(time.Minute).String(), "0m0s"),
	})
	if err != nil {
		return nil, fmt.Errorf("write page: %w", err)
	}
	return out.Bytes(), nil
}

func types() []row {
	var rows []row
	for _, i := range events.Types() {
		rows = append(rows, row{string(i.Type), i.Appended, i.Means})
	}
	return rows
}

func reasons() []row {
	var rows []row
	for _, i := range events.Reasons() {
		rows = append(rows, row{Name: string(i.Reason), Means: i.Means})
	}
	return rows
}

func verdicts() []row {
	return []row{
		{string(events.Accepted), "creator", "a pod of the name in `pod_name` is being claimed"},
		{string(events.Refused), "creator", "no pod is made; `reason` and `message` say why"},
		{string(events.Done), "deleter", "a command that makes no pod has been carried out; a sweep's `report` says what was found"},
		{string(events.Expiry), "api, or the creator that finds it too late", "the deadline passed before anybody took the command; nothing is made"},
		{string(events.Stopped), "api, licenser", "of the command `stop-<project>`: a project was stopped; starts that were asked for before are called off"},
	}
}

// stages lists the stages with their subjects; who consumes a stage and what for
// stands beside its constant.
func stages(r *events.Record) []row {
	means := map[events.Stage][2]string{
		events.StageCreate:  {"creator", "render a pod and claim its name"},
		events.StageLicense: {"licenser", "check and apply licenses"},
		events.StageLaunch:  {"creator", "make the objects in Kubernetes"},
		events.StageFinish:  {"creator", "copy the tokens out of a pod"},
		events.StageDelete:  {"deleter", "remove them"},

		events.StageDeleteUser: {"deleter", "remove everything of a user"},
		events.StageSweep:      {"deleter", "look for what no pod needs any more, and remove it"},
		events.StageRestart:    {"creator", "delete a project's pod and have another one made"},
		events.StageProject:    {"licenser", "what is to be done about a project or a license when no pod is being made"},
	}
	var rows []row
	for _, s := range events.Stages() {
		rows = append(rows, row{events.CommandFilter(r.Cluster, s), means[s][0], means[s][1]})
	}
	return rows
}

func timers(r *events.Record) []row {
	ofAny := func(t events.Timer) string {
		return strings.Replace(events.TimerSubject(r.Cluster, "ID", t), "ID", "*", 1)
	}
	return []row{
		{Name: ofAny(events.TimerCreate), Means: "ends a create that is not ready in time"},
		{Name: ofAny(events.TimerDelete), Means: "drives a delete again that has not come to its end"},
	}
}

func kib(n int) string { return strconv.Itoa(n>>10) + " KiB" }
