package licensing

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"berth/pkg/events"
	"berth/pkg/license/patchset"
	"berth/pkg/license/pod"
	"berth/pkg/license/quota"
)

// Fault is why no pod can be made, however often it is tried.
type Fault struct { //nolint:errname // What the log and callers are told, not only an error.
	Reason events.Reason
	// Message names license, operation, path or field, and has no value of a variable.
	Message string
}

// Error implements error.
func (f *Fault) Error() string { return f.Message }

// refused says for a user what the packages of licenses have refused. findings, where there are any, are those of the quota.
func (in Input) refused(err error, findings ...quota.Finding) error {
	var (
		patch *patchset.Error
		shape *pod.Error
		field *quota.FieldError
	)
	switch {
	case errors.As(err, &patch):
		return in.patchFault(patch)
	case errors.As(err, &field) && field.License == "":
		return &Fault{events.SettingsInvalid, "the project's row: " + field.Error()}
	case errors.As(err, &field), errors.Is(err, quota.ErrUnknownMachine):
		return &Fault{events.LicenseInvalid, in.named(err.Error())}
	case errors.As(err, &shape) && shape.Field != "":
		return in.amountFault(shape, findings)
	case in.Fill == nil:
		return &Fault{events.ManifestInvalid, err.Error()}
	default:
		return &Fault{events.TemplateInvalid, err.Error()}
	}
}

// amountFault blames what gives most of an amount that is no good: a license, or settings that no license is about.
func (in Input) amountFault(shape *pod.Error, findings []quota.Finding) error {
	field, _, _ := strings.Cut(shape.Field, ".")
	blamed, most := quota.Source{Kind: quota.KindLicense}, 0.0
	for _, finding := range findings {
		if finding.Field != field {
			continue
		}
		for _, source := range finding.Sources {
			// What is made of another amount, by a rule, gives nothing of its own.
			amount, ok := source.Amount.(float64)
			if ok && settingOf(source)+source.License != "" && math.Abs(amount) > most {
				blamed, most = source, math.Abs(amount)
			}
		}
	}
	switch setting := settingOf(blamed); {
	case setting != "":
		return &Fault{events.SettingsInvalid, fmt.Sprintf("quota.%s, which %s, is no good: %s", shape.Field, setting, shape.Err)}
	case blamed.License != "":
		return &Fault{events.LicenseInvalid, fmt.Sprintf("%s: quota.%s: %s", in.name(blamed.License), shape.Field, shape.Err)}
	default:
		return &Fault{events.LicenseInvalid, "quota." + shape.Field + " of the licenses" + in.sources(field) + ": " + shape.Err.Error()}
	}
}

// settingOf is what of an amount is no license's, for a message; empty for a license, and for what a rule makes.
func settingOf(source quota.Source) string {
	switch source.Kind {
	case quota.KindSettings:
		return "the project's settings give"
	case quota.KindUser:
		return "the " + source.Rule + " gives" // upgrade of <id>
	case quota.KindSiteDefault:
		return "the site's default_quotas give"
	case quota.KindPayAsYouGo:
		return "the project's purchase gives"
	default:
		return ""
	}
}

// badPatch says which operation of a patch does not load.
func (in Input) badPatch(bad quota.BadPatch) error {
	why := "patch: " + bad.Err.Error()
	for _, row := range in.Check.Rows {
		if text, ok := patchOf(row.Quota); ok && strings.EqualFold(row.ID, bad.License) {
			why = loadFault(text, bad.Err)
		}
	}
	return &Fault{events.PatchInvalid, in.name(bad.License) + ": " + why}
}

// loadFault says why a patch's text does not load, with operation and path where it is one operation's fault.
func loadFault(text string, err error) string {
	var list []json.RawMessage
	if json.Unmarshal([]byte(text), &list) != nil {
		return "patch: " + err.Error()
	}
	for i, op := range list {
		_, err := quota.LoadPatch("[" + string(op) + "]")
		if err == nil {
			continue
		}
		var form struct {
			Path any `json:"path"`
		}
		_ = json.Unmarshal(op, &form) // What is no operation has no path.
		path, _ := form.Path.(string)
		return fmt.Sprintf("operation %d, path %.256q: %s", i, path, strings.TrimPrefix(err.Error(), "operation 0: "))
	}
	return "patch: " + err.Error()
}

func (in Input) patchFault(e *patchset.Error) error {
	what := fmt.Sprintf("%s (%s)", e.Message, e.Code)
	switch {
	case e.License == "":
		return &Fault{events.TemplateInvalid, "the pod before the patches: " + what}
	case e.Operation < 0:
		return &Fault{events.PatchInvalid, fmt.Sprintf("%s: patch: %s", in.name(e.License), what)}
	default:
		return &Fault{events.PatchInvalid, fmt.Sprintf("%s: operation %d, path %q: %s", in.name(e.License), e.Operation, e.Path, what)}
	}
}

// sources are the licenses whose quota has a member, for a message.
func (in Input) sources(field string) string {
	member, _, _ := strings.Cut(field, ".")
	var names []string
	for _, row := range in.Check.Rows {
		if strings.Contains(string(row.Quota), `"`+member+`"`) {
			names = append(names, in.name(row.ID))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// name is what a message calls a license: license "Course 2026" (<id>).
func (in Input) name(id string) string {
	if title := in.title(id); title != "" {
		return fmt.Sprintf("license %q (%s)", clip(title), id)
	}
	return "license " + id
}

// title is that of a license, whatever the case in which a project has its id.
func (in Input) title(id string) string { return in.Titles[strings.ToLower(id)] }

// named puts titles into a message that has ids.
func (in Input) named(message string) string {
	for id := range in.Titles {
		message = strings.ReplaceAll(message, "license "+id, in.name(id))
	}
	return message
}

// maxTitle is how much of a title is shown, in bytes.
const maxTitle = 128

// clip bounds a title, at a character's end.
func clip(title string) string {
	title = strings.ToValidUTF8(title, "\uFFFD")
	if len(title) <= maxTitle {
		return title
	}
	cut := maxTitle
	for !utf8.RuneStart(title[cut]) {
		cut--
	}
	return title[:cut]
}
