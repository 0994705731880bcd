package replicated_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

// visit has a new client send one request, and tells which server was read last, and if there was a token.
func (s *site) visit(method string, handler func(*gorm.DB) error) (server string, token bool, err error) {
	w := httptest.NewRecorder()
	s.plugin.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		db := s.db.WithContext(r.Context())
		if err = handler(db); err != nil {
			return
		}
		s.routes.take()
		err = db.Find(&[]User{}).Error
		server, _, _ = strings.Cut(strings.Join(s.routes.take(), ", "), ":")
	})).ServeHTTP(w, httptest.NewRequest(method, "/", nil))
	return server, w.Header().Get("Replicated-Token") != "", err
}

// TestWrote has a session told of writes that no plugin sees.
func TestWrote(t *testing.T) {
	unseen := func(db *gorm.DB) error {
		sqlDB, err := db.DB()
		if err != nil {
			return err
		}
		_, err = sqlDB.ExecContext(db.Statement.Context, "INSERT INTO users (name) VALUES ('a')")
		return err
	}
	told := func(db *gorm.DB) error {
		err := unseen(db)
		replicated.Wrote(db.Statement.Context)
		return err
	}
	for _, test := range []struct {
		name    string
		handler func(*gorm.DB) error
		slave   bool
	}{
		{"told", told, false},
		{"told in a context that forgets", func(db *gorm.DB) error {
			return told(db.WithContext(replicated.WithForgottenWrites(db.Statement.Context)))
		}, false},
		{"control: not told", unseen, true},
	} {
		bubble(t, test.name, func(t *testing.T) {
			server, token, err := newSite(t, nil).visit("GET", test.handler)
			if err != nil {
				t.Fatal(err)
			}
			if slave := server != "master"; slave != test.slave || token == test.slave {
				t.Errorf("the session read %q, and got a token: %t; want to read a slave: %t", server, token, test.slave)
			}
		})
	}
	t.Run("without a session", func(t *testing.T) {
		replicated.Wrote(context.Background())
		s := newSetup(t, 1, gorm.Config{}, nil)
		ctx := replicated.WithSlave(t.Context())
		replicated.Wrote(ctx)
		s.db.WithContext(ctx).Find(&[]User{})
		expect(t, s.routes.take(), "slave-1: context")
	})
	t.Run("all groups of all plugins", func(t *testing.T) {
		one, two := newGroups(t, gorm.Config{}), newSetup(t, 1, gorm.Config{}, nil)
		handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			replicated.Wrote(r.Context())
			one.db.WithContext(r.Context()).Find(&[]User{})
			one.db.WithContext(r.Context()).Find(&[]Order{})
			two.db.WithContext(r.Context()).Find(&[]User{})
		})
		one.plugin.Middleware(two.plugin.Middleware(handler)).
			ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		expect(t, append(one.routes.take(), two.routes.take()...),
			"master: session wrote", "orders-master: session wrote", "master: session wrote")
	})
}

// TestForgottenWrites has writes leave a session as it was, in all ways that GORM writes.
func TestForgottenWrites(t *testing.T) {
	for _, test := range []struct {
		name  string
		write func(*gorm.DB) error
	}{
		{"Create", func(db *gorm.DB) error { return db.Create(&User{Name: "a"}).Error }},
		{"Create with what belongs to it", func(db *gorm.DB) error {
			return db.Create(&Author{Name: "a", Posts: []Post{{Name: "b"}}}).Error
		}},
		{"Update", func(db *gorm.DB) error { return db.Model(&User{ID: 1}).Update("name", "a").Error }},
		{"Delete", func(db *gorm.DB) error { return db.Delete(&User{ID: 1}).Error }},
		{"Exec", func(db *gorm.DB) error { return db.Exec("UPDATE users SET name = 'a'").Error }},
		{"unknown SQL", func(db *gorm.DB) error { return db.Exec("CALL seen(1)").Error }},
		{"in a transaction", func(db *gorm.DB) error {
			return db.Transaction(func(tx *gorm.DB) error { return tx.Create(&User{Name: "a"}).Error })
		}},
		{"raw in a transaction", func(db *gorm.DB) error {
			return db.Transaction(func(tx *gorm.DB) error { return tx.Exec("UPDATE users SET name = 'a'").Error })
		}},
		{"prepared by hand", func(db *gorm.DB) error {
			stmt, err := db.Statement.ConnPool.PrepareContext(db.Statement.Context, "UPDATE users SET name = 'a'")
			return errors.Join(err, stmt.Close())
		}},
	} {
		for _, mode := range modes {
			for _, forget := range []bool{true, false} {
				name := test.name + "/" + mode.name
				if !forget {
					name += "/control: remembered"
				}
				t.Run(name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						s := newSiteIn(t, mode.config, nil)
						server, token, err := s.visit("GET", func(db *gorm.DB) error {
							ctx := db.Statement.Context
							if forget {
								ctx = replicated.WithForgottenWrites(ctx)
							}
							s.setup.log.take()
							err := test.write(s.in(ctx, mode.session))
							for _, server := range s.setup.log.servers() {
								if server != "master" {
									t.Errorf("the write ran on %q", server)
								}
							}
							return err
						})
						if err != nil {
							t.Fatal(err)
						}
						if slave := server != "master"; slave != forget || token == forget {
							t.Errorf("the session then read %q, and got a token: %t", server, token)
						}
					})
				})
			}
		}
	}
}

// TestForgottenWritesAreRefused has Config.RejectWrites refuse them as others.
func TestForgottenWritesAreRefused(t *testing.T) {
	s := newSetup(t, 1, gorm.Config{}, func(c *replicated.Config) { c.RejectWrites = true })
	ctx := replicated.WithForgottenWrites(replicated.WithSlave(t.Context()))
	if err := s.db.WithContext(ctx).Create(&User{Name: "a"}).Error; !errors.Is(err, replicated.ErrWriteOnSlave) {
		t.Errorf("got %v", err)
	}
	if err := s.db.WithContext(replicated.WithMaster(ctx)).Create(&User{Name: "a"}).Error; err != nil {
		t.Error(err)
	}
}
