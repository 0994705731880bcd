package replicated_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
)

// Order and Product have a group each in these tests; User is in none.
type (
	Order struct {
		ID   int64
		Name string
	}
	Product struct {
		ID   int64
		Name string
	}
	// LiveOrder is in a schema, and its table is registered without one; Archived is registered with its schema.
	LiveOrder Order
	Archived  Order
	Customer  struct {
		ID     int64
		Name   string
		Orders []Order `gorm:"foreignKey:ID"`
	}
)

func (LiveOrder) TableName() string { return "live.orders" }
func (Archived) TableName() string  { return "archive.orders" }

// newGroups makes a setup with a slave for all, a master and a slave for orders, and two masters and a slave
// for products, which also go by the name of shop. customers have a slave, and the master of all.
func newGroups(t testing.TB, gormConfig gorm.Config) *setup {
	t.Helper()
	s := &setup{log: &fakeLog{}, routes: &routes{}}
	server := func(name string) gorm.Dialector {
		return replicated.Server{Dialector: dialector(openPool(t, &fake{name: name, log: s.log})), ID: name}
	}
	s.raw = openPool(t, &fake{name: "master", log: s.log})
	s.db = openFake(t, s.raw, gormConfig)
	s.plugin = replicated.New(replicated.Config{Slaves: []gorm.Dialector{server("slave")}, Observer: s.routes,
		Logger: slog.New(slog.NewTextHandler(&s.logged, nil))}).
		Register(replicated.Group{
			Masters: []gorm.Dialector{server("orders-master")}, Slaves: []gorm.Dialector{server("orders-slave")},
		}, "orders").
		Register(replicated.Group{
			Masters: []gorm.Dialector{server("products-1"), server("products-2")},
			Slaves:  []gorm.Dialector{server("products-slave")},
			Policy:  dbresolver.StrictRoundRobinPolicy(),
		}, &Product{}, "shop").
		Register(replicated.Group{Slaves: []gorm.Dialector{server("customers-slave")}}, &Customer{}, &Archived{}).
		Register(replicated.Group{}, "on_the_master")
	if err := s.db.Use(s.plugin); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.plugin.Close() })
	return s
}

