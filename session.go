package replicated

import (
	"sync/atomic"
	"time"

	"github.com/gorm-replicated/replicated/internal/cluster"
	"github.com/gorm-replicated/replicated/internal/firstbyte"
)

// session is what one plugin remembers for one request, or for what WithToken begins.
type session struct {
	router     *router
	request    bool    // not WithToken
	pattern    choice  // Config.Routes
	method     choice  // Config.ReadOnlyMethods
	memory     *memory // of the global group: own, or that of the request's outer session
	own        memory
	others     []memory // of the other groups, in their order
	points     *points  // own, or those of the outer session
	carried    *carried // own, or that of the outer session
	next       *session // of another plugin
	ownPoints  points
	ownCarried carried
}

// memoryOf returns what the session remembers of a group. Without a session there is nothing to remember it
// in: nil.
func (s *session) memoryOf(g *group) *memory {
	switch {
	case s == nil || g == nil || g.err != nil:
		return nil
	case g.index == 0:
		return s.memory
	}
	return &s.others[g.index-1]
}

// markWritten remembers that the session has written to a group.
func (s *session) markWritten(g *group) {
	m := s.memoryOf(g)
	if m == nil {
		return
	}
	if !m.wrote.Load() { // most often it is set already: a load is cheaper
		m.wrote.Store(true)
	}
	if s.carried.late() {
		s.router.noteLate()
	}
}

// memory is the part of a session that changes while the request is served, by as many goroutines as the
// handler likes. There is one for each group.
type memory struct {
	wrote       atomic.Bool
	min         atomic.Pointer[minPosition] // of its tokens; nil: none
	slave       atomic.Pointer[cluster.Server]
	readServers atomic.Uint64                  // which servers, with Token.Monotonic: see noteRead
	master      atomic.Pointer[cluster.Server] // if there are several
	flight      atomic.Pointer[flight]         // its reads
}

func (m *memory) wroteTo() bool { return m != nil && m.wrote.Load() }

// minPosition returns what the session must not read behind, or nil.
func (m *memory) minPosition() *minPosition {
	if m == nil {
		return nil
	}
	return m.min.Load()
}

// currentSlave returns the slave that serves the session: its first one, while that
// may be read. One request reads one state.
func (m *memory) currentSlave(now time.Duration) *cluster.Server {
	if m == nil {
		return nil
	}
	if slave := m.slave.Load(); slave != nil && slave.FitsAt(now) {
		return slave
	}
	return nil
}

// stickTo makes slave the session's, unless another goroutine of the request was
// faster, and returns the session's.
func (m *memory) stickTo(slave *cluster.Server) *cluster.Server {
	if m == nil {
		return slave
	}
	for {
		old := m.slave.Load()
		if old != nil && old.Fits() {
			return old
		}
		if m.slave.CompareAndSwap(old, slave) {
			return slave
		}
	}
}

// switchTo makes slave the session's, whatever it was before, and returns it.
func (m *memory) switchTo(slave *cluster.Server) *cluster.Server {
	if m != nil {
		m.slave.Store(slave)
	}
	return slave
}

// masterRead is the bit of memory.readServers for the master, and for all slaves that have none.
const masterRead = 63

// noteRead remembers which server was read.
func (m *memory) noteRead(s *cluster.Server) {
	if m == nil {
		return
	}
	bit := masterRead
	if s.Slave {
		bit = min(bit, s.Slot())
	}
	m.readServers.Or(1 << bit)
}

// carried is what a session has to do with its client, beside the points.
type carried struct {
	response *firstbyte.Response // nil outside of Middleware
	clashes  bool                // see router.clashes
	issued   atomic.Bool         // the response brings a token
	raised   atomic.Bool         // by a token that came in later
	waiting  atomic.Int64        // until when reads may wait for a slave, in nanoseconds since 1970; 0: none has
}

// late tells whether it is too late for the client to hear of more.
func (c *carried) late() bool { return c.response != nil && c.response.Begun() }

// raise adds to what the session must not read behind.
func (m *memory) raise(newer *minPosition, now time.Time, ttl time.Duration) {
	for {
		old := m.min.Load()
		if m.min.CompareAndSwap(old, old.and(newer, now, ttl)) {
			return
		}
	}
}

// master returns the master for a session: the one it has used, if there are several.
func (g *group) master(m *memory) *cluster.Server {
	if !g.several() {
		return g.cluster.Masters[0]
	}
	if m == nil {
		return g.choose(g.cluster.Masters, g.cluster.MasterPools)
	}
	if m.master.Load() == nil {
		m.master.CompareAndSwap(nil, g.choose(g.cluster.Masters, g.cluster.MasterPools))
	}
	return m.master.Load()
}
