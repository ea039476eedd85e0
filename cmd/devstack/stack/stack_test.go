package stack_test

import (
	"strings"
	"testing"

	"berth/cmd/devstack/stack"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	here := t.TempDir()
	tests := map[string]struct {
		change func(*stack.Options)
		want   string // Empty for no fault.
	}{
		"the default":           {func(*stack.Options) {}, ""},
		"a free port":           {func(o *stack.Options) { o.Listen = "127.0.0.1:0" }, ""},
		"localhost":             {func(o *stack.Options) { o.Listen = "localhost:8080" }, ""},
		"IPv6":                  {func(o *stack.Options) { o.Listen = "[::1]:8080" }, ""},
		"what exists":           {func(o *stack.Options) { o.Kubeconfig, o.Manifests, o.NATSURL = here, here, "nats://127.0.0.1:4222" }, ""},
		"two of each":           {func(o *stack.Options) { o.Replicas = 2 }, ""},
		"a thousand of each":    {func(o *stack.Options) { o.Replicas = 1000 }, "--replicas"},
		"no folder of programs": {func(o *stack.Options) { o.Processes = here + "/missing" }, "--processes"},
		"no programs":           {func(o *stack.Options) { o.Processes = here }, "make build"},
		"no port":               {func(o *stack.Options) { o.Listen = "127.0.0.1" }, "--listen"},
		"all addresses":         {func(o *stack.Options) { o.Listen = ":8080" }, "loopback"},
		"an address of the net": {func(o *stack.Options) { o.Listen = "192.0.2.1:8080" }, "loopback"},
		"a host name":           {func(o *stack.Options) { o.Listen = "example.org:8080" }, "loopback"},
		"no folder":             {func(o *stack.Options) { o.Data = "" }, "--data"},
		"a NATS port":           {func(o *stack.Options) { o.NATSURL = "4222" }, "--nats-url"},
		"a NATS host":           {func(o *stack.Options) { o.NATSURL = "127.0.0.1:4222" }, "--nats-url"},
		"no kubeconfig":         {func(o *stack.Options) { o.Kubeconfig = here + "/missing" }, "--kubeconfig"},
		"no manifests":          {func(o *stack.Options) { o.Manifests = here + "/missing" }, "--manifests"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := stack.Options{Listen: "127.0.0.1:8080", Data: ".berth"}
			tt.change(&opts)
			err := opts.Check()
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Check = %v, want …%s…", err, tt.want)
			}
			if tt.want == "" {
				return
			}
			// It is said before anything is started.
			if _, started := stack.Start(t.Context(), opts); started == nil || started.Error() != err.Error() {
				t.Errorf("Start = %v, want %v", started, err)
			}
		})
	}
}
