package cluster

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"gorm.io/gorm"
)

// Cluster is the servers of one group. Safe for concurrent use.
type Cluster struct {
	Masters     []*Server // one or several equal ones; never changed
	MasterPools []gorm.ConnPool
	view        atomic.Pointer[View]
	monitor     *monitor // nil without Watch
	close       func() error

	changing sync.Mutex // the slaves
	slaves   []*Server
	slots    int // that have been given
	closed   bool
}

// New returns the cluster of these servers. It owns the slaves from then on, and never closes a master.
func New(masters, slaves []*Server) *Cluster {
	c := &Cluster{Masters: masters, MasterPools: pools(masters)}
	c.adopt(slaves)
	c.publish(unwatched(slaves))
	c.close = sync.OnceValue(c.closeNow)
	return c
}

// adopt makes these the slaves of the cluster.
func (c *Cluster) adopt(slaves []*Server) {
	for _, s := range slaves {
		if !slices.Contains(c.slaves, s) {
			s.slot = c.slots
			c.slots++
		}
	}
	c.slaves = slaves
}

// Slaves returns the slaves as they were set last, in view or not; none after Close.
func (c *Cluster) Slaves() []*Server {
	c.changing.Lock()
	defer c.changing.Unlock()
	if c.closed {
		return nil
	}
	return slices.Clone(c.slaves)
}

// SetSlaves makes these the slaves, some of which may be so already. The others leave the view at once, and
// their pools close when the last of the queries that run on them ends, unless the pool is used elsewhere.
// It tells whether it did: not after Close. The cluster has to be watched.
func (c *Cluster) SetSlaves(slaves []*Server, used func(*Server) bool) bool {
	c.changing.Lock()
	defer c.changing.Unlock()
	if c.closed {
		return false
	}
	for _, s := range c.slaves {
		if !slices.Contains(slaves, s) {
			s.shared = slices.ContainsFunc(slaves, s.SharesPool) || used(s)
		}
	}
	c.adopt(slices.Clone(slaves))
	c.monitor.setSlaves(c.slaves)
	return true
}

func pools(servers []*Server) []gorm.ConnPool {
	pools := make([]gorm.ConnPool, len(servers))
	for i, s := range servers {
		pools[i] = s.Pool
	}
	return pools
}

// View returns the current view; it is never nil.
func (c *Cluster) View() *View { return c.view.Load() }

// Close stops the monitor, empties the view, then closes the pools of the slaves and waits for the queries
// that run on them, as [sql.DB.Close] does. Later calls return what the first one returned.
func (c *Cluster) Close() error { return c.close() }

// Abandon closes the pools that were opened, of masters too, and leaves those alone that were there before.
func (c *Cluster) Abandon() {
	if c.monitor != nil {
		c.monitor.stop()
	}
	for _, s := range slices.Concat(c.Masters, c.slaves) {
		if s.opened {
			_ = s.close()
		}
	}
}

func (c *Cluster) closeNow() error {
	c.changing.Lock()
	defer c.changing.Unlock()
	c.closed = true
	if c.monitor != nil {
		c.monitor.stop()
	}
	c.publish(newView(nil))
	all := c.slaves
	if c.monitor != nil {
		for _, w := range c.monitor.leaving {
			if !w.server.shared {
				all = append(slices.Clip(all), w.server)
			}
		}
	}
	errs := make([]error, len(all))
	for i, s := range all {
		if err := s.close(); err != nil && !isBroken(err) { // a broken connection is closed
			errs[i] = fmt.Errorf("closing %s: %w", s.ID, described{err})
		}
	}
	return errors.Join(errs...)
}
