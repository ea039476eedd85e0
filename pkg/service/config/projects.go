package config

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// Projects is about the pods of projects, and what licenses make of them.
type Projects struct {
	// TemplateConfigMap and TemplateKey say where the template of the pods is.
	TemplateConfigMap, TemplateKey string
	// Image and Tag are what {PROJECT_IMAGE} and {PROJECT_TAG} become where a start does not say.
	Image, Tag string
	// DataClaim and SoftwareClaim are the claims of the volumes home and software, empty for those of the template.
	DataClaim, SoftwareClaim string
	// HomePath and SharedFilesPath are folders in the data claim; {project_id} in them is the project.
	HomePath, SharedFilesPath string
	// MemoryRequestLimit bounds the memory request of a pod, in MiB, 0 for not; MemoryRequestPercent
	// bounds it in percent of the memory limit.
	MemoryRequestLimit, MemoryRequestPercent int
	// ProtectedPaths are JSON pointers that no patch may change, besides those of Berth's own.
	ProtectedPaths []string
	// Forbid are what no patch may bring about: hostPath, privileged, hostNetwork.
	Forbid []string
	// RestartsPerSecond spreads what a change of a license restarts.
	RestartsPerSecond int
	// AlwaysRunningFailures is after how many failures in a row a project that is to run always is given up.
	AlwaysRunningFailures int
	// IdleWarning is how long before it is stopped an idle project is warned.
	IdleWarning time.Duration
	// CatchUpInterval is the time between two looks for changes in the database whose notification was lost.
	CatchUpInterval time.Duration
	// UsageLogDays is for how many days the usage log keeps who has used a license, from the end of the use on. 0, the
	// default, is for ever: a hub may bill by it, and only the site knows when it has.
	UsageLogDays int
	// DbgProjectPatching makes the licenser log each pod before and after the patches, without variables.
	DbgProjectPatching bool
}

// What a patch can be forbidden to bring about.
const (
	ForbidHostPath    = "hostPath"
	ForbidPrivileged  = "privileged"
	ForbidHostNetwork = "hostNetwork"
)

// projectPlaceholder stands for the project in a path.
const projectPlaceholder = "{project_id}"

func defaultProjects() Projects {
	return Projects{
		TemplateConfigMap: "project-pod", TemplateKey: "project.json",
		HomePath: "projects/" + projectPlaceholder, SharedFilesPath: "shares/" + projectPlaceholder,
		MemoryRequestPercent: 100,
		RestartsPerSecond:    5, AlwaysRunningFailures: 10,
		IdleWarning: 5 * time.Minute, CatchUpInterval: time.Minute,
	}
}

func readProjects(v value, c *Config) {
	p := &c.Projects
	text := func(field *string) func(value) { return func(v value) { *field = v.text() } }
	integer := func(field *int) func(value) { return func(v value) { *field = v.integer() } }
	duration := func(field *time.Duration) func(value) { return func(v value) { *field = v.duration() } }
	texts := func(field *[]string, want string) func(value) {
		return func(v value) { *field = list(v, want, value.text) }
	}
	v.object("keys like image, tag and dataClaim", map[string]func(value){
		"templateConfigMap":     text(&p.TemplateConfigMap),
		"templateKey":           text(&p.TemplateKey),
		"image":                 text(&p.Image),
		"tag":                   text(&p.Tag),
		"dataClaim":             text(&p.DataClaim),
		"softwareClaim":         text(&p.SoftwareClaim),
		"homePath":              text(&p.HomePath),
		"sharedFilesPath":       text(&p.SharedFilesPath),
		"memoryRequestLimit":    integer(&p.MemoryRequestLimit),
		"memoryRequestPercent":  integer(&p.MemoryRequestPercent),
		"protectedPaths":        texts(&p.ProtectedPaths, "a list of JSON pointers"),
		"forbid":                texts(&p.Forbid, "a list of "+strings.Join(forbidden(), ", ")),
		"restartsPerSecond":     integer(&p.RestartsPerSecond),
		"alwaysRunningFailures": integer(&p.AlwaysRunningFailures),
		"idleWarning":           duration(&p.IdleWarning),
		"catchUpInterval":       duration(&p.CatchUpInterval),
		"usageLogDays":          integer(&p.UsageLogDays),
		"dbgProjectPatching":    func(v value) { p.DbgProjectPatching = v.boolean() },
	})
}

