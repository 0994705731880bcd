package replicated_test

import (
	"database/sql"
	"database/sql/driver"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
)

// TestADeployThatChangesGroups has a client write through an instance of one version of an application, and
// read through one of another, which calls its groups by other names, puts them in another order, or has one
// more. All are on one master, or orders and goods on one each.
func TestADeployThatChangesGroups(t *testing.T) {
	group := func(s *shop, t testing.TB, names ...string) replicated.Group {
		t.Helper()
		var g replicated.Group
		if name := names[0]; name != "master" {
			g.Masters = []gorm.Dialector{s.server(t, name)}
		}
		for _, name := range names[1:] {
			g.Slaves = append(g.Slaves, s.server(t, name))
		}
		return g
	}
	none := func(*shop, testing.TB) {}
	orders := func(s *shop, t testing.TB) {
		s.plugin.Register(group(s, t, "master", "orders-slave"), "orders")
	}
	goodsThenOrders := func(s *shop, t testing.TB) {
		s.plugin.Register(group(s, t, "goods-master", "goods-slave"), "goods")
		s.plugin.Register(group(s, t, "orders-master", "orders-slave"), "orders")
	}
	ordersThenGoods := func(s *shop, t testing.TB) {
		s.plugin.Register(group(s, t, "orders-master", "orders-slave"), "orders")
		s.plugin.Register(group(s, t, "goods-master", "goods-slave"), "goods")
	}
	renamed := func(s *shop, t testing.TB) {
		s.plugin.Register(group(s, t, "goods-master", "goods-slave"), "things", "goods")
		s.plugin.Register(group(s, t, "orders-master", "orders-slave"), "sales", "orders")
	}
	swapped := func(s *shop, t testing.TB) { // the names alone, not the servers
		s.plugin.Register(group(s, t, "orders-master", "orders-slave"), "first", "orders")
		s.plugin.Register(group(s, t, "goods-master", "goods-slave"), "second", "goods")
	}
	swappedBack := func(s *shop, t testing.TB) {
		s.plugin.Register(group(s, t, "goods-master", "goods-slave"), "first", "goods")
		s.plugin.Register(group(s, t, "orders-master", "orders-slave"), "second", "orders")
	}
	for _, test := range []struct {
		name          string
		writes, reads func(*shop, testing.TB)
		master, slave string // of orders, where they are read
		bothered      bool   // who reads goods
	}{
		{"a group is added", none, orders, "master", "orders-slave", true},
		{"a group is removed", orders, none, "master", "slave-1", true},
		{"groups are reordered", goodsThenOrders, ordersThenGoods, "orders-master", "orders-slave", false},
		{"groups are renamed", goodsThenOrders, renamed, "orders-master", "orders-slave", false},
		{"a name goes to another group", swapped, swappedBack, "orders-master", "orders-slave", false},
		// The control:
		{"nothing changes", goodsThenOrders, goodsThenOrders, "orders-master", "orders-slave", false},
	} {
		bubble(t, test.name, func(t *testing.T) {
			h := newHistory()
			h.set("master", 1)
			for _, name := range []string{"orders", "goods"} {
				if test.master == "orders-master" {
					h.on(name+"-master", name)
					h.on(name+"-slave", name)
				}
			}
			version := func(register func(*shop, testing.TB)) *shop {
				s := &shop{history: h, routes: &routes{}, register: register}
				return s.open(t)
			}
			before, after := version(test.writes), version(test.reads)
			served(t, after.read("", find("orders")), test.slave+": method") // the control
			_, token := before.request("", func(db *gorm.DB) { update("orders")(db); h.set(test.master, 2) })
			served(t, after.read(token, find("orders")), test.master+": no slave covers the token")
			time.Sleep(20 * time.Second) // no time is long enough
			served(t, after.read(token, find("orders")), test.master+": no slave covers the token")
			goods := after.read(token, find("goods"))
			if onMaster := strings.HasPrefix(goods, "master"); onMaster != test.bothered {
				t.Errorf("goods: %q", goods)
			}
			h.set(test.slave, 2)
			after.read(token, find("orders")) // has the slave looked at
			time.Sleep(time.Second)
			served(t, after.read(token, find("orders")), test.slave+": method")
			if n := after.plugin.Status().Tokens; n.OtherHistory != 0 {
				t.Errorf("%+v", n)
			}
		})
	}
}

// TestAMasterOfTwoAddresses has a group without slaves that writes to the master of all by another address.
func TestAMasterOfTwoAddresses(t *testing.T) {
	for _, test := range []struct {
		name string
		same bool
	}{{"two addresses of one server", true}, {"two servers", false}} {
		bubble(t, test.name, func(t *testing.T) {
			s := newShop()
			server := "master"
			if !test.same {
				server = "other"
				s.set(server, 1)
				s.on(server, server)
			}
			address := addressed{dialector(nil), "mysql://db:3307/", func() *sql.DB {
				return openPool(t, &fake{name: server})
			}}
			s.open(t, division{"orders", replicated.Group{Masters: []gorm.Dialector{address}}})
			want := func(ofOne string) string {
				if test.same {
					return ofOne
				}
				return ofUsers
			}
			token := s.wrote(t, func(db *gorm.DB) { update("orders")(db); s.set(server, 2) })
			served(t, s.read(token, find("users")), want(byToken))
			served(t, s.read("", find("users")), ofUsers) // the control
			call := func(db *gorm.DB) { db.Clauses(dbresolver.Use("orders")).Exec("CALL p()") }
			served(t, s.readAfter(call, find("users")), want(byWrote))
		})
	}
}

