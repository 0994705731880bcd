package replicated_test

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// TestUnknownFunctions has a function that nobody knows count as a write where it may have written: on a
// master, unless the read came there for want of a slave only. Built-in functions are the control.
func TestUnknownFunctions(t *testing.T) {
	query := func(sql string) func(*gorm.DB) error {
		return func(db *gorm.DB) error { return db.Raw(sql, 1).Scan(&[]User{}).Error }
	}
	const unknown, builtIn = "SELECT create_order(?)", "SELECT abs(?), count(*), now() FROM users"
	transaction := func(f func(*gorm.DB) error) func(*gorm.DB) error {
		return func(db *gorm.DB) error { return db.Transaction(f) }
	}
	with := func(change func(context.Context) context.Context, f func(*gorm.DB) error) func(*gorm.DB) error {
		return func(db *gorm.DB) error { return f(db.WithContext(change(db.Statement.Context))) }
	}
	for _, test := range []struct {
		name, method string
		handler      func(*gorm.DB) error
		token        bool
	}{
		{"POST", "POST", query(unknown), true},
		{"POST, built by GORM", "POST", func(db *gorm.DB) error {
			return db.Select("create_order(id)").Find(&[]User{}).Error
		}, true},
		{"POST, in a transaction", "POST", transaction(query(unknown)), true},
		{"POST, twice", "POST", func(db *gorm.DB) error {
			return errors.Join(query(unknown)(db), query(unknown)(db))
		}, true},
		{"POST, by the pool", "POST", func(db *gorm.DB) error {
			return execute(db, "SELECT create_order(1)")
		}, true},
		{"POST with WithSlave", "POST", with(replicated.WithSlave, query(unknown)), false},
		{"POST, forgotten", "POST", with(replicated.WithForgottenWrites, query(unknown)), false},
		{"POST, a locking read", "POST", query("SELECT create_order(?) FROM users FOR UPDATE"), true},
		{"GET", "GET", query(unknown), false},
		{"GET with WithMaster", "GET", with(replicated.WithMaster, query(unknown)), true},
		{"GET with the clause Master", "GET", func(db *gorm.DB) error {
			return query(unknown)(db.Clauses(replicated.Master))
		}, true},
		{"GET, a locking read", "GET", query("SELECT create_order(?) FROM users FOR UPDATE"), true},
		{"GET, in a transaction on the master", "GET", transaction(query(unknown)), true},
		{"GET, in a transaction on a slave", "GET", func(db *gorm.DB) error {
			return db.Transaction(query(unknown), &sql.TxOptions{ReadOnly: true})
		}, false},

		{"control: POST", "POST", query(builtIn), false},
		{"control: POST, built by GORM", "POST", func(db *gorm.DB) error {
			return db.Select("count(*), lower(name)").Where("id IN (?) AND (name = ?)", 1, 2).Find(&[]User{}).Error
		}, false},
		{"control: POST, in a transaction", "POST", transaction(query(builtIn)), false},
		{"control: GET with WithMaster", "GET", with(replicated.WithMaster, query(builtIn)), false},
		{"control: GET, a locking read", "GET", query("SELECT abs(?) FROM users FOR UPDATE"), false},
	} {
		for _, mode := range modes {
			t.Run(test.name+"/"+mode.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newSiteIn(t, mode.config, nil)
					_, token, err := s.visit(test.method, func(db *gorm.DB) error {
						return test.handler(s.in(db.Statement.Context, mode.session))
					})
					if err != nil || token != test.token {
						t.Errorf("got a token: %t, %v; want %t", token, err, test.token)
					}
				})
			})
		}
	}
	t.Run("GET, of a group that has not been written to", func(t *testing.T) {
		for _, call := range []string{"create_order(1)", "abs(1)"} { // the latter is the control
			s := newGroups(t, gorm.Config{})
			s.plugin.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				db := s.db.WithContext(r.Context())
				db.Create(&User{Name: "a"})
				db.Raw("SELECT " + call + " FROM orders JOIN users USING (id)").Scan(&[]User{})
				s.routes.take()
				db.Find(&[]Order{})
			})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
			want := map[bool]string{true: "orders-master: session wrote", false: "orders-slave: method"}
			expect(t, s.routes.take(), want[call != "abs(1)"])
		}
	})
	bubble(t, "GET while no slave may be read", func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) { c.MaxLag = time.Second })
		s.fail("slave-1", errors.New("away"))
		s.fail("slave-2", errors.New("away"))
		time.Sleep(10 * time.Second)
		server, token, err := s.visit("GET", query(unknown))
		if err != nil || server != "master" || token {
			t.Errorf("read %q, and got a token: %t, %v", server, token, err)
		}
	})
}
