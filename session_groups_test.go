package replicated_test

import (
	"context"
	"database/sql"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
)

// shop is an application on fakes with several groups, users being in none. Each server is at position 1.
type shop struct {
	*history
	source replicated.PositionSource // instead of the history, unless nil
	plugin *replicated.Plugin
	db     *gorm.DB
	routes *routes
	logs   logBuffer

	register func(*shop, testing.TB) // more groups, unless nil
}

// division is a group of a shop.
type division struct {
	name string
	replicated.Group
}

func newShop() *shop {
	s := &shop{history: newHistory(), routes: &routes{}}
	s.set("master", 1)
	return s
}

// server returns a server of a name of its own.
func (s *shop) server(t testing.TB, name string) gorm.Dialector {
	t.Helper()
	s.set(name, 1)
	return replicated.Server{Dialector: dialector(openPool(t, &fake{name: name})), ID: name}
}

// open has all but users in these groups; users have slave-1.
func (s *shop) open(t testing.TB, divisions ...division) *shop {
	t.Helper()
	if s.source == nil {
		s.source = s.history
	}
	s.plugin = replicated.New(replicated.Config{
		Slaves: []gorm.Dialector{s.server(t, "slave-1")}, Secrets: [][]byte{secret},
		Probe: replicated.ProbeConfig{Source: s.source}, Observer: s.routes,
		Logger: slog.New(slog.NewTextHandler(&s.logs, nil)),
	})
	for _, d := range divisions {
		s.plugin.Register(d.Group, d.name)
	}
	if s.register != nil {
		s.register(s, t)
	}
	s.db = openFake(t, openPool(t, &fake{name: "master"}), gorm.Config{})
	if err := s.db.Use(s.plugin); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.plugin.Close() })
	return s
}

// onOneMaster is a shop whose orders have a slave of their own and the master of all.
func onOneMaster(t testing.TB) *shop {
	t.Helper()
	s := newShop()
	return s.open(t, division{"orders", replicated.Group{Slaves: []gorm.Dialector{s.server(t, "orders-slave")}}})
}

// onTwoMasters is a shop whose orders have a master of their own.
func onTwoMasters(t testing.TB, source func(*history) replicated.PositionSource) *shop {
	t.Helper()
	s := newShop()
	s.on("orders-master", "orders")
	s.on("orders-slave", "orders")
	if source != nil {
		s.source = source(s.history)
	}
	return s.open(t, division{"orders", replicated.Group{Masters: []gorm.Dialector{
		s.server(t, "orders-master"),
	}, Slaves: []gorm.Dialector{s.server(t, "orders-slave")}}})
}

// request serves a GET that brings a token, and returns where what f does ran first, and the token of the
// response.
func (s *shop) request(token string, f func(*gorm.DB)) (route, _ string) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Replicated-Token", token)
	w := httptest.NewRecorder()
	s.routes.take()
	s.plugin.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		f(s.db.WithContext(r.Context()))
	})).ServeHTTP(w, r)
	return strings.Join(append(s.routes.take(), "")[:1], ""), w.Header().Get("Replicated-Token")
}

// read is request without the new token, and readAfter what f does after something else in the same request.
func (s *shop) read(token string, f func(*gorm.DB)) string {
	route, _ := s.request(token, f)
	return route
}

func (s *shop) readAfter(first, f func(*gorm.DB)) string {
	return s.read("", func(db *gorm.DB) {
		first(db)
		s.routes.take()
		f(db)
	})
}

// wrote returns the token of a request that wrote and committed.
func (s *shop) wrote(t testing.TB, f func(*gorm.DB)) string {
	t.Helper()
	_, token := s.request("", func(db *gorm.DB) {
		f(db)
		s.commit()
	})
	if token == "" {
		t.Fatal("no token")
	}
	return token
}

func update(table string) func(*gorm.DB) {
	return func(db *gorm.DB) { db.Exec("UPDATE " + table + " SET a = 1") }
}

func find(table string) func(*gorm.DB) {
	return func(db *gorm.DB) { db.Table(table).Find(&[]map[string]any{}) }
}

func join(a, b string) func(*gorm.DB) {
	return func(db *gorm.DB) {
		db.Raw("SELECT * FROM " + a + " JOIN " + b + " ON 1 = 1").Scan(&[]map[string]any{})
	}
}

// readOnly reads in a read-only transaction of a group, "" being that of users.
func readOnly(group, table string) func(*gorm.DB) {
	return func(db *gorm.DB) {
		if group != "" {
			db = db.Clauses(dbresolver.Use(group))
		}
		_ = db.Transaction(func(tx *gorm.DB) error {
			find(table)(tx)
			return tx.Error
		}, &sql.TxOptions{ReadOnly: true})
	}
}

const (
	byWrote = "master: session wrote"
	ofUsers = "slave-1: method"
	ofOther = "orders-slave: method"
)

