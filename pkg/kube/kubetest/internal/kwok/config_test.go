package kwok

import (
	"bytes"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestScripts shows that a pod is at one step of its script at most, and that the next step begins where it is.
func TestScripts(t *testing.T) {
	t.Parallel()
	for stage, script := range scripts() {
		from, starts := fresh, map[string]bool{}
		for i, step := range script {
			if starts[from] {
				t.Errorf("stage %q: step %d begins at %s, as another one does", stage, i, from)
			}
			starts[from] = true
			if from = step.to.position(); from == fresh {
				t.Errorf("stage %q: step %d ends where every pod begins", stage, i)
			}
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	config, err := Config(&Exec{Dir: "/tmp"})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	for doc := range bytes.SplitSeq(config, []byte("\n---\n")) {
		var object struct {
			Kind     string
			Metadata struct{ Name string }
		}
		if err := yaml.Unmarshal(doc, &object); err != nil {
			t.Fatalf("%v in:\n%s", err, doc)
		}
		names[object.Kind+"/"+object.Metadata.Name]++
	}
	for _, want := range []string{"KwokConfiguration/kwok", "ClusterExec/local", "Stage/node-ready", "Stage/pod", "Stage/pod-delete", "Stage/pod-slow-pull-1"} {
		if names[want] != 1 {
			t.Errorf("%d times %s, want one", names[want], want)
		}
	}
	if config, err = Config(nil); err != nil || strings.Contains(string(config), "ClusterExec") {
		t.Errorf("exec is configured without being asked for, %v", err)
	}
}