func TestGroups(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			for _, test := range []struct {
				name string
				run  func(*gorm.DB) error
				want []string // what the Observer hears
			}{
				{"a model of no group", func(db *gorm.DB) error { return db.Find(&[]User{}).Error },
					[]string{"default slave: context"}},
				{"a registered model", func(db *gorm.DB) error { return db.Find(&[]Product{}).Error },
					[]string{"products products-slave: context"}},
				{"a model of a registered table", func(db *gorm.DB) error { return db.First(&Order{}).Error },
					[]string{"orders orders-slave: context"}},
				{"Table", func(db *gorm.DB) error { return db.Table("orders").Find(&[]User{}).Error },
					[]string{"orders orders-slave: context"}},
				{"Table with an alias", func(db *gorm.DB) error { return db.Table("orders AS o").Find(&[]User{}).Error },
					[]string{"orders orders-slave: context"}},
				{"Table with an alias that is another's name",
					func(db *gorm.DB) error { return db.Table("users AS orders").Find(&[]User{}).Error },
					[]string{"default slave: context"}},
				{"Table with an alias, another model",
					func(db *gorm.DB) error { return db.Table("orders AS o").Find(&[]Product{}).Error },
					[]string{"orders orders-slave: context"}},
				{"Table with an alias, another model, Update", func(db *gorm.DB) error {
					return db.Model(&Product{}).Table("orders AS o").Where("id = 1").Update("name", "x").Error
				}, []string{"orders orders-master: write"}},
				{"Table of a clause", func(db *gorm.DB) error {
					orders := db.Table("?", clause.Table{Name: "orders"})
					return orders.Where("id = 1").Updates(map[string]any{"name": "x"}).Error
				}, []string{"orders orders-master: write"}},
				{"Table of a query, another model", func(db *gorm.DB) error {
					return db.Table("(?) AS o", db.Model(&Order{}).Where("id > 1")).Find(&[]Product{}).Error
				}, []string{"orders orders-slave: context"}},
				{"a table of a schema", func(db *gorm.DB) error { return db.Find(&[]LiveOrder{}).Error },
					[]string{"orders orders-slave: context"}},
				{"a table of a schema, Create", func(db *gorm.DB) error { return db.Create(&LiveOrder{}).Error },
					[]string{"orders orders-master: write"}},
				{"a table registered with its schema", func(db *gorm.DB) error { return db.Find(&[]Archived{}).Error },
					[]string{"customers customers-slave: context"}},
				{"a table registered with its schema, Create",
					func(db *gorm.DB) error { return db.Create(&Archived{}).Error },
					[]string{"customers master: write"}},
				{"ColumnTypes behind Use", func(db *gorm.DB) error {
					return db.Clauses(dbresolver.Use("orders")).Table("things").Limit(1).Row().Err()
				}, []string{"orders orders-master: catalog"}},
				{"what the Migrator asks, about another table", func(db *gorm.DB) error {
					var n int
					return db.Raw("SELECT count(*) FROM information_schema.tables WHERE table_schema = ? AND table_name = ?",
						"shop", "users").Scan(&n).Error
				}, []string{"default master: catalog"}},
				{"what PostgreSQL's Migrator asks", func(db *gorm.DB) error {
					var n int
					return db.Raw("SELECT count(*) FROM information_schema.tables "+
						"WHERE table_name = $2 AND table_schema = $1", "shop", "orders").Scan(&n).Error
				}, []string{"orders orders-master: catalog"}},
				{"Read, then Master, then Use", func(db *gorm.DB) error {
					return db.Clauses(dbresolver.Read, replicated.Master, dbresolver.Use("orders")).Find(&[]User{}).Error
				}, []string{"orders orders-master: clause"}},
				{"Table of a query", func(db *gorm.DB) error {
					return db.Table("(?) AS o", db.Model(&Order{}).Where("id > 1")).Find(&[]User{}).Error
				}, []string{"orders orders-slave: context"}},
				{"Model and another destination",
					func(db *gorm.DB) error { return db.Model(&Order{}).Find(&[]User{}).Error },
					[]string{"orders orders-slave: context"}},
				{"another table of a model",
					func(db *gorm.DB) error { return db.Model(&Order{}).Table("orders_2024").Find(&[]Order{}).Error },
					[]string{"orders orders-slave: context"}},
				{"raw SQL", func(db *gorm.DB) error { return db.Raw("SELECT * FROM `orders`").Scan(&[]User{}).Error },
					[]string{"orders orders-slave: context"}},
				{"raw SQL into a model of another group",
					func(db *gorm.DB) error { return db.Raw("SELECT * FROM orders").Find(&[]Product{}).Error },
					[]string{"orders orders-slave: context"}},
				{"raw SQL of no group into a model of one",
					func(db *gorm.DB) error { return db.Raw("SELECT * FROM order_view").Find(&[]Order{}).Error },
					[]string{"orders orders-slave: context"}},
				{"raw SQL, Row", func(db *gorm.DB) error { return db.Raw("SELECT * FROM orders").Row().Err() },
					[]string{"orders orders-slave: context"}},
				{"raw SQL that writes", func(db *gorm.DB) error { return db.Exec("UPDATE orders SET name = ''").Error },
					[]string{"orders orders-master: write"}},
				{"DDL", func(db *gorm.DB) error { return db.Exec("CREATE INDEX i ON orders (name)").Error },
					[]string{"orders orders-master: write"}},
				{"what the Migrator asks", func(db *gorm.DB) error {
					var n int
					return db.Raw("SELECT count(*) FROM information_schema.tables WHERE table_schema = ? AND table_name = ?",
						"db", "orders").Scan(&n).Error
				}, []string{"orders orders-master: catalog"}},
				{"Create", func(db *gorm.DB) error { return db.Create(&Order{}).Error },
					[]string{"orders orders-master: write"}},
				{"Updates of a map", func(db *gorm.DB) error {
					return db.Table("orders").Where("id = 1").Updates(map[string]any{"name": "x"}).Error
				}, []string{"orders orders-master: write"}},
				{"Update with an alias",
					func(db *gorm.DB) error { return db.Table("orders AS o").Where("id = 1").Update("name", "x").Error },
					[]string{"orders orders-master: write"}},
				{"Delete", func(db *gorm.DB) error { return db.Delete(&Order{ID: 1}).Error },
					[]string{"orders orders-master: write"}},
				{"without slaves", func(db *gorm.DB) error { return db.Table("on_the_master").Find(&[]User{}).Error },
					[]string{"on_the_master master: no slaves"}},
				{"Preload across groups",
					func(db *gorm.DB) error { return db.Preload("Orders").Find(&[]Customer{}).Error },
					[]string{"customers customers-slave: context", "orders orders-slave: context"}},
				{"Preload across groups, clause", func(db *gorm.DB) error {
					return db.Clauses(replicated.Master).Preload("Orders").Find(&[]Customer{}).Error
				}, []string{"customers master: clause", "orders orders-master: clause"}},
				{"a join goes with its first table", func(db *gorm.DB) error {
					return db.Model(&Customer{}).Joins("JOIN orders ON orders.id = customers.id").Find(&[]User{}).Error
				}, []string{"customers customers-slave: context"}},
				{"Use", func(db *gorm.DB) error { return db.Clauses(dbresolver.Use("shop")).Find(&[]User{}).Error },
					[]string{"products products-slave: context"}},
				{"Use wins over the table",
					func(db *gorm.DB) error { return db.Clauses(dbresolver.Use("shop")).Find(&[]Order{}).Error },
					[]string{"products products-slave: context"}},
				{"Use of an unknown name",
					func(db *gorm.DB) error { return db.Clauses(dbresolver.Use("nowhere")).Find(&[]Order{}).Error },
					[]string{"orders orders-slave: context"}},
				{"Use, Write", func(db *gorm.DB) error {
					return db.Clauses(dbresolver.Use("orders"), dbresolver.Write).Find(&[]User{}).Error
				}, []string{"orders orders-master: clause"}},
				{"Write, Use", func(db *gorm.DB) error {
					return db.Clauses(dbresolver.Write, dbresolver.Use("orders")).Find(&[]User{}).Error
				}, []string{"orders orders-master: clause"}},
				{"Use, raw SQL", func(db *gorm.DB) error {
					return db.Clauses(dbresolver.Use("orders")).Exec("UPDATE things SET a = 1").Error
				}, []string{"orders orders-master: write"}},
				{"Use, Create", func(db *gorm.DB) error {
					return db.Clauses(dbresolver.Use("orders")).Create(&User{}).Error
				},
					[]string{"orders orders-master: write"}},
				{"Use, Begin", func(db *gorm.DB) error {
					return db.Clauses(dbresolver.Use("orders")).Transaction(func(tx *gorm.DB) error {
						return tx.Find(&[]User{}).Error
					})
				}, []string{"orders orders-master: transaction", "orders orders-master: bound"}},
				{"Write, Use, Begin", func(db *gorm.DB) error {
					return db.Clauses(dbresolver.Write, dbresolver.Use("orders")).Transaction(func(tx *gorm.DB) error {
						return tx.Create(&User{}).Error
					})
				}, []string{"orders orders-master: clause", "orders orders-master: bound"}},
				{"Use, Read, Begin", func(db *gorm.DB) error {
					return db.Clauses(dbresolver.Use("orders"), dbresolver.Read).Transaction(func(tx *gorm.DB) error {
						return tx.Find(&[]User{}).Error
					})
				}, []string{"orders orders-slave: clause", "orders orders-slave: bound"}},
				{"Table, Write, Begin", func(db *gorm.DB) error {
					return db.Table("orders").Clauses(dbresolver.Write).Transaction(func(tx *gorm.DB) error {
						return tx.Exec("SELECT 1").Error
					})
				}, []string{"orders orders-master: clause", "orders orders-master: bound"}},
				{"Model, Slave, Begin", func(db *gorm.DB) error {
					return db.Model(&Order{}).Clauses(replicated.Slave).Transaction(func(tx *gorm.DB) error {
						return tx.Exec("SELECT 1").Error
					})
				}, []string{"orders orders-slave: clause", "orders orders-slave: bound"}},
				{"a transaction stays where it is", func(db *gorm.DB) error {
					return db.Transaction(func(tx *gorm.DB) error {
						return errors.Join(tx.Find(&[]Order{}).Error, tx.Create(&Product{}).Error)
					})
				}, []string{"default master: transaction", "default master: bound", "default master: bound"}},
			} {
				t.Run(test.name, func(t *testing.T) {
					s := newGroups(t, mode.config)
					for range 2 { // the second time the statements are prepared already
						s.routes.take()
						s.log.take()
						if err := test.run(s.in(replicated.WithSlave(t.Context()), mode.session)); err != nil {
							t.Fatal(err)
						}
						got := s.routes.withGroups()
						expect(t, got, test.want...)
						var servers []string
						for _, route := range got {
							_, server, _ := strings.Cut(strings.TrimSuffix(route, ":"), " ")
							if server, _, _ = strings.Cut(server, ":"); !slices.Contains(servers, server) {
								servers = append(servers, server)
							}
						}
						expect(t, s.log.servers(), servers...)
					}
				})
			}
		})
	}
}

