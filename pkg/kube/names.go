package kube

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base32"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Suffixes of the objects that belong to a pod: "<pod>-http" and so on.
const (
	SuffixHTTP    = "-http"
	SuffixSSH     = "-ssh"
	SuffixIngress = "-ingress"
)

const (
	// MaxNumber is the highest n of Name: a name is tried plain, then with
	// "-1" to "-9".
	MaxNumber = 9

	// MaxNameLength is the length, in bytes, that no result of Name exceeds:
	// with the longest suffix it is still an RFC 1123 label.
	MaxNameLength = validation.DNS1123LabelMaxLength - len(SuffixIngress)

	// hashLength characters of base 32 are 50 bits: two of a million users with
	// the same long beginning collide with a chance of 1 in 2,000.
	hashLength = 10

	// userHashLength characters of base 32 are 80 bits: nobody finds a user id that has
	// another one's.
	userHashLength = 16
)

// Name returns the pod name for a manifest's metadata.name and a user id:
// "<base>-<user>" with every character that a label forbids ("@", ".", "_") as
// "-", and for n from 1 to MaxNumber "-<n>" behind it; 0 is the plain name.
//
// The result is a valid RFC 1123 label of at most MaxNameLength bytes for every
// valid base and user. A longer name is cut and ends in a hash of base and user,
// which depends on nothing else, so all numbers of a name share their beginning.
// Users that differ only in replaced characters ("a.b@c", "a-b@c") share a name:
// whoever claims names has to count on it.
func Name(base, user string, n int) string {
	const room = MaxNameLength - len("-9")

	name := strings.Trim(strings.Map(labelRune, base+"-"+user), "-")
	if len(name) > room || name == "" {
		name = shorten(name, base+"\x00"+user, room)
	}

	if n == 0 {
		return name
	}

	return name + "-" + strconv.Itoa(n)
}

// NameTaken returns the pod name for a user in place of Name(base, user, n) where
// that one is another user's: the beginning of the plain name and a hash of base,
// user and n.
//
// The result is a valid RFC 1123 label of exactly MaxNameLength bytes. No user has it
// from Name, whose results are as long only where they end in "-<n>", which the
// hash is too long for and has no "-" for.
func NameTaken(base, user string, n int) string {
	const room = MaxNameLength - userHashLength - len("-")

	name := Name(base, user, 0)
	name = strings.TrimRight(name[:min(len(name), room)], "-")

	// The hash is as long as it has to be. A name has a byte at least, so there is
	// enough of it.
	sum := sha512.Sum512([]byte(base + "\x00" + user + "\x00" + strconv.Itoa(n)))
	hash := strings.ToLower(base32.HexEncoding.EncodeToString(sum[:]))

	return name + "-" + hash[:MaxNameLength-len(name)-len("-")]
}

// labelRune maps what an RFC 1123 label forbids to "-".
func labelRune(r rune) rune {
	switch {
	case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
		return r
	case 'A' <= r && r <= 'Z':
		return r - 'A' + 'a'
	default:
		return '-'
	}
}

// shorten cuts text to limit bytes, the last of which are a hash of identity.
func shorten(text, identity string, limit int) string {
	sum := sha256.Sum256([]byte(identity))
	hash := strings.ToLower(base32.HexEncoding.EncodeToString(sum[:]))[:hashLength]

	text = strings.TrimRight(text[:min(len(text), limit-hashLength-1)], "-_.")
	if text == "" {
		return hash
	}

	return text + "-" + hash
}
