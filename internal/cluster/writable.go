package cluster

import (
	"context"
	"database/sql"
	"strings"
	"time"
)

const (
	askTimeout  = 2 * time.Second
	firstDelay  = time.Second
	longestWait = time.Minute
)

// AskWritable asks every slave, in the background and until it answers, whether it takes writes, and calls found
// if it does. Slaves whose pools were handed over ready-made are left alone, and so are those of other dialects than MySQL and
// PostgreSQL. Close ends it.
func (c *Cluster) AskWritable(dialect string, found func(*Server)) {
	ask, ok := map[string]func(context.Context, *sql.DB) (bool, error){"mysql": writableMySQL, "postgres": writablePostgreSQL}[dialect]
	if !ok {
		return
	}
	for _, s := range c.slaves {
		db, ok := s.Pool.(*sql.DB)
		if !ok || !s.opened {
			continue
		}
		c.asking.Go(func() {
			for delay := firstDelay; ; delay = min(2*delay, longestWait) {
				ctx, cancel := context.WithTimeout(c.ctx, askTimeout)
				writable, err := ask(ctx, db)
				cancel()
				if err == nil {
					if s.writable.Store(writable); writable {
						found(s)
					}
					return
				}
				select {
				case <-c.ctx.Done():
					return
				case <-time.After(delay):
				}
			}
		})
	}
}

// Writable tells whether a slave is known to take writes.
func (s *Server) Writable() bool { return s.writable.Load() }

// writableMySQL goes by the variables that forbid writes to ordinary accounts: read_only, and innodb_read_only, which Aurora's
// readers have. super_read_only, which forbids them to all accounts, sets read_only as well (MySQL's manual, server system variables).
func writableMySQL(ctx context.Context, db *sql.DB) (bool, error) {
	rows, err := db.QueryContext(ctx, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('read_only', 'innodb_read_only')")
	if err != nil {
		return false, err
	}
	defer rows.Close()
	writable := true
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return false, err
		}
		if !strings.EqualFold(value, "OFF") { // MariaDB from 11.8 knows more than ON
			writable = false
		}
	}
	return writable, rows.Err()
}

// writablePostgreSQL asks for what a standby always has on, and a server with default_transaction_read_only until somebody changes it.
func writablePostgreSQL(ctx context.Context, db *sql.DB) (bool, error) {
	var readOnly string
	err := db.QueryRowContext(ctx, "SHOW transaction_read_only").Scan(&readOnly)
	return readOnly == "off", err
}
