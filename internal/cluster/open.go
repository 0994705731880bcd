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
		if s.opened && !s.Left() {
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
	if own.Conn == nil && own.DSNConfig == nil && (own.DriverName == "" || own.DriverName == mysql.DefaultDriverName) {
		return nil, false, errUnparsed
	}
	return &own, own.Conn != nil, nil
}