// TestReadsAcrossGroupsOfOneMaster: a slave of one group is not read behind what was written to the other.
func TestReadsAcrossGroupsOfOneMaster(t *testing.T) {
	for _, test := range []struct {
		name  string
		wrote string
		read  func(*gorm.DB)
		slave string
	}{
		{"users join orders, of which were written", "orders", join("users", "orders"), ofUsers},
		{"orders join users, of which were written", "users", join("orders", "users"), ofOther},
		{"a transaction among users reads orders", "orders", readOnly("", "orders"), ofUsers},
		{"a transaction among orders reads users", "users", readOnly("orders", "users"), ofOther},
		{"a transaction among orders reads orders", "orders", readOnly("orders", "orders"), ofOther},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := onOneMaster(t)
			served(t, s.readAfter(update(test.wrote), test.read), byWrote)
			token := s.wrote(t, update(test.wrote))
			served(t, s.read(token, test.read), byToken)
			served(t, s.read("", test.read), test.slave) // the controls: without the token, and when the slave has it
			slave, _, _ := strings.Cut(test.slave, ":")
			s.replay(slave)
			time.Sleep(time.Second)
			served(t, s.read(token, test.read), test.slave)
		})
	}
	bubble(t, "what names one group is bothered by tokens, which know no names", func(t *testing.T) {
		s := onOneMaster(t)
		token := s.wrote(t, update("orders"))
		served(t, s.read(token, find("users")), byToken)
		served(t, s.readAfter(update("orders"), find("users")), ofUsers) // the control: a session knows them
	})
}

func TestReadsAcrossGroupsOfTwoMasters(t *testing.T) {
	for _, test := range []struct {
		name  string
		read  func(*gorm.DB)
		token string // who answers who brings one
		wrote string // and who has just written
	}{
		{name: "users join orders", read: join("users", "orders"), token: byToken, wrote: byWrote},
		{name: "a transaction among users", read: readOnly("", "users"), token: ofUsers, wrote: ofUsers},
		{name: "users alone", read: find("users"), token: ofUsers, wrote: ofUsers},
		{name: "orders alone", read: find("orders"), token: "orders-master: no slave covers the token",
			wrote: "orders-master: session wrote"},
		{name: "a transaction among orders", read: readOnly("orders", "orders"),
			token: "orders-master: no slave covers the token", wrote: "orders-master: session wrote"},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := onTwoMasters(t, nil)
			served(t, s.readAfter(update("orders"), test.read), test.wrote)
			token := s.wrote(t, func(db *gorm.DB) { update("orders")(db); s.set("orders-master", 2) })
			served(t, s.read(token, test.read), test.token)
			// the control
			if got := s.read("", test.read); !strings.HasSuffix(got, "slave-1: method") && got != ofOther {
				t.Error(got)
			}
		})
	}
}

// TestGroupWithoutSlavesOnAMasterThatHasSome: they replay what is written to it.
func TestGroupWithoutSlavesOnAMasterThatHasSome(t *testing.T) {
	for _, test := range []struct{ master, table, slave string }{
		{"master", "users", "slave-1"},
		{"goods-master", "goods", "goods-slave"},
	} {
		bubble(t, test.master, func(t *testing.T) {
			s := newShop()
			pool := openPool(t, &fake{name: "goods-master"}) // both groups may have it
			master := func() gorm.Dialector {
				return replicated.Server{Dialector: dialector(pool), ID: "goods-master"}
			}
			s.set("goods-master", 1)
			var orders replicated.Group
			if test.master == "goods-master" {
				orders.Masters = []gorm.Dialector{master()}
			}
			s.on("goods-master", "goods")
			s.on("goods-slave", "goods")
			s.open(t, division{"goods", replicated.Group{
				Masters: []gorm.Dialector{master()}, Slaves: []gorm.Dialector{s.server(t, "goods-slave")},
			}}, division{"orders", orders})
			read := join(test.table, "orders")
			served(t, s.read("", read), test.slave+": method") // the control
			_, token := s.request("", func(db *gorm.DB) { update("orders")(db); s.set(test.master, 2) })
			if n := s.plugin.Status().Tokens.TimeOnly; token == "" || n != 0 {
				t.Errorf("token %q, a time instead of a position: %s", token, &s.logs)
			}
			time.Sleep(20 * time.Second) // no time is long enough
			served(t, s.read(token, read), test.master+": no slave covers the token")
			s.set(test.slave, 2)
			s.read(token, read) // has the slave looked at
			time.Sleep(time.Second)
			served(t, s.read(token, read), test.slave+": method")
		})
	}
}

// addressed is a dialector whose DSN shows an address, and which opens a pool each time.
type addressed struct {
	gorm.Dialector
	DSN  string
	open func() *sql.DB
}

func (a addressed) Initialize(db *gorm.DB) error { return dialector(a.open()).Initialize(db) }

