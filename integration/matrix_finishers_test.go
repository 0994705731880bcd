package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// finisherCells are the finishers that read, and everything that may stand before one.
var finisherCells = []cell{
	{"First", "read SELECT", func(db *gorm.DB, r *run) error { return db.First(&Author{}, known).Error }},
	{"First: nothing there", "read SELECT", func(db *gorm.DB, r *run) error {
		return expect(gorm.ErrRecordNotFound, db.First(&Author{}, -1).Error)
	}},
	{"First: into a map", "read SELECT", func(db *gorm.DB, r *run) error {
		return db.Model(&Author{}).Where("id = ?", known).First(&map[string]any{}).Error
	}},
	{"Take", "read SELECT", func(db *gorm.DB, r *run) error { return db.Take(&Author{ID: known}).Error }},
	{"Last", "read SELECT",
		func(db *gorm.DB, r *run) error { return db.Last(&Author{}, "name = ?", "known").Error }},
	{"Find", "read SELECT", func(db *gorm.DB, r *run) error {
		var as []Author
		err := db.Find(&as, "name = ?", "known").Error
		return count(3, len(as), err)
	}},
	{"Find: one, into a struct", "read SELECT", func(db *gorm.DB, r *run) error {
		var a Author
		return count(1, db.Limit(1).Find(&a, known).RowsAffected, nil)
	}},
	{"Find: into maps", "read SELECT", func(db *gorm.DB, r *run) error {
		var as []map[string]any
		err := db.Table("authors").Find(&as, "name = ?", "known").Error
		return count(3, len(as), err)
	}},
	{"Find: into a smaller struct", "read SELECT", func(db *gorm.DB, r *run) error {
		var as []struct{ Name string }
		err := db.Model(&Author{}).Find(&as, "name = ?", "known").Error
		return count(3, len(as), err)
	}},
	{"Find: that fails", "read SELECT", func(db *gorm.DB, r *run) error {
		return refused(db.Find(&[]Author{}, "id = (SELECT id FROM books WHERE title = ?)", "known").Error)
	}},
	{"FindInBatches", "read SELECT read SELECT", func(db *gorm.DB, r *run) error {
		var as []Author
		tx := db.Where("name = ?", "known").FindInBatches(&as, 2, func(*gorm.DB, int) error { return nil })
		return count(3, tx.RowsAffected, tx.Error)
	}},
	{"FindInBatches: read and write in between",
		"read SELECT read SELECT write BEGIN INSERT COMMIT read SELECT read SELECT write BEGIN INSERT COMMIT",
		func(db *gorm.DB, r *run) error {
			var as []Author
			return db.Where("name = ?", "known").FindInBatches(&as, 2, func(tx *gorm.DB, batch int) error {
				return errors.Join(tx.First(&Author{}, known).Error, tx.Create(&Note{Text: r.name}).Error)
			}).Error
		}},
	{"Rows ScanRows", "read SELECT", func(db *gorm.DB, r *run) error {
		rows, err := db.Model(&Author{}).Where("name = ?", "known").Rows()
		if err != nil {
			return err
		}
		defer rows.Close()
		n := 0
		for ; rows.Next(); n++ {
			var a Author
			if err := db.ScanRows(rows, &a); err != nil || a.Name != "known" {
				return fmt.Errorf("%+v, %w", a, err)
			}
		}
		return count(3, n, rows.Err())
	}},
	{"Rows: a query for each", "read SELECT read SELECT read SELECT read SELECT",
		func(db *gorm.DB, r *run) error {
			rows, err := db.Model(&Author{}).Where("name = ?", "known").Select("id").Rows()
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var id int64
				if err := errors.Join(rows.Scan(&id), db.First(&Author{}, id).Error); err != nil {
					return err
				}
			}
			return rows.Err()
		}},
	{"Row", "read SELECT", func(db *gorm.DB, r *run) error {
		var name string
		return db.Model(&Author{}).Where("id = ?", known).Select("name").Row().Scan(&name)
	}},
	{"Row: nothing there", "read SELECT", func(db *gorm.DB, r *run) error {
		var name string
		return expect(sql.ErrNoRows, db.Model(&Author{}).Where("id = -1").Select("name").Row().Scan(&name))
	}},
	{"Row: that fails", "read SELECT", func(db *gorm.DB, r *run) error {
		var n int
		return refused(db.Model(&Author{}).Select("id").
			Where("id = (SELECT id FROM books WHERE title = ?)", "known").Row().Scan(&n))
	}},
	{"Scan", "read SELECT", func(db *gorm.DB, r *run) error {
		var a struct{ Name string }
		return count(1, db.Model(&Author{}).Where("id = ?", known).Scan(&a).RowsAffected, nil)
	}},
	{"Scan: into a number", "read SELECT", func(db *gorm.DB, r *run) error {
		var age int64
		err := db.Model(&Author{}).Where("id = ?", known).Select("age").Scan(&age).Error
		return count(known, age, err)
	}},
	{"Pluck", "read SELECT", func(db *gorm.DB, r *run) error {
		var names []string
		err := db.Model(&Author{}).Where("name = ?", "known").Pluck("name", &names).Error
		return count(3, len(names), err)
	}},
	{"Count", "read SELECT", func(db *gorm.DB, r *run) error {
		var n int64
		err := db.Model(&Author{}).Where("name = ?", "known").Count(&n).Error
		return count(3, n, err)
	}},
	{"Count: of groups", "read SELECT", func(db *gorm.DB, r *run) error {
		var n int64
		err := db.Model(&Author{}).Where("name = ?", "known").Group("age").Count(&n).Error
		return count(3, n, err)
	}},
	{"Count: and then Find on the same", "read SELECT read SELECT", func(db *gorm.DB, r *run) error {
		var n int64
		var as []Author
		tx := db.Model(&Author{}).Where("name = ?", "known").Session(&gorm.Session{})
		err := errors.Join(tx.Count(&n).Error, tx.Limit(2).Find(&as).Error)
		return count(5, int(n)+len(as), err)
	}},

	{"FirstOrInit", "first-or SELECT", func(db *gorm.DB, r *run) error {
		var a Author
		err := db.Where(Author{ID: known}).FirstOrInit(&a).Error
		return count(known, int64(a.Age), err)
	}},
	{"FirstOrInit: nothing there", "first-or SELECT", func(db *gorm.DB, r *run) error {
		var a Author
		err := db.Where(Author{Name: r.name}).Attrs(Author{Age: 7}).FirstOrInit(&a).Error
		return count(7, a.Age, err)
	}},
	{"FirstOrCreate", "first-or SELECT", func(db *gorm.DB, r *run) error {
		return count(known, known, db.FirstOrCreate(&Author{}, known).Error)
	}},
	{"FirstOrCreate: what only the master has", "first-or SELECT", func(db *gorm.DB, r *run) error {
		tx := db.FirstOrCreate(&Author{}, Author{Name: r.author().Name})
		return count(0, tx.RowsAffected, tx.Error)
	}},
	{"FirstOrCreate: nothing there", "first-or SELECT write BEGIN INSERT COMMIT",
		func(db *gorm.DB, r *run) error {
			var a Author
			tx := db.Where(Author{Name: r.name}).Attrs(Author{Age: 7}).FirstOrCreate(&a)
			return count(8, int(tx.RowsAffected)+a.Age, tx.Error)
		}},
	{"FirstOrCreate Attrs Assign: and then a read", "first-or SELECT write BEGIN UPDATE COMMIT read SELECT",
		func(db *gorm.DB, r *run) error {
			var a Author
			return errors.Join(
				db.Where(Author{Name: r.author().Name}).Attrs(Author{Age: 7}).Assign(Author{Age: 8}).
					FirstOrCreate(&a).Error,
				db.First(&Author{}, known).Error)
		}},
	{"FirstOrCreate: with Preload", "first-or SELECT first-or SELECT", func(db *gorm.DB, r *run) error {
		var a Author
		err := db.Preload("Books").FirstOrCreate(&a, known).Error
		return count(2, len(a.Books), err)
	}},
	{"FirstOrCreate: in order", "first-or SELECT", func(db *gorm.DB, r *run) error {
		return db.Order("name").FirstOrCreate(&Author{}, known).Error
	}},
	{"FirstOrInit: into a map", "first-or SELECT", func(db *gorm.DB, r *run) error {
		return db.Model(&Author{}).Where("id = ?", known).FirstOrInit(&map[string]any{}).Error
	}},

	{"Raw", "read SELECT", func(db *gorm.DB, r *run) error {
		var n int64
		err := db.Raw("SELECT COUNT(*) FROM authors WHERE name = ?", "known").Scan(&n).Error
		return count(3, n, err)
	}},
	{"Raw: Find", "read SELECT", func(db *gorm.DB, r *run) error {
		var as []Author
		err := db.Raw("SELECT * FROM authors WHERE name = @name", sql.Named("name", "known")).Find(&as).Error
		return count(3, len(as), err)
	}},
	{"Raw: Row", "read SELECT", func(db *gorm.DB, r *run) error {
		var n int64
		err := db.Raw("SELECT COUNT(*) FROM authors WHERE name = ?", "known").Row().Scan(&n)
		return count(3, n, err)
	}},
	{"Raw: Rows", "read SELECT", func(db *gorm.DB, r *run) error {
		rows, err := db.Raw("SELECT * FROM authors WHERE name = ?", "known").Rows()
		if err != nil {
			return err
		}
		return rows.Close()
	}},
	{"Raw: a subquery that GORM builds", "read SELECT", func(db *gorm.DB, r *run) error {
		var n int64
		err := db.Raw("SELECT COUNT(*) FROM (?) AS q", db.Model(&Author{}).Where("name = ?", "known")).
			Scan(&n).Error
		return count(3, n, err)
	}},
	{"Raw: WITH", "read WITH", func(db *gorm.DB, r *run) error {
		var n int64
		err := db.Raw("WITH k AS (SELECT * FROM authors WHERE name = ?) SELECT COUNT(*) FROM k", "known").
			Scan(&n).Error
		return count(3, n, err)
	}},
	{"Raw: that locks, and then a read", "lock SELECT read SELECT", func(db *gorm.DB, r *run) error {
		var a Author
		return errors.Join(db.Raw("SELECT * FROM authors WHERE id = ? FOR UPDATE", known).Scan(&a).Error,
			db.First(&Author{}, known).Error)
	}},
	{"Raw: of the catalog, and then a read", "catalog SELECT read SELECT", func(db *gorm.DB, r *run) error {
		var n int64
		return errors.Join(db.Raw("SELECT COUNT(*) FROM information_schema.tables").Scan(&n).Error,
			db.First(&Author{}, known).Error)
	}},
	{"Exec", "write INSERT read SELECT", func(db *gorm.DB, r *run) error {
		tx := db.Exec("INSERT INTO notes (text) VALUES (?)", r.name)
		return errors.Join(count(1, tx.RowsAffected, tx.Error), db.First(&Author{}, known).Error)
	}},
	{"Exec: a read", "read SELECT", func(db *gorm.DB, r *run) error { return db.Exec("SELECT 1").Error }},

	{"Model Where Or Not Order Limit Offset", "read SELECT", func(db *gorm.DB, r *run) error {
		var as []Author
		err := db.Model(&Author{}).Where("id = ?", known).Or("id = ?", known+1).Not("id = -1").Order("id").Limit(1).
			Offset(1).Find(&as).Error
		return count(1, len(as), err)
	}},
	{"Group Having Select", "read SELECT", func(db *gorm.DB, r *run) error {
		var groups []map[string]any
		err := db.Model(&Author{}).Select("name, COUNT(*) AS n").Where("name = ?", "known").Group("name").
			Having("COUNT(*) > 1").Find(&groups).Error
		return count(1, len(groups), err)
	}},
	{"Distinct Omit", "read SELECT", func(db *gorm.DB, r *run) error {
		var names []string
		err := errors.Join(db.Model(&Author{}).Where("name = ?", "known").Distinct().Pluck("name", &names).Error)
		return count(1, len(names), err)
	}},
	{"MapColumns Unscoped Debug", "read SELECT", func(db *gorm.DB, r *run) error {
		var a struct{ Called string }
		return db.Unscoped().Model(&Author{}).MapColumns(map[string]string{"name": "called"}).
			Where("id = ?", known).Scan(&a).Error
	}},
	{"Debug", "read SELECT",
		func(db *gorm.DB, r *run) error { return db.Debug().First(&Author{}, known).Error }},
	{"Set InstanceSet", "read SELECT", func(db *gorm.DB, r *run) error {
		return db.Set("a", 1).InstanceSet("b", 2).First(&Author{}, known).Error
	}},
	{"Session WithContext", "read SELECT read SELECT", func(db *gorm.DB, r *run) error {
		return errors.Join(
			db.Session(&gorm.Session{NewDB: true, QueryFields: true, SkipHooks: true}).First(&Author{}, known).Error,
			db.WithContext(context.Background()).WithContext(r.ctx).First(&Author{}, known).Error)
	}},
	{"Scopes", "read SELECT", func(db *gorm.DB, r *run) error {
		named := func(tx *gorm.DB) *gorm.DB { return tx.Where("name = ?", "known") }
		paged := func(tx *gorm.DB) *gorm.DB { return tx.Limit(2) }
		var as []Author
		err := db.Scopes(named, paged).Find(&as).Error
		return count(2, len(as), err)
	}},
	{"Scopes: that query", "read SELECT read SELECT", func(db *gorm.DB, r *run) error {
		youngest := func(tx *gorm.DB) *gorm.DB {
			var age int
			err := tx.Session(&gorm.Session{NewDB: true}).Model(&Author{}).Where("name = ?", "known").
				Select("MIN(age)").Scan(&age).Error
			_ = tx.AddError(err)
			return tx.Where("age = ?", age)
		}
		return db.Scopes(youngest).First(&Author{}).Error
	}},
	{"Where: a subquery", "read SELECT", func(db *gorm.DB, r *run) error {
		var as []Author
		err := db.Where("id IN (?)", db.Model(&Book{}).Select("author_id").Where("title = ?", "known")).
			Find(&as).Error
		return count(3, len(as), err)
	}},
	{"Table: a subquery", "read SELECT", func(db *gorm.DB, r *run) error {
		var n int64
		err := db.Table("(?) AS q", db.Model(&Author{}).Where("name = ?", "known")).Count(&n).Error
		return count(3, n, err)
	}},
	{"Joins: an association", "read SELECT", func(db *gorm.DB, r *run) error {
		var a Author
		err := db.Joins("Publisher").First(&a, known).Error
		return count(known, a.Publisher.ID, err)
	}},
	{"Joins: two associations, with a condition", "read SELECT", func(db *gorm.DB, r *run) error {
		return db.Joins("Publisher", db.Where(&Publisher{Name: "known"})).Joins("Portrait").
			First(&Author{}, known).Error
	}},
	{"Joins: nested", "read SELECT", func(db *gorm.DB, r *run) error {
		var b Book
		err := db.Joins("Author.Publisher").Where("title = ?", "known").Take(&b).Error
		return count(known, b.Author.Publisher.ID, err)
	}},
	{"Joins: raw", "read SELECT", func(db *gorm.DB, r *run) error {
		var n int64
		err := db.Model(&Author{}).Joins("JOIN books ON books.author_id = authors.id AND books.title = ?", "known").
			Count(&n).Error
		return count(6, n, err)
	}},
	{"Joins: a subquery", "read SELECT", func(db *gorm.DB, r *run) error {
		books := db.Model(&Book{}).Select("author_id, COUNT(*) AS n").Where("title = ?", "known").Group("author_id")
		var ns []int64
		err := db.Model(&Author{}).Joins("JOIN (?) q ON q.author_id = authors.id", books).Pluck("q.n", &ns).Error
		return count(3, len(ns), err)
	}},
	{"InnerJoins", "read SELECT", func(db *gorm.DB, r *run) error {
		var as []Author
		err := db.InnerJoins("Publisher").Find(&as, "authors.name = ?", "known").Error
		return count(3, len(as), err)
	}},
	{"Clauses: locking", "lock SELECT read SELECT", func(db *gorm.DB, r *run) error {
		return errors.Join(db.Clauses(clause.Locking{Strength: "UPDATE"}).First(&Author{}, known).Error,
			db.First(&Author{}, known).Error)
	}},
	{"Clauses: locking for share", "lock SELECT", func(db *gorm.DB, r *run) error {
		return db.Clauses(clause.Locking{Strength: "SHARE"}).Find(&[]Author{}, known).Error
	}},
	{"Clauses: skip locked", "lock SELECT", func(db *gorm.DB, r *run) error {
		return db.Clauses(clause.Locking{Strength: "UPDATE", Options: "SKIP LOCKED"}).Find(&[]Author{}, known).Error
	}},
	{"Clauses: hints and the like", "read SELECT", func(db *gorm.DB, r *run) error {
		return db.Clauses(clause.OrderBy{Columns: []clause.OrderByColumn{{Column: clause.Column{Name: "id"}}}}).
			Find(&[]Author{}, known).Error
	}},

	{"Session: DryRun", "", func(db *gorm.DB, r *run) error {
		dry := db.Session(&gorm.Session{DryRun: true})
		if dry.First(&Author{}, known).Statement.SQL.Len() == 0 ||
			dry.Preload("Books").Find(&[]Author{}).Statement.SQL.Len() == 0 {
			return errors.New("no SQL")
		}
		return dry.Exec("INSERT INTO notes (text) VALUES (?)", r.name).Error
	}},
	{"Session: DryRun marks nothing", "unheard BEGIN COMMIT read SELECT", func(db *gorm.DB, r *run) error {
		dry := db.Session(&gorm.Session{DryRun: true})
		return errors.Join(dry.Create(&Note{Text: r.name}).Error, db.First(&Author{}, known).Error)
	}},
	{"ToSQL", "", func(db *gorm.DB, r *run) error {
		for _, text := range []string{
			db.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.Find(&[]Author{}) }),
			db.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.Create(&Note{Text: r.name}) }),
			db.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.Model(&Note{ID: 1}).Update("text", r.name) }),
			db.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.Delete(&Note{ID: 1}) }),
		} {
			if text == "" {
				return errors.New("no SQL")
			}
		}
		return nil
	}},
	{"DB", "unheard SELECT", func(db *gorm.DB, r *run) error {
		pool, err := db.DB()
		if err != nil {
			return err
		}
		var n int
		return pool.QueryRowContext(r.ctx, "SELECT 1").Scan(&n)
	}},
	{"SetupJoinTable", "", func(db *gorm.DB, r *run) error {
		type Member struct{ ID int64 }
		type Club struct {
			ID      int64
			Members []Member `gorm:"many2many:club_members"`
		}
		type ClubMember struct {
			ClubID   int64 `gorm:"primaryKey"`
			MemberID int64 `gorm:"primaryKey"`
		}
		return db.SetupJoinTable(&Club{}, "Members", &ClubMember{})
	}},
}