// withGroups is take with the group in front.
func (o *routes) withGroups() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var taken []string
	for _, r := range o.routes {
		taken = append(taken, fmt.Sprintf("%s %s: %v", r.Group, r.Server, r.Reason))
	}
	o.routes = nil
	return taken
}

// request runs f with the database of a request through p.
func (s *setup) request(method string, f func(db *gorm.DB)) {
	s.plugin.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		f(s.db.WithContext(r.Context()))
	})).
		ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, "/", nil))
}

// TestSessionsRememberPerGroup has a write to one group leave the reads of
// another where they are.
func TestSessionsRememberPerGroup(t *testing.T) {
	const orders, products, rest = "orders", "products", "default"
	for _, test := range []struct {
		name  string
		write func(*gorm.DB) error
		wrote []string
	}{
		{"nothing", func(*gorm.DB) error { return nil }, nil},
		{"Create", func(db *gorm.DB) error { return db.Create(&Order{}).Error }, []string{orders}},
		{"Create of another", func(db *gorm.DB) error { return db.Create(&Product{}).Error }, []string{products}},
		{"Create in no group", func(db *gorm.DB) error { return db.Create(&User{}).Error }, []string{rest}},
		{"raw SQL", func(db *gorm.DB) error { return db.Exec("DELETE FROM orders").Error }, []string{orders}},
		{"raw SQL that names several", func(db *gorm.DB) error {
			return db.Exec("WITH gone AS (DELETE FROM orders RETURNING *) " +
				"INSERT INTO products SELECT * FROM gone").Error
		}, []string{products, orders}},
		{"unknown SQL", func(db *gorm.DB) error { return db.Exec("CALL something()").Error }, []string{rest}},
		{"Use", func(db *gorm.DB) error {
			return db.Clauses(dbresolver.Use(orders)).Exec("CALL something()").Error
		}, []string{orders}},
		{"in a transaction, by the table", func(db *gorm.DB) error {
			return db.Transaction(func(tx *gorm.DB) error {
				return errors.Join(tx.Create(&Order{}).Error, tx.Exec("UPDATE products SET name = ''").Error)
			})
		}, []string{orders, products}},
		{"in a transaction, by the transaction", func(db *gorm.DB) error {
			return db.Clauses(dbresolver.Use(orders)).Transaction(func(tx *gorm.DB) error {
				return errors.Join(tx.Exec("CALL something()").Error, tx.Create(&User{}).Error)
			})
		}, []string{orders, rest}},
		{"on a connection", func(db *gorm.DB) error {
			return db.Connection(func(tx *gorm.DB) error { return tx.Exec("CALL something()").Error })
		}, []string{rest}},
		{"prepared by hand", func(db *gorm.DB) error {
			stmt, err := db.Statement.ConnPool.PrepareContext(db.Statement.Context, "DELETE FROM orders")
			if err == nil {
				err = stmt.Close()
			}
			return err
		}, []string{orders}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newGroups(t, gorm.Config{})
			s.request("GET", func(db *gorm.DB) {
				if err := test.write(db); err != nil {
					t.Fatal(err)
				}
				s.routes.take()
				for _, err := range []error{db.Find(&[]Order{}).Error, db.Find(&[]Product{}).Error,
					db.Find(&[]User{}).Error} {
					if err != nil {
						t.Fatal(err)
					}
				}
				for i, name := range []string{orders, products, rest} {
					route := s.routes.routes[i]
					want := replicated.ReasonMethod
					if slices.Contains(test.wrote, name) {
						want = replicated.ReasonWrote
					}
					if route.Group != name || route.Reason != want {
						t.Errorf("reading %s: %+v, want %v", name, route, want)
					}
				}
			})
		})
	}
}

