package cluster

import (
	"cmp"
	"database/sql"
	"time"

	"gorm.io/gorm"
)

// Limits are the limits of a slave's connection pool, as database/sql takes them: 0 is database/sql's own
// zero, not a default of ours.
type Limits struct {
	MaxOpen, MaxIdle         int
	MaxLifetime, MaxIdleTime time.Duration
}

// Fill returns l with its zero fields replaced by the defaults for a slave of the given dialect whose
// master's pool is master. A negative field asks for database/sql's zero: no limit, or no idle connections.
func (l Limits) Fill(dialect string, master gorm.ConnPool) Limits {
	if dialect == "sqlite" {
		// A connection to a file costs nothing to keep, and the last one to close takes an in-memory database
		// with it.
		l.MaxLifetime = max(l.MaxLifetime, 0)
	} else {
		l.MaxLifetime = cmp.Or(l.MaxLifetime, connectionLifetime)
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

func (l Limits) apply(db *sql.DB) {
	db.SetMaxOpenConns(l.MaxOpen)
	db.SetMaxIdleConns(l.MaxIdle)
	db.SetConnMaxLifetime(l.MaxLifetime)
	db.SetConnMaxIdleTime(l.MaxIdleTime)
}
