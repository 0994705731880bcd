package integration

import (
	"errors"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gorm-replicated/replicated"
)

// binlogCells are what only MariaDB and MySQL have, or do in their own way.
var binlogCells = []cell{
	{"Raw: of one connection's state", "state SELECT read SELECT", func(db *gorm.DB, r *run) error {
		var id int64
		return errors.Join(db.Raw("SELECT LAST_INSERT_ID()").Scan(&id).Error, asks(db))
	}},
	{"Exec: of unknown SQL", "unknown DO read SELECT", func(db *gorm.DB, r *run) error {
		return errors.Join(db.Exec("DO 1 + 1").Error, asks(db))
	}},
	{"Clauses: Slave, unknown SQL", "clause-s DO", func(db *gorm.DB, r *run) error {
		return db.Clauses(replicated.Slave).Exec("DO 1 + 1").Error
	}},
	{"Migrator.TableType", "master*", migrates(&Shelf{}, func(m gorm.Migrator, table string) error {
		_, err := m.TableType(&Shelf{})
		return err
	})},
}

// mariaDBCells are what only MariaDB does in its own way.
var mariaDBCells = []cell{
	{"Clauses: Returning of an UPDATE, which MariaDB does not have", "write BEGIN UPDATE ROLLBACK",
		func(db *gorm.DB, r *run) error {
			return refused(db.Clauses(clause.Returning{}).Model(alone(r.author())).Update("age", 7).Error)
		}},
}

// returningCells are what MySQL does not have.
var returningCells = []cell{
	{"Raw: INSERT RETURNING, and then a read", "write INSERT read SELECT", func(db *gorm.DB, r *run) error {
		var id int64
		err := db.Raw("INSERT INTO notes (text) VALUES (?) RETURNING id", r.name).Scan(&id).Error
		if id == 0 {
			err = errors.Join(err, errors.New("no id"))
		}
		return errors.Join(err, db.First(&Author{}, known).Error)
	}},
	{"Clauses: Returning of an INSERT", "write BEGIN INSERT COMMIT", func(db *gorm.DB, r *run) error {
		n := Note{Text: r.name}
		err := db.Clauses(clause.Returning{}).Create(&n).Error
		if n.ID == 0 {
			err = errors.Join(err, errors.New("no id"))
		}
		return err
	}},
	{"Clauses: Returning of a DELETE", "write BEGIN DELETE COMMIT read SELECT", func(db *gorm.DB, r *run) error {
		var books []Book
		err := db.Clauses(clause.Returning{}).Where("title = ?", r.author().Name).Delete(&books).Error
		return errors.Join(count(2, len(books), err), db.First(&Author{}, known).Error)
	}},
}

// postgreSQLCells are what only PostgreSQL has, or does in its own way.
var postgreSQLCells = []cell{
	{"Raw: of one connection's state", "state SELECT read SELECT", func(db *gorm.DB, r *run) error {
		var pid int64
		return errors.Join(db.Raw("SELECT pg_backend_pid()").Scan(&pid).Error, asks(db))
	}},
	{"Raw: of a sequence", "write SELECT read SELECT", func(db *gorm.DB, r *run) error {
		var n int64
		return errors.Join(db.Raw("SELECT nextval('notes_id_seq')").Scan(&n).Error, asks(db))
	}},
	{"Raw: a WITH that writes", "write WITH read SELECT", func(db *gorm.DB, r *run) error {
		var id int64
		err := db.Raw("WITH new AS (INSERT INTO notes (text) VALUES (?) RETURNING id) SELECT id FROM new", r.name).
			Scan(&id).Error
		return errors.Join(err, asks(db))
	}},
	{"Raw: UPDATE RETURNING", "write UPDATE", func(db *gorm.DB, r *run) error {
		var age int
		err := db.Raw("UPDATE authors SET age = 7 WHERE name = ? RETURNING age", r.author().Name).Scan(&age).Error
		return count(7, age, err)
	}},
	{"Exec: of unknown SQL", "unknown DO read SELECT", func(db *gorm.DB, r *run) error {
		return errors.Join(db.Exec("DO $$ BEGIN END $$").Error, asks(db))
	}},
	{"Clauses: Slave, unknown SQL", "clause-s DO", func(db *gorm.DB, r *run) error {
		return db.Clauses(replicated.Slave).Exec("DO $$ BEGIN END $$").Error
	}},
	{"Clauses: Returning of an UPDATE", "write BEGIN UPDATE COMMIT read SELECT",
		func(db *gorm.DB, r *run) error {
			var as []Author
			err := db.Model(&as).Clauses(clause.Returning{}).Where("name = ?", r.author().Name).Update("age", 7).Error
			return errors.Join(count(1, len(as), err), asks(db))
		}},
	{"Clauses: Returning of a soft DELETE", "write BEGIN UPDATE COMMIT", func(db *gorm.DB, r *run) error {
		d := Draft{Title: r.name}
		return errors.Join(r.direct.Create(&d).Error, db.Clauses(clause.Returning{}).Delete(&d).Error)
	}},
	{"Migrator.TableType", "", func(db *gorm.DB, r *run) error {
		if _, err := db.Migrator().TableType(&Shelf{}); err == nil {
			return errors.New("GORM's driver has it now")
		}
		return nil
	}},
	{"Clauses: OnConflict, on a condition", "write BEGIN INSERT COMMIT", func(db *gorm.DB, r *run) error {
		return db.Clauses(clause.OnConflict{
			Columns: []clause.Column{{Name: "code"}}, DoUpdates: clause.Assignments(map[string]any{"name": "new"}),
			Where: clause.Where{Exprs: []clause.Expression{clause.Eq{Column: "genres.name", Value: "own"}}},
		}).Create(&Genre{Code: r.author().Name}).Error
	}},
}
