// Package metronome tells how late goroutines come to run on a machine that is busy: what a test of a timer
// has to allow for.
package metronome

import (
	"sync"
	"time"
)

// Metronome measures how late its ticks are. It is safe for concurrent use.
type Metronome struct {
	stop func()

	mu   sync.Mutex
	late []tick // those that were later than all that came after them
}

type tick struct {
	at   time.Time
	late time.Duration
}

// New begins to measure, until Stop.
func New() *Metronome {
	const pace = 10 * time.Millisecond
	stopped := make(chan struct{})
	var ticking sync.WaitGroup
	m := &Metronome{stop: sync.OnceFunc(func() { close(stopped); ticking.Wait() })}
	ticking.Go(func() {
		for {
			began := time.Now()
			select {
			case <-stopped:
				return
			case <-time.After(pace):
				m.note(tick{time.Now(), time.Since(began) - pace})
			}
		}
	})
	return m
}

// Stop ends it. Later calls do nothing.
func (m *Metronome) Stop() { m.stop() }

func (m *Metronome) note(t tick) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.late) > 0 && m.late[len(m.late)-1].late <= t.late {
		m.late = m.late[:len(m.late)-1]
	}
	m.late = append(m.late, t)
}

// Most returns how late a tick has been at most so far.
func (m *Metronome) Most() time.Duration { return m.Since(time.Time{}) }

// Since returns how late a tick has been at most from then on.
func (m *Metronome) Since(then time.Time) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.late {
		if !t.at.Before(then) {
			return t.late
		}
	}
	return 0
}
