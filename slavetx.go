package replicated

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"sync"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated/internal/cluster"
	"github.com/gorm-replicated/replicated/internal/sqlkind"
)

// slaveTx is a transaction on a slave. It lets no write through, and nothing that takes a lock.
type slaveTx struct {
	gorm.Tx
	router *router
	group  *group
	server *cluster.Server

	once     sync.Once
	prepared *gorm.PreparedStmtTX
}

// slaveTxOf returns the slave's transaction in a statement's pool, or nil, and whether it is wrapped in
// prepared statements.
func slaveTxOf(p gorm.ConnPool) (tx *slaveTx, prepared bool) {
	for {
		switch t := p.(type) {
		case *slaveTx:
			return t, prepared
		case *gorm.PreparedStmtTX:
			p, prepared = t.Tx, true
		default:
			return nil, false
		}
	}
}

// withStatements wraps the transaction in the prepared statements of its own server. The cache it names is
// asked for nothing else, but for the database: see GetDBConn.
func (t *slaveTx) withStatements() *gorm.PreparedStmtTX {
	t.once.Do(func() {
		s := t.server.Prepared()
		root := t.group.pools[0]
		statements := &gorm.PreparedStmtDB{ConnPool: root, Mux: s.Mux, Stmts: s.Stmts}
		t.prepared = &gorm.PreparedStmtTX{Tx: t, PreparedStmtDB: statements}
	})
	return t.prepared
}

// GetDBConn returns the master's *sql.DB, as everywhere: db.Connection would take a connection of its own
// from it, and write there.
func (t *slaveTx) GetDBConn() (*sql.DB, error) { return t.group.cluster.Masters[0].DB() }

// rejects tells whether a statement may not run here. A lock that is taken on a slave keeps nobody out who
// writes, and may stop the replay: MariaDB takes those of LOCK IN SHARE MODE in a read-only transaction, too.
// MySQL and PostgreSQL see for themselves that a statement writes, since the transaction is read-only there;
// SQLite does not.
func (t *slaveTx) rejects(query string) bool {
	n := t.router.judge(query, true).nature
	return n == writes || n == locks || n == unknown && t.router.dialect == sqlkind.SQLite
}

func (t *slaveTx) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	if t.rejects(query) {
		return nil, ErrWriteOnSlave
	}
	return t.Tx.PrepareContext(ctx, query)
}

func (t *slaveTx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if t.rejects(query) {
		return nil, ErrWriteOnSlave
	}
	return t.Tx.ExecContext(ctx, query, args...)
}

func (t *slaveTx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if t.rejects(query) {
		return nil, ErrWriteOnSlave
	}
	return t.Tx.QueryContext(ctx, query, args...)
}

func (t *slaveTx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if t.rejects(query) {
		return errorRow(ErrWriteOnSlave)
	}
	return t.Tx.QueryRowContext(ctx, query, args...)
}

// errorRow returns a row whose Err and Scan return err. Only database/sql can
// make one.
func errorRow(err error) *sql.Row {
	db := sql.OpenDB(failing{err})
	defer db.Close()
	return db.QueryRowContext(context.Background(), "")
}

// failing is a driver.Connector that cannot connect.
type failing struct{ err error }

func (f failing) Connect(context.Context) (driver.Conn, error) { return nil, f.err }

func (f failing) Driver() driver.Driver { return f }

func (f failing) Open(string) (driver.Conn, error) { return nil, f.err }
