package service

import (
	"regexp"
	"runtime/debug"
	"testing"
)

func TestNewIdentity(t *testing.T) {
	t.Parallel()
	one, other := NewIdentity("creator"), NewIdentity("creator")
	if one.Service != "creator" || one.Version == "" || one.Instance == other.Instance {
		t.Errorf("identities %+v and %+v", one, other)
	}
	if !regexp.MustCompile(`^[A-Za-z0-9-]{1,63}$`).MatchString(one.Instance) {
		t.Errorf("instance %q", one.Instance)
	}
}

func TestVersionOf(t *testing.T) {
	t.Parallel()
	settings := func(pairs ...string) []debug.BuildSetting {
		var all []debug.BuildSetting
		for i := 0; i < len(pairs); i += 2 {
			all = append(all, debug.BuildSetting{Key: pairs[i], Value: pairs[i+1]})
		}
		return all
	}
	tests := map[string]struct {
		info debug.BuildInfo
		want string
	}{
		"module":   {debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}, "v1.2.3"},
		"revision": {debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: settings("vcs.revision", "0123456789abcdef")}, "0123456789ab"},
		"changed":  {debug.BuildInfo{Settings: settings("vcs.modified", "true", "vcs.revision", "0123")}, "0123-dirty"},
		"nothing":  {debug.BuildInfo{Settings: settings("vcs.modified", "true")}, "unknown"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := versionOf(&tc.info); got != tc.want {
				t.Errorf("version = %q, want %q", got, tc.want)
			}
		})
	}
}
