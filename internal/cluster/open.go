package cluster

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"gorm.io/driver/mysql"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// OpenTimeout bounds the opening of all servers together.
const OpenTimeout = 2 * time.Second

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

// Open opens servers side by side, without asking them anything where the dialector allows that. It returns
// them in the order of specs, or all their mistakes at once. After an error nothing that it opened is left
// open. No slave may have the pool of own, the server that is open already, or of a master. others are open
// already as well.
func Open(own *Server, specs []Spec, others ...*Server) ([]*Server, error) {
	results := make(chan opened, len(specs)) // buffered: nobody waits for one that comes late
	for i, lock := range locks(specs, append([]*Server{own}, others...)) {
		go func() {
			lock.Lock()
			defer lock.Unlock()
			server, err := openServer(own, specs[i], lock)
			results <- opened{i, server, err}
		}()
	}
	servers, errs := make([]*Server, len(specs)), make([]error, len(specs))
	for i, spec := range specs {
		errs[i] = spec.says(ownError(fmt.Sprintf("did not open within %v", OpenTimeout)))
	}
	late := await(results, servers, errs)
	for i, spec := range specs {
		if errs[i] == nil && !spec.Master && isMaster(servers[i].Pool, own, slices.Concat(servers, others)) {
			errs[i] = spec.says(ownError("its connection pool is the master's"))
		}
	}
	err := errors.Join(errs...)
	if err == nil {
		return servers, nil
	}
	Discard(servers)
	go func() {
		for range late {
			Discard([]*Server{(<-results).server})
		}
	}()
	return nil, err
}

// opened is a server that was opened, or why it was not.
type opened struct {
	i      int // of its Spec
	server *Server
	err    error
}

// await puts what comes within OpenTimeout where it belongs, and returns how many are late.
func await(results <-chan opened, servers []*Server, errs []error) (late int) {
	timeout := time.NewTimer(OpenTimeout)
	defer timeout.Stop()
	for late = len(servers); late > 0; late-- {
		select {
		case o := <-results:
			servers[o.i], errs[o.i] = o.server, o.err
		case <-timeout.C:
			return late
		}
	}
	return 0
}

// locks returns what is held while each server is opened. Those that have one dialector have one lock, which
// is that of a known server if it has the same: PostgreSQL's dialector writes to itself while it opens.
func locks(specs []Spec, known []*Server) []*sync.Mutex {
	locks := make([]*sync.Mutex, len(specs))
	for i, spec := range specs {
		before := slices.IndexFunc(specs[:i], func(s Spec) bool {
			return sameDialector(s.Dialector, spec.Dialector)
		})
		open := slices.IndexFunc(known, func(s *Server) bool { return sameDialector(s.dialector, spec.Dialector) })
		switch {
		case before >= 0:
			locks[i] = locks[before]
		case open >= 0:
			locks[i] = known[open].reopening
		default:
			locks[i] = new(sync.Mutex)
		}
	}
	return locks
}

// openServer opens one server. Its statements have the limits that those of own have.
func openServer(own *Server, spec Spec, lock *sync.Mutex) (*Server, error) {
	pool, ours, err := open(spec)
	if err != nil {
		return nil, spec.says(described{err})
	}
	s := &Server{
		ID: spec.ID, Pool: pool, Slave: !spec.Master, Weight: spec.Weight,
		dialector: spec.Dialector, reopening: lock, opened: ours, maxIdle: spec.Limits.MaxIdle,
		maxStmts: own.maxStmts, stmtTTL: own.stmtTTL,
	}
	if source, ok := pool.(*sql.DB); ok && ours && s.Slave {
		if db := placing(source); db != nil {
			spec.Limits.apply(db)
			s.Pool, s.placing = db, true
		}
	}
	return s, nil
}

// says returns err with the server that it is about.
func (s Spec) says(err error) error { return fmt.Errorf("%s (%s): %w", s.Field, s.ID, err) }

// Ping asks servers that Open has opened for a sign of life. It returns what those say that give none, with
// their fields.
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
				errs[i] = specs[i].says(described{err})
			}
		})
	}
	asking.Wait()
	return errors.Join(errs...)
}

// Discard closes the pools of servers that were opened and are not used.
func Discard(servers []*Server) {
	for _, s := range servers {
		if s != nil && s.opened && !s.Left() {
			_ = s.close()
		}
	}
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
	if own.Conn == nil && own.DSNConfig == nil &&
		(own.DriverName == "" || own.DriverName == mysql.DefaultDriverName) {
		return nil, false, errUnparsed
	}
	return &own, own.Conn != nil, nil
}
