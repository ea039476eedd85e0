package kube_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"berth/pkg/kube"
)

func TestTokenKeys(t *testing.T) {
	t.Parallel()

	many := make([]string, 17)
	for i := range many {
		many[i] = fmt.Sprintf("key%d", i)
	}

	tests := map[string]struct {
		value string
		want  []string
		says  string // Of the error; the annotation is named in each.
	}{
		"none":                 {value: ""},
		"one":                  {value: "token", want: []string{"token"}},
		"several":              {value: "b,a,c.txt", want: []string{"b", "a", "c.txt"}},
		"blanks and doubles":   {value: " a , b,,a, ", want: []string{"a", "b"}},
		"blanks inside":        {value: "my token", want: []string{"my token"}},
		"a hidden file":        {value: ".token", want: []string{".token"}},
		"as many as there may": {value: strings.Join(many[:16], ","), want: many[:16]},
		"too many":             {value: strings.Join(many, ","), says: "more than 16"},
		"another folder":       {value: "a,../etc/passwd", says: `"../etc/passwd"`},
		"a path":               {value: "/etc/passwd", says: `"/"`},
		"the folder above":     {value: "..", says: "leads out"},
		"the folder":           {value: ".", says: "leads out"},
		"an option":            {value: "-n", says: "begins with"},
		"a zero byte":          {value: "a\x00b", says: "characters"},
		"a line break":         {value: "a\nb", says: "characters"},
		"not UTF-8":            {value: "a\xff", says: "characters"},
		"too long":             {value: strings.Repeat("k", 101), says: "100 bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			got, err := kube.TokenKeys(map[string]string{kube.AnnotationCopyToken: tt.value})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}

			checkAnnotationFault(t, err, kube.AnnotationCopyToken, tt.says)
		})
	}
}

func checkAnnotationFault(t *testing.T, err error, annotation, says string) {
	t.Helper()

	if (err != nil) != (says != "") {
		t.Fatalf("error %v, want one: %t", err, says != "")
	}

	if err != nil && (!strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), annotation)) {
		t.Errorf("%q names not %s, or not %q", err, annotation, says)
	}
}

func TestIngressPort(t *testing.T) {
	t.Parallel()

	tests := map[string]struct {
		value string
		want  int32
		says  string
	}{
		"a port":      {value: "8888", want: 8888},
		"the last":    {value: "65535", want: 65535},
		"with blanks": {value: " 80 ", want: 80},
		"zero":        {value: "0", says: `"0"`},
		"too high":    {value: "65536", says: "65535"},
		"negative":    {value: "-1", says: `"-1"`},
		"a name":      {value: "http", says: `"http"`},
		"empty":       {value: "", says: `""`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			got, err := kube.IngressPort(map[string]string{kube.AnnotationIngressPort: tt.value})
			if got != tt.want {
				t.Errorf("port %d, want %d", got, tt.want)
			}

			checkAnnotationFault(t, err, kube.AnnotationIngressPort, tt.says)
		})
	}

	if port, err := kube.IngressPort(nil); port != 0 || err != nil {
		t.Errorf("without the annotation: %d, %v", port, err)
	}
}

func TestSSHUser(t *testing.T) {
	t.Parallel()

	ssh := []corev1.ContainerPort{{ContainerPort: 80}, {ContainerPort: 22}}
	named := func(names ...string) []corev1.EnvVar {
		var list []corev1.EnvVar
		for _, name := range names {
			list = append(list, corev1.EnvVar{Name: "USERNAME", Value: name})
		}

		return list
	}
	tests := map[string]struct {
		containers []corev1.Container
		want       string
	}{
		"no port 22":            {[]corev1.Container{{Env: named("alice"), Ports: ssh[:1]}}, ""},
		"named":                 {[]corev1.Container{{Env: named("alice"), Ports: ssh}}, "alice"},
		"the last counts":       {[]corev1.Container{{Env: named("a", "b"), Ports: ssh}}, "b"},
		"nobody named":          {[]corev1.Container{{Ports: ssh}}, "root"},
		"an empty name":         {[]corev1.Container{{Env: named(""), Ports: ssh}}, "root"},
		"a name with a break":   {[]corev1.Container{{Env: named("a\nb"), Ports: ssh}}, "root"},
		"too long":              {[]corev1.Container{{Env: named(strings.Repeat("a", 257)), Ports: ssh}}, "root"},
		"the second container":  {[]corev1.Container{{Env: named("a")}, {Env: named("b"), Ports: ssh}}, "b"},
		"port 22 of another":    {[]corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: 22, Protocol: corev1.ProtocolUDP}}}}, ""},
		"the first of two ones": {[]corev1.Container{{Env: named("a"), Ports: ssh}, {Env: named("b"), Ports: ssh}}, "a"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			if got := kube.SSHUser(&corev1.Pod{Spec: corev1.PodSpec{Containers: tt.containers}}); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// FuzzTokenKeys: no key leads out of /tmp.
func FuzzTokenKeys(f *testing.F) {
	for _, seed := range []string{"token", "a,b", "../x", "-n", "a\x00", "..", " , ", "a b"} {
		f.Add(seed)
	}

	f.Fuzz(func(t *testing.T, value string) {
		keys, err := kube.TokenKeys(map[string]string{kube.AnnotationCopyToken: value})
		if err != nil && len(keys) > 0 {
			t.Errorf("keys %q with %v", keys, err)
		}

		seen := map[string]bool{}
		for _, key := range keys {
			if key == "" || strings.ContainsAny(key, "/\x00\n") || strings.Contains(key, "..") || key == "." || seen[key] || len(key) > 100 {
				t.Errorf("key %q of %q", key, value)
			}

			seen[key] = true
		}

		if len(keys) > 16 {
			t.Errorf("%d keys", len(keys))
		}
	})
}
