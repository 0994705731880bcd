package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

// Ask has a server asked for its position, without waiting for the answer.
func (c *Cluster) Ask(s *Server) {
	if m := c.monitor; m != nil && !m.cfg.Blind {
		m.mu.Lock()
		w := find(m.servers, s)
		m.mu.Unlock()
		if w != nil {
			w.probe.ask()
		}
	}
}

// Position asks a server for its position. The question begins after the call, and several who call at about the
// same time share it. The error is that the server did not answer, or that ctx ended.
func (c *Cluster) Position(ctx context.Context, s *Server) (position.Reading, error) {
	if c.monitor == nil || c.monitor.cfg.Blind {
		return position.Reading{Reason: "not watched"}, nil
	}
	c.monitor.mu.Lock()
	servers := c.monitor.servers
	c.monitor.mu.Unlock()
	for _, w := range servers {
		if w.server != s {
			continue
		}
		q, _ := w.probe.join(true)
		select {
		case <-q.done:
			return q.reading, q.err
		case <-ctx.Done():
			return position.Reading{}, ctx.Err()
		}
	}
	return position.Reading{Reason: "not watched"}, nil
}

// Serves asks whether a slave serves, over a new connection, and returns Unasked if ctx ends before the
// answer is there. If it does not serve, it leaves the view. It is for a read that failed: the question
// begins after the call, and whoever calls meanwhile shares it. What is known to be out, and has not answered
// since, is not asked.
//
// Unlike to Answers, a refusal is an answer: the slave lives, and does not serve.
func (c *Cluster) Serves(ctx context.Context, s *Server) Serving {
	m := c.monitor
	if m == nil {
		return Serves
	}
	m.mu.Lock()
	w := m.watchedSlave(s)
	out := w != nil && w.down && w.failed > 0
	m.mu.Unlock()
	switch {
	case w == nil:
		return Serves // it has left, which is judged apart
	case out:
		return ServesNot
	}
	s.doubted.Store(true)
	q, _ := w.probe.join(false)
	select {
	case <-q.done:
	case <-ctx.Done():
		return Unasked
	}
	if q.err == nil || q.err == errBusy || q.err == errClosed {
		return Serves
	}
	c.failed(s, q.err, true)
	return ServesNot
}

// answerCounts is for how long an answer counts as one to Answers: with many slow reads the slave shall not be asked for each.
const answerCounts = 50 * time.Millisecond

// Answers asks whether a slave is alive, over a connection that is not that of a read; who asks at the same time shares the answer. If it is
// not, it leaves the view. It is for a read that takes long: downs is Server.Downs from when that began. That another read has failed is no answer.
func (c *Cluster) Answers(s *Server, downs uint64) bool {
	m := c.monitor
	if m == nil {
		return true
	}
	m.mu.Lock()
	w := m.watchedSlave(s)
	if w == nil {
		w = find(m.leaving, s)
	}
	// For certain, or it was since the read began, whose connection is from before.
	down := s.Downs() != downs || w != nil && w.gone
	lately := w != nil && time.Since(w.heard) < answerCounts
	m.mu.Unlock()
	if w == nil || down || lately {
		return !down
	}
	q := w.probe.current()
	<-q.done
	if q.err == nil || q.err == errBusy || q.err == errClosed || spoke(q.err) {
		return true
	}
	c.failed(s, q.err, true)
	return false
}

// Failed says that a slave is to blame for a read that failed: see [Judge]. It leaves the view at once.
func (c *Cluster) Failed(s *Server, err error) { c.failed(s, err, false) }

func (c *Cluster) failed(s *Server, err error, founded bool) {
	m := c.monitor
	if m == nil {
		return
	}
	m.mu.Lock()
	now := time.Now()
	if w := m.watchedSlave(s); w != nil && !w.down && m.ctx.Err() == nil {
		w.err = err
		s.refused.Store(true)
		w.leave(now, founded)
		m.publish(now)
	}
	m.mu.Unlock()
	m.start()
	m.wake()
}

// watchedSlave returns what is known of s, or nil if it has left.
func (m *monitor) watchedSlave(s *Server) *watched { return find(m.picture.slaves, s) }

func find(all []*watched, s *Server) *watched {
	if i := slices.IndexFunc(all, func(w *watched) bool { return w.server == s }); i >= 0 {
		return all[i]
	}
	return nil
}
