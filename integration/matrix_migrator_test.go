package integration

import (
	"errors"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

type (
	// Shelf is what a migration starts from.
	Shelf struct {
		ID   int64
		Name string `gorm:"size:50;index:idx_shelf_name"`
	}
	// WiderShelf is where it ends.
	WiderShelf struct {
		ID      int64
		Name    string `gorm:"size:100;index:idx_shelf_name"`
		Room    string `gorm:"size:50;uniqueIndex:idx_shelf_room"`
		Boards  int    `gorm:"unique;default:1"`
		Height  int    `gorm:"check:chk_shelf_height,height >= 0"`
		Spelled string `gorm:"size:20;index:idx_shelf_spelled"`
	}
)

// migratorCells are AutoMigrate and the whole Migrator.
var migratorCells = []cell{
	{"AutoMigrate: a new table", "master*",
		migrates(nil, func(m gorm.Migrator, table string) error { return m.AutoMigrate(&Shelf{}) })},
	{"AutoMigrate: nothing to do", "master*",
		migrates(&Shelf{}, func(m gorm.Migrator, table string) error { return m.AutoMigrate(&Shelf{}) })},
	{"AutoMigrate: of the *gorm.DB, with relations", "master*", func(db *gorm.DB, r *run) error {
		type Chair struct {
			ID     int64
			HallID int64
		}
		type Hall struct {
			ID      int64
			Chairs  []Chair
			Ushers  []Publisher `gorm:"many2many:hall_ushers"`
			OwnerID int64
			Owner   Publisher
		}
		err := db.AutoMigrate(&Hall{}, &Chair{})
		return errors.Join(err, r.direct.Migrator().DropTable("hall_ushers", "chairs", "halls"))
	}},
	{"Migrator.AutoMigrate", "master*", migrates(&Shelf{}, func(m gorm.Migrator, table string) error {
		return errors.Join(m.AutoMigrate(&WiderShelf{}), m.AutoMigrate(&WiderShelf{}))
	})},
	{"AutoMigrate: under the clause Slave", "master*", func(db *gorm.DB, r *run) error {
		return migrates(&Shelf{}, func(m gorm.Migrator, table string) error {
			return m.AutoMigrate(&WiderShelf{})
		})(db.Clauses(replicated.Slave), r)
	}},
	{"Migrator.CurrentDatabase", "master*", migrates(nil, func(m gorm.Migrator, table string) error {
		return is(m.CurrentDatabase() != "")
	})},
	{"Migrator.FullDataTypeOf Migrator.GetTypeAliases", "", func(db *gorm.DB, r *run) error {
		stmt := &gorm.Statement{DB: db}
		if err := stmt.Parse(&Shelf{}); err != nil {
			return err
		}
		m := db.Migrator()
		m.GetTypeAliases("int")
		return is(m.FullDataTypeOf(stmt.Schema.LookUpField("Name")).SQL != "")
	}},
	{"Migrator.CreateTable", "master*",
		migrates(nil, func(m gorm.Migrator, table string) error { return m.CreateTable(&Shelf{}) })},
	{"Migrator.DropTable", "master*",
		migrates(&Shelf{}, func(m gorm.Migrator, table string) error { return m.DropTable(&Shelf{}) })},
	{"Migrator.HasTable", "master*",
		migrates(&Shelf{}, func(m gorm.Migrator, table string) error { return is(m.HasTable(&Shelf{})) })},
	{"Migrator.RenameTable", "master*", migrates(&Shelf{}, func(m gorm.Migrator, table string) error {
		return errors.Join(m.RenameTable(table, table+"_new"), m.RenameTable(table+"_new", table))
	})},
	{"Migrator.GetTables", "master*", migrates(&Shelf{}, func(m gorm.Migrator, table string) error {
		tables, err := m.GetTables()
		return errors.Join(err, is(slices.Contains(tables, table)))
	})},
	{"Migrator.AddColumn", "master*", migrates(&Shelf{},
		func(m gorm.Migrator, table string) error { return m.AddColumn(&WiderShelf{}, "Room") })},
	{"Migrator.DropColumn", "master*", migrates(&WiderShelf{},
		func(m gorm.Migrator, table string) error { return m.DropColumn(&WiderShelf{}, "Spelled") })},
	{"Migrator.AlterColumn", "master*", migrates(&Shelf{},
		func(m gorm.Migrator, table string) error { return m.AlterColumn(&WiderShelf{}, "Name") })},
	{"Migrator.MigrateColumn Migrator.MigrateColumnUnique", "master*", func(db *gorm.DB, r *run) error {
		return migrates(&WiderShelf{}, func(m gorm.Migrator, table string) error {
			stmt := &gorm.Statement{DB: db}
			types, err := m.ColumnTypes(&WiderShelf{})
			if err := errors.Join(err, stmt.Parse(&WiderShelf{})); err != nil {
				return err
			}
			for _, column := range types {
				field := stmt.Schema.LookUpField(column.Name())
				err := errors.Join(m.MigrateColumn(&WiderShelf{}, field, column),
					m.MigrateColumnUnique(&WiderShelf{}, field, column))
				if err != nil {
					return err
				}
			}
			return nil
		})(db, r)
	}},
	{"Migrator.HasColumn", "master*", migrates(&Shelf{}, func(m gorm.Migrator, table string) error {
		return is(m.HasColumn(&Shelf{}, "Name") && !m.HasColumn(&WiderShelf{}, "Room"))
	})},
	{"Migrator.RenameColumn", "master*", migrates(&WiderShelf{}, func(m gorm.Migrator, table string) error {
		return m.RenameColumn(&WiderShelf{}, "spelled", "written")
	})},
	{"Migrator.ColumnTypes", "master*", migrates(&Shelf{}, func(m gorm.Migrator, table string) error {
		types, err := m.ColumnTypes(&Shelf{})
		return count(2, len(types), err)
	})},
	{"Migrator.ColumnTypes: by name", "master*", migrates(&Shelf{}, func(m gorm.Migrator, table string) error {
		types, err := m.ColumnTypes(table)
		return count(2, len(types), err)
	})},
	{"Migrator.CreateView Migrator.DropView", "master*", func(db *gorm.DB, r *run) error {
		m, view := db.Migrator(), fmt.Sprintf("view_%d", r.n)
		query := db.Model(&Author{}).Where("name = ?", "known")
		return errors.Join(m.CreateView(view, gorm.ViewOption{Query: query}),
			m.CreateView(view, gorm.ViewOption{Query: query, Replace: true}), m.DropView(view))
	}},
	{"Migrator.CreateConstraint Migrator.HasConstraint Migrator.DropConstraint", "master*",
		migrates(&WiderShelf{}, func(m gorm.Migrator, table string) error {
			return errors.Join(
				is(m.HasConstraint(&WiderShelf{}, "chk_shelf_height")),
				m.DropConstraint(&WiderShelf{}, "chk_shelf_height"),
				is(!m.HasConstraint(&WiderShelf{}, "chk_shelf_height")),
				m.CreateConstraint(&WiderShelf{}, "chk_shelf_height"))
		})},
	{"Migrator.CreateIndex Migrator.HasIndex Migrator.DropIndex", "master*",
		migrates(&Shelf{}, func(m gorm.Migrator, table string) error {
			return errors.Join(
				is(m.HasIndex(&Shelf{}, "idx_shelf_name")), m.DropIndex(&Shelf{}, "idx_shelf_name"),
				is(!m.HasIndex(&Shelf{}, "idx_shelf_name")), m.CreateIndex(&Shelf{}, "idx_shelf_name"))
		})},
	{"Migrator.RenameIndex", "master*", migrates(&Shelf{}, func(m gorm.Migrator, table string) error {
		return m.RenameIndex(&Shelf{}, "idx_shelf_name", "idx_shelf_new")
	})},
	{"Migrator.GetIndexes", "master*", migrates(&Shelf{}, func(m gorm.Migrator, table string) error {
		indexes, err := m.GetIndexes(&Shelf{})
		return errors.Join(err, is(len(indexes) > 0))
	})},
}

// migrates runs f on a table of the run's own: that of the model, or none yet.
func migrates(model any, f func(m gorm.Migrator, table string) error) func(*gorm.DB, *run) error {
	return func(db *gorm.DB, r *run) error {
		table := fmt.Sprintf("shelves_%d", r.n)
		if model != nil {
			if err := r.direct.Table(table).Migrator().CreateTable(model); err != nil {
				return err
			}
		}
		err := f(db.Table(table).Migrator(), table)
		return errors.Join(err, r.direct.Migrator().DropTable(table))
	}
}

func is(ok bool) error {
	if !ok {
		return errors.New("not so")
	}
	return nil
}
