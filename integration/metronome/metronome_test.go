package metronome

import (
	"testing"
	"time"
)

func TestSince(t *testing.T) {
	began := time.Now()
	var m Metronome
	for i, late := range []time.Duration{3, 9, 1, 4, 4, 2} {
		m.note(tick{began.Add(time.Duration(i) * time.Second), late})
	}
	for _, test := range []struct {
		seconds int
		want    time.Duration
	}{{0, 9}, {1, 9}, {2, 4}, {4, 4}, {5, 2}, {6, 0}} {
		if got := m.Since(began.Add(time.Duration(test.seconds) * time.Second)); got != test.want {
			t.Errorf("from second %d on: %d, want %d", test.seconds, got, test.want)
		}
	}
	if got := m.Most(); got != 9 {
		t.Errorf("at most %d, want 9", got)
	}
}