// TestATokenOfAGroupWithoutSlaves: no monitor asks its master, which another instance has written to.
func TestATokenOfAGroupWithoutSlaves(t *testing.T) {
	bubble(t, "after a failover", func(t *testing.T) {
		s := newShop()
		s.on("goods-master", "goods")
		s.open(t, division{"goods", replicated.Group{Masters: []gorm.Dialector{s.server(t, "goods-master")}}})
		s.on("goods-master", "goods, promoted")
		_, token := s.request("", func(db *gorm.DB) { update("goods")(db); s.set("goods-master", 2) })
		other := &shop{history: s.history, routes: &routes{}}
		s.on("goods-master", "goods")
		other.open(t, division{"goods", replicated.Group{Masters: []gorm.Dialector{s.server(t, "goods-master")}}})
		time.Sleep(time.Minute)
		s.on("goods-master", "goods, promoted")
		served(t, other.read(token, find("users")), byToken) // it does not know that history
		time.Sleep(time.Second)
		served(t, other.read(token, find("users")), ofUsers) // it has asked
	})
}

// TestHistoriesWithoutNames: servers of MySQL that do not say who they are have positions all the same. Those
// tell which groups a token is about.
func TestHistoriesWithoutNames(t *testing.T) {
	const uuid = "3e11fa47-71ca-11e1-9e33-c80aa942956"
	const posts, orders, promoted, gone = uuid + "1:", uuid + "2:", uuid + "3:", uuid + "4:"
	for _, test := range []struct {
		name                  string
		written, master, late string // the position of the write; the master's then; the slave's, when it has it
		before, after         string // the routes of posts until the slave has the write, and from then on
		orders                string // that of orders
	}{
		{"the master goes on", posts + "1-6", posts + "1-7", posts + "1-6",
			"master: no slave covers the token", "slave: method", "orders-slave: method"},
		{"a slave was promoted", posts + "1-6", posts + "1-6," + promoted + "1-2", posts + "1-6," + promoted + "1",
			"master: no slave covers the token", "slave: method", "orders-slave: method"},
		{"nobody has that history any longer", gone + "1-6", posts + "1-7", posts + "1-7",
			"master: no slave covers the token", "master: no slave covers the token",
			"orders-master: no slave covers the token"},
	} {
		bubble(t, test.name, func(t *testing.T) {
			positions := map[string]*atomic.Pointer[string]{}
			set := func(server, position string) { positions[server].Store(&position) }
			open := func(name, position string) *recordedServer {
				s := newRecorded(name, mySQL("ON"))
				own := new(atomic.Pointer[string])
				positions[name] = own
				set(name, position)
				readOnly := !strings.Contains(name, "master")
				s.answer = func(query string) driver.Rows {
					r := mySQL("ON")
					r.position, r.readOnly = *own.Load(), readOnly
					return r.answer(query)
				}
				return s
			}
			var log logBuffer
			routes := &routes{}
			cfg := log.config(t, open("slave", posts+"1-5"))
			cfg.Observer = routes
			ordersMaster, ordersSlave := open("orders-master", orders+"1-9"), open("orders-slave", orders+"1-9")
			p := replicated.New(cfg).Register(replicated.Group{
				Masters: []gorm.Dialector{ordersMaster.dialector(t)},
				Slaves:  []gorm.Dialector{ordersSlave.dialector(t)},
			}, "orders")
			db := open("master", posts+"1-5").use(t, p)
			token := func() string { // of another instance
				p := replicated.New(log.config(t))
				db := open("writing-master", test.written).use(t, p)
				ctx := p.WithToken(endless(t), "")
				token, err := p.Token(db.WithContext(ctx).Create(&User{}).Statement.Context)
				if err != nil || token == "" {
					t.Fatalf("no token: %v", err)
				}
				return token
			}()
			read := func(find func(*gorm.DB) error, want string) {
				t.Helper()
				routes.take()
				r := httptest.NewRequest("GET", "/", nil)
				r.Header.Set("Replicated-Token", token)
				p.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					if err := find(db.WithContext(r.Context())); err != nil {
						t.Error(err)
					}
				})).ServeHTTP(httptest.NewRecorder(), r)
				served(t, strings.Join(routes.take(), ", "), want)
			}
			findPosts := func(db *gorm.DB) error { return db.Find(&[]User{}).Error }
			findOrders := func(db *gorm.DB) error { return db.Find(&[]Order{}).Error }
			set("master", test.master)
			time.Sleep(20 * time.Second) // until it is known
			read(findPosts, test.before)
			read(findOrders, test.orders)
			set("slave", test.late)
			time.Sleep(20 * time.Second)
			read(findPosts, test.after)
			read(findOrders, test.orders)
		})
	}
}
