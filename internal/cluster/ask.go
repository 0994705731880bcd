package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

// Ask has a server asked for its position, without waiting for the answer.
func (c *Cluster) Ask(s *Server) {
	if w := c.asked(s); w != nil {
		w.probe.ask()
	}
}

// Position asks a server for its position. The question begins after the call, and several who call at about
// the same time share it. The error is that the server did not answer, or that ctx ended.
func (c *Cluster) Position(ctx context.Context, s *Server) (position.Reading, error) {
	w := c.asked(s)
	if w == nil {
		return position.Reading{Reason: "not watched"}, nil
	}
	q, _ := w.probe.join(true)
	select {
	case <-q.done:
		return q.reading, q.err
	case <-ctx.Done():
		return position.Reading{}, ctx.Err()
	}
}

// asked returns what is known of a server that is asked for positions, nil if it is not.
func (c *Cluster) asked(s *Server) *watched {
	m := c.monitor
	if m == nil || m.cfg.Blind {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.IndexFunc(m.servers, func(w *watched) bool { return w.server == s }); i >= 0 {
		return m.servers[i]
	}
	return nil
}

// Serves asks whether a slave serves, over a new connection, and returns Unasked if ctx ends before the
// answer is there. If it does not serve, it leaves the view. It is for a read that failed: the question
// begins after the call, and whoever calls meanwhile shares it. A slave that is away is not asked.
//
// Unlike to Answers, a refusal is an answer: the slave lives, and does not serve.
func (c *Cluster) Serves(ctx context.Context, s *Server) Serving {
	w, life := c.watchedSlave(s)
	switch {
	case w == nil:
		return Serves // nobody watches it, or it has left, which is judged apart
	case life == LifeAway:
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
	c.failed(s, q.err, tooManyMissing)
	return ServesNot
}

// watchedSlave returns what is known of s, nil if nobody watches it, and where it is in its life.
func (c *Cluster) watchedSlave(s *Server) (*slave, Life) {
	m := c.monitor
	if m == nil {
		return nil, LifeLeft
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if w := find(m.picture.slaves, s); w != nil {
		return w, w.life
	}
	return nil, LifeLeft
}

// answerCounts is for how long an answer counts as one to Answers: with many slow reads the slave shall not
// be asked for each.
const answerCounts = 50 * time.Millisecond

// Answers asks whether a slave is alive, over a connection that is not that of a read. Whoever asks at the
// same time shares the answer. If it is not alive, it leaves the view. Answers is for a read that takes long:
// downs is Server.Downs from when that began. That another read has failed is no answer.
func (c *Cluster) Answers(s *Server, downs uint64) bool {
	m := c.monitor
	if m == nil {
		return true
	}
	m.mu.Lock()
	w := find(m.picture.slaves, s)
	if w == nil {
		w = find(m.leaving, s)
	}
	// It is lost, or it was since the read began, whose connection is from before.
	down := s.Downs() != downs || w != nil && s.State().lost
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
	c.failed(s, q.err, tooManyMissing)
	return false
}

// Failed says that a slave is to blame for a read that failed: see [Judge]. It leaves the view at once.
func (c *Cluster) Failed(s *Server, err error) { c.failed(s, err, readFailed) }

func (c *Cluster) failed(s *Server, err error, e event) {
	m := c.monitor
	if m == nil {
		return
	}
	m.mu.Lock()
	if w := find(m.picture.slaves, s); w != nil && !w.life.out() && m.ctx.Err() == nil {
		now := time.Now()
		w.err = err
		s.refused.Store(true)
		w.happens(e, now, 0)
		m.publish(now)
	}
	m.mu.Unlock()
	m.start()
	m.wake()
}
