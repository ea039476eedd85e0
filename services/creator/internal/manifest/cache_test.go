package manifest

import (
	"strconv"
	"testing"
	"time"
)

func TestCacheKeepsItsLimits(t *testing.T) {
	t.Parallel()

	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

	for name, size := range map[string]int{"small ones": 10, "large ones": MaxSize} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			held := cache{entries: map[string]entry{}}
			sum := func() (total int) {
				for _, one := range held.entries {
					total += len(one.content)
				}

				return total
			}

			for i := range 2 * maxEntries {
				held.put(strconv.Itoa(i), entry{content: make([]byte, size), checked: start.Add(time.Duration(i) * time.Second)})
				held.put("kept", entry{content: make([]byte, size), checked: start.Add(time.Duration(i) * time.Second)})

				if len(held.entries) > maxEntries || held.bytes > maxCached || held.bytes != sum() {
					t.Fatalf("%d entries, %d bytes, counted as %d", len(held.entries), sum(), held.bytes)
				}
			}

			if _, ok := held.entries["kept"]; !ok {
				t.Error("the entry that is used all the time is gone")
			}

			if _, ok := held.entries["0"]; ok {
				t.Error("the oldest entry is still there")
			}
		})
	}
}
