// Package metronome tells how late goroutines come to run on a machine that is busy: what a test of a timer
// has to allow for.
package metronome

import (
	"sync"
	"sync/atomic"
	"time"
)

// Metronome measures how late its ticks are. It is safe for concurrent use.
type Metronome struct {
	stop  func()
	worst atomic.Int64 // in nanoseconds
}

// New begins to measure, until Stop.
func New() *Metronome {
	const tick = 10 * time.Millisecond
	stopped := make(chan struct{})
	var ticking sync.WaitGroup
	m := &Metronome{stop: sync.OnceFunc(func() { close(stopped); ticking.Wait() })}
	ticking.Go(func() {
		for {
			began := time.Now()
			select {
			case <-stopped:
				return
			case <-time.After(tick):
				m.worst.Store(max(m.worst.Load(), int64(time.Since(began)-tick)))
			}
		}
	})
	return m
}

// Stop ends it. Later calls do nothing.
func (m *Metronome) Stop() { m.stop() }

// Most returns how late a tick has been at most so far.
func (m *Metronome) Most() time.Duration { return time.Duration(m.worst.Load()) }
