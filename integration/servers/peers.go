package servers

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
)

// peers are the servers of a cluster as they know each other.
type peers struct {
	mu        sync.Mutex
	pools     map[int]*sql.DB  // of those that have answered, by their ids
	addresses map[int][]string // where they talk to each other
}

// choose chooses n addresses for each server of c: they have to know all before the first one starts.
func (p *peers) choose(c *Cluster, n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pools, p.addresses = map[int]*sql.DB{}, map[int][]string{}
	for _, s := range c.servers() {
		for range n {
			address, err := freeAddress()
			if err != nil {
				return err
			}
			p.addresses[s.id] = append(p.addresses[s.id], address)
		}
	}
	return nil
}

func freeAddress() (string, error) {
	port, err := freePort()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}

// address returns the ith address of s, which is down or in no group: another one than before if somebody has
// taken that.
func (p *peers) address(s *Server, i int) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, err := net.Listen("tcp", p.addresses[s.id][i])
	if err == nil {
		return p.addresses[s.id][i], l.Close()
	}
	p.addresses[s.id][i], err = freeAddress()
	return p.addresses[s.id][i], err
}

// all returns the ith address of each server, that of the master first: who joins asks one after the other,
// and at first nobody else is there.
func (p *peers) all(i int) (all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(p.addresses)) {
		all = append(all, p.addresses[id][i])
	}
	return all
}

// others returns the pools of all but s, which has the pool db.
func (p *peers) others(s *Server, db *sql.DB) (all []*sql.DB) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pools[s.id] = db
	for id, pool := range p.pools {
		if id != s.id {
			all = append(all, pool)
		}
	}
	return all
}

// readLocks are the connections that hold FLUSH TABLES WITH READ LOCK on slaves, by the ids of the servers.
// Each lock ends with its connection, also when its server does.
type readLocks struct {
	mu    sync.Mutex
	conns map[int]*sql.Conn
}

func (l *readLocks) hold(ctx context.Context, s *Server) error {
	if err := l.release(s); err != nil {
		return err
	}
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, "FLUSH TABLES WITH READ LOCK"); err != nil {
		return errors.Join(err, conn.Close())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil {
		l.conns = map[int]*sql.Conn{}
	}
	l.conns[s.id] = conn
	return nil
}

func (l *readLocks) release(s *Server) error {
	l.mu.Lock()
	conn := l.conns[s.id]
	delete(l.conns, s.id)
	l.mu.Unlock()
	if conn == nil {
		return nil
	}
	// Not back into the pool, where it would keep the lock.
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	return nil
}
