package replicated_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
)

// execute does what gorm.io/gen does for a method that returns a gen.SQLResult.
func execute(db *gorm.DB, sql string) error {
	stmt := db.Statement
	_, err := stmt.ConnPool.ExecContext(stmt.Context, sql)
	return err
}

// ways are ways to come by a statement whose pool executes SQL by itself, always with GORM's prepared
// statements.
var ways = []struct {
	name    string
	config  gorm.Config
	prepare func(*gorm.DB) *gorm.DB
}{
	{"PrepareStmt", gorm.Config{PrepareStmt: true}, func(db *gorm.DB) *gorm.DB { return db }},
	{"per session", gorm.Config{}, func(db *gorm.DB) *gorm.DB {
		return db.Session(&gorm.Session{PrepareStmt: true})
	}},
	{"both", gorm.Config{PrepareStmt: true}, func(db *gorm.DB) *gorm.DB {
		return db.Session(&gorm.Session{PrepareStmt: true})
	}},
	{"behind a clause", gorm.Config{PrepareStmt: true}, func(db *gorm.DB) *gorm.DB {
		return db.Clauses(dbresolver.Write).Session(&gorm.Session{PrepareStmt: true})
	}},
}

// runs are what a prepared statement may run in.
var runs = []struct {
	name string
	in   func(*gorm.DB, func(*gorm.DB) error) error
}{
	{"alone", func(db *gorm.DB, f func(*gorm.DB) error) error { return f(db) }},
	{"in a transaction", func(db *gorm.DB, f func(*gorm.DB) error) error {
		return db.Transaction(func(tx *gorm.DB) error { return f(tx) })
	}},
	{"in a transaction behind a clause", func(db *gorm.DB, f func(*gorm.DB) error) error {
		return db.Clauses(replicated.Master).Transaction(func(tx *gorm.DB) error { return f(tx) })
	}},
}

// TestPreparedStatementsAreJudgedEachTime has SQL run by the pool of a statement, where no callback sees it.
// GORM prepares it when it comes for the first time only. The control is a statement that reads.
func TestPreparedStatementsAreJudgedEachTime(t *testing.T) {
	const write, read = "UPDATE users SET name = 'a'", "SELECT 1"
	for _, way := range ways {
		for _, run := range runs {
			t.Run(way.name+"/"+run.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newSiteIn(t, way.config, nil)
					for n := range 3 {
						for _, sql := range []string{write, read} {
							server, token, err := s.visit("GET", func(db *gorm.DB) error {
								return run.in(way.prepare(db), func(db *gorm.DB) error { return execute(db, sql) })
							})
							if err != nil {
								t.Fatal(err)
							}
							if wrote := sql == write; (server == "master") != wrote || token != wrote {
								t.Errorf("run %d of %s: the session then read %q, and got a token: %t", n+1, sql, server, token)
							}
						}
					}
				})
			})
		}
	}
}

// TestPreparedStatementsAreRefusedEachTime has Config.RejectWrites hold there, too.
func TestPreparedStatementsAreRefusedEachTime(t *testing.T) {
	for _, way := range ways[:3] {
		for _, run := range runs[:2] { // the clause Master lets writes through
			t.Run(way.name+"/"+run.name, func(t *testing.T) {
				s := newSetup(t, 1, way.config, func(c *replicated.Config) { c.RejectWrites = true })
				update := func(ctx context.Context) error {
					return run.in(way.prepare(s.db.WithContext(ctx)), func(db *gorm.DB) error {
						return execute(db, "UPDATE users SET name = 'a'")
					})
				}
				for n := range 3 {
					if err := update(t.Context()); err != nil {
						t.Fatal(err)
					}
					err := update(replicated.WithSlave(t.Context()))
					if !errors.Is(err, replicated.ErrWriteOnSlave) {
						t.Errorf("run %d under the intent to read: %v", n+1, err)
					}
				}
			})
		}
	}
}

// TestPreparedStatementsStayPrepared counts how often one is prepared that is judged each time it runs.
func TestPreparedStatementsStayPrepared(t *testing.T) {
	const sql = "UPDATE users SET name = 'a'"
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			s := newSetup(t, 1, way.config, nil)
			steps := 0 // of the statement: it is prepared, or it runs
			s.master.run = func(_ context.Context, query string) error {
				if query == sql {
					steps++
				}
				return nil
			}
			const n = 5
			for range n {
				if err := execute(way.prepare(s.db), sql); err != nil {
					t.Fatal(err)
				}
			}
			if steps != 1+n {
				t.Errorf("%d runs took %d steps, want %d: it was not prepared once", n, steps, 1+n)
			}
			// GORM's own statements are the same ones.
			if err := way.prepare(s.db).Exec(sql).Error; err != nil {
				t.Fatal(err)
			}
			if steps != 2+n {
				t.Errorf("a run through GORM took %d steps, want 1", steps-1-n)
			}
		})
	}
}

// TestStatementsInATransactionAreJudgedOnce has GORM's statements in a transaction: each counts once, and the
// clause on it holds. Without the clause it is refused, which is the control.
func TestStatementsInATransactionAreJudgedOnce(t *testing.T) {
	const update = "UPDATE users SET name = 'a'"
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := newSetup(t, 1, mode.config, func(c *replicated.Config) { c.RejectWrites = true })
			for range 2 { // prepared, and found prepared
				err := s.in(replicated.WithSlave(t.Context()), mode.session).Transaction(func(tx *gorm.DB) error {
					if err := tx.Exec(update).Error; !errors.Is(err, replicated.ErrWriteOnSlave) {
						t.Errorf("without the clause: %v", err)
					}
					return errors.Join(tx.Clauses(replicated.Master).Exec(update).Error,
						tx.Clauses(replicated.Master).Create(&User{Name: "a"}).Error)
				})
				if err != nil {
					t.Error(err)
				}
			}
			before := s.plugin.Status().WithoutIntent
			err := s.in(t.Context(), mode.session).Transaction(func(tx *gorm.DB) error {
				return errors.Join(tx.Exec(update).Error, tx.Create(&User{Name: "a"}).Error, tx.Find(&[]User{}).Error)
			})
			if n := s.plugin.Status().WithoutIntent - before; err != nil || n != 4 {
				t.Errorf("a transaction of three statements counted as %d without an intent, %v; want 4", n, err)
			}
		})
	}
}
