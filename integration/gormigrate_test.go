package integration

import (
	"context"
	"fmt"
	"testing"

	"github.com/go-gormigrate/gormigrate/v2"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gorm-replicated/replicated"
)

// TestGormigrate runs migrations as docs/migrating.md says, with slaves that are behind and reads that go to
// slaves unless something else is said. The control says nothing else.
func TestGormigrate(t *testing.T) { eachHouse(t, testGormigrate) }

func testGormigrate(t *testing.T, h house) {
	db, _ := h.open(t, gorm.Config{}, func(cfg *replicated.Config) { cfg.DefaultIntent = replicated.Slave })
	direct, err := gorm.Open(h.dial(h.Master.DSN()), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeDB(direct) })
	for _, test := range []struct {
		name  string
		db    *gorm.DB
		right bool
	}{
		{"WithMaster", db.WithContext(replicated.WithMaster(t.Context())), true},
		{"control", db.WithContext(t.Context()), false},
	} {
		t.Run(test.name+"/a new database", func(t *testing.T) {
			m := newMigrations(t, direct)
			holdAll(t, h.Cluster)
			for range 2 {
				err := m.migrate(test.db)
				if right := err == nil && m.first == 1 && m.second == 1; right != test.right {
					t.Errorf("the migrations ran %d times and %d times: %v", m.first, m.second, err)
				}
			}
		})
		t.Run(test.name+"/one that another process has migrated", func(t *testing.T) {
			m := newMigrations(t, direct)
			if err := m.migrateTo(direct, "1"); err != nil {
				t.Fatal(err)
			}
			if err := h.CatchUp(t.Context()); err != nil {
				t.Fatal(err)
			}
			holdAll(t, h.Cluster)
			if err := m.migrateTo(direct, "2"); err != nil {
				t.Fatal(err)
			}
			err := m.migrate(test.db)
			if right := err == nil && m.first == 1 && m.second == 1; right != test.right {
				t.Errorf("the migrations ran %d times and %d times: %v", m.first, m.second, err)
			}
		})
	}
}

// migrations are two that count how often they run.
type migrations struct {
	table         string
	first, second int
}

func newMigrations(t *testing.T, direct *gorm.DB) *migrations {
	m := &migrations{table: fmt.Sprint("gormigrate_", runs.Add(1))}
	t.Cleanup(func() {
		if err := direct.WithContext(context.Background()).Migrator().DropTable(m.table); err != nil {
			t.Error(err)
		}
	})
	return m
}

func (m *migrations) of(db *gorm.DB) *gormigrate.Gormigrate {
	options := *gormigrate.DefaultOptions
	options.TableName = m.table
	run := func(n *int) gormigrate.MigrateFunc {
		return func(*gorm.DB) error {
			*n++
			return nil
		}
	}
	return gormigrate.New(db, &options, []*gormigrate.Migration{
		{ID: "1", Migrate: run(&m.first)}, {ID: "2", Migrate: run(&m.second)},
	})
}

func (m *migrations) migrate(db *gorm.DB) error { return m.of(db).Migrate() }

func (m *migrations) migrateTo(db *gorm.DB, id string) error { return m.of(db).MigrateTo(id) }
