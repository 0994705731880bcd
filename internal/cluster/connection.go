package cluster

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

const (
	// connectionLifetime is after how long a connection is replaced, so that a name that leads to another
	// server by now does not mislead us for ever. It is the default of the slaves' pools.
	connectionLifetime = 3 * time.Minute
	// pinnable is how many connections a pool must have for one to be kept out of it.
	pinnable = 4
)

// connection asks a server over a connection that it keeps: one of a pool of its own, where the dialector
// can open the server a second time, otherwise one out of the server's pool. A small pool gets its
// connection back after each question. While such a pool has none to give, nothing can be told.
type connection struct {
	server *Server
	cfg    position.Config
	seldom bool // it is asked seldom: no connection of the server's pool is kept

	own    *sql.DB // the pool of its own, once there is one
	conn   *sql.Conn
	since  time.Time // of conn
	dialed bool      // it was opened for the latest question: one out of the server's pool may be older
	reader *position.Reader
}

func (c *connection) ask(ctx context.Context) (position.Reading, error) {
	reading, err := c.answer(ctx)
	if reading.Err != nil {
		reading.Reason = Describe(reading.Err)
	}
	return reading, err
}

// answer asks, and once more over a new connection where the one that was kept says nothing of the server:
//
//   - It has ended. An operator may have told the server to end it.
//   - It leads to a master that is none: the address may lead to another server by now. Whoever asks for the
//     position after a write must not get one of the server that was the master before.
func (c *connection) answer(ctx context.Context) (position.Reading, error) {
	reading, err := c.answerOnce(ctx)
	if (err != nil || c.misled(reading)) && ctx.Err() == nil && !c.dialed {
		return c.answerOnce(ctx)
	}
	return reading, err
}

// misled tells whether the connection led to a server that is not the master.
func (c *connection) misled(r position.Reading) bool { return r.WrongRole && !c.server.Slave }

func (c *connection) answerOnce(ctx context.Context) (position.Reading, error) {
	db, err := c.pool()
	if errors.Is(err, errNoPool) {
		return position.Reading{Reason: err.Error(), Remedy: "a DSN, or a pool that is a *sql.DB"}, nil
	}
	if err == nil {
		err = c.connect(ctx, db)
	}
	if err != nil {
		return position.Reading{}, err
	}
	ask := c.reader.Master
	if c.server.Slave {
		ask = c.reader.Slave
	}
	reading, err := ask(ctx)
	switch most := db.Stats().MaxOpenConnections; {
	case err != nil, c.misled(reading), db == c.own && c.seldom:
		c.drop()
	case db != c.own && (0 < most && most < pinnable || c.seldom):
		c.release()
	}
	return reading, err
}

// connect sees to it that there is a connection to ask over: the one that is kept, or a new one of db.
func (c *connection) connect(ctx context.Context, db *sql.DB) error {
	// Whether a new connection is served is the question then.
	anew := c.server.doubted.Swap(false) || c.server.refused.Load()
	switch {
	case c.conn == nil:
	case anew:
		c.drop()
	case time.Since(c.since) > connectionLifetime:
		c.release()
	}
	c.dialed = false
	if c.conn != nil {
		return nil
	}
	c.dialed = db == c.own
	conn, err := db.Conn(ctx)
	if err != nil {
		s := db.Stats()
		full := s.MaxOpenConnections > 0 && s.InUse >= s.MaxOpenConnections
		if ctx.Err() != nil && db != c.own && full {
			return errBusy
		}
		return err
	}
	// Behind a new connection there may be another server: so a new Reader, too.
	c.conn, c.since, c.reader = conn, time.Now(), position.NewReader(conn, c.cfg)
	return nil
}

const errNoPool = ownError("its connection pool is no *sql.DB")

// pool returns the pool to take a connection from.
func (c *connection) pool() (*sql.DB, error) {
	switch {
	case c.own != nil:
		return c.own, nil
	case c.server.reopens():
		var err error
		c.own, err = c.server.reopen()
		return c.own, err
	}
	db, err := c.server.DB()
	if err != nil {
		return nil, errNoPool
	}
	return db, nil
}

// drop closes the connection: nobody must get it again, of whatever pool it is.
func (c *connection) drop() {
	_ = c.conn.Raw(func(any) error { return driver.ErrBadConn })
	c.release()
}

func (c *connection) release() {
	_ = c.conn.Close()
	c.conn, c.reader = nil, nil
}

func (c *connection) close() {
	if c.conn != nil {
		c.release()
	}
	if c.own != nil {
		_ = c.own.Close()
	}
}

// reopens tells whether the server's dialector opens a pool by a DSN, and without asking the server anything.
func (s *Server) reopens() bool {
	if s.dialector == nil || readyMade(s.dialector) {
		return false
	}
	switch s.dialector.Name() {
	case "mysql":
		return addressOf(s.dialector) != ""
	case "postgres":
		return dsn(s.dialector) != ""
	}
	return false
}

// reopen opens a pool of one connection to the server. A dialector may be shared by several clusters, and
// PostgreSQL's writes to its own configuration while it opens.
func (s *Server) reopen() (*sql.DB, error) {
	s.reopening.Lock()
	defer s.reopening.Unlock()
	pool, _, err := open(Spec{Dialector: s.dialector,
		Limits: Limits{MaxOpen: 1, MaxIdle: 1, MaxLifetime: connectionLifetime}})
	if err != nil {
		return nil, err
	}
	db, ok := pool.(*sql.DB)
	if !ok {
		return nil, errors.Join(errNoPool, closePool(pool))
	}
	return db, nil
}
