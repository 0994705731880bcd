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

	// Interval is the time between rounds while statements go to slaves, MinInterval the least there ever is.
	// Both are more than 0.
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
	c.monitor = newMonitor(c, cfg,
		func(s *Server) asker { return &connection{server: s, cfg: config, seldom: cfg.Blind} })
	c.monitor.publish(time.Now())
	if len(c.slaves) > 0 && !cfg.Blind {
		c.monitor.start()
	}
}

// Watchable tells whether every server can be asked over connections that are not the application's: whether
// no pool was brought ready-made.
func (c *Cluster) Watchable() bool {
	return !slices.ContainsFunc(slices.Concat(c.Masters, c.slaves),
		func(s *Server) bool { return s.dialector == nil || readyMade(s.dialector) })
}

// AwaitFirst waits until each slave has answered or failed to, and those that answer are in the view, or a
// little longer if some are not. What there is to tell of that has been told by then. It returns early if ctx
// ends.
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
		m.raise(&m.used)
	}
}

// Hurry says that somebody found no slave fresh enough, and has the next round begin as soon as may be.
func (c *Cluster) Hurry() {
	if m := c.monitor; m != nil {
		m.raise(&m.hurried)
	}
}

// Want says that somebody wants slaves that are this fresh. For some seconds rounds are often enough for
// that.
func (c *Cluster) Want(staleness time.Duration) {
	if m := c.monitor; m != nil {
		m.want(staleness, time.Now())
	}
}

// questions says what servers are asked.
func (cfg Monitoring) questions() position.Config {
	if cfg.Blind {
		return position.Config{Dialect: "one of which nothing is asked"}
	}
	return position.Config{Dialect: cfg.Dialect, Source: cfg.Source, Refuses: refuses}
}
