package verdict

import (
	"maps"
	"slices"
	"time"

	"berth/pkg/events"
)

// Holders is how many pods had a seat of a license at a moment, by one reading of the database.
type Holders struct {
	At      time.Time `json:"at"`
	License string    `json:"license"`
	Limit   int       `json:"limit"`
	Taken   int       `json:"taken"`
}

// Books is what the database, the log and the cluster say of projects at a moment at which nothing moves.
type Books struct {
	At time.Time `json:"at"`
	// Sequence is the last of the log by then.
	Sequence uint64 `json:"sequence"`
	// Seats are the rows of seats, but for those that were kept for a time that is over; Uses are those of the usage log that are open.
	Seats    []Seat       `json:"seats,omitempty"`
	Uses     []Seat       `json:"uses,omitempty"`
	Projects []ProjectRow `json:"projects,omitempty"`
	Licenses []LicenseRow `json:"licenses,omitempty"`
	Pods     []ProjectPod `json:"pods,omitempty"`
}

// Seat is a license that a pod holds. Kept means that the pod is gone, and that the next one gets it.
type Seat struct {
	License    string `json:"license"`
	Pod        string `json:"pod"`
	Generation string `json:"generation"`
	Kept       bool   `json:"kept,omitempty"`
}

// ProjectRow is what the database says of a project.
type ProjectRow struct {
	ID    string `json:"id"`
	State string `json:"state"`
	// Error is why the project is not what it should be.
	Error string `json:"error,omitempty"`
	// Request is what a hub asks for that was not taken yet.
	Request string `json:"request,omitempty"`
	// Licenses has the status of each license that is attached, empty before the first look at it.
	Licenses map[string]string `json:"licenses,omitempty"`
	// AlwaysRunning is of the quota; RetryAt is when it is started again, zero for never.
	AlwaysRunning bool      `json:"always_running,omitempty"`
	RetryAt       time.Time `json:"retry_at,omitzero"`
}

// LicenseRow is a license. Its patch gives each pod a label with its edition.
type LicenseRow struct {
	ID      string `json:"id"`
	Valid   bool   `json:"valid"`
	Limit   int    `json:"limit,omitempty"` // 0 for none.
	Label   string `json:"label"`
	Edition string `json:"edition"`
}

// ProjectPod is a project's pod in the cluster.
type ProjectPod struct {
	Pod        string            `json:"pod"`
	UID        string            `json:"uid"`
	Project    string            `json:"project"` // By its label.
	Generation string            `json:"generation"`
	Labels     map[string]string `json:"labels,omitempty"`
}

// account is what is held against the newest records of the log.
type account struct {
	Books
	newest []events.Record // Of each pod, by name.
}

// record is the newest of a project's pod, the zero Record for none.
func (b account) record(project string) events.Record {
	for _, r := range b.newest {
		if r.Pod == events.ProjectPod(project) {
			return r
		}
	}
	return events.Record{}
}

// Unrest returns what the newest books do not agree about, as [Check] does: none once everything has come to rest.
func Unrest(e Evidence) []Breach {
	if len(e.Books) == 0 {
		return nil
	}
	c := newTrial(e)
	c.books(e.Books[len(e.Books)-1])
	return c.breaches
}

// projects: what must hold of the projects, all the time and whenever nothing moved.
func (c *trial) projects() {
	c.onlyPod()
	for _, h := range c.Holders {
		if h.Taken > h.Limit {
			c.breach(TrueBooks, "", h.At, "license %s had %d holders, more than its limit of %d", h.License, h.Taken, h.Limit)
		}
	}
	for _, b := range c.Books {
		c.books(b)
	}
}

// onlyPod: a project never has two pods, and no other's pod has its name.
func (c *trial) onlyPod() {
	alive := map[string]string{} // UIDs by user.
	for _, p := range c.Pods {
		project, ok := events.ProjectOf(p.User)
		if ok != events.IsProjectPod(p.Pod) || ok && p.Pod != events.ProjectPod(project) {
			c.breach(OnePod, p.Pod, p.At, "pod %s of %s has another's name", p.UID, p.User)
		}
		if !ok {
			continue
		}
		if p.Kind == Deleted {
			if alive[project] == p.UID {
				delete(alive, project)
			}
			continue
		}
		if other := alive[project]; other != "" && other != p.UID {
			c.breach(OnePod, p.Pod, p.At, "the project has pods %s and %s at the same time", other, p.UID)
		}
		alive[project] = p.UID
	}
}

// books: what the database says is what the log and the cluster say, and what was wished for.
func (c *trial) books(books Books) {
	b := account{Books: books}
	for _, pod := range slices.Sorted(maps.Keys(c.byPod)) {
		for _, e := range slices.Backward(c.byPod[pod]) {
			if e.Sequence <= b.Sequence {
				b.newest = append(b.newest, *e.Record)
				break
			}
		}
	}
	c.seats(b)
	c.uses(b)
	for _, row := range b.Projects {
		record := b.record(row.ID)
		c.state(b, row, record)
		c.wish(b, row, record)
		c.licensed(b, row, record)
	}
	for _, p := range b.Pods {
		if p.Pod != events.ProjectPod(p.Project) {
			c.breach(OnePod, p.Pod, b.At, "pod %s is labelled as project %s's", p.UID, p.Project)
		}
	}
}