// TestReadsAskForAllTheirTables has a read that names tables of several groups,
// or runs in another group than its table's, see what the session has written.
func TestReadsAskForAllTheirTables(t *testing.T) {
	use := func(db *gorm.DB, name string) *gorm.DB { return db.Clauses(dbresolver.Use(name)) }
	for _, test := range []struct {
		name        string
		write, read func(*gorm.DB) error
		want        replicated.Reason
	}{
		{"a subquery", func(db *gorm.DB) error { return db.Create(&Customer{}).Error },
			func(db *gorm.DB) error {
				return db.Where("id IN (?)", db.Model(&Customer{}).Select("id")).Find(&[]User{}).Error
			}, replicated.ReasonWrote},
		{"a join", func(db *gorm.DB) error { return db.Create(&User{}).Error },
			func(db *gorm.DB) error {
				return db.Joins("JOIN users ON 1 = 1").Find(&[]Customer{}).Error
			}, replicated.ReasonWrote},
		{"written behind Use", func(db *gorm.DB) error { return use(db, "customers").Create(&User{}).Error },
			func(db *gorm.DB) error { return db.Find(&[]User{}).Error }, replicated.ReasonWrote},
		{"written and read behind Use",
			func(db *gorm.DB) error { return use(db, "orders").Exec("UPDATE things SET a = 1").Error },
			func(db *gorm.DB) error {
				return use(db, "orders").Raw("SELECT * FROM things").Scan(&[]User{}).Error
			}, replicated.ReasonWrote},
		{"unknown SQL on a master that groups share",
			func(db *gorm.DB) error { return db.Exec("CALL something()").Error },
			func(db *gorm.DB) error { return db.Find(&[]Customer{}).Error }, replicated.ReasonWrote},
		{"unknown SQL, written and read behind Use", func(db *gorm.DB) error {
			return use(db, "orders").Exec("CALL something()").Error
		}, func(db *gorm.DB) error {
			return use(db, "orders").Raw("SELECT * FROM things").Scan(&[]User{}).Error
		}, replicated.ReasonWrote},
		{"an unknown function in a write of another group on the master", func(db *gorm.DB) error {
			return db.Exec("DELETE FROM customers WHERE gone(id)").Error
		}, func(db *gorm.DB) error { return db.Find(&[]User{}).Error }, replicated.ReasonWrote},
		{"its control: a known one", func(db *gorm.DB) error {
			return db.Exec("DELETE FROM customers WHERE abs(id) = 1").Error
		}, func(db *gorm.DB) error { return db.Find(&[]User{}).Error }, replicated.ReasonMethod},
		{"a write that names no table",
			func(db *gorm.DB) error { return db.Exec("CREATE DATABASE warehouse").Error },
			func(db *gorm.DB) error { return db.Find(&[]Customer{}).Error }, replicated.ReasonWrote},
		{"its control: on another master",
			func(db *gorm.DB) error { return db.Exec("CREATE DATABASE warehouse").Error },
			func(db *gorm.DB) error { return db.Find(&[]Order{}).Error }, replicated.ReasonMethod},
		{"unknown SQL in a transaction of another group on it", func(db *gorm.DB) error {
			return use(db, "customers").Transaction(func(tx *gorm.DB) error {
				return tx.Exec("CALL something()").Error
			})
		}, func(db *gorm.DB) error { return db.Find(&[]Customer{}).Error }, replicated.ReasonWrote},
		{"several tables in one update", func(db *gorm.DB) error {
			return db.Table("users AS u, customers AS c").Where("1 = 1").Updates(map[string]any{"u.name": "x"}).Error
		}, func(db *gorm.DB) error { return db.Find(&[]Customer{}).Error }, replicated.ReasonWrote},
		{"in a transaction of another group, behind Use", func(db *gorm.DB) error {
			return use(db, "orders").Transaction(func(tx *gorm.DB) error {
				return tx.Exec("UPDATE products SET name = ''").Error
			})
		}, func(db *gorm.DB) error {
			return use(db, "orders").Raw("SELECT * FROM products").Scan(&[]User{}).Error
		}, replicated.ReasonWrote},
		{"a common table expression of the table's name",
			func(db *gorm.DB) error { return db.Create(&Customer{}).Error },
			func(db *gorm.DB) error {
				const q = "WITH customers AS (SELECT * FROM customers) SELECT * FROM users JOIN customers"
				return db.Raw(q).Scan(&[]User{}).Error
			}, replicated.ReasonWrote},
		{"a common table expression of the name of one that is not registered", func(db *gorm.DB) error {
			return db.Create(&User{}).Error
		}, func(db *gorm.DB) error {
			const q = "WITH users AS (SELECT * FROM users) SELECT * FROM customers JOIN users"
			return db.Raw(q).Scan(&[]User{}).Error
		}, replicated.ReasonWrote},
		{"an update of several tables in parentheses", func(db *gorm.DB) error {
			return db.Exec("UPDATE (users, customers) SET name = ''").Error
		}, func(db *gorm.DB) error { return db.Find(&[]Customer{}).Error }, replicated.ReasonWrote},
		{"a table where none is looked for", func(db *gorm.DB) error { return db.Create(&Customer{}).Error },
			func(db *gorm.DB) error {
				return db.Where("customers.id = 1").Find(&[]User{}).Error
			}, replicated.ReasonWrote},
		// The controls: what was not written is read where it was.
		{"another group on the same master", func(db *gorm.DB) error { return db.Create(&Customer{}).Error },
			func(db *gorm.DB) error { return db.Find(&[]User{}).Error }, replicated.ReasonMethod},
		{"another group on the same master, in a transaction", func(db *gorm.DB) error {
			return db.Transaction(func(tx *gorm.DB) error { return tx.Create(&Customer{}).Error })
		}, func(db *gorm.DB) error { return db.Find(&[]User{}).Error }, replicated.ReasonMethod},
		{"the group of all others", func(db *gorm.DB) error { return db.Create(&User{}).Error },
			func(db *gorm.DB) error { return db.Find(&[]Customer{}).Error }, replicated.ReasonMethod},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newGroups(t, gorm.Config{})
			s.request("GET", func(db *gorm.DB) {
				if err := test.write(db); err != nil {
					t.Fatal(err)
				}
				s.routes.take()
				if err := test.read(db); err != nil {
					t.Fatal(err)
				}
				if got := s.routes.routes; len(got) != 1 || got[0].Reason != test.want {
					t.Errorf("%+v, want %v", got, test.want)
				}
			})
		})
	}
}

