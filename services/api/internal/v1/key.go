package v1

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// An Idempotency-Key makes a create safe to repeat, on whichever replica. Nothing
// about it is kept in the api:
//
//   - The first request with a key reserves it: it appends to the outcomes of the
//     log, on the condition that nothing is there, the hash of its body and the id of
//     the command that it is about to publish. Of two requests that race on two
//     replicas one wins; the other obeys, as everywhere in the log.
//   - A later one reads the reservation. Another hash is refused; with the same one
//     it goes on with the same command, whose message JetStream takes once and
//     whose outcome says which pod it is.
//   - Where nothing came of the command (expired, refused), so that nothing will be
//     made of it, the next request tries again: with the id of the next attempt,
//     which every replica derives in the same way.
//
// The key of a new license reserves its id in place of a command's; a second record, which names it again, says that it
// has been made. Where the client has chosen the id, there may be a license of another with it. So the reservation names its
// request, of which a third record says how it ended: the request itself that it has made nothing, or a later one, which has
// waited for it in vain, that it goes on; the first to say so decides. Where a later one went on, a license that is there
// is the one that the key has made, and whose answer was lost.
//
// A reservation is kept for as long as an outcome: an hour, and so are the records about it.

// KeyID is the id under which the key of a user of a silo is reserved, the empty user for
// licenses. It tells nobody the key.
func KeyID(silo, user, key string) string {
	h := sha256.New()
	for _, part := range []string{silo, user, key} {
		// The length keeps parts apart, whatever is in them.
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return "key-" + hex.EncodeToString(h.Sum(nil))
}

// Reservation is what stands in the log for a key.
type Reservation struct {
	// Body is the hash of the first request's body.
	Body string
	// Command is the id of the command of the first attempt, or of the license.
	Command string
	// Request is the id of the request that made it, for a license whose id the client has chosen; else empty.
	Request string
}

// String is the form of a reservation in the log; [ParseReservation] reads it.
func (r Reservation) String() string {
	return strings.TrimSuffix(r.Body+" "+r.Command+" "+r.Request, " ")
}

// ParseReservation reads what [Reservation.String] wrote; ok is false for anything else.
func ParseReservation(text string) (r Reservation, ok bool) {
	parts := strings.Split(text, " ")
	if len(parts) < 2 || len(parts) > 3 || len(parts[0]) != 2*sha256.Size || slices.Contains(parts, "") {
		return Reservation{}, false
	}
	return Reservation{Body: parts[0], Command: parts[1], Request: strings.Join(parts[2:], "")}, true
}

// Attempts is how often a key is tried at the most, where nothing came of it before.
const Attempts = 16

// Attempt is the id of the command of an attempt, from 0.
func (r Reservation) Attempt(n int) string {
	if n == 0 {
		return r.Command
	}
	return r.Command + "-" + strconv.Itoa(n)
}

// maxKey is the length of an Idempotency-Key, in bytes, at the most.
const maxKey = 255

// keyOf reads the Idempotency-Key of a request, empty for none. It takes the key
// bare or as the quoted string of the specification
// (https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/), which are the same key.
func keyOf(header http.Header) (string, error) {
	values := header.Values("Idempotency-Key")
	switch len(values) {
	case 0:
		return "", nil
	case 1:
	default:
		return "", invalid("Idempotency-Key is there " + strconv.Itoa(len(values)) + " times; send it once")
	}
	key := values[0]
	if len(key) >= 2 && key[0] == '"' && key[len(key)-1] == '"' {
		key = key[1 : len(key)-1]
	}
	wrong := func(c rune) bool { return c < '!' || c > '~' || c == '"' || c == '\\' }
	if key == "" || len(key) > maxKey || strings.ContainsFunc(key, wrong) {
		return "", invalid("Idempotency-Key must be 1 to " + strconv.Itoa(maxKey) + " printable ASCII characters without spaces, quotes and " +
			"backslashes; a UUID is fine")
	}
	return key, nil
}

// hash is the same for bodies that ask for the same, however they are written.
func (b createBody) hash() (string, error) {
	if len(b.Settings) == 0 {
		b.Settings = nil
	}
	return hashOf(b)
}

// hashOf is the hash of a body that has been read.
func hashOf(body any) (string, error) {
	canonical, err := json.Marshal(body) // The keys of maps are sorted.
	if err != nil {
		return "", fmt.Errorf("marshal request: %w", err)
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:]), nil
}
