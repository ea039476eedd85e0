package config

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"strings"
)

// Hash is the SHA-256 of a secret, or empty. Its text forms are redacted, so that a printed
// configuration shows none.
type Hash struct {
	sum [sha256.Size]byte
	set bool
}

const hashPrefix = "sha256:"

// ParseHash reads "sha256:" and 64 hexadecimal digits. Its error does not repeat the text.
func ParseHash(text string) (Hash, error) {
	digits, found := strings.CutPrefix(text, hashPrefix)
	sum, err := hex.DecodeString(digits)
	if !found || err != nil || len(sum) != sha256.Size {
		return Hash{}, errors.New(`is not a hash: write "sha256:" and the 64 hexadecimal digits of ` +
			"`printf %s SECRET | sha256sum`")
	}
	return Hash{sum: [sha256.Size]byte(sum), set: true}, nil
}

// Sum returns the hash of a secret, to compare it with many by [Hash.Same].
func Sum(secret []byte) Hash { return Hash{sum: sha256.Sum256(secret), set: true} }

// Same tells whether two hashes are of the same secret, in a time that does not depend on where
// they differ. An empty hash is that of no secret.
func (h Hash) Same(other Hash) bool {
	return subtle.ConstantTimeCompare(h.sum[:], other.sum[:]) == 1 && h.set && other.set
}

// IsZero tells whether there is no hash.
func (h Hash) IsZero() bool { return !h.set }

// Matches tells whether the hash is that of the secret, in a time that does not depend on
// where they differ. An empty hash matches nothing.
func (h Hash) Matches(secret []byte) bool {
	return h.Same(Sum(secret))
}

// Equal makes hashes comparable by go-cmp.
func (h Hash) Equal(other Hash) bool { return h == other }

// String returns "sha256:[redacted]", or "" for an empty hash.
func (h Hash) String() string {
	if !h.set {
		return ""
	}
	return hashPrefix + "[redacted]"
}

// GoString keeps %#v from showing the sum.
func (h Hash) GoString() string { return h.String() }

// MarshalText keeps encoders from showing the sum.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }
