package replicated

import (
	"context"
	"database/sql"
	"reflect"
	"sync"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated/internal/cluster"
)

// store is a cache of prepared statements as GORM has it, whose type has no name outside of GORM: S is a
// statement, and C prepares one.
type store[S, C any] interface {
	New(ctx context.Context, query string, inTransaction bool, conn C, locked sync.Locker) (S, error)
	Keys() []string
	Get(query string) (S, bool)
	Set(query string, s S)
	Delete(query string)
}

// judgedStore judges what may write each time it runs. GORM prepares a statement through our pool once; after
// that its PreparedStmtDB and PreparedStmtTX look it up in a store and run it themselves. That is how
// gorm.io/gen executes SQL: on the pool of a statement, without a callback.
//
// Of the two methods by which GORM looks up a statement, only New is told the context. So Get finds no
// statement that may write, and New does.
type judgedStore[S, C any] struct {
	router *router
	raw    func() *gorm.PreparedStmtDB // which has the store itself
}

// judgeUses returns the store of raw, which is like the given one, with all uses judged.
func judgeUses[S, C any](rt *router, _ store[S, C], raw func() *gorm.PreparedStmtDB) *judgedStore[S, C] {
	return &judgedStore[S, C]{rt, raw}
}

func (j *judgedStore[S, C]) unjudged() *gorm.PreparedStmtDB { return j.raw() }

func (j *judgedStore[S, C]) store() store[S, C] { return any(j.raw().Stmts).(store[S, C]) }

func (j *judgedStore[S, C]) Keys() []string { return j.store().Keys() }

func (j *judgedStore[S, C]) Set(query string, s S) { j.store().Set(query, s) }

func (j *judgedStore[S, C]) Delete(query string) { j.store().Delete(query) }

func (j *judgedStore[S, C]) Get(query string) (S, bool) {
	if j.router.judge(query, false).mayWriteOnMaster() {
		var none S
		return none, false
	}
	return j.store().Get(query)
}

func (j *judgedStore[S, C]) New(
	ctx context.Context, query string, inTransaction bool, conn C, locked sync.Locker,
) (S, error) {
	locked.Unlock() // a Logger may be called, and may hang
	if err := j.router.admit(ctx, any(conn), query); err != nil {
		var none S
		return none, err
	}
	locked.Lock()
	// From here on it is what GORM does with what Get returns.
	if s, ok := j.store().Get(query); ok && (inTransaction || !ofTransaction(s)) {
		locked.Unlock()
		return s, any(s).(interface{ Error() error }).Error()
	}
	return j.store().New(ctx, query, inTransaction, conn, locked)
}

// ofTransaction tells whether GORM prepared a statement in a transaction: then it is of no use outside of
// one.
func ofTransaction(statement any) bool {
	return reflect.ValueOf(statement).Elem().FieldByName("Transaction").Bool()
}

// judgeStatements has the statements judged that GORM keeps for db: those of its configuration, and those of
// Session{PrepareStmt: true}.
func (rt *router) judgeStatements(db *gorm.DB) {
	prepared, ok := db.ConnPool.(*gorm.PreparedStmtDB)
	for ok { // they nest
		rt.judgeStatementsOf(prepared)
		prepared, ok = prepared.ConnPool.(*gorm.PreparedStmtDB)
	}
	if shared, isNew := sessionStatements(db); isNew {
		// They cost a goroutine of GORM's, so they are made when somebody uses them.
		shared.ConnPool = rt.groups[0].pools[0]
		made := sync.OnceValue(func() *gorm.PreparedStmtDB {
			s := gorm.NewPreparedStmtDB(rt.ownServer.Pool, db.PrepareStmtMaxSize, db.PrepareStmtTTL)
			s.Mux = shared.Mux
			return s
		})
		shared.Stmts = judgeUses(rt, shared.Stmts, made)
	} else if shared != nil {
		rt.judgeStatementsOf(shared)
	}
}

func (rt *router) judgeStatementsOf(prepared *gorm.PreparedStmtDB) {
	if unjudged(prepared) != prepared {
		return // it is judged already
	}
	raw := *prepared
	prepared.Stmts = judgeUses(rt, raw.Stmts, func() *gorm.PreparedStmtDB { return &raw })
}

// unjudged returns the statements behind those that are judged.
func unjudged(prepared *gorm.PreparedStmtDB) *gorm.PreparedStmtDB {
	if j, ok := prepared.Stmts.(interface{ unjudged() *gorm.PreparedStmtDB }); ok {
		return j.unjudged()
	}
	return prepared
}

// judged returns the statements that server has prepared, for use through pool, with all uses judged.
func (rt *router) judged(server *cluster.Server, pool gorm.ConnPool) *gorm.PreparedStmtDB {
	own := server.Prepared()
	judged := &gorm.PreparedStmtDB{ConnPool: pool, Mux: own.Mux, Stmts: own.Stmts}
	rt.judgeStatementsOf(judged)
	return judged
}

// admitted returns what a statement runs on that was judged already. In a transaction GORM's prepared
// statements would have it judged once more: without the clause on it, and as if GORM had not built it.
func admitted(bound gorm.ConnPool) gorm.ConnPool {
	tx, ok := bound.(*gorm.PreparedStmtTX)
	if !ok {
		return bound
	}
	raw := unjudged(tx.PreparedStmtDB)
	if raw == tx.PreparedStmtDB {
		return bound
	}
	return &gorm.PreparedStmtTX{Tx: tx.Tx, PreparedStmtDB: raw}
}

// sessionStatements returns what all of db's Session{PrepareStmt: true} share, and whether it is new. GORM
// hands it out to a transaction only. It is nil if GORM does so no longer.
func sessionStatements(db *gorm.DB) (shared *gorm.PreparedStmtDB, isNew bool) {
	config := *db.Config
	mark := &gorm.PreparedStmtDB{}
	config.ConnPool, config.PrepareStmtTTL = mark, cluster.NoExpiry
	probe := &gorm.DB{Config: &config, Statement: &gorm.Statement{ConnPool: (*sql.Tx)(nil)}}
	session := probe.Session(&gorm.Session{PrepareStmt: true})
	tx, ok := session.Statement.ConnPool.(*gorm.PreparedStmtTX)
	if !ok {
		return nil, false
	}
	return tx.PreparedStmtDB, tx.PreparedStmtDB.ConnPool == gorm.ConnPool(mark)
}