// TestUnknownSQLOnAMasterOfTwoGroups: whether they were given one pool, or two pools of one server.
func TestUnknownSQLOnAMasterOfTwoGroups(t *testing.T) {
	for _, test := range []struct {
		name    string
		masters func(open func(string) *sql.DB) (_, _ gorm.Dialector)
		shared  bool
	}{
		{"one pool", func(open func(string) *sql.DB) (_, _ gorm.Dialector) {
			pool := open("x")
			return dialector(pool), dialector(pool)
		}, true},
		{"one address", func(open func(string) *sql.DB) (_, _ gorm.Dialector) {
			x := func() *sql.DB { return open("x") }
			return addressed{dialector(nil), "mysql://db:3306/", x}, addressed{dialector(nil), "mysql://db:3306/", x}
		}, true},
		{"two addresses of one server", func(open func(string) *sql.DB) (_, _ gorm.Dialector) {
			x := func() *sql.DB { return open("x") }
			return addressed{dialector(nil), "mysql://db:3306/", x}, addressed{dialector(nil), "mysql://db:3307/", x}
		}, true},
		{"two servers", func(open func(string) *sql.DB) (_, _ gorm.Dialector) {
			return dialector(open("x")), dialector(open("y"))
		}, false},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newShop()
			s.set("x", 1)
			s.set("y", 1)
			for server, name := range map[string]string{"x": "x", "slave-a": "x", "y": "y", "slave-b": "x"} {
				s.on(server, name)
			}
			if !test.shared {
				s.on("slave-b", "y")
			}
			a, b := test.masters(func(name string) *sql.DB { return openPool(t, &fake{name: name}) })
			s.open(t,
				division{
					"a", replicated.Group{Masters: []gorm.Dialector{a}, Slaves: []gorm.Dialector{s.server(t, "slave-a")}},
				},
				division{
					"b", replicated.Group{Masters: []gorm.Dialector{b}, Slaves: []gorm.Dialector{s.server(t, "slave-b")}},
				})
			call := func(db *gorm.DB) { db.Clauses(dbresolver.Use("a")).Exec("CALL p()") }
			reads := func(got, reason string) {
				t.Helper()
				if !test.shared {
					reason = "method"
				}
				if !strings.HasSuffix(got, ": "+reason) {
					t.Errorf("served by %q, want %q", got, reason)
				}
			}
			reads(s.readAfter(call, find("b")), "session wrote")
			token := s.wrote(t, func(db *gorm.DB) { call(db); s.set("x", 2) })
			reads(s.read(token, find("b")), "no slave covers the token")
			served(t, s.readAfter(call, find("users")), ofUsers) // the control: another server
			served(t, s.read(token, find("users")), ofUsers)
		})
	}
}

// foreignTx is a transaction in which the plugin does not find the one of database/sql.
type foreignTx struct{ tx func() *sql.Tx }

func (f foreignTx) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	return f.tx().PrepareContext(ctx, query)
}

func (f foreignTx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return f.tx().ExecContext(ctx, query, args...)
}

func (f foreignTx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return f.tx().QueryContext(ctx, query, args...)
}

func (f foreignTx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return f.tx().QueryRowContext(ctx, query, args...)
}

func TestUnknownSQLInATransaction(t *testing.T) {
	for _, test := range []struct {
		name    string
		pool    func(*sql.Tx) gorm.ConnPool
		foreign bool
		orders  string // who answers for the other group's table afterwards
	}{
		{"that the plugin does not know: it may have written anywhere", func(tx *sql.Tx) gorm.ConnPool {
			return foreignTx{func() *sql.Tx { return tx }}
		}, true, "orders-master: session wrote"},
		{"of one group: it wrote there", func(tx *sql.Tx) gorm.ConnPool { return tx }, false, ofOther},
		{"of one group, in another plugin's pool", func(tx *sql.Tx) gorm.ConnPool {
			return &tracing{tx, new(int)}
		}, false, ofOther},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := onTwoMasters(t, nil)
			call := func(db *gorm.DB) {
				pool, err := s.db.DB()
				if err != nil {
					t.Fatal(err)
				}
				tx, err := pool.BeginTx(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				bound := db.Session(&gorm.Session{NewDB: true, Context: db.Statement.Context})
				bound.Statement.ConnPool = test.pool(tx)
				if err := bound.Exec("CALL p()").Error; err != nil {
					t.Error(err)
				}
				if err := tx.Commit(); err != nil {
					t.Error(err)
				}
			}
			served(t, s.readAfter(call, find("users")), byWrote)
			served(t, s.readAfter(call, find("orders")), test.orders)
			token := s.wrote(t, func(db *gorm.DB) { call(db); s.set("orders-master", 2) })
			served(t, s.read(token, find("users")), byToken)
			served(t, s.read(token, find("orders")),
				map[bool]string{true: "orders-master: no slave covers the token", false: ofOther}[test.foreign])
		})
	}
}
