package access

import (
	"testing"
	"time"

	"berth/pkg/service/config"
)

// TestProjects: who may manage projects, and that nobody else may name one.
func TestProjects(t *testing.T) {
	t.Parallel()
	const project = "project:8e03978e-40d5-43e8-bc93-6894a57f9324"
	manages := site()
	manages.Silos[1].Projects = true
	bare := config.Default()
	tests := map[string]struct {
		config config.Config
		from   string
		token  string
		want   bool
	}{
		"a silo that may":               {manages, "192.0.2.1:1", "two", true},
		"a silo that may not":           {manages, "10.0.0.7:1", "one", false},
		"a silo of an address":          {manages, "10.1.0.7:1", "", false},
		"an administrator at none":      {manages, "192.0.2.1:1", "admin", true},
		"an administrator at a silo":    {manages, "10.1.0.7:1", "admin", true},
		"this machine, without a silo":  {bare, "127.0.0.1:1", "", true},
		"the same with the other token": {bare, "127.0.0.1:1", "any", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := ask(t, tt.from)
			if tt.token != "" {
				r.Header.Set("Authorization", "Bearer "+tt.token)
			}
			c, err := New(tt.config, time.Now).Admit(r)
			if err != nil || c.Projects != tt.want || c.MayName(project) != tt.want {
				t.Errorf("projects %v, may name one %v, want %v; %v", c.Projects, c.MayName(project), tt.want, err)
			}
		})
	}
	all := Caller{users: usersOf([]string{"*"})}
	if all.MayName(project) || !all.MayName("alice@example.org") || all.SameUsers(Caller{users: all.users, Projects: true}) {
		t.Error("a silo that speaks for all users speaks for projects")
	}
}
