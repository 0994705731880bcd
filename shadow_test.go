package replicated_test

import (
	"errors"
	"testing"

	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
)

// TestShadow has everything run on the master, and report what would have run on which slave.
func TestShadow(t *testing.T) {
	for _, test := range []struct {
		name     string
		run      func(*setup, *gorm.Session) error
		shadowed uint64
	}{
		{"WithSlave", func(s *setup, session *gorm.Session) error {
			return s.in(replicated.WithSlave(s.db.Statement.Context), session).Find(&[]User{}).Error
		}, 1},
		{"a GET", func(s *setup, session *gorm.Session) (err error) {
			s.request("GET", func(db *gorm.DB) { err = db.Session(orEmpty(session)).Find(&[]User{}).Error })
			return err
		}, 1},
		{"a clause", func(s *setup, session *gorm.Session) error {
			return s.in(s.db.Statement.Context, session).Clauses(replicated.Slave).Find(&[]User{}).Error
		}, 1},
		{"dbresolver's clause", func(s *setup, session *gorm.Session) error {
			return s.in(s.db.Statement.Context, session).Clauses(dbresolver.Read).Find(&[]User{}).Error
		}, 1},
		{"a clause before Begin", func(s *setup, session *gorm.Session) error {
			return s.in(s.db.Statement.Context,
				session).Clauses(replicated.Slave).Transaction(func(tx *gorm.DB) error {
				return tx.Find(&[]User{}).Error
			})
		}, 1},
		{"read-only Begin", func(s *setup, session *gorm.Session) error {
			return s.in(replicated.WithSlave(s.db.Statement.Context), session).Transaction(func(tx *gorm.DB) error {
				return tx.Find(&[]User{}).Error
			}, readOnlyTx)
		}, 1},
		{"Row", func(s *setup, session *gorm.Session) error {
			return s.in(replicated.WithSlave(s.db.Statement.Context),
				session).Raw("SELECT * FROM users").Row().Scan(new(int64), new(string))
		}, 1},
		{"Preload", func(s *setup, session *gorm.Session) error {
			return s.in(replicated.WithSlave(s.db.Statement.Context),
				session).Preload("Orders").Find(&[]Customer{}).Error
		}, 2},
		{"a write", func(s *setup, session *gorm.Session) error {
			return s.in(replicated.WithSlave(s.db.Statement.Context), session).Create(&User{}).Error
		}, 0},
		{"WithMaster", func(s *setup, session *gorm.Session) error {
			return s.in(replicated.WithMaster(s.db.Statement.Context), session).Find(&[]User{}).Error
		}, 0},
	} {
		for _, mode := range modes[:3] {
			t.Run(test.name+"/"+mode.name, func(t *testing.T) {
				s := newFailover(t, 1, mode.config, false, nil)
				shadows := func() (n uint64, of string) {
					s.routes.mu.Lock()
					defer s.routes.mu.Unlock()
					for _, r := range s.routes.routes {
						if r.Shadow {
							n, of = n+1, of+r.Server+" "+r.Intent.String()+" "
						}
					}
					s.routes.routes = nil
					return n, of
				}
				for round := range 3 { // off, on, and off again
					on := round == 1
					s.plugin.SetShadow(on)
					if err := test.run(s, mode.session); err != nil {
						t.Error(err)
					}
					where, want := s.log.servers(), "slave-1"
					if on || test.shadowed == 0 {
						want = "master"
					}
					expect(t, where, want)
					n, of := shadows()
					if on && (n != test.shadowed || n > 0 && of[:14] != "slave-1 slave ") || !on && n > 0 {
						t.Errorf("shadow mode %v: %d routes of %q", on, n, of)
					}
					if s.plugin.Status().Shadow != on {
						t.Errorf("Status: Shadow is %v", !on)
					}
				}
				if n := s.state("slave-1").Shadowed; n != test.shadowed {
					t.Errorf("Status: Shadowed is %d, want %d", n, test.shadowed)
				}
				if n := s.state("master").Shadowed; n != 0 {
					t.Errorf("Status: Shadowed of the master is %d", n)
				}
			})
		}
	}
	t.Run("a transaction that has begun stays", func(t *testing.T) {
		s := newFailover(t, 1, gorm.Config{}, false, nil)
		tx := s.in(replicated.WithSlave(t.Context()), nil).Begin(readOnlyTx)
		s.plugin.SetShadow(true)
		if err := errors.Join(tx.Find(&[]User{}).Error, tx.Commit().Error); err != nil {
			t.Error(err)
		}
		expect(t, s.log.servers(), "slave-1")
	})
	t.Run("a dead slave is not reported, and not counted", func(t *testing.T) {
		s := newFailover(t, 1, gorm.Config{}, false, func(c *replicated.Config) { c.Failover.MaxOnMaster = 1 })
		s.slaves[0].dying(errRefused, "").Store(true)
		if err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{}).Error; err != nil {
			t.Fatal(err)
		}
		s.plugin.SetShadow(true)
		for range 5 {
			rows, err := s.in(replicated.WithSlave(t.Context()), nil).Model(&User{}).Rows()
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
		}
		if n := s.state("slave-1").Shadowed; n != 0 {
			t.Errorf("Shadowed is %d", n)
		}
	})
	// what it wrote, it reads on the master: that is no shadow
	t.Run("the rest of a session", func(t *testing.T) {
		s := newFailover(t, 1, gorm.Config{}, false, nil)
		s.plugin.SetShadow(true)
		s.request("GET", func(db *gorm.DB) {
			db.Create(&User{})
			s.routes.take()
			db.Find(&[]User{})
			expect(t, s.routes.take(), "master: session wrote")
		})
	})
	t.Run("UseSlave", func(t *testing.T) {
		s := newSite(t, nil)
		s.plugin.SetShadow(true)
		s.handler = s.plugin.Middleware(replicated.UseSlave(s.handler))
		if got := s.client().get(); got != "slave-1: handler" && got != "slave-2: handler" {
			t.Errorf("routed: %s", got)
		}
		for _, r := range s.log.take() {
			if r.server != "master" {
				t.Errorf("ran on %s: %s", r.server, r.sql)
			}
		}
	})
	t.Run("tokens go on", func(t *testing.T) {
		s := newSite(t, nil)
		s.plugin.SetShadow(true)
		c := s.client()
		c.do("POST")
		if c.token == "" {
			t.Fatal("no token")
		}
		s.plugin.SetShadow(false)
		served(t, c.get(), byToken)
	})
}

func orEmpty(s *gorm.Session) *gorm.Session {
	if s == nil {
		return &gorm.Session{}
	}
	return s
}
