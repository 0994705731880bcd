package cluster

import (
	"testing"
	"time"
)

// TestShare has the figures of ramp.go.
func TestShare(t *testing.T) {
	back := time.Now()
	for _, test := range []struct {
		name  string
		state *State
		after time.Duration
		want  float64
	}{
		{"at once", &State{returned: back}, 0, 0.10},
		{"after 1 s", &State{returned: back}, time.Second, 0.28},
		{"after 3 s", &State{returned: back}, 3 * time.Second, 0.64},
		{"after 5 s", &State{returned: back}, 5 * time.Second, 1},
		{"after an hour", &State{returned: back}, time.Hour, 1},
		{"the clock was set back", &State{returned: back}, -time.Second, 1},
		{"it was never away", &State{}, 0, 1},
		{"no view has had it", nil, 0, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &Server{}
			s.state.Store(test.state)
			if got := s.Share(back.Add(test.after)); got < test.want-1e-9 || got > test.want+1e-9 {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
