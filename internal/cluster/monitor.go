package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

// Monitoring says how a cluster is watched.
type Monitoring struct {
	Dialect      string          // as in position.Config
	Source       position.Source // as in position.Config
	AllowMySQL56 bool            // as in position.Config

	// Interval is the time between rounds while statements go to slaves, MinInterval the least there ever is. Both are
	// more than 0.
	Interval, MinInterval time.Duration

	// MaxLag is how far a slave in the view may be behind. More than 0.
	MaxLag time.Duration

	// Notice, if not nil, is told when a slave leaves the view and when it enters it again, and why; and when a master does not
	// answer any longer, and when it does again. All count as in at first: of those that are, after the first round,
	// nothing is told. It must not call Close.
	Notice func(s *Server, in bool, reason string)

	// Writable, if not nil, is told the first time that a slave says that it takes writes. It must not call Close.
	Writable func(*Server)
}

// Watch begins to watch the servers. It is called at most once, before any of the methods below.
func (c *Cluster) Watch(cfg Monitoring) {
	config := position.Config{Dialect: cfg.Dialect, Source: cfg.Source, AllowMySQL56: cfg.AllowMySQL56}
	c.monitor = newMonitor(c, cfg, func(s *Server) asker { return &connection{server: s, cfg: config} })
	c.monitor.start()
}

// Watchable tells whether every server can be asked over connections that are not the application's: whether no pool was
// brought ready-made.
func (c *Cluster) Watchable() bool {
	return !slices.ContainsFunc(slices.Concat(c.Masters, c.slaves), func(s *Server) bool { return s.dialector == nil || readyMade(s.dialector) })
}

// AwaitFirst returns when each slave has answered or failed to, and those that answer are in the view, or a little later
// if some are not. Or when ctx ends.
func (c *Cluster) AwaitFirst(ctx context.Context) {
	if c.monitor == nil {
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

// Position asks a server for its position. The question begins after the call, and several who call at about the
// same time share it. The error is that the server did not answer, or that ctx ended.
func (c *Cluster) Position(ctx context.Context, s *Server) (position.Reading, error) {
	if c.monitor == nil {
		return position.Reading{Reason: "not watched"}, nil
	}
	for _, w := range c.monitor.servers {
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
