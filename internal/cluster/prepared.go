package cluster

import (
	"cmp"
	"sync"
	"time"

	"gorm.io/gorm"
)

// NoExpiry is the TTL for which GORM starts no goroutine (noEvictionTTL of gorm/internal/lru). One that it
// starts never ends, and servers come and go.
const NoExpiry = 10 * 365 * 24 * time.Hour

// Prepared returns the server's cache of prepared statements, made at first use. It has GORM's limits: see
// expiry.
func (s *Server) Prepared() *gorm.PreparedStmtDB {
	if p := s.prepared.Load(); p != nil {
		return p
	}
	p := gorm.NewPreparedStmtDB(s.Pool, s.maxStmts, NoExpiry)
	if s.prepared.CompareAndSwap(nil, p) {
		s.expiry.Store(newExpiry(p, s.stmtTTL))
	}
	return s.prepared.Load()
}

// Adopt makes the statements of p, a cache that GORM keeps for this server, the server's own, unless it has
// some already.
func (s *Server) Adopt(p *gorm.PreparedStmtDB) {
	if s.prepared.Load() == nil {
		s.prepared.CompareAndSwap(nil, &gorm.PreparedStmtDB{ConnPool: s.Pool, Mux: p.Mux, Stmts: p.Stmts})
	}
}

// Forget drops a prepared statement, so that it is prepared anew when it is used again.
func (s *Server) Forget(query string) {
	if p := s.prepared.Load(); p != nil {
		p.Mux.Lock()
		defer p.Mux.Unlock()
		p.Stmts.Delete(query)
	}
}

// defaultTTL is GORM's for PrepareStmtTTL.
const defaultTTL = 24 * time.Hour

// expiry closes the prepared statements of a cache when they reach their TTL, as GORM's own goroutine would.
// A timer that is stopped leaves nothing behind.
type expiry struct {
	stmts *gorm.PreparedStmtDB
	ttl   time.Duration

	mu      sync.Mutex // the fields below
	timer   *time.Timer
	since   map[string]time.Time // when each was first seen
	stopped bool
}

// newExpiry returns one that is at work. A ttl of 0 is the default.
func newExpiry(stmts *gorm.PreparedStmtDB, ttl time.Duration) *expiry {
	e := &expiry{stmts: stmts, ttl: cmp.Or(max(ttl, 0), defaultTTL)}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.timer = time.AfterFunc(e.pace(), e.sweep)
	return e
}

// pace is the time between two looks: a statement lives that much longer than its TTL, at most.
func (e *expiry) pace() time.Duration { return max(e.ttl/100, time.Millisecond) }

func (e *expiry) sweep() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return
	}
	now := time.Now()
	since := make(map[string]time.Time, len(e.since))
	for _, query := range e.stmts.Stmts.Keys() {
		seen, known := e.since[query]
		if !known {
			seen = now
		}
		if now.Sub(seen) < e.ttl {
			since[query] = seen
			continue
		}
		e.stmts.Mux.Lock()
		e.stmts.Stmts.Delete(query)
		e.stmts.Mux.Unlock()
	}
	e.since = since
	e.timer.Reset(e.pace())
}

// stop ends it. No statement is closed by it afterwards.
func (e *expiry) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopped = true
	e.timer.Stop()
}
