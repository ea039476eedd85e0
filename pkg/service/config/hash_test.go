package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestHash(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte("hunter2"))
	digits := hex.EncodeToString(sum[:])
	hash, err := ParseHash("sha256:" + strings.ToUpper(digits))
	if err != nil {
		t.Fatal(err)
	}
	if !hash.Matches([]byte("hunter2")) || hash.Matches([]byte("hunter3")) || hash.IsZero() {
		t.Errorf("hash matches the wrong secrets")
	}
	if none := (Hash{}); none.Matches(nil) || !none.IsZero() || none.String() != "" {
		t.Errorf("the empty hash matches something")
	}
	encoded, err := json.Marshal(hash)
	if err != nil {
		t.Fatal(err)
	}
	config := Config{AdminTokenHash: hash, Silos: []Silo{{Credentials: Credentials{TokenHash: hash}}}}
	bytes := strings.Trim(fmt.Sprint(sum[:3]), "[]")
	for _, text := range []string{string(encoded), fmt.Sprintf("%v", config), fmt.Sprintf("%+v", config), fmt.Sprintf("%#v", config)} {
		if strings.Contains(strings.ToLower(text), digits[:8]) || strings.Contains(text, bytes) {
			t.Errorf("shows the hash: %s", text)
		}
	}
}

func TestParseHashRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "hunter2", "sha256:", "sha256:abcd", strings.Repeat("0", 64), "sha256:" + strings.Repeat("g", 64), "sha256:" + strings.Repeat("0", 66)} {
		hash, err := ParseHash(text)
		if err == nil || !hash.IsZero() {
			t.Errorf("ParseHash(%q) = %v, %v, want an error", text, hash, err)
		}
		if err != nil && text != "" && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("error shows the text: %v", err)
		}
	}
}
