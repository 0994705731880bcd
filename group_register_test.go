package replicated_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
)

// TestRegisterMeanwhile has groups be registered too late while requests run:
// they go on, or fail with that error.
func TestRegisterMeanwhile(t *testing.T) {
	for _, grouped := range []bool{false, true} {
		t.Run(fmt.Sprintf("grouped: %v", grouped), func(t *testing.T) {
			s := newGroups(t, gorm.Config{})
			if !grouped {
				s = newSetup(t, 1, gorm.Config{}, func(cfg *replicated.Config) {
					cfg.Logger = slog.New(slog.DiscardHandler)
				})
			}
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for range 50 {
						s.request("GET", func(db *gorm.DB) {
							for _, err := range []error{
								db.Find(&[]User{}).Error, db.Raw("SELECT * FROM late_1 JOIN late_2").Row().Err(),
								db.Exec("UPDATE late_1 SET a = 1").Error,
								db.Transaction(func(tx *gorm.DB) error { return tx.Exec("UPDATE late_2, users SET a = 1").Error }),
							} {
								if err != nil && !strings.Contains(err.Error(), "was called after db.Use") {
									t.Error(err)
								}
							}
						})
					}
				})
			}
			for i := range 20 {
				s.plugin.Register(replicated.Group{}, fmt.Sprintf("late_%d", i))
				s.plugin.Status()
			}
			wg.Wait()
		})
	}
}

// TestReadyMadePoolsStayOpen has callbacks that cannot be ordered make Use fail
// after the servers were opened.
func TestReadyMadePoolsStayOpen(t *testing.T) {
	db := openFake(t, openPool(t, &fake{}), gorm.Config{})
	nothing := func(*gorm.DB) {}
	for _, err := range []error{
		db.Callback().Row().Before("b").Register("a", nothing),
		db.Callback().Row().Before("a").Register("b", nothing),
	} {
		if err != nil {
			t.Log(err) // it takes effect all the same
		}
	}
	ready := openPool(t, &fake{})
	err := db.Use(replicated.New(replicated.Config{Slaves: []gorm.Dialector{dialector(ready)}}))
	if err == nil {
		t.Fatal("no error")
	}
	if err := ready.PingContext(t.Context()); err != nil {
		t.Errorf("a pool that was brought ready-made: %v", err)
	}
}

// nameless is a model whose TableName panics.
type nameless struct{ ID int64 }

func (nameless) TableName() string { panic("no name") }

// TestMistakesInRegister has all of them reported at once, by Use.
func TestMistakesInRegister(t *testing.T) {
	db := openFake(t, openPool(t, &fake{name: "master"}), gorm.Config{})
	p := replicated.New(replicated.Config{DefaultIntent: 7}).
		Register(replicated.Group{}, "orders", &Order{}). // one table twice in one group is no mistake
		Register(replicated.Group{}, "ORDERS").
		Register(replicated.Group{}).
		Register(replicated.Group{}, "").
		Register(replicated.Group{}, 42).
		Register(replicated.Group{}, nameless{}).
		Register(replicated.Group{}, "things ", "`more`").
		Register(replicated.Group{}, "default").
		Register(replicated.Group{
			Slaves:  []gorm.Dialector{nil, replicated.Server{Dialector: dialector(openPool(t, &fake{})), ID: "a"}},
			Masters: []gorm.Dialector{replicated.Server{Dialector: dialector(openPool(t, &fake{})), ID: "a"}},
			Pool:    replicated.PoolConfig{MaxOpen: -1},
		}, "things")
	err := db.Use(p)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"DefaultIntent: unknown intent Intent(7)",
		`Register: "ORDERS" is in two groups`,
		"Register: no tables",
		"Register: empty name",
		"Register: int: unsupported data type",
		"Register: replicated_test.nameless: no name",
		`Register: not the name of a table: "things "`,
		"Register: not the name of a table: \"`more`\"",
		`Register: "default" is the name of the group of Config`,
		`group "things": Slaves[0]: nil dialector`,
		`group "things": Slaves[1]: ID "a" is that of group "things": Masters[0]`,
		`group "things": Pool.MaxOpen: negative: -1`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
}

// TestRegisterAfterUse has the tables in question refuse rather than run on
// servers that were not meant for them.
func TestRegisterAfterUse(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			var logged bytes.Buffer
			s := newSetup(t, 1, mode.config, func(cfg *replicated.Config) {
				cfg.Logger = slog.New(slog.NewTextHandler(&logged, nil))
			})
			s.plugin.Register(replicated.Group{}, "orders", &Product{})
			const want = `Register("orders", *replicated_test.Product) was called after db.Use`
			if !strings.Contains(logged.String(), `Register(\"orders\"`) {
				t.Errorf("logged: %s", &logged)
			}
			db := s.in(context.Background(), mode.session)
			for i, err := range []error{
				db.Find(&[]Order{}).Error, db.Create(&Order{}).Error, db.Exec("DELETE FROM products").Error,
				db.Raw("SELECT * FROM orders").Row().Err(), db.Clauses(dbresolver.Use("orders")).Begin().Error,
			} {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%d: %v", i, err)
				}
			}
			err := db.Transaction(func(tx *gorm.DB) error {
				for i, err := range []error{tx.Create(&Order{}).Error, tx.Exec("DELETE FROM orders").Error,
					tx.Find(&[]Order{}).Error} {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("in a transaction, %d: %v", i, err)
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			if ran := s.log.servers(); len(ran) > 0 {
				t.Errorf("something ran on %q", ran)
			}
			// The control: other tables go on.
			if err := errors.Join(db.Find(&[]User{}).Error, db.Create(&User{}).Error); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestMaxLagOfAGroup has servers be asked for positions whose pools were brought ready-made, as Config's
// MaxLag does.
func TestMaxLagOfAGroup(t *testing.T) {
	for _, maxLag := range []time.Duration{0, 10 * time.Second} {
		bubble(t, maxLag.String(), func(t *testing.T) {
			log := &fakeLog{}
			slave := dialector(openPool(t, &fake{name: "orders-slave", log: log}))
			db := openFake(t, openPool(t, &fake{name: "master"}), gorm.Config{})
			p := replicated.New(replicated.Config{Logger: slog.New(slog.DiscardHandler)}).
				Register(replicated.Group{Slaves: []gorm.Dialector{slave}, MaxLag: maxLag}, "orders")
			if err := db.Use(p); err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			synctest.Wait()
			if asked := len(log.take()) > 0; asked != (maxLag > 0) {
				t.Errorf("asked: %v", asked)
			}
		})
	}
}
