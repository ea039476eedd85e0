package doctor

import (
	"fmt"

	"berth/pkg/events"
)

func (d *diagnosis) kubernetes() {
	const check = "kubernetes"
	k := d.Kubernetes
	switch {
	case !k.Asked:
		d.found(Skipped, check, "not looked at", "", "Set KUBECONFIG or --kubeconfig, and BERTH_NAMESPACE or --namespace, to compare the log with the cluster.")
		return
	case k.Fault != "":
		d.found(Problem, check, "no answer from "+k.Server+": "+k.Fault,
			"Creator, deleter and watcher need the API server; this may be this machine's trouble alone.",
			"Set KUBECONFIG or --kubeconfig to a file that works here (kubectl version), and see whether the services reach it.")
		return
	}
	d.ok(check, fmt.Sprintf("%s, version %s, answers in %s", k.Server, k.Version, milliseconds(k.Took)))
	d.clock("kubernetes clock", "The API server's clock", k.Skew)
	if k.Namespace == "" {
		d.found(Skipped, "namespace", "not looked at", "", "Set BERTH_NAMESPACE or --namespace to the namespace that Berth fills.")
		return
	}
	d.namespace()
	if !k.NamespaceMissing {
		d.lease()
		d.compare()
	}
}

func (d *diagnosis) namespace() {
	const check = "namespace"
	k := d.Kubernetes
	switch {
	case k.NamespaceFault != "":
		d.found(Notice, check, k.Namespace+" cannot be looked at: "+k.NamespaceFault, "Whether it is there is not known.",
			"Use a kubeconfig that may get namespaces.")
	case k.NamespaceMissing:
		d.found(Problem, check, "there is no namespace "+k.Namespace, "No pod can be made.",
			"kubectl create namespace "+k.Namespace+", or set BERTH_NAMESPACE or --namespace to the right one.")
	default:
		d.ok(check, k.Namespace)
	}
}

func (d *diagnosis) lease() {
	const check = "lease"
	k := d.Kubernetes
	name := "berth-watcher-" + d.Cluster
	switch {
	case k.LeaseFault != "":
		d.found(Notice, check, name+" cannot be looked at: "+k.LeaseFault, "Who holds it is not known.", "Use a kubeconfig that may get leases.")
	case k.LeaseMissing:
		d.found(Problem, check, "there is no lease "+name+" in "+k.Namespace, "No watcher has ever led there.",
			"Start the watcher, or set BERTH_NAMESPACE and BERTH_CLUSTER to the right ones.")
	case k.LeaseHolder == "":
		d.found(Problem, check, name+" is held by nobody", "No watcher leads.", "Start the watcher; if one runs, its log says why it does not lead.")
	case k.LeaseAge > k.LeaseLasts+skewHarmful:
		d.found(Problem, check, fmt.Sprintf("%s was renewed %s ago by %s", name, span(k.LeaseAge), k.LeaseHolder),
			"The watcher that led is gone, and no other has taken over.", "Start the watcher; if one runs, see in its log whether it reaches the API server.")
	default:
		d.ok(check, fmt.Sprintf("held by %s, renewed %s ago", k.LeaseHolder, span(k.LeaseAge)))
	}
}

// compare holds the pods in the cluster against the log. What is younger than a
// few seconds is on its way and left out.
func (d *diagnosis) compare() {
	const check = "pods in the cluster"
	k, log := d.Kubernetes, d.NATS.Pods
	switch {
	case k.PodsFault != "":
		d.found(Notice, check, "cannot be listed: "+k.PodsFault, "Whether the log is right about them is not known.", "Use a kubeconfig that may list pods.")
		return
	case !log.Looked:
		d.ok(check, count(k.Count, "pod"))
		return
	}
	records := make(map[string]Record, len(log.Records))
	for _, r := range log.Records {
		records[r.Pod] = r
	}
	there := make(map[string]bool, len(k.Pods))
	var unknown []string
	for _, p := range k.Pods {
		there[p.Name] = true
		r, known := records[p.Name]
		forgotten := !known || r.Event == events.Gone && d.At.Sub(r.At) > settled
		if forgotten && !p.Terminating && d.At.Sub(p.Created) > settled {
			unknown = append(unknown, p.Name)
		}
	}
	var absent []string
	for _, r := range log.Records {
		if r.Launched && !r.Event.Over() && d.At.Sub(r.At) > settled && !there[r.Pod] {
			absent = append(absent, r.Pod)
		}
	}
	const do = "Restart the watcher, which compares at its start, and see its log; it also does so by itself once every resyncInterval."
	text := count(k.Count, "pod")
	if len(unknown) > 0 {
		d.found(Problem, check, fmt.Sprintf("%s; not in the log: %s", text, names(unknown)), "They run, and nobody can list or delete them through Berth.", do)
	}
	if len(absent) > 0 {
		d.found(Problem, check, fmt.Sprintf("%s; in the log, but not there: %s", text, names(absent)), "Their users are told that they run.", do)
	}
	if len(unknown) == 0 && len(absent) == 0 {
		d.ok(check, text+", all as in the log")
	}
}
