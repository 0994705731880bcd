package cluster

import (
	"database/sql"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated/internal/position"
)

// Server is one database server of a group.
type Server struct {
	// What most reads look at stands first and together.
	Pool     gorm.ConnPool
	state    atomic.Pointer[State]
	marked   atomic.Bool // see NoteUse
	prepared atomic.Pointer[gorm.PreparedStmtDB]
	flights  flights

	ID     string
	Slave  bool // not a master
	Weight int  // of a slave, for PickWeighted and PickLeast; 0 counts as 1
	Load   Load

	Shadowed atomic.Uint64 // statements that would have run here

	dialector gorm.Dialector // that opened the pool
	reopening *sync.Mutex    // of the dialector, which several servers may share: see locks

	opened  bool                   // by Open: the pool was not there before
	placing bool                   // the pool tells connecting apart from executing: see PlaceOf
	shared  bool                   // its pool is used elsewhere, too: it is not closed when the server leaves
	slot    int                    // among the slaves of the cluster, those that have left included
	latest  atomic.Pointer[Latest] // of a master
	doubted atomic.Bool            // the next question is asked over a new connection
	refused atomic.Bool            // so is every one: it has failed a read, and is not back
	downs   atomic.Uint64          // how often it was lost: see State
	idle    sync.Mutex             // held while idle connections are dropped
	maxIdle int                    // of its pool, if opened

	maxStmts int
	stmtTTL  time.Duration
	expiry   atomic.Pointer[expiry] // of what is prepared
}

// NewServer describes a master whose pool dialector has already opened. maxStmts and stmtTTL are
// gorm.Config's PrepareStmtMaxSize and PrepareStmtTTL.
func NewServer(id string, pool gorm.ConnPool, dialector gorm.Dialector, maxStmts int,
	stmtTTL time.Duration) *Server {
	return &Server{
		ID: id, Pool: pool, dialector: dialector, reopening: new(sync.Mutex), maxStmts: maxStmts, stmtTTL: stmtTTL,
	}
}

// Slot is the number of a slave among those of its cluster, which it keeps when others come and go.
func (s *Server) Slot() int { return s.slot }

// State is what the current view says of a slave, or that the slave has left, or that what a view said does
// not hold any longer: see [Cluster.Lapse]. It is nil if no view has had the server yet.
func (s *Server) State() *State { return s.state.Load() }

// Fits tells whether the server is a slave that may be read, by the monotonic clock.
func (s *Server) Fits() bool { return s.FitsAt(Now()) }

// NoteUse notes that the server is used, and tells whether that was noted already since the latest round
// began. If it was not, the caller has to call [Cluster.Used], which looks at more memory.
func (s *Server) NoteUse() bool { return s.marked.Load() || s.marked.Swap(true) }

// Latest is the latest position that a master is known to have had, and the history that it is of, as
// [position.Reading.History] names it.
type Latest struct {
	History  string
	Position position.Position
}

// Latest returns that of a master; nil if it has not been heard of yet, or has never had one.
func (s *Server) Latest() *Latest { return s.latest.Load() }

// Left tells whether the server is a slave that has left the view for good.
func (s *Server) Left() bool {
	state := s.State()
	return state != nil && state.Life == LifeLeft
}

// Writable tells whether a slave is known to take writes.
func (s *Server) Writable() bool {
	state := s.State()
	return state != nil && state.Writable
}

// Downs returns how often the server was lost: it did not answer at all. A connection from before the last
// time leads nowhere.
func (s *Server) Downs() uint64 { return s.downs.Load() }

// DB returns the server's *sql.DB, or gorm.ErrInvalidDB if its pool is something else.
func (s *Server) DB() (*sql.DB, error) {
	switch pool := s.Pool.(type) {
	case *sql.DB:
		return pool, nil
	case gorm.GetDBConnector:
		return pool.GetDBConn()
	}
	return nil, gorm.ErrInvalidDB
}

// DropIdle closes the idle connections to a server that has failed. Some lead nowhere, and no answer would
// ever tell. It leaves a pool alone that was brought ready-made.
func (s *Server) DropIdle() {
	if db, ok := s.Pool.(*sql.DB); ok && s.opened {
		// One caller at a time: while database/sql closes connections, another limit would have it overwrite its
		// list of those that it still has to close.
		s.idle.Lock()
		defer s.idle.Unlock()
		db.SetMaxIdleConns(-1)
		db.SetMaxIdleConns(s.maxIdle)
	}
}

// unused tells whether no more of the pool's connections are in use than kept: questions may keep one.
func (s *Server) unused(kept int) bool {
	db, err := s.DB()
	return err != nil || db.Stats().InUse <= kept
}

func (s *Server) close() error {
	if e := s.expiry.Load(); e != nil {
		e.stop()
	}
	if p := s.prepared.Load(); p != nil {
		p.Close()
	}
	return closePool(s.Pool)
}

func closePool(pool gorm.ConnPool) error {
	if c, ok := pool.(interface{ Close() error }); ok {
		return c.Close()
	}
	return nil
}
