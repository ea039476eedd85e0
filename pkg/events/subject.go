package events

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// The JetStream streams that Berth keeps.
const (
	// LogStream holds every fact about every pod, in order.
	LogStream = "LOG"
	// CommandStream is the work queue of the stages.
	CommandStream = "COMMANDS"
	// AuditStream holds who asked what for whom, and what came of it.
	AuditStream = "AUDIT"
	// TokenStream is the key-value bucket of the tokens that were copied out of pods,
	// named as NATS tools know it.
	TokenStream = "KV_BERTH_TOKENS" //nolint:gosec // A name, no credential.
	// DeadLetterStream keeps for a week the commands that could not be done.
	DeadLetterStream = "DEAD_LETTERS"
)

// The first tokens of the subjects; what follows is the cluster.
const (
	podsRoot      = "pods"
	outcomesRoot  = "outcomes"
	marksRoot     = "marks"
	commandsRoot  = "cmd"
	deadRoot      = "dead"
	storageRoot   = "storage"
	auditRoot     = "audit"
	tokensRoot    = "$KV.BERTH_TOKENS" //nolint:gosec // A name, no credential.
	heartbeatRoot = "berth.heartbeat"
	boundRoot     = "berth.bound"
	confirmRoot   = "berth.confirm"
	licenseRoot   = "berth.license"
	renderRoot    = "berth.render"
	timerStage    = "timer"
	completeMark  = "complete"
)

// ErrSubject is returned for a subject that is not one of Berth's, or not
// written the way [Token] writes it.
var ErrSubject = errors.New("malformed subject")

// MaxSubject is the length of a subject in the log, in bytes, at the most. A
// NATS server closes the connection of whoever sends a longer protocol line
// than 4 KiB, which a long user id must never bring about.
const MaxSubject = 1024

// checkName refuses a pod whose subjects could not be written or whose names
// JSON would change: two users could become one.
func checkName(cluster, pod, user string) error {
	if !utf8.ValidString(cluster) || !utf8.ValidString(pod) || !utf8.ValidString(user) {
		return fmt.Errorf("cluster, pod_name or user_id is not UTF-8: %w", ErrMalformed)
	}
	// The longest event name stands for those of versions to come.
	if n := len(PodSubject(cluster, pod, user, "")) + 32; n > MaxSubject {
		return fmt.Errorf("subject of %d bytes, limit %d: %w", n, MaxSubject, ErrTooLarge)
	}
	return nil
}

const upperHex = "0123456789ABCDEF"

// Token encodes any text as one token of a NATS subject: bytes outside
// [A-Za-z0-9@_-] become %XX, so that a name can never add a token or a
// wildcard. The empty text becomes "%". [ParseToken] is its inverse.
func Token(s string) string {
	if s == "" {
		return "%"
	}
	plain := true
	for i := range len(s) {
		if !plainByte(s[i]) {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 8)
	for i := range len(s) {
		if c := s[i]; plainByte(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
	}
	return b.String()
}

// ParseToken decodes what [Token] wrote. Anything that Token would have
// written differently is an [ErrSubject], so that one name has one subject.
func ParseToken(token string) (string, error) {
	if token == "%" {
		return "", nil
	}
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		c := token[i]
		if c != '%' {
			b.WriteByte(c)
			continue
		}
		if i+2 >= len(token) {
			return "", fmt.Errorf("token %q: %w", token, ErrSubject)
		}
		high, low := strings.IndexByte(upperHex, token[i+1]), strings.IndexByte(upperHex, token[i+2])
		if high < 0 || low < 0 {
			return "", fmt.Errorf("token %q: %w", token, ErrSubject)
		}
		b.WriteByte(byte(high<<4 | low)) //nolint:gosec // Both are below 16.
		i += 2
	}
	if s := b.String(); token != "" && Token(s) == token {
		return s, nil
	}
	return "", fmt.Errorf("token %q: %w", token, ErrSubject)
}

func plainByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '@' || c == '_' || c == '-'
}

// PodSubject is where the record of a pod after one kind of event is kept:
// pods.<cluster>.<pod>.<user>.<event>.
func PodSubject(cluster, pod, user string, event Type) string {
	return join(podsRoot, cluster, pod, user, string(event))
}

