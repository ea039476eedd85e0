package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
)

// self is what the table calls this process: NATS, the load, and Berth unless it
// has processes of its own.
const self = "this process"

// meter reads what has been spent so far.
type meter struct {
	clients kubernetes.Interface
	pids    map[string][]string // By program: names in /proc.
}

// newMeter returns a meter of this process and of its children, which are the
// programs of the cluster.
func newMeter(clients kubernetes.Interface) *meter {
	m := &meter{clients: clients, pids: map[string][]string{self: {"self"}}}
	paths, _ := filepath.Glob("/proc/[0-9]*/stat") // The pattern is good.
	for _, path := range paths {
		// Other processes come and go while this looks.
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		stat, err := parseStat(string(text))
		if err != nil || stat.parent != os.Getpid() {
			continue
		}
		if program, err := os.Readlink(filepath.Join(filepath.Dir(path), "exe")); err == nil {
			name := filepath.Base(program)
			m.pids[name] = append(m.pids[name], filepath.Base(filepath.Dir(path)))
		}
	}
	return m
}

// reading is what had been spent at a time.
type reading struct {
	at       time.Time
	cpu      map[string]time.Duration // By program.
	machine  time.Duration            // All CPUs, whoever used them.
	rss      map[string]float64       // By program: what it has in memory, in MB.
	requests map[string]int           // To the API server, by verb and resource.
	own      map[string]int           // Those of them that Berth itself has sent.
}

func (m *meter) read(ctx context.Context) (reading, error) {
	r := reading{cpu: map[string]time.Duration{}, rss: map[string]float64{}}
	rest := m.clients.CoreV1().RESTClient()
	metrics, err := rest.Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return r, fmt.Errorf("read the API server's metrics: %w", err)
	}
	if r.requests, err = parseRequests(string(metrics)); err != nil {
		return r, err
	}
	r.own = asked().of(rest.Get().URL().Host)
	for program, pids := range m.pids {
		for _, pid := range pids {
			p, err := readProcess(pid)
			if err != nil {
				return r, fmt.Errorf("read what %s has used: %w", program, err)
			}
			r.cpu[program] += p.cpu
			r.rss[program] += p.rss
		}
	}
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return r, fmt.Errorf("read the machine's CPU time: %w", err)
	}
	r.at = time.Now()
	r.machine, err = parseMachine(string(text))
	return r, err
}

// used is what a process has used so far, and what it has in memory, in MB.
type used struct {
	cpu       time.Duration
	rss, peak float64
}

// readProcess reads what a process has used; pid is its name in /proc.
func readProcess(pid string) (used, error) {
	text, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return used{}, fmt.Errorf("read CPU time: %w", err)
	}
	stat, err := parseStat(string(text))
	if err != nil {
		return used{}, fmt.Errorf("read CPU time: %w", err)
	}
	if text, err = os.ReadFile(filepath.Join("/proc", pid, "status")); err != nil {
		return used{}, fmt.Errorf("read memory: %w", err)
	}
	rss, err := parseMemory(string(text), "VmRSS")
	peak, errPeak := parseMemory(string(text), "VmHWM")
	return used{cpu: stat.cpu, rss: rss, peak: peak}, errors.Join(err, errPeak)
}

// spent is the difference of two readings.
type spent struct {
	cpu      map[string]time.Duration
	others   float64            // How many CPUs processes that are none of ours kept busy.
	rss      map[string]float64 // At the end.
	requests map[string]int
	own      map[string]int
}

func (r reading) since(before reading) spent {
	s := spent{
		cpu: map[string]time.Duration{}, rss: r.rss,
		requests: minus(r.requests, before.requests), own: minus(r.own, before.own),
	}
	others := r.machine - before.machine
	for program, cpu := range r.cpu {
		s.cpu[program] = cpu - before.cpu[program]
		others -= s.cpu[program]
	}
	s.others = max(0, others.Seconds()/r.at.Sub(before.at).Seconds())
	return s
}