// TestMisplacedWrites has a write to a group's table in a transaction on another database stay there, and be
// logged once for each group.
func TestMisplacedWrites(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(tx *gorm.DB) error
		want string // is logged
	}{
		{"Create", func(tx *gorm.DB) error { return tx.Create(&Order{}).Error }, "group=orders server=master"},
		{"Update", func(tx *gorm.DB) error { return tx.Model(&Order{ID: 1}).Update("name", "a").Error },
			"group=orders server=master"},
		{"Exec", func(tx *gorm.DB) error { return tx.Exec("DELETE FROM orders").Error },
			"group=orders server=master"},
		{"Scan", func(tx *gorm.DB) error { return tx.Raw("DELETE FROM orders RETURNING id").Scan(&[]User{}).Error },
			"group=orders server=master"},
		{"the controls: the table's own master", func(tx *gorm.DB) error {
			return errors.Join(tx.Create(&Customer{}).Error, tx.Exec("DELETE FROM customers").Error)
		}, ""},
		{"no registered table", func(tx *gorm.DB) error {
			return errors.Join(tx.Create(&User{}).Error, tx.Exec("DELETE FROM users").Error)
		}, ""},
		{"a read", func(tx *gorm.DB) error {
			return errors.Join(tx.Find(&[]Order{}).Error,
				tx.Raw("SELECT * FROM orders FOR UPDATE").Scan(&[]User{}).Error,
				tx.Raw("SELECT book(1) FROM orders").Scan(&[]User{}).Error)
		}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newGroups(t, gorm.Config{})
			for range 2 {
				if err := s.db.Transaction(test.run); err != nil {
					t.Fatal(err)
				}
			}
			expect(t, s.log.servers(), "master")
			n := strings.Count(s.logged.String(), "level=WARN")
			if (n == 1) != (test.want != "") || n > 1 || !strings.Contains(s.logged.String(), test.want) {
				t.Errorf("logged:\n%s", &s.logged)
			}
		})
	}
}

