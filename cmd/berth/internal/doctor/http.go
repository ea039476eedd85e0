package doctor

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"berth/cmd/berth/internal/progress"
	"berth/pkg/events"
)

// What differences between clocks matter, in seconds. The deadline of a create
// is some tens of seconds by the api's clock and is judged by the creator's.
const (
	skewNoticed = 2
	skewHarmful = 10
)

func (d *diagnosis) api() {
	const check = "api"
	a := d.API
	switch {
	case a.Fault != "":
		d.found(Problem, check, "no answer from "+a.URL+": "+a.Fault,
			"Nobody can make, list, watch or delete pods there.",
			"Start the api, or set BERTH_URL or --url to where it answers.")
		return
	case a.Live != http.StatusOK:
		d.found(Problem, check, fmt.Sprintf("%s answers %d at /livez", a.URL, a.Live),
			"Something else than Berth's api listens there, or it is broken.",
			"Set BERTH_URL or --url to the api's own address; a proxy must let /livez and /readyz through.")
		return
	}
	text := "answers in " + milliseconds(a.Took)
	if told(a.Version) {
		text += ", version " + a.Version
	}
	d.ok(check, text)
	d.ready()
	d.licenses()
	d.template()
	d.clock("api clock", "The api's clock", a.Skew)
}

func (d *diagnosis) ready() {
	const check = "api ready"
	a := d.API
	switch {
	case a.Ready == http.StatusOK:
		d.ok(check, "ready")
	case len(a.Failing) > 0:
		d.found(Problem, check, strings.Join(a.Failing, "; "),
			"The api answers every request with 503.", d.unreadyRemedy())
	default:
		d.found(Problem, check, fmt.Sprintf("answers %d at /readyz", a.Ready),
			"The api answers every request with 503.", "See the api's log.")
	}
}

// licenses judges what the licenser answers, which asks its database. Nothing is said where the token is not one for
// that, or the api cannot answer anybody.
func (d *diagnosis) licenses() {
	const check = "licenses"
	a := d.API
	switch {
	case a.Ready != http.StatusOK:
	case a.Licenses == http.StatusOK:
		d.ok(check, "the licenser and its database answer")
	case strings.Contains(a.LicensesFault, "DATABASE_URL"):
		d.found(Notice, check, a.LicensesFault, "Projects cannot be started; pods of manifests can.",
			"Set DATABASE_URL for the licenser, if the site is to have projects.")
	case a.Licenses >= http.StatusInternalServerError:
		d.found(Problem, check, fmt.Sprintf("answers %d at /v1/licenses: %s", a.Licenses, a.LicensesFault),
			"Starts of projects wait, and licenses cannot be looked at or changed. Nothing is lost.", licenserRemedy)
	}
}

// template judges whether a project could be started. Nothing is said where the licenser, which asks the creator, does not answer.
func (d *diagnosis) template() {
	const check, mend = "template", "The next start takes what is there then; nothing has to be restarted."
	a := d.API
	switch {
	case a.Licenses != http.StatusOK:
	case a.Template == http.StatusOK && (a.TemplateReason == "" || a.TemplateReason == events.ProjectUnknown):
		d.ok(check, "projects can be started from it")
	case a.Template == http.StatusOK && strings.Contains(a.TemplateFault, "is missing: make the ConfigMap") && !d.hasProjects():
		d.found(Notice, check, a.TemplateFault, "Projects cannot be started; pods of manifests can.",
			"Make the ConfigMap, if the site is to have projects. "+mend)
	case a.Template == http.StatusOK && a.TemplateReason == events.TemplateInvalid:
		d.found(Problem, check, a.TemplateFault, "No project can be started or restarted; those that run go on.", "Mend the ConfigMap. "+mend)
	case a.Template == http.StatusOK:
		d.found(Problem, check, string(a.TemplateReason)+": "+a.TemplateFault, "No project can be started.",
			"Mend what the reason names: the site's settings, or the template. "+mend)
	case a.Template >= http.StatusInternalServerError:
		d.found(Notice, check, fmt.Sprintf("answers %d at /v1/preview: %s", a.Template, a.TemplateFault),
			"Whether projects can be started is not known.", "See that a creator runs, and its log.")
	}
}

// hasProjects says whether the log has pods of projects.
func (d *diagnosis) hasProjects() bool {
	return slices.ContainsFunc(d.NATS.Pods.Records, func(r Record) bool { return events.IsProjectPod(r.Pod) })
}

// licenserRemedy is where to look when licenses are not looked at.
const licenserRemedy = "See that the licenser runs and its PostgreSQL answers: the licenser's log says why not, " +
	"and its /readyz where it is more than one row. What waits is done then."

// unreadyRemedy says where to look for the reason why the api is not ready.
func (d *diagnosis) unreadyRemedy() string {
	switch n := d.NATS; {
	case !n.Asked:
		return "Set NATS_URL, so that berth doctor can look at the log too; see the api's log."
	case n.Fault != "" || n.JetStream != "":
		return "Mend NATS first (see below); the api is ready by itself after that."
	case !n.Mark.Current && n.Mark.Fault == "":
		return "See the watcher below: the log has to be compared with the cluster first."
	default:
		return "See the api's log; what it needs of NATS is there, so its own connection or credentials may be wrong."
	}
}

// clock judges a skew. Nothing is said about one that is unknown.
func (d *diagnosis) clock(check, whose string, skew *float64) {
	if skew == nil {
		return
	}
	abs := max(*skew, -*skew)
	if abs < skewNoticed {
		d.ok(check, "agrees with this machine's")
		return
	}
	severity, direction := Notice, "ahead of"
	if abs >= skewHarmful {
		severity = Problem
	}
	if *skew < 0 {
		direction = "behind"
	}
	d.found(severity, check, fmt.Sprintf("%s is %s %s this machine's", whose, span(abs), direction),
		"Deadlines are set by one machine and judged by another: creates expire at once or too late.",
		"Synchronise the clocks of both machines (chrony, systemd-timesyncd); this one may be the wrong one.")
}

// versions says which versions meet. Several at a time are right during an upgrade.
func (d *diagnosis) versions() {
	api := d.API.Version
	for _, b := range d.NATS.Watcher.Beats {
		if told(api) && told(b.Version) && api != b.Version {
			d.found(Notice, "versions", fmt.Sprintf("the api is %s, the watcher %s", api, b.Version),
				"Versions can be mixed during an upgrade; after it they should be the same.", "Finish the upgrade.")
		}
	}
}

// told says that a version is one; a program that was built outside of version
// control has "unknown".
func told(version string) bool { return version != "" && version != "unknown" }

// span writes seconds as people read them.
func span(seconds float64) string {
	return progress.Duration(time.Duration(seconds * float64(time.Second)))
}

// since is how long before the evidence something was.
func (d *diagnosis) since(at time.Time) string { return progress.Duration(d.At.Sub(at)) }

func milliseconds(seconds float64) string {
	return fmt.Sprintf("%.1f ms", seconds*1000)
}
