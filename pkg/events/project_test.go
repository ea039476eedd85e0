package events_test

import (
	"testing"

	"berth/pkg/events"
)

func TestProjectID(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		project: true, "": false, "09C119F5-6F0D-4C2B-9A53-1F0A6A7C2D11": false, "09c119f56f0d4c2b9a531f0a6a7c2d11": false,
		"09c119f5-6f0d-4c2b-9a53-1f0a6a7c2d1g": false, "09c119f5-6f0d-4c2b-9a53-1f0a6a7c2d1": false, "-9c119f5-6f0d-4c2b-9a53-1f0a6a7c2d11": false,
		"09c119f5x6f0d-4c2b-9a53-1f0a6a7c2d11": false,
	} {
		if got := events.ProjectID(text); got != want {
			t.Errorf("ProjectID(%q) is %t", text, got)
		}
	}
	if id, ok := events.ProjectOf(events.ProjectUser(project)); !ok || id != project {
		t.Errorf("the user of a project is the project %q, %t", id, ok)
	}
	if _, ok := events.ProjectOf(user); ok {
		t.Error("a person is a project")
	}
}
