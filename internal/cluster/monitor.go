package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

// Monitoring says how a cluster is watched.
type Monitoring struct {
	Dialect string          // as in position.Config
	Source  position.Source // as in position.Config

	// Blind: no server is asked for its position. Slaves that fail are asked for a sign of life.
	Blind bool

	// Interval is the time between rounds while statements go to slaves, MinInterval the least there ever is. Both are
	// more than 0.
	Interval, MinInterval time.Duration

	// MaxLag is how far a slave in the view may be behind. More than 0.
	MaxLag time.Duration

	// Notice, if not nil, is told when a slave leaves the view and when it enters it again, and why, with the
	// remedy as in position.Reading; and when a master does not answer any longer, and when it does again.
	// All count as in at first: of those that are, after the first round, nothing is told. It is called in
	// the monitor's goroutine, as the next two are, and must not block, nor call Close.
	Notice func(s *Server, in bool, reason, remedy string)

	// NoPositions, if not nil, is told that the group has no positions, and which server has none, with
	// reason and remedy as in position.Reading. It is told once: after the first round, or as soon as it is
	// known. It is not told again if the group gets positions and loses them.
	NoPositions func(s *Server, reason, remedy string)

	// Writable, if not nil, is told the first time that a slave says that it takes writes.
	Writable func(*Server)
}

// Watch begins to watch the servers. It is called at most once, before any of the methods below.
func (c *Cluster) Watch(cfg Monitoring) {
	config := cfg.questions()
	c.monitor = newMonitor(c, cfg, func(s *Server) asker { return &connection{server: s, cfg: config, brief: cfg.Blind} })
	c.monitor.publish(time.Now())
	if len(c.slaves) > 0 && !cfg.Blind {
		c.monitor.start()
	}
}

// questions says what servers are asked.
func (cfg Monitoring) questions() position.Config {
	if cfg.Blind {
		return position.Config{Dialect: "one of which nothing is asked"}
	}
	return position.Config{Dialect: cfg.Dialect, Source: cfg.Source, Refuses: refuses}
}

// Watchable tells whether every server can be asked over connections that are not the application's: whether no pool was
// brought ready-made.
func (c *Cluster) Watchable() bool {
	return !slices.ContainsFunc(slices.Concat(c.Masters, c.slaves), func(s *Server) bool { return s.dialector == nil || readyMade(s.dialector) })
}

// AwaitFirst returns when each slave has answered or failed to, and those that answer are in the view, or a little later
// if some are not; and what there is to tell of that has been told. Or when ctx ends.
func (c *Cluster) AwaitFirst(ctx context.Context) {
	if m := c.monitor; m == nil || m.cfg.Blind || len(c.slaves) == 0 {
		return
	}
	select {
	case <-c.monitor.first:
	case <-ctx.Done():
	case <-c.monitor.ctx.Done():
	}
}

// Used says that a statement goes to a slave. It is made to be called for each.
func (c *Cluster) Used() {
	if m := c.monitor; m != nil {
		m.mark(&m.used)
	}
}

// Hurry says that somebody found no slave fresh enough, and has the next round begin as soon as may be.
func (c *Cluster) Hurry() {
	if m := c.monitor; m != nil {
		m.mark(&m.hurried)
	}
}

// Want says that somebody wants slaves that are this fresh. For some seconds rounds are often enough for that.
func (c *Cluster) Want(staleness time.Duration) {
	if m := c.monitor; m != nil {
		m.want(staleness, time.Now())
	}
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

// watchedSlave returns what is known of s, or nil if it has left.
func (m *monitor) watchedSlave(s *Server) *watched { return find(m.picture.slaves, s) }

func find(all []*watched, s *Server) *watched {
	if i := slices.IndexFunc(all, func(w *watched) bool { return w.server == s }); i >= 0 {
		return all[i]
	}
	return nil
}

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
