package license

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"berth/pkg/license/internal/tree"
)

// FillOptions are what a template is filled with. A field whose comment names no
// default may be empty where it says so.
type FillOptions struct {
	// ProjectID is the project: a UUID in lower case.
	ProjectID string
	// Image and Tag are put for {PROJECT_IMAGE} and {PROJECT_TAG}; a template that has
	// the placeholder needs the value.
	Image, Tag string
	// SharedFiles, where {project_id} is the project, is put for {shared_files_path}:
	// shares/{project_id}.
	SharedFiles string
	// ExtraEnv and ProjectConfig, in base64, are put for {extra_env} and {project_config}.
	ExtraEnv, ProjectConfig string

	// Name is the pod's name: project-<ProjectID>.
	Name string
	// Namespace is the pod's; the template's where it is empty.
	Namespace string
	// Labels and Annotations are Berth's; they win over the template's.
	Labels, Annotations map[string]string

	// RestartPolicy is for a template without one: Never, since a project that
	// dies is started by whoever counts how often.
	RestartPolicy string
	// HomeVolume is mounted at HomePath with the project's directory, HomeDirectory, as
	// subPath: home at /home/user, projects/{project_id}, where {project_id} is the project.
	HomeVolume, HomePath, HomeDirectory string
	// SoftwareVolume is mounted at SoftwarePath, read-only: software at /ext.
	SoftwareVolume, SoftwarePath string
	// DataClaim and SoftwareClaim are the claims of the home and the software volume
	// where those are claims; the template's where they are empty.
	DataClaim, SoftwareClaim string
}

var projectID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// Fill makes a project's pod of a template: it puts values for the placeholders in
// the string values of the document, so that none of them can change its
// structure, then does what every project's pod needs. Values are not filled
// again, names of members never, and a placeholder that it does not know is left alone.
//
// What every pod gets: its name and namespace, the labels run, project_id and
// project_tag, and those of opts. What it gets where the template does not say
// otherwise: the restart policy; the project's directory as subPath where the home
// volume is mounted at its path without subPath or subPathExpr; readOnly where the
// software volume is mounted at its path without it. Volumes and mounts that the
// template lacks are not added. A pod whose home and software are one claim is refused:
// it could change the software of all projects.
//
// filled is canonical; the steps lead to it from the canonical template. The error
// names the option or the place in the template. Arguments are not modified.
func Fill(template json.RawMessage, opts FillOptions) (filled json.RawMessage, steps []Step, err error) {
	if err := opts.complete(); err != nil {
		return nil, nil, fmt.Errorf("fill template: %w", err)
	}
	root, err := tree.Decode(template)
	if err != nil {
		return nil, nil, fmt.Errorf("fill template: %w", err)
	}
	if _, ok := root.(map[string]any); !ok {
		return nil, nil, errors.New("fill template: it must be a JSON object")
	}
	f := &filler{Editor: tree.Editor{Root: root}, opts: opts, values: opts.placeholders(), steps: []Step{}}
	if err := f.placeholders(root, nil); err != nil {
		return nil, nil, fmt.Errorf("fill template: %w", err)
	}
	if err := f.rules(); err != nil {
		return nil, nil, fmt.Errorf("fill template: %w", err)
	}
	filled = tree.Encode(f.Root)
	if len(filled) > tree.MaxBytes {
		return nil, nil, fmt.Errorf("fill template: the pod is %w", tree.ErrTooLarge)
	}
	return filled, f.steps, nil
}

// complete checks the options and puts the defaults.
func (o *FillOptions) complete() error {
	if !projectID.MatchString(o.ProjectID) {
		return errors.New("the project id must be a UUID in lower case")
	}
	for _, field := range []struct {
		value    *string
		fallback string
	}{
		{&o.Name, "project-" + o.ProjectID},
		{&o.RestartPolicy, "Never"},
		{&o.HomeVolume, "home"},
		{&o.HomePath, "/home/user"},
		{&o.HomeDirectory, "projects/{project_id}"},
		{&o.SharedFiles, "shares/{project_id}"},
		{&o.SoftwareVolume, "software"},
		{&o.SoftwarePath, "/ext"},
	} {
		if *field.value == "" {
			*field.value = field.fallback
		}
	}
	return nil
}

func (o *FillOptions) placeholders() map[string]string {
	return map[string]string{
		"{PROJECT_IMAGE}":     o.Image,
		"{PROJECT_TAG}":       o.Tag,
		"{project_id}":        o.ProjectID,
		"{shared_files_path}": o.folder(o.SharedFiles),
		"{extra_env}":         o.ExtraEnv,
		"{project_config}":    o.ProjectConfig,
	}
}

// folder is a folder of the project.
func (o *FillOptions) folder(scheme string) string {
	return strings.ReplaceAll(scheme, "{project_id}", o.ProjectID)
}

// filler is one call of Fill.
type filler struct {
	tree.Editor

	opts   FillOptions
	values map[string]string
	grown  int
	steps  []Step
}

var placeholder = regexp.MustCompile(`\{(PROJECT_IMAGE|PROJECT_TAG|project_id|shared_files_path|extra_env|project_config)\}`)

// placeholders fills the strings of a part of the document.
func (f *filler) placeholders(node any, at []string) error {
	switch c := node.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(c)) {
			if err := f.placeholders(c[name], append(at, name)); err != nil {
				return err
			}
		}
	case []any:
		for i, child := range c {
			if err := f.placeholders(child, append(at, strconv.Itoa(i))); err != nil {
				return err
			}
		}
	case string:
		return f.text(c, at)
	}
	return nil
}

