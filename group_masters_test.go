package replicated_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
)

// TestAConnectionOfSeveralMasters is one of the first master, whichever the session has otherwise.
func TestAConnectionOfSeveralMasters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) {
			for _, name := range []string{"m1", "m2"} {
				c.Probe.Source.(*history).set(name, 1)
				c.Masters = append(c.Masters,
					replicated.Server{Dialector: dialector(openPool(t, &fake{name: name})), ID: name})
			}
			c.Policy = dbresolver.PolicyFunc(func(pools []gorm.ConnPool) gorm.ConnPool { return pools[len(pools)-1] })
		})
		s.with(func(_ http.ResponseWriter, r *http.Request) {
			_ = s.db.WithContext(r.Context()).Connection(func(tx *gorm.DB) error { return tx.Create(&User{}).Error })
			s.set("m1", 2)
		})
		c := s.client()
		s.routes.take()
		c.do("POST")
		expect(t, s.routes.take(), "m1: bound")
		s.with(s.serve)
		served(t, c.get(), "m2: no slave covers the token")
		served(t, s.client().get(), bySlave) // the control
		s.set("slave-2", 2)
		time.Sleep(time.Second)
		served(t, c.get(), "slave-2: method")
	})
}

// TestSeveralMasters has the policy choose among them, and a session stay on one.
func TestSeveralMasters(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := newGroups(t, mode.config)
			steps := []func(*gorm.DB) error{
				func(db *gorm.DB) error { return db.Create(&Product{}).Error },
				func(db *gorm.DB) error { return db.Find(&[]Product{}).Error },
				func(db *gorm.DB) error { return db.Exec("UPDATE products SET name = ''").Error },
				func(db *gorm.DB) error {
					return db.Clauses(dbresolver.Use("shop")).Transaction(func(tx *gorm.DB) error {
						return errors.Join(tx.Find(&[]User{}).Error, tx.Create(&Product{}).Error, tx.Find(&[]User{}).Error)
					})
				},
				func(db *gorm.DB) error { return db.Model(&Product{ID: 1}).Update("name", "x").Error },
			}
			var all []string
			for range 4 {
				s.request("POST", func(db *gorm.DB) {
					if mode.session != nil {
						db = db.Session(mode.session)
					}
					for i, step := range steps {
						if err := step(db); err != nil {
							t.Errorf("step %d: %v", i, err)
						}
					}
				})
				servers := s.log.servers()
				for _, r := range s.routes.routes {
					if !slices.Contains(servers, r.Server) {
						t.Errorf("%+v, but what ran did on %q", r, servers)
					}
				}
				s.routes.take()
				if len(servers) != 1 {
					t.Errorf("a request was on %q", servers)
				}
				all = append(all, servers...)
			}
			if slices.Sort(all); !slices.Equal(slices.Compact(all), []string{"products-1", "products-2"}) {
				t.Errorf("requests were on %q", all)
			}

			// Without a session each write chooses; what it brings about follows it.
			var seen []string
			for range 4 {
				if err := s.in(t.Context(), mode.session).Create(&Product{}).Error; err != nil {
					t.Fatal(err)
				}
				routes := s.routes.take()
				servers := s.log.servers()
				if len(servers) != 1 || len(routes) != 1 || !strings.HasPrefix(routes[0], servers[0]+":") {
					t.Errorf("told of %q, ran on %q", routes, servers)
				}
				seen = append(seen, servers...)
			}
			if slices.Sort(seen); !slices.Equal(slices.Compact(seen), []string{"products-1", "products-2"}) {
				t.Errorf("writes were on %q", seen)
			}
		})
	}
}

// TestGlobalMasters replaces the connection of the *gorm.DB.
func TestGlobalMasters(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			log := &fakeLog{}
			db := openFake(t, openPool(t, &fake{name: "own", log: log}), mode.config)
			master := openPool(t, &fake{name: "master-1", log: log})
			p := replicated.New(replicated.Config{
				Masters: []gorm.Dialector{dialector(master), dialector(openPool(t, &fake{name: "master-2", log: log}))},
				Slaves:  []gorm.Dialector{dialector(openPool(t, &fake{name: "slave-1", log: log}))},
			}).Register(replicated.Group{}, "orders")
			if err := db.Use(p); err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			if got, err := db.DB(); err != nil || got != master {
				t.Errorf("DB: %v, %v", got, err)
			}
			s := setup{plugin: p, db: db}
			for range 8 {
				s.request("POST", func(db *gorm.DB) {
					if mode.session != nil {
						db = db.Session(mode.session)
					}
					err := errors.Join(
						db.Find(&[]User{}).Error, db.Create(&User{}).Error,
						db.Transaction(func(tx *gorm.DB) error {
							return errors.Join(tx.Find(&[]User{}).Error, tx.Find(&[]User{}).Error)
						}),
						db.Raw("SELECT 1").Row().Err())
					if err != nil {
						t.Error(err)
					}
				})
				if servers := log.servers(); len(servers) != 1 || !strings.HasPrefix(servers[0], "master-") {
					t.Errorf("a request was on %q", servers)
				}
			}
			// A group without masters of its own is on the connection of the *gorm.DB.
			if err := db.Find(&[]Order{}).Error; err != nil {
				t.Error(err)
			}
			expect(t, log.servers(), "own")
		})
	}
}
