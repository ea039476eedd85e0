package kubename_test

import (
	"strings"
	"testing"

	"berth/pkg/license/internal/kubename"
)

func TestNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 63)
	for text, want := range map[string]struct{ key, value, device bool }{
		"":                                {false, true, false},
		"a":                               {true, true, false},
		"gpu-type_2.b":                    {true, true, false},
		"Bad Name":                        {},
		"a ":                              {},
		"-a":                              {},
		"a.":                              {},
		"é":                               {},
		"a\n":                             {},
		long:                              {true, true, false},
		long + "x":                        {},
		"cpu":                             {true, true, false},
		"memory":                          {true, true, false},
		"hugepages-2Mi":                   {true, true, false},
		"nvidia.com/gpu":                  {true, false, true},
		"nvidia.com/mig-1g.5gb":           {true, false, true},
		"Nvidia.com/gpu":                  {},
		"nvidia.com/":                     {},
		"/gpu":                            {},
		"a/b/c":                           {},
		"nvidia..com/gpu":                 {},
		"nvidia.com/" + long:              {true, false, true},
		"nvidia.com/" + long + "x":        {},
		strings.Repeat("a", 254) + "/gpu": {},
		strings.Repeat("a", 253) + "/gpu": {true, false, false},
		strings.Repeat("a", 244) + "/gpu": {true, false, true},
		"kubernetes.io/batch-cpu":         {true, false, false},
		"requests.nvidia.com/gpu":         {true, false, false},
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			if got := kubename.Key(text); got != want.key {
				t.Errorf("Key = %t", got)
			}
			if got := kubename.Value(text); got != want.value {
				t.Errorf("Value = %t", got)
			}
			if got := kubename.Device(text); got != want.device {
				t.Errorf("Device = %t", got)
			}
		})
	}
}