// TestFinishersWithATransactionOfTheirOwn need Use to be in the group of their
// table: GORM begins before there is a statement.
func TestFinishersWithATransactionOfTheirOwn(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := newGroups(t, mode.config)
			db := s.in(t.Context(), mode.session).Clauses(dbresolver.Use("orders"))
			if err := db.CreateInBatches([]Order{{}, {}, {}}, 2).Error; err != nil {
				t.Error(err)
			}
			if err := db.Migrator().DropTable(&Order{}); err != nil {
				t.Error(err)
			}
			expect(t, s.log.servers(), "orders-master")
		})
	}
}

// TestUseOfAnUnknownName is as if it were not there, and is logged once.
func TestUseOfAnUnknownName(t *testing.T) {
	s := newGroups(t, gorm.Config{})
	for range 3 {
		if err := s.db.Clauses(dbresolver.Use("order")).Find(&[]User{}).Error; err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(s.logged.String(), "name=order"); n != 1 {
		t.Errorf("logged:\n%s", &s.logged)
	}
}

// TestUseOfManyUnknownNames has names that come with requests: they are not remembered, and do not fill the
// log.
func TestUseOfManyUnknownNames(t *testing.T) {
	s := newGroups(t, gorm.Config{})
	for i := range 1000 {
		if err := s.db.Clauses(dbresolver.Use(fmt.Sprintf("tenant_%d", i%500))).Find(&[]User{}).Error; err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(s.logged.String(), "name=tenant_"); n != 16 {
		t.Errorf("logged %d times, want 16", n)
	}
}

// FuzzTexts gives a caller's text to everything that takes one. No text panics.
func FuzzTexts(f *testing.F) {
	for _, text := range []string{
		"(SELECT * FROM docs WHERE tags ? 'a') AS d", "docs ? d", "?", "??", "@a", "(?) AS u", "orders AS o",
		"", ".", "orders.",
		"`", "table_name = $99999999999999999999", "SELECT * FROM information_schema.tables WHERE table_name = ?",
		"relname=$0", "WITH orders AS (SELECT ?) SELECT", "\x00", "a\xff", "(((", ")))",
	} {
		f.Add(text)
	}
	s := newGroups(f, gorm.Config{})
	f.Fuzz(func(t *testing.T, text string) {
		db := s.db.Session(&gorm.Session{NewDB: true, SkipDefaultTransaction: true}).WithContext(t.Context())
		for _, db := range []*gorm.DB{db, db.Session(&gorm.Session{DryRun: true})} {
			db.Table(text).Find(&[]User{})
			db.Table(text).Find(&[]map[string]any{})
			db.Table(text, 1).Count(new(int64))
			db.Table(text).Where("id = 1").Update("name", "x")
			db.Table(text).Create(map[string]any{"name": "x"})
			db.Table(text).Where("id = 1").Delete(&User{})
			db.Where(text).Select(text).Joins(text).Group(text).Order(text).Find(&[]Order{})
			db.Raw(text).Scan(&[]User{})
			db.Raw(text, 1).Row()
			db.Exec(text, "x")
			db.Clauses(dbresolver.Use(text)).Find(&[]User{})
			db.Clauses(dbresolver.Use(text), replicated.Slave).Table(text).First(&User{})
		}
		s.log.take()
		s.routes.take()
	})
}

// TestPreparedBehindUse has what is done with a statement's own pool behind
// Use not change where other statements run.
func TestPreparedBehindUse(t *testing.T) {
	const text = "UPDATE things SET a = 1"
	s := newGroups(t, gorm.Config{PrepareStmt: true})
	tx := s.db.Clauses(dbresolver.Use("orders")).Create(&User{})
	if _, err := tx.Statement.ConnPool.ExecContext(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	expect(t, s.log.servers(), "orders-master")
	if err := s.db.Exec(text).Error; err != nil {
		t.Fatal(err)
	}
	expect(t, s.log.servers(), "master")
}

// TestPreparedBeforeUse replaces the connection of a *gorm.DB that has
// prepared statements on it.
func TestPreparedBeforeUse(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			log := &fakeLog{}
			db := openFake(t, openPool(t, &fake{name: "own", log: log}), mode.config)
			steps := func() error {
				db := db
				if mode.session != nil {
					db = db.Session(mode.session)
				}
				return errors.Join(db.Find(&[]User{}).Error, db.Exec("UPDATE users SET name = ''").Error,
					db.Create(&User{}).Error)
			}
			if err := steps(); err != nil {
				t.Fatal(err)
			}
			expect(t, log.servers(), "own")
			p := replicated.New(replicated.Config{
				Masters: []gorm.Dialector{dialector(openPool(t, &fake{name: "master", log: log}))},
			})
			if err := db.Use(p); err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			for range 2 {
				if err := steps(); err != nil {
					t.Error(err)
				}
				expect(t, log.servers(), "master")
			}
		})
	}
}

