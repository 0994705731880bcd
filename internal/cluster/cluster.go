// Package cluster opens the servers of one group, watches them, and publishes
// the view of them that routing reads. It knows nothing of requests.
package cluster

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/driver/mysql"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gorm-replicated/replicated/internal/position"
)

// OpenTimeout bounds the opening of all servers together.
const OpenTimeout = 2 * time.Second

// Limits are the limits of a slave's connection pool, as database/sql takes
// them: 0 is database/sql's own zero, not a default of ours.
type Limits struct {
	MaxOpen, MaxIdle         int
	MaxLifetime, MaxIdleTime time.Duration
}

// Spec says how to open one server.
type Spec struct {
	Field     string // of the configuration, for errors
	ID        string
	Dialector gorm.Dialector
	Master    bool
	Weight    int // of a slave; see Server
	// Limits are applied to a pool that the dialector opens. A pool that was
	// handed over ready-made (mysql.Config.Conn) keeps its own.
	Limits Limits
}

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

// SetSlaves makes these the slaves, some of which may be so already. The others leave the view at once, and their pools close when the last
// of the queries that run on them ends, unless the pool is used elsewhere. It tells whether it did: not after Close. The cluster has to be watched.
func (c *Cluster) SetSlaves(slaves []*Server, used func(*Server) bool) bool {
	c.changing.Lock()
	defer c.changing.Unlock()
	if c.closed {
		return false
	}
	for _, s := range c.slaves {
		if !slices.Contains(slaves, s) {
			s.left.Store(true)
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

// Close stops the monitor, empties the view, then closes the pools of the slaves and waits for
// the queries that run on them, as [sql.DB.Close] does. Later calls return what the
// first one returned.
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
	c.publish(newView(nil, nil))
	for _, s := range c.slaves {
		s.left.Store(true)
	}
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
		if err := s.close(); err != nil && !ended(err) { // a broken connection is closed
			errs[i] = fmt.Errorf("closing %s: %w", s.ID, described{err})
		}
	}
	return errors.Join(errs...)
}

// Open opens servers side by side, without asking them anything where the
// dialector allows that, and returns them in the order of specs, or all their mistakes at once. After an
// error nothing that it opened is left open. No slave may have the pool of own, the server that is open already, or of a master. others are open already as well.
func Open(own *Server, specs []Spec, others ...*Server) ([]*Server, error) {
	type opened struct {
		i     int
		pool  gorm.ConnPool
		ours  bool
		marks bool
		err   error
	}
	results := make(chan opened, len(specs)) // buffered: nobody waits for one that comes late
	locks := make([]*sync.Mutex, len(specs))
	known := append([]*Server{own}, others...)
	for i, spec := range specs {
		locks[i] = new(sync.Mutex)
		for _, s := range known {
			if sameDialector(s.dialector, spec.Dialector) {
				locks[i] = s.reopening
			}
		}
		if same := slices.IndexFunc(specs[:i], func(s Spec) bool { return sameDialector(s.Dialector, spec.Dialector) }); same >= 0 {
			locks[i] = locks[same]
		}
		go func() {
			locks[i].Lock()
			defer locks[i].Unlock()
			o := opened{i: i}
			o.pool, o.ours, o.err = open(spec)
			if source, ok := o.pool.(*sql.DB); ok && o.ours && !spec.Master {
				if db := marking(source); db != nil {
					spec.Limits.apply(db)
					o.pool, o.marks = db, true
				}
			}
			results <- o
		}()
	}

	servers := make([]*Server, len(specs))
	errs := make([]error, len(specs))
	for i, spec := range specs {
		errs[i] = fmt.Errorf("%s (%s): did not open within %v", spec.Field, spec.ID, OpenTimeout)
	}
	timeout := time.NewTimer(OpenTimeout)
	defer timeout.Stop()
	missing := len(specs)
	var undo []gorm.ConnPool
wait:
	for ; missing > 0; missing-- {
		select {
		case o := <-results:
			errs[o.i] = nil
			if o.err != nil {
				errs[o.i] = fmt.Errorf("%s (%s): %w", specs[o.i].Field, specs[o.i].ID, described{o.err})
				continue
			}
			if o.ours {
				undo = append(undo, o.pool)
			}
			spec := specs[o.i]
			servers[o.i] = &Server{
				ID: spec.ID, Pool: o.pool, dialector: spec.Dialector, Slave: !spec.Master,
				opened: o.ours, marks: o.marks, maxIdle: spec.Limits.MaxIdle, Weight: spec.Weight,
				reopening: locks[o.i], maxStmts: own.maxStmts, stmtTTL: own.stmtTTL,
			}
		case <-timeout.C:
			break wait
		}
	}
	for i, spec := range specs {
		if errs[i] == nil && !spec.Master && isMaster(servers[i].Pool, own, slices.Concat(servers, others)) {
			errs[i] = fmt.Errorf("%s (%s): its connection pool is the master's", spec.Field, spec.ID)
		}
	}
	if err := errors.Join(errs...); err != nil {
		go func() { // the late ones
			for ; missing > 0; missing-- {
				if o := <-results; o.err == nil && o.ours {
					_ = closePool(o.pool)
				}
			}
		}()
		for _, pool := range undo {
			_ = closePool(pool)
		}
		return nil, err
	}
	return servers, nil
}

// Ping asks servers that Open has opened for a sign of life, and returns what those say that give none, with their fields.
func Ping(ctx context.Context, servers []*Server, specs []Spec) error {
	errs := make([]error, len(servers))
	var asking sync.WaitGroup
	for i, s := range servers {
		db, err := s.DB()
		if err != nil || !s.opened {
			continue // there is no way to ask, or nobody asked us to
		}
		asking.Go(func() {
			if err := db.PingContext(ctx); err != nil {
				errs[i] = fmt.Errorf("%s (%s): %w", specs[i].Field, specs[i].ID, described{err})
			}
		})
	}
	asking.Wait()
	return errors.Join(errs...)
}

// Discard closes the pools of servers that were opened and are not used.
func Discard(servers []*Server) {
	for _, s := range servers {
		if s.opened && !s.left.Load() {
			_ = s.close()
		}
	}
}

// OpenedBy tells whether d opens, or has opened, what s is.
func (s *Server) OpenedBy(d gorm.Dialector) bool {
	if sameDialector(s.dialector, d) {
		return true
	}
	if conn := fieldOf(d, "Conn"); readyMade(d) {
		pool, ok := conn.Interface().(gorm.ConnPool)
		return ok && samePool(pool, s.Pool)
	}
	origin := originOf(d)
	return s.dialector != nil && reflect.TypeOf(s.dialector) == reflect.TypeOf(d) && !readyMade(s.dialector) && origin != "" && origin == originOf(s.dialector)
}

// isMaster tells whether pool is that of own or of a master among servers.
func isMaster(pool gorm.ConnPool, own *Server, servers []*Server) bool {
	return samePool(pool, own.Pool) || slices.ContainsFunc(servers, func(s *Server) bool {
		return s != nil && !s.Slave && samePool(pool, s.Pool)
	})
}

// open also tells whether the pool is ours, or was handed over ready-made.
func open(spec Spec) (_ gorm.ConnPool, ours bool, err error) {
	defer func() {
		if v := recover(); v != nil { // such as a *mysql.Dialector without its Config
			err = panicked("the dialector panicked while opening", v)
		}
	}()
	dialector, handedOver, err := quiet(spec.Dialector)
	if err != nil {
		return nil, false, err
	}
	// A configuration of its own: opening with the application's would replace
	// the cache that all of its sessions share.
	db, err := gorm.Open(dialector, &gorm.Config{DisableAutomaticPing: true, Logger: logger.Discard})
	if err != nil {
		return nil, false, err
	}
	if db.ConnPool == nil {
		return nil, false, ownError("the dialector opened no connection pool")
	}
	if sqlDB, ok := db.ConnPool.(*sql.DB); ok && !handedOver {
		spec.Limits.apply(sqlDB)
	}
	return db.ConnPool, !handedOver, nil
}

func (l Limits) apply(db *sql.DB) {
	db.SetMaxOpenConns(l.MaxOpen)
	db.SetMaxIdleConns(l.MaxIdle)
	db.SetConnMaxLifetime(l.MaxLifetime)
	db.SetConnMaxIdleTime(l.MaxIdleTime)
}

// sameDialector tells whether two dialectors are one, as far as they can be compared.
func sameDialector(a, b gorm.Dialector) bool {
	return a != nil && b != nil && reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable() && a == b
}

// samePool tells whether two pools are one *sql.DB.
func samePool(a, b gorm.ConnPool) bool {
	x, ok := a.(*sql.DB)
	y, also := b.(*sql.DB)
	return ok && also && x == y
}

// quiet returns a dialector that opens without asking the server anything,
// where there is a way: MySQL's asks for the version, and waits for a frozen
// server without any bound. It also tells whether the pool is the caller's.
func quiet(d gorm.Dialector) (_ gorm.Dialector, handedOver bool, _ error) {
	var cfg *mysql.Config
	switch d := d.(type) {
	case *mysql.Dialector:
		cfg = d.Config
	case mysql.Dialector:
		cfg = d.Config
	default:
		return d, readyMade(d), nil
	}
	own := *mysql.New(*cfg).(*mysql.Dialector)
	own.SkipInitializeWithVersion = true
	if own.Conn == nil && own.DSNConfig == nil && (own.DriverName == "" || own.DriverName == mysql.DefaultDriverName) {
		return nil, false, errUnparsed
	}
	return &own, own.Conn != nil, nil
}

// Server is one database server of a group.
type Server struct {
	// What most reads look at stands first and together.
	Pool     gorm.ConnPool
	until    atomic.Int64 // when it does not fit any longer, on the monotonic clock: see Fits
	marked   atomic.Bool  // see Mark
	state    atomic.Pointer[State]
	prepared atomic.Pointer[gorm.PreparedStmtDB]
	flights  flights

	ID     string
	Slave  bool // not a master
	Weight int  // of a slave, for PickWeighted and PickLeast; 0 counts as 1
	Load   Load

	Shadowed atomic.Uint64 // statements that would have run here

	dialector gorm.Dialector // that opened the pool
	reopening *sync.Mutex    // of the dialector, which several servers may share: PostgreSQL's writes to its own configuration while it opens

	opened   bool // by Open: the pool was not there before
	marks    bool // the pool tells connecting apart from executing: see PlaceOf
	shared   bool // its pool is used elsewhere, too: it is not closed when the server leaves
	slot     int  // among the slaves of the cluster, those that have left included
	left     atomic.Bool
	writable atomic.Bool
	latest   atomic.Pointer[Latest] // of a master
	doubted  atomic.Bool            // the next question is asked over a new connection
	refused  atomic.Bool            // so is every one: it has failed a read, and is not back
	downs    atomic.Uint64          // how often it was down for certain
	returned atomic.Int64           // when it came back last, in nanoseconds of Unix time
	alone    atomic.Bool            // then no other slave was read
	idle     sync.Mutex             // held while idle connections are dropped
	maxIdle  int                    // of its pool, if opened

	maxStmts int
	stmtTTL  time.Duration
	expiry   atomic.Pointer[expiry] // of what is prepared
}

// NewServer describes a master whose pool dialector has already opened. maxStmts and
// stmtTTL are gorm.Config's PrepareStmtMaxSize and PrepareStmtTTL.
func NewServer(id string, pool gorm.ConnPool, dialector gorm.Dialector, maxStmts int, stmtTTL time.Duration) *Server {
	return &Server{ID: id, Pool: pool, dialector: dialector, reopening: new(sync.Mutex), maxStmts: maxStmts, stmtTTL: stmtTTL}
}

// SharesPool tells whether two servers have one pool.
func (s *Server) SharesPool(other *Server) bool { return samePool(s.Pool, other.Pool) }

// Slot is the number of a slave among those of its cluster, which it keeps when others come and go.
func (s *Server) Slot() int { return s.slot }

// State is that in the current view, or in the last one that had the server; nil if none had.
func (s *Server) State() *State { return s.state.Load() }

// Mark tells whether it was called before since the latest round began. If not, it is for the caller to say Used: this spares it that, which looks at
// more memory.
func (s *Server) Mark() bool { return s.marked.Load() || s.marked.Swap(true) }

// Same tells whether two servers are one, as far as can be seen: what is written to one is in the history of the other.
func (s *Server) Same(other *Server) bool {
	if s == other || samePool(s.Pool, other.Pool) {
		return true
	}
	if s.dialector == nil || other.dialector == nil {
		return false
	}
	address := addressOf(s.dialector)
	return address != "" && address == addressOf(other.dialector)
}

// Latest is the latest position that a master is known to have had, and the history that it is of, as
// [position.Reading.History] names it.
type Latest struct {
	History  string
	Position position.Position
}

// Latest returns that of a master; nil if it has not been heard of yet, or has never had one.
func (s *Server) Latest() *Latest { return s.latest.Load() }

// Left tells whether the server is a slave that has left the view for good.
func (s *Server) Left() bool { return s.left.Load() }

// Writable tells whether a slave is known to take writes.
func (s *Server) Writable() bool { return s.writable.Load() }

// Downs returns how often the server was down for certain: a connection from before the last time is none any longer.
func (s *Server) Downs() uint64 { return s.downs.Load() }

// Share returns what part of its share of reads a slave should get: less than 1 for a while after it came back.
func (s *Server) Share(now time.Time) float64 {
	back := time.Duration(now.UnixNano() - s.returned.Load())
	if back < 0 { // the clock was set back
		return 1
	}
	return share(back)
}

// CameBackAlone tells whether no other slave was read when it came back: then the master has had its reads until then.
func (s *Server) CameBackAlone() bool { return s.alone.Load() }

// unused tells whether nobody has a connection of the server's pool any longer, but for the one that its questions may keep.
func (s *Server) unused(kept int) bool {
	db, err := s.DB()
	return err != nil || db.Stats().InUse <= kept
}

// DropIdle closes the idle connections to a server that has failed. Some lead nowhere, and no answer would
// ever tell. It leaves a pool alone that was brought ready-made.
func (s *Server) DropIdle() {
	if db, ok := s.Pool.(*sql.DB); ok && s.opened {
		// One at a time: while database/sql closes them, another limit would have it overwrite its list of those that it still has to close.
		s.idle.Lock()
		defer s.idle.Unlock()
		db.SetMaxIdleConns(-1)
		db.SetMaxIdleConns(s.maxIdle)
	}
}

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

// Adopt makes the statements of p, a cache that GORM keeps for this server,
// the server's own, unless it has some already.
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

// DB returns the server's *sql.DB, or gorm.ErrInvalidDB if its pool is
// something else.
func (s *Server) DB() (*sql.DB, error) {
	switch pool := s.Pool.(type) {
	case *sql.DB:
		return pool, nil
	case gorm.GetDBConnector:
		return pool.GetDBConn()
	}
	return nil, gorm.ErrInvalidDB
}

// BeginTx begins a transaction. It returns
// gorm.ErrInvalidTransaction if the pool has no transactions.
func BeginTx(ctx context.Context, pool gorm.ConnPool, opts *sql.TxOptions) (gorm.ConnPool, error) {
	switch beginner := pool.(type) {
	case gorm.TxBeginner:
		return beginner.BeginTx(ctx, opts)
	case gorm.ConnPoolBeginner:
		return beginner.BeginTx(ctx, opts)
	}
	return nil, gorm.ErrInvalidTransaction
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

// Fill returns l with its zero fields replaced by the defaults for a slave of
// the given dialect whose master's pool is master. A negative field asks for
// database/sql's zero: no limit, or no idle connections.
func (l Limits) Fill(dialect string, master gorm.ConnPool) Limits {
	if dialect == "sqlite" {
		// A connection to a file costs nothing to keep, and the last one to
		// close takes an in-memory database with it.
		l.MaxLifetime = max(l.MaxLifetime, 0)
	} else {
		l.MaxLifetime = cmp.Or(l.MaxLifetime, 3*time.Minute)
	}
	if l.MaxOpen == 0 {
		if db, ok := master.(*sql.DB); ok {
			l.MaxOpen = db.Stats().MaxOpenConnections
		}
	}
	if l.MaxIdle == 0 {
		l.MaxIdle = cmp.Or(l.MaxOpen, 16)
	}
	return l
}
