package replicated_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
)

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