// TestSharedPolicy has one policy pick for several groups, in many
// goroutines: for the race detector.
func TestSharedPolicy(t *testing.T) {
	policy := dbresolver.RoundRobinPolicy()
	slaves := func() []gorm.Dialector {
		return []gorm.Dialector{dialector(openPool(t, &fake{})), dialector(openPool(t, &fake{}))}
	}
	db := openFake(t, openPool(t, &fake{}), gorm.Config{})
	p := replicated.New(replicated.Config{Slaves: slaves(), Policy: policy, DefaultIntent: replicated.Slave}).
		Register(replicated.Group{Slaves: slaves(), Policy: policy}, "orders")
	if err := db.Use(p); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var wg sync.WaitGroup
	for _, find := range []any{&User{}, &Order{}} {
		wg.Go(func() {
			for range 100 {
				db.Model(find).Limit(1).Find(&[]map[string]any{})
			}
		})
	}
	wg.Wait()
}

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

func TestStatusOfGroups(t *testing.T) {
	s := newGroups(t, gorm.Config{})
	var got []string
	for _, g := range s.plugin.Status().Groups {
		for _, server := range g.Servers {
			got = append(got, fmt.Sprintf("%s: %s %v", g.Name, server.ID, server.Role))
		}
	}
	expect(t, got, "default: master master", "default: slave slave", "orders: orders-master master",
		"orders: orders-slave slave",
		"products: products-1 master", "products: products-2 master", "products: products-slave slave",
		"customers: master master", "customers: customers-slave slave", "on_the_master: master master")
	if err := s.plugin.Close(); err != nil {
		t.Fatal(err)
	}
	// Closed, every group is on its masters.
	for _, find := range []any{&[]Order{}, &[]Product{}, &[]Customer{}, &[]User{}} {
		if err := s.db.WithContext(replicated.WithSlave(t.Context())).Find(find).Error; err != nil {
			t.Error(err)
		}
	}
	for _, server := range s.log.servers() {
		if strings.Contains(server, "slave") {
			t.Errorf("on %q after Close", server)
		}
	}
}