// PodFilter matches every record of one pod, whoever's it is. Every append to
// a pod is fenced by exactly this filter: JetStream checks the expected
// sequences of different filters independently when a stream has replicas.
func PodFilter(cluster, pod string) string { return join(podsRoot, cluster, pod) + ".*.*" }

// PodClaims matches the claimed records of one pod name, by whomever.
func PodClaims(cluster, pod string) string {
	return join(podsRoot, cluster, pod) + ".*." + Token(string(Claimed))
}

// UserFilter matches every record of every pod of one user.
func UserFilter(cluster, user string) string {
	return podsRoot + "." + Token(cluster) + ".*." + Token(user) + ".*"
}

// ClusterFilter matches the records of all pods of a cluster.
func ClusterFilter(cluster string) string { return join(podsRoot, cluster) + ".>" }

// EventFilter matches the records of all pods of a cluster after one kind of event.
func EventFilter(cluster string, event Type) string {
	return join(podsRoot, cluster) + ".*.*." + Token(string(event))
}

// OutcomeSubject is where it is kept what became of a command.
func OutcomeSubject(cluster, command string) string { return join(outcomesRoot, cluster, command) }

// OutcomeFilter matches the outcomes of all commands of a cluster.
func OutcomeFilter(cluster string) string { return join(outcomesRoot, cluster) + ".*" }

// MarkSubject is where it is kept that the log and the cluster have been
// compared; see [Mark].
func MarkSubject(cluster string) string { return join(marksRoot, cluster, completeMark) }

// CommandSubject is where a command waits for a stage.
func CommandSubject(cluster string, stage Stage, id string) string {
	return join(commandsRoot, cluster, string(stage), id)
}

// CommandFilter is what the consumer of a stage reads.
func CommandFilter(cluster string, stage Stage) string {
	return join(commandsRoot, cluster, string(stage)) + ".*"
}

// TimerSubject is where a schedule waits for its time. No stage consumes it: a
// consumer would get the schedule itself, at once.
func TimerSubject(cluster, id string, kind Timer) string {
	return join(commandsRoot, cluster, timerStage, id, string(kind))
}

// TimerFilter matches all schedules of a command.
func TimerFilter(cluster, id string) string {
	return join(commandsRoot, cluster, timerStage, id) + ".*"
}

// TimersFilter matches all schedules of a cluster.
func TimersFilter(cluster string) string { return join(commandsRoot, cluster, timerStage) + ".*.*" }

// DeadLetterFilter matches the commands of a stage that could not be done.
func DeadLetterFilter(cluster string, stage Stage) string {
	return join(deadRoot, cluster, string(stage)) + ".*"
}

// DeadLetterSubject is where a command goes that could not be done.
func DeadLetterSubject(cluster string, stage Stage, id string) string {
	return join(deadRoot, cluster, string(stage), id)
}

// HeartbeatSubject is the core NATS subject on which the leading watcher of a
// cluster says once a second that it is alive.
func HeartbeatSubject(cluster string) string { return heartbeatRoot + "." + Token(cluster) }

// LogSubjects are the subjects of the log stream.
func LogSubjects() []string {
	return []string{podsRoot + ".>", outcomesRoot + ".>", storageRoot + ".>", marksRoot + ".>"}
}

// StorageSubject is where it is kept who uses a user's storage.
func StorageSubject(cluster, user string) string { return join(storageRoot, cluster, user) }

// StorageFilter matches the storage records of all users of a cluster.
func StorageFilter(cluster string) string { return join(storageRoot, cluster) + ".*" }

// ParseStorageSubject is the inverse of [StorageSubject].
func ParseStorageSubject(subject string) (cluster, user string, err error) {
	parts, err := split(subject, storageRoot, 2)
	if err != nil {
		return "", "", err
	}
	return parts[0], parts[1], nil
}

// AuditSubject is where it is kept that a silo asked for something:
// audit.<cluster>.<silo>.<user>.<action>.
func AuditSubject(cluster, silo, user, action string) string {
	return join(auditRoot, cluster, silo, user, action)
}

// AuditFilter matches the audit records of a cluster.
func AuditFilter(cluster string) string { return join(auditRoot, cluster) + ".>" }

