package replicated_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
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

// TestUseOfUnknownNames is as if it were not there, and is logged once for each name. Names may come with
// requests: no more than 16 are remembered, so that they do not fill the log.
func TestUseOfUnknownNames(t *testing.T) {
	for _, test := range []struct{ uses, names, logged int }{
		{1, 1, 1}, {3, 1, 1}, {1000, 16, 16}, {1000, 500, 16},
	} {
		t.Run(fmt.Sprintf("%d uses of %d names", test.uses, test.names), func(t *testing.T) {
			s := newGroups(t, gorm.Config{})
			for i := range test.uses {
				name := fmt.Sprintf("tenant_%d", i%test.names)
				if err := s.db.Clauses(dbresolver.Use(name)).Find(&[]User{}).Error; err != nil {
					t.Fatal(err)
				}
			}
			if n := strings.Count(s.logged.String(), "name=tenant_"); n != test.logged {
				t.Errorf("logged %d times, want %d:\n%s", n, test.logged, &s.logged)
			}
		})
	}
}

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
