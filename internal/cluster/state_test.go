package cluster

import (
	"testing"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

// TestSameState: a state that looks another is worth another view.
func TestSameState(t *testing.T) {
	now := time.Now()
	old := State{
		Life: LifeServing, Up: true, Readable: true, Until: now, renew: time.Second,
		FreshAsOf: now, stood: now, returned: now, Position: at(5), Reason: "a reason",
	}
	for _, test := range []struct {
		name   string
		change func(*State)
		same   bool
	}{
		{"nothing", func(*State) {}, true},
		{"it holds a little longer", func(s *State) { s.Until = now.Add(time.Second) }, true},
		{"it holds much longer", func(s *State) { s.Until = now.Add(time.Second + 1) }, false},
		{"it holds for less long", func(s *State) { s.Until = now.Add(-1) }, false},
		{"its life", func(s *State) { s.Life = LifeSuspected }, false},
		{"it is not up", func(s *State) { s.Up = false }, false},
		{"it is not readable", func(s *State) { s.Readable = false }, false},
		{"it takes writes", func(s *State) { s.Writable = true }, false},
		{"it is lost", func(s *State) { s.lost = true }, false},
		{"it was alone", func(s *State) { s.alone = true }, false},
		{"its reason", func(s *State) { s.Reason = "" }, false},
		{"its remedy", func(s *State) { s.Remedy = "another" }, true}, // it goes with the reason
		{"fresh as of", func(s *State) { s.FreshAsOf = now.Add(1) }, false},
		{"lag stands still", func(s *State) { s.stood = now.Add(1) }, false},
		{"when it came back", func(s *State) { s.returned = now.Add(1) }, false},
		{"it advances", func(s *State) { s.Position = at(6) }, false},
		{"it falls back", func(s *State) { s.Position = at(4) }, false},
		{"it loses its position", func(s *State) { s.Position = position.Position{} }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			state := old
			if test.change(&state); state.same(old) != test.same {
				t.Errorf("the same: %v", !test.same)
			}
		})
	}
}

// TestUntil: a view holds as long as all that it has be read.
func TestUntil(t *testing.T) {
	now := time.Now()
	later := func(d time.Duration) State { return State{Readable: true, Server: &Server{}, Until: now.Add(d)} }
	forEver := State{Readable: true, Server: &Server{}}
	out := State{Server: &Server{}, Until: now}
	for _, test := range []struct {
		name   string
		states []State
		want   time.Time
	}{
		{"no slaves", nil, time.Time{}},
		{"the first", []State{later(1), later(2)}, now.Add(1)},
		{"the second", []State{later(2), later(1)}, now.Add(1)},
		{"one holds for ever", []State{forEver, later(1), forEver}, now.Add(1)},
		{"all do", []State{forEver, forEver}, time.Time{}},
		{"one is not read", []State{out, later(1)}, now.Add(1)},
	} {
		if v := newView(test.states); !v.Until.Equal(test.want) {
			t.Errorf("%s: %v, want %v", test.name, v.Until, test.want)
		}
	}
}

// TestLag: it is never less than nothing, as it would be of a state that is newer than the caller's time.
func TestLag(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		name  string
		state State
		want  time.Duration
		known bool
	}{
		{"it is behind", State{FreshAsOf: now.Add(-time.Second)}, time.Second, true},
		{
			"it stands still", State{FreshAsOf: now.Add(-time.Hour), stood: now.Add(-time.Minute)},
			59 * time.Minute, true,
		},
		{"the state is newer", State{FreshAsOf: now.Add(time.Second)}, 0, true},
		{"it is not known", State{stood: now}, 0, false},
	} {
		if lag, known := test.state.Lag(now); lag != test.want || known != test.known {
			t.Errorf("%s: %v, %v", test.name, lag, known)
		}
	}
}
