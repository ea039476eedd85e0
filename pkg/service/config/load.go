package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// maxSize is the largest configuration that is read, in bytes.
	maxSize = 1 << 20
	// maxFaults bounds a report on a file that is something else altogether.
	maxFaults = 100
	// envPrefix starts the names of the environment variables of all keys.
	envPrefix = "BACKEND_"
)

// Load reads the file at path, lets the BACKEND_<KEY> variables of environ (NAME=value, as from
// [os.Environ]) win over it, and checks the result. An empty path means no file, a nil environ no
// variables. Keys are known in any case, in the file and in names of variables; a variable holds
// a list or a mapping as JSON or YAML, and counts as not set when it is empty.
//
// The notices are for the operator of a valid configuration. The error is nil or [Faults], with
// every mistake; the configuration is then of no use.
func Load(path string, environ []string) (Config, []Notice, error) {
	if path == "" {
		return Parse("", nil, environ)
	}
	data, err := readFile(path)
	if err != nil {
		return Config{}, nil, Faults{{File: path, Message: "cannot be read: " + oneLine(err.Error())}}
	}
	return Parse(path, data, environ)
}

// Parse is [Load] for the contents of a file; name is what faults and notices call it.
func Parse(name string, data []byte, environ []string) (Config, []Notice, error) {
	if name == "" {
		name = "configuration"
	}
	l := loader{
		config: Default(),
		keys:   keys(),
		set:    map[string]*source{},
		vars:   map[string]string{},
	}
	l.readFile(name, data)
	l.readEnviron(environ)
	l.finish()
	if faults := l.faults.sorted(); len(faults) > 0 {
		if more := len(faults) - maxFaults; more > 0 {
			faults = append(faults[:maxFaults], Fault{File: name, Message: fmt.Sprintf("has %d more faults, not shown", more)})
		}
		return Config{}, nil, faults
	}
	return l.config, l.notices, nil
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	return data, errors.Join(err, file.Close())
}

// loader puts a configuration together.
type loader struct {
	config  Config
	keys    []key
	faults  Faults
	notices []Notice
	// set tells for each key that was given which source it has its value from.
	set map[string]*source
	// vars are the names of the variables that gave a key, as they were written.
	vars map[string]string
}

func (l *loader) readFile(name string, data []byte) {
	from := newSource(name)
	root := from.document("", data)
	if root != nil {
		fields := make(map[string]func(value), len(l.keys))
		for _, k := range l.keys {
			fields[k.name] = func(v value) { l.read(k, v) }
		}
		value{from: from, node: root}.object("a mapping of keys to values", fields)
	}
	l.faults = append(l.faults, from.faults...)
}

func (l *loader) readEnviron(environ []string) {
	given := map[string]string{} // The last one of a name counts, as for getenv of a shell.
	var names []string
	for _, variable := range environ {
		name, text, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, envPrefix) {
			continue
		}
		if _, again := given[name]; !again {
			names = append(names, name)
		}
		given[name] = text
	}
	slices.Sort(names)
	for _, name := range names {
		if given[name] != "" && !isServiceLink(name) {
			l.readVariable(name, given[name])
		}
	}
}

func (l *loader) readVariable(name, text string) {
	i := slices.IndexFunc(l.keys, func(k key) bool { return strings.EqualFold(envPrefix+k.name, name) })
	if i < 0 {
		message := unknownKey(name[len(envPrefix):], keyNames(l.keys))
		l.faults = append(l.faults, Fault{Path: showName(name), Message: strings.Replace(message, "mean ", "mean "+envPrefix, 1)})
		return
	}
	k := l.keys[i]
	if other, twice := l.vars[k.name]; twice {
		l.faults = append(l.faults, Fault{Path: name, Message: "sets the key that " + other + " sets: remove one"})
		return
	}
	l.vars[k.name] = name
	from := newSource("")
	node := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	if !k.verbatim {
		node = from.document(k.name, []byte(text))
	}
	if node != nil {
		l.read(k, value{from: from, node: node, path: k.name})
	}
	for _, fault := range from.faults {
		l.faults = append(l.faults, l.inVariable(fault))
	}
}

// read lets one source set a key. A key without a value keeps what it has.
func (l *loader) read(k key, v value) {
	if v.isScalar() && v.node.ShortTag() == "!!null" {
		return
	}
	l.set[k.name] = v.from
	k.read(v, &l.config)
}

// finish checks the values and says what else there is to say.
func (l *loader) finish() {
	if l.set["timeoutCreateMax"] == nil {
		l.config.TimeoutCreateMax = max(l.config.TimeoutCreateMax, l.config.TimeoutCreate)
	}
	for _, fault := range l.config.Validate() {
		if from := l.set[root(fault.Path)]; from != nil {
			if from.isBroken(fault.Path) {
				continue
			}
			fault.File, fault.Line = from.file, from.line(fault.Path)
		}
		l.faults = append(l.faults, l.inVariable(fault))
	}
	for _, k := range l.keys {
		if from := l.set[k.name]; from != nil {
			if message := l.notice(k); message != "" {
				place := l.inVariable(Fault{File: from.file, Line: from.line(k.name), Path: k.name, Message: message})
				l.notices = append(l.notices, Notice(place))
			}
		}
	}
	if l.config.WhitelistManifestRegex.IsZero() {
		l.notices = append(l.notices, Notice{
			Path: "whitelistManifestRegex", Message: "is empty, so no manifest is allowed: set it to match the URLs of yours",
		})
	}
}

// notice returns what there is to say about a key that was given, or "".
func (l *loader) notice(k key) string {
	switch k.name {
	case keyPodCacheDir:
		return "is ignored: nothing is cached on disk any more; remove it"
	case "whitelistManifestRegex":
		return l.config.WhitelistManifestRegex.prefixNotice()
	default:
		return ""
	}
}

// inVariable names the variable instead of the key in a fault that a variable has caused.
func (l *loader) inVariable(fault Fault) Fault {
	key := root(fault.Path)
	if name, ok := l.vars[key]; ok && fault.File == "" {
		fault.Path, fault.Line = name+fault.Path[len(key):], 0
	}
	return fault
}

// root returns the key that a path begins with.
func root(path string) string {
	if end := strings.IndexAny(path, ".["); end >= 0 {
		return path[:end]
	}
	return path
}

// isServiceLink tells whether Kubernetes has set the variable, for a Service whose name is backend or
// begins with it (pods of its namespace get such variables: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
func isServiceLink(name string) bool {
	return regexp.MustCompile(`^BACKEND_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_[A-Z]+)?)?)$`).
		MatchString(name)
}