// nameless is a model whose TableName panics.
type nameless struct{ ID int64 }

func (nameless) TableName() string { panic("no name") }

// TestTablesInCapitals: whether a table's name may be written in another case is up to the server, so it may.
func TestTablesInCapitals(t *testing.T) {
	log := &fakeLog{}
	db := openFake(t, openPool(t, &fake{name: "master", log: log}), gorm.Config{})
	p := replicated.New(replicated.Config{}).Register(replicated.Group{
		Masters: []gorm.Dialector{dialector(openPool(t, &fake{name: "other", log: log}))},
	}, "Invoices")
	if err := db.Use(p); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for table, want := range map[string]string{
		"Invoices": "other", "invoices": "other", "INVOICES": "other", "shop.invoices": "other",
		"invoice": "master",
	} {
		for name, run := range map[string]func() error{
			"Find":   func() error { return db.Table(table).Find(&[]User{}).Error },
			"Create": func() error { return db.Table(table).Create(&User{}).Error },
			"Scan":   func() error { return db.Raw("SELECT * FROM " + table).Scan(&[]User{}).Error },
			"Use":    func() error { return db.Clauses(dbresolver.Use(table)).Exec("DELETE FROM x").Error },
		} {
			if name == "Use" && strings.Contains(table, ".") {
				continue // a name is not a table's there
			}
			if err := run(); err != nil {
				t.Error(err)
			}
			if got := log.servers(); !slices.Equal(got, []string{want}) {
				t.Errorf("%s, %s: ran on %q, want %s", table, name, got, want)
			}
		}
	}
}

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