// minus returns by how much counts have grown, without those that have not.
func minus(now, before map[string]int) map[string]int {
	grown := map[string]int{}
	for key, n := range now {
		if n > before[key] {
			grown[key] = n - before[key]
		}
	}
	return grown
}

// tick is the unit of CPU time in /proc, on every Linux that Go runs on.
const tick = 10 * time.Millisecond

type processStat struct {
	parent int
	cpu    time.Duration
}

// parseStat reads /proc/<pid>/stat (proc_pid_stat(5)). The program's name, in
// parentheses, may contain anything; the fields are counted from its end.
func parseStat(text string) (processStat, error) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	const parent, user, system = 1, 11, 12 // Fields 4, 14 and 15, after two.
	if len(fields) <= system {
		return processStat{}, fmt.Errorf("%d fields in /proc/<pid>/stat", len(fields))
	}
	ppid, err := strconv.Atoi(fields[parent])
	u, errUser := strconv.Atoi(fields[user])
	s, errSystem := strconv.Atoi(fields[system])
	return processStat{parent: ppid, cpu: time.Duration(u+s) * tick}, errors.Join(err, errUser, errSystem)
}

// parseMemory reads a line like "VmRSS: 1024 kB" of /proc/<pid>/status
// (proc_pid_status(5)), in MB.
func parseMemory(text, name string) (float64, error) {
	for line := range strings.Lines(text) {
		value, ok := strings.CutPrefix(line, name+":")
		if !ok {
			continue
		}
		kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 64)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", name, err)
		}
		return kb / 1024, nil
	}
	return 0, fmt.Errorf("/proc/<pid>/status has no %s", name)
}

// parseMachine reads from /proc/stat (proc_stat(5)) how long CPUs have worked.
func parseMachine(text string) (time.Duration, error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	const user, idle, waiting, steal = 1, 4, 5, 8 // What follows is contained in user.
	if len(fields) <= steal || fields[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var busy int
	for i := user; i <= steal; i++ {
		n, err := strconv.Atoi(fields[i])
		if err != nil {
			return 0, fmt.Errorf("read /proc/stat: %w", err)
		}
		if i != idle && i != waiting {
			busy += n
		}
	}
	return time.Duration(busy) * tick, nil
}

// parseRequests adds up the API server's counter of requests by verb and
// resource, like "POST pods/binding".
func parseRequests(metrics string) (map[string]int, error) {
	label := regexp.MustCompile(`(resource|subresource|verb)="([^"]*)"`)
	requests := map[string]int{}
	for line := range strings.Lines(metrics) {
		labels, ok := strings.CutPrefix(line, "apiserver_request_total{")
		if !ok {
			continue
		}
		labels, value, _ := strings.Cut(labels, "} ")
		n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			return nil, fmt.Errorf("read the API server's metrics: %w", err)
		}
		found := map[string]string{}
		for _, match := range label.FindAllStringSubmatch(labels, -1) {
			found[match[1]] = match[2]
		}
		key := found["verb"] + " " + found["resource"]
		if found["subresource"] != "" {
			key += "/" + found["subresource"]
		}
		if found["resource"] != "" {
			requests[key] += int(n)
		}
	}
	return requests, nil
}

// memory is what this process holds.
type memory struct {
	Goroutines int    `json:"goroutines"`
	HeapBytes  uint64 `json:"heap_bytes"`
}

// settleLimit is how long goroutines that are about to end are waited for.
const settleLimit = 5 * time.Second

// memoryNow returns what is held after a garbage collection. It waits a little
// while there are more goroutines than expected.
func memoryNow(ctx context.Context, goroutines int) memory {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for goroutines > 0 && runtime.NumGoroutine() > goroutines && ctx.Err() == nil {
		select {
		case <-poll.C:
		case <-ctx.Done():
		}
	}
	// Twice: what a pool lets go is still held after the first.
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return memory{Goroutines: runtime.NumGoroutine(), HeapBytes: stats.HeapAlloc}
}