func forbidden() []string { return []string{ForbidHostPath, ForbidPrivileged, ForbidHostNetwork} }

// projects checks what is below the key of that name.
func (v *validator) projects(p Projects) {
	at := func(name string) string { return value{path: "projects"}.below(name) }
	v.check(at("templateConfigMap"), subdomain(p.TemplateConfigMap))
	v.check(at("templateKey"), dataKey(p.TemplateKey))
	v.optional(at("image"), p.Image, reference)
	v.optional(at("tag"), p.Tag, reference)
	v.optional(at("dataClaim"), p.DataClaim, subdomain)
	v.optional(at("softwareClaim"), p.SoftwareClaim, subdomain)
	if p.DataClaim == p.SoftwareClaim && p.DataClaim != "" {
		v.check(at("softwareClaim"), "is the same as dataClaim: the software of all projects must not be where their data is")
	}
	v.check(at("homePath"), projectFolder(p.HomePath))
	v.check(at("sharedFilesPath"), projectFolder(p.SharedFilesPath))
	v.within(at("memoryRequestLimit"), p.MemoryRequestLimit, 0, 1<<24)
	v.within(at("memoryRequestPercent"), p.MemoryRequestPercent, 1, 100)
	for i, pointer := range p.ProtectedPaths {
		v.check(fmt.Sprintf("%s[%d]", at("protectedPaths"), i), jsonPointer(pointer))
	}
	for i, what := range p.Forbid {
		v.check(fmt.Sprintf("%s[%d]", at("forbid"), i), choice(what, forbidden()...))
	}
	v.within(at("restartsPerSecond"), p.RestartsPerSecond, 1, 1000)
	v.within(at("alwaysRunningFailures"), p.AlwaysRunningFailures, 1, 1000)
	v.between(at("idleWarning"), p.IdleWarning, 0, day)
	v.between(at("catchUpInterval"), p.CatchUpInterval, time.Second, day)
	v.within(at("usageLogDays"), p.UsageLogDays, 0, 36500)
}

// dataKey says what is wrong with a key of a ConfigMap.
func dataKey(text string) string {
	fits := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r)
	}
	if text == "" || len(text) > 253 || strings.ContainsFunc(text, func(r rune) bool { return !fits(r) }) {
		return quote(text) + " is no key of a ConfigMap: write letters, digits, -, _ and . alone"
	}
	return ""
}

// reference says what is wrong with a part of an image's name.
func reference(text string) string {
	if len(text) > 255 || strings.ContainsAny(text, " \t\n\"'{}") {
		return quote(text) + " is no part of an image's name: write it like registry.example/project or v1.2"
	}
	return ""
}

// projectFolder says what is wrong with a folder that each project has one of.
func projectFolder(text string) string {
	switch {
	case !strings.Contains(text, projectPlaceholder):
		return quote(text) + " does not have " + projectPlaceholder + ": all projects would share it"
	case path.IsAbs(text), path.Clean(text) != text, slices.Contains(strings.Split(text, "/"), ".."):
		return quote(text) + " is no folder in the claim: write it like projects/" + projectPlaceholder
	}
	return ""
}

// jsonPointer says what is wrong with an RFC 6901 pointer.
func jsonPointer(text string) string {
	rest := strings.NewReplacer("~0", "", "~1", "").Replace(text)
	if !strings.HasPrefix(text, "/") || strings.Contains(rest, "~") {
		return quote(text) + " is no JSON pointer: write it like /spec/hostAliases, with ~1 for / and ~0 for ~"
	}
	return ""
}