// AuditSubjects are the subjects of the audit stream.
func AuditSubjects() []string { return []string{auditRoot + ".>"} }

// TokenSubject is where the tokens of one life of a pod are kept.
func TokenSubject(cluster, pod, generation string) string {
	return join(tokensRoot, cluster, pod, generation)
}

// TokenFilter matches the tokens of all pods of a cluster.
func TokenFilter(cluster string) string { return join(tokensRoot, cluster) + ".*.*" }

// ParseTokenSubject is the inverse of [TokenSubject].
func ParseTokenSubject(subject string) (cluster, pod, generation string, err error) {
	rest, ok := strings.CutPrefix(subject, tokensRoot+".")
	if !ok {
		return "", "", "", fmt.Errorf("subject %q: want %s: %w", subject, tokensRoot, ErrSubject)
	}
	parts, err := split(tokenPlaceholder+"."+rest, tokenPlaceholder, 3)
	if err != nil {
		return "", "", "", err
	}
	return parts[0], parts[1], parts[2], nil
}

// tokenPlaceholder stands for the root of a token's subject, which has a dot.
const tokenPlaceholder = "tokens"

// TokenSubjects are the subjects of the token stream.
func TokenSubjects() []string { return []string{tokensRoot + ".>"} }

// BoundSubject is the core NATS subject on which the leading watcher says that a
// claim has been bound. Nothing depends on its arrival.
func BoundSubject(cluster string) string { return boundRoot + "." + Token(cluster) }

// ConfirmSubject is the core NATS subject on which the leading watcher is asked
// whether a pod has an address.
func ConfirmSubject(cluster string) string { return confirmRoot + "." + Token(cluster) }

// LicenseSubject is the core NATS subject on which the licensers are asked about
// licenses, projects and previews.
func LicenseSubject(cluster string) string { return licenseRoot + "." + Token(cluster) }

// RenderSubject is the core NATS subject on which the creators are asked for templates,
// for pods as they would be made, and for what the API server would say to them.
func RenderSubject(cluster string) string { return renderRoot + "." + Token(cluster) }

// CommandSubjects are the subjects of the command stream.
func CommandSubjects() []string { return []string{commandsRoot + ".>"} }

// DeadLetterSubjects are the subjects of the dead letter stream.
func DeadLetterSubjects() []string { return []string{deadRoot + ".>"} }

// Key says whose record a pod subject holds.
type Key struct {
	Cluster, Pod, User string
	Event              Type
}

// ParsePodSubject is the inverse of [PodSubject]. It accepts any event name,
// also of versions to come; other faults are an [ErrSubject].
func ParsePodSubject(subject string) (Key, error) {
	parts, err := split(subject, podsRoot, 4)
	if err != nil {
		return Key{}, err
	}
	return Key{Cluster: parts[0], Pod: parts[1], User: parts[2], Event: Type(parts[3])}, nil
}

// ParseOutcomeSubject is the inverse of [OutcomeSubject].
func ParseOutcomeSubject(subject string) (cluster, command string, err error) {
	parts, err := split(subject, outcomesRoot, 2)
	if err != nil {
		return "", "", err
	}
	return parts[0], parts[1], nil
}

// ParseCommandSubject is the inverse of [CommandSubject].
func ParseCommandSubject(subject string) (cluster string, stage Stage, id string, err error) {
	parts, err := split(subject, commandsRoot, 3)
	if err != nil {
		return "", "", "", err
	}
	return parts[0], Stage(parts[1]), parts[2], nil
}

func join(root string, tokens ...string) string {
	var b strings.Builder
	b.WriteString(root)
	for _, t := range tokens {
		b.WriteByte('.')
		b.WriteString(Token(t))
	}
	return b.String()
}

func split(subject, root string, want int) ([]string, error) {
	parts := strings.Split(subject, ".")
	if len(parts) != want+1 || parts[0] != root {
		return nil, fmt.Errorf("subject %q: want %s and %d tokens: %w", subject, root, want, ErrSubject)
	}
	parts = parts[1:]
	for i, p := range parts {
		s, err := ParseToken(p)
		if err != nil {
			return nil, err
		}
		parts[i] = s
	}
	return parts, nil
}