func (f *filler) text(text string, at []string) error {
	var names []string
	for _, name := range placeholder.FindAllString(text, -1) {
		switch {
		case name == "{PROJECT_IMAGE}" && f.opts.Image == "":
			return fmt.Errorf("%s has %s: set projects.image, or give an image with the start", tree.Pointer(at...), name)
		case name == "{PROJECT_TAG}" && f.opts.Tag == "":
			return fmt.Errorf("%s has %s: set projects.tag, or give a tag with the start", tree.Pointer(at...), name)
		}
		f.grown += len(f.values[name])
		if f.grown > tree.MaxBytes {
			return fmt.Errorf("the pod is %w", tree.ErrTooLarge)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if names == nil {
		return nil
	}
	full := placeholder.ReplaceAllStringFunc(text, func(name string) string { return f.values[name] })
	return f.set(full, KindPlaceholder, strings.Join(names, ", "), at...)
}

func (f *filler) set(value any, kind, rule string, at ...string) error {
	if text, ok := value.(string); ok {
		value = strings.ToValidUTF8(text, "\uFFFD") // JSON holds no other text.
	}
	before := len(f.Edits)
	err := f.Set(value, at...)
	for _, edit := range f.Edits[before:] {
		f.steps = append(f.steps, Step{Op: edit.Op, Path: edit.Path, Value: edit.Value, Kind: kind, Rule: rule})
	}
	return err
}

// rules does what every project's pod needs.
func (f *filler) rules() error {
	if err := f.set(f.opts.Name, KindRule, "the name of a project's pod", "metadata", "name"); err != nil {
		return err
	}
	if f.opts.Namespace != "" {
		if err := f.set(f.opts.Namespace, KindRule, "the namespace of the cluster", "metadata", "namespace"); err != nil {
			return err
		}
	}
	labels := map[string]string{"run": "project", "project_id": f.opts.ProjectID}
	if f.opts.Tag != "" {
		labels["project_tag"] = f.opts.Tag
	}
	maps.Copy(labels, f.opts.Labels)
	for _, kind := range []struct {
		member, rule string
		values       map[string]string
	}{
		{"labels", "the labels of a project's pod", labels},
		{"annotations", "the annotations of Berth", f.opts.Annotations},
	} {
		for _, name := range slices.Sorted(maps.Keys(kind.values)) {
			if err := f.set(kind.values[name], KindRule, kind.rule, "metadata", kind.member, strings.ToValidUTF8(name, "\uFFFD")); err != nil {
				return err
			}
		}
	}
	if current, _ := f.Get("spec", "restartPolicy"); current == nil {
		if err := f.set(f.opts.RestartPolicy, KindRule, "a project is restarted by Berth", "spec", "restartPolicy"); err != nil {
			return err
		}
	}
	for _, kind := range []string{"initContainers", "containers"} {
		for i, container := range tree.List(any(tree.Object(f.Root, "spec")), kind) {
			for j, mount := range tree.List(container, "volumeMounts") {
				if err := f.mount(mount, "spec", kind, strconv.Itoa(i), "volumeMounts", strconv.Itoa(j)); err != nil {
					return err
				}
			}
		}
	}
	return f.claims()
}

// claims names the claims of the site, and keeps the two apart.
func (f *filler) claims() error {
	used := map[string][]string{} // by volume
	for i, volume := range tree.List(any(tree.Object(f.Root, "spec")), "volumes") {
		name, source := tree.Text(volume, "name"), tree.Object(volume, "persistentVolumeClaim")
		claim := map[string]string{f.opts.HomeVolume: f.opts.DataClaim, f.opts.SoftwareVolume: f.opts.SoftwareClaim}[name]
		if source != nil && claim != "" {
			if err := f.set(claim, KindRule, "the claims of the site", "spec", "volumes", strconv.Itoa(i), "persistentVolumeClaim", "claimName"); err != nil {
				return err
			}
		}
		if claim = tree.Text(any(source), "claimName"); claim != "" {
			used[name] = append(used[name], claim)
		}
	}
	for _, claim := range used[f.opts.HomeVolume] {
		if slices.Contains(used[f.opts.SoftwareVolume], claim) {
			return fmt.Errorf("the volumes %s and %s have one claim, %q: the software of all projects must not be where their data is; name two",
				f.opts.HomeVolume, f.opts.SoftwareVolume, claim)
		}
	}
	return nil
}

// mount gives a mount what it lacks.
func (f *filler) mount(mount any, at ...string) error {
	object, _ := mount.(map[string]any)
	is := func(volume, directory string) bool {
		return tree.Text(mount, "name") == volume && path.Clean(tree.Text(mount, "mountPath")) == path.Clean(directory)
	}
	if is(f.opts.HomeVolume, f.opts.HomePath) && object["subPath"] == nil && object["subPathExpr"] == nil {
		return f.set(f.opts.folder(f.opts.HomeDirectory), KindRule, "a project sees its own files", append(at, "subPath")...)
	}
	if is(f.opts.SoftwareVolume, f.opts.SoftwarePath) && object["readOnly"] == nil {
		return f.set(true, KindRule, "software is read-only", append(at, "readOnly")...)
	}
	return nil
}
