package replicated_test

import (
	"database/sql"
	"strings"
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
