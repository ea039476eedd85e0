package local

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// children returns the processes of the server that has written a postmaster.pid.
func children(file string) ([]int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("find the server's processes: %w", err)
	}
	pid, _, _ := strings.Cut(string(text), "\n")
	list, err := os.ReadFile(fmt.Sprintf("/proc/%s/task/%s/children", pid, pid))
	if err != nil {
		return nil, fmt.Errorf("find the server's processes: %w", err)
	}
	var pids []int
	for field := range strings.FieldsSeq(string(list)) {
		if n, err := strconv.Atoi(field); err == nil {
			pids = append(pids, n)
		}
	}
	return pids, nil
}

// runs says whether a process runs. One that has ended and was not reaped has no program.
func runs(pid int) bool {
	_, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil
}
