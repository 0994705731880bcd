package replicated_test

import (
	"database/sql"
	"errors"
	"testing"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

type hooked struct {
	ID   int64
	Name string
}

func (hooked) TableName() string              { return "users" }
func (*hooked) AfterCreate(tx *gorm.DB) error { return tx.First(&User{}).Error }

// TestHooksOfAWriteReadTheMaster needs no session: outside of a transaction
// and of a request, a hook still sees what was just written.
func TestHooksOfAWriteReadTheMaster(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := newSetup(t, 1, mode.config, func(c *replicated.Config) { c.DefaultIntent = replicated.Slave })
			if err := s.in(t.Context(), mode.session).Create(&hooked{Name: "a"}).Error; err != nil {
				t.Fatal(err)
			}
			expect(t, s.log.servers(), "master")
			if err := s.in(t.Context(), mode.session).First(&User{}).Error; err != nil {
				t.Fatal(err)
			}
			expect(t, s.log.servers(), "slave-1") // the control
		})
	}
}

func TestRejectWrites(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(*gorm.DB) error
	}{
		{"Create", func(db *gorm.DB) error { return db.Create(&User{Name: "a"}).Error }},
		{"Update", func(db *gorm.DB) error { return db.Model(&User{ID: 1}).Update("name", "a").Error }},
		{"Delete", func(db *gorm.DB) error { return db.Delete(&User{ID: 1}).Error }},
		{"Exec", func(db *gorm.DB) error { return db.Exec("DELETE FROM users").Error }},
		{"Scan", func(db *gorm.DB) error { return db.Raw("DELETE FROM users RETURNING id").Scan(&[]User{}).Error }},
		{"Row", func(db *gorm.DB) error {
			return db.Raw("DELETE FROM users RETURNING id").Row().Err()
		}},
		{"Rows", func(db *gorm.DB) error { return closeRows(db.Raw("DELETE FROM users RETURNING id").Rows()) }},
		{"a function in a query", func(db *gorm.DB) error { return db.Select("nextval(s)").Find(&[]User{}).Error }},
		{"unknown SQL", func(db *gorm.DB) error { return db.Exec("CALL p()").Error }},
	} {
		for _, mode := range modes {
			t.Run(test.name+"/"+mode.name, func(t *testing.T) {
				s := newSetup(t, 1, mode.config, func(c *replicated.Config) { c.RejectWrites = true })
				db := s.in(replicated.WithSlave(t.Context()), mode.session)
				if err := test.run(db); !errors.Is(err, replicated.ErrWriteOnSlave) {
					t.Errorf("got %v, want ErrWriteOnSlave", err)
				}
				if ran := s.log.take(); len(ran) > 0 {
					t.Errorf("executed: %v", ran)
				}
				if err := test.run(db.Clauses(replicated.Master)); err != nil {
					t.Errorf("with the clause: %v", err)
				}
				if err := test.run(s.in(replicated.WithMaster(t.Context()), mode.session)); err != nil {
					t.Errorf("under WithMaster: %v", err)
				}
				expect(t, s.log.servers(), "master")
			})
		}
	}
}

type parent struct {
	ID       int64
	Name     string
	Children []child `gorm:"foreignKey:ID"`
}

func (parent) TableName() string              { return "users" }
func (*parent) AfterCreate(tx *gorm.DB) error { return tx.Exec("UPDATE users SET name = 'b'").Error }

type child struct {
	ID   int64
	Name string
}

// TestMasterClauseHoldsForWhatFollows has RejectWrites let through what a
// write that was let through brings with it.
func TestMasterClauseHoldsForWhatFollows(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := newSetup(t, 1, mode.config, func(c *replicated.Config) { c.RejectWrites = true })
			db := func() *gorm.DB {
				return s.in(replicated.WithSlave(t.Context()), mode.session).Clauses(replicated.Master)
			}
			for name, err := range map[string]error{
				"associations and hooks": db().Create(&parent{Name: "a", Children: []child{{Name: "b"}}}).Error,
				"Append":                 db().Model(&parent{ID: 1}).Association("Children").Append(&child{Name: "b"}),
				"a transaction": db().Transaction(func(tx *gorm.DB) error {
					return tx.Create(&parent{Name: "a"}).Error
				}),
			} {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			expect(t, s.log.servers(), "master")
			err := s.in(replicated.WithSlave(t.Context()), mode.session).Create(&parent{Name: "a"}).Error
			if !errors.Is(err, replicated.ErrWriteOnSlave) {
				t.Errorf("the control, without the clause: %v", err)
			}
		})
	}
}

// TestSlaveClauseVouchesForItsStatementAlone has what GORM derives from a
// statement read from the slave, but not run unknown SQL or write in a transaction there.
func TestSlaveClauseVouchesForItsStatementAlone(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := newSetup(t, 1, mode.config, nil)
			explicit := func() *gorm.DB { return s.in(t.Context(), mode.session).Clauses(replicated.Slave) }
			if err := explicit().Exec("CALL p()").Error; err != nil {
				t.Error(err)
			}
			expect(t, s.log.servers(), "slave-1")
			inBatch := func(f func(*gorm.DB) error) {
				t.Helper()
				err := explicit().FindInBatches(&[]User{}, 10, func(tx *gorm.DB, _ int) error {
					s.log.take()
					return f(tx)
				}).Error
				if err != nil {
					t.Error(err)
				}
			}
			inBatch(func(tx *gorm.DB) error { return tx.First(&User{}).Error })
			expect(t, s.log.servers(), "slave-1")
			inBatch(func(tx *gorm.DB) error { return tx.Exec("CALL p()").Error })
			expect(t, s.log.servers(), "master")
			inBatch(func(tx *gorm.DB) error {
				return tx.Transaction(func(tx *gorm.DB) error { return tx.Create(&User{Name: "a"}).Error })
			})
			expect(t, s.log.servers(), "master")
		})
	}
}

// TestClauseOutlivesWhatReplacesThePool has GORM go back to the configured
// pool after a write, and in a session that prepares.
func TestClauseOutlivesWhatReplacesThePool(t *testing.T) {
	readOnly := &sql.TxOptions{ReadOnly: true}
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := newSetup(t, 1, mode.config, nil)
			master := func() *gorm.DB {
				return s.in(replicated.WithSlave(t.Context()), mode.session).Clauses(replicated.Master)
			}
			slave := func() *gorm.DB { return s.in(t.Context(), mode.session).Clauses(replicated.Slave) }
			read := func(tx *gorm.DB) error { return tx.First(&User{}).Error }

			db := master()
			err := errors.Join(db.Create(&User{Name: "a"}).Error,
				db.Session(&gorm.Session{NewDB: true}).First(&User{}).Error)
			if err != nil {
				t.Error(err)
			}
			expect(t, s.log.servers(), "master")
			if err := master().Session(&gorm.Session{PrepareStmt: true}).Transaction(read, readOnly); err != nil {
				t.Error(err)
			}
			expect(t, s.log.servers(), "master")
			for range 2 {
				if err := slave().Session(&gorm.Session{PrepareStmt: true}).Transaction(read); err != nil {
					t.Error(err)
				}
				expect(t, s.log.servers(), "slave-1")
			}
			// The clause was for that handle alone.
			if err := s.in(replicated.WithSlave(t.Context()), mode.session).First(&User{}).Error; err != nil {
				t.Error(err)
			}
			expect(t, s.log.servers(), "slave-1")
		})
	}
}
