package integration

import (
	"errors"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// writeCells are the finishers that write.
var writeCells = []cell{
	{"Create", "write BEGIN INSERT COMMIT read SELECT", func(db *gorm.DB, r *run) error {
		n := Note{Text: r.name}
		return errors.Join(db.Create(&n).Error, db.First(&Author{}, known).Error)
	}},
	{"Create: several", "write BEGIN INSERT COMMIT", func(db *gorm.DB, r *run) error {
		tx := db.Create(&[]Note{{Text: r.name}, {Text: r.name}})
		return count(2, tx.RowsAffected, tx.Error)
	}},
	{"Create: a map", "write BEGIN INSERT COMMIT", func(db *gorm.DB, r *run) error {
		return db.Model(&Note{}).Create(map[string]any{"Text": r.name}).Error
	}},
	{"Create: an expression", "write BEGIN INSERT COMMIT", func(db *gorm.DB, r *run) error {
		return db.Model(&Note{}).
			Create(map[string]any{"text": clause.Expr{SQL: "UPPER(?)", Vars: []any{r.name}}}).Error
	}},
	{"Create: of what was asked for", "write BEGIN INSERT COMMIT write BEGIN INSERT COMMIT",
		func(db *gorm.DB, r *run) error {
			return errors.Join(db.Select("Name").Create(&Author{Name: r.name, Age: 7}).Error,
				db.Omit("Age").Create(&Author{Name: r.name, Age: 7}).Error)
		}},
	{"Create: with SkipDefaultTransaction", "write INSERT read SELECT", func(db *gorm.DB, r *run) error {
		db = db.Session(&gorm.Session{SkipDefaultTransaction: true})
		return errors.Join(db.Create(&Note{Text: r.name}).Error, db.First(&Author{}, known).Error)
	}},
	{"Create: that fails", "write BEGIN INSERT ROLLBACK read SELECT", func(db *gorm.DB, r *run) error {
		if db.Create(&Genre{Code: "known " + "1000000"}).Error == nil {
			return errors.New("it worked")
		}
		return db.First(&Author{}, known).Error
	}},
	{"Create: associations, with SkipDefaultTransaction", "write write INSERT INSERT write INSERT",
		func(db *gorm.DB, r *run) error {
			a := Author{Name: r.name, Publisher: &Publisher{Name: r.name}, Books: []Book{{Title: r.name}}}
			return db.Session(&gorm.Session{SkipDefaultTransaction: true}).Create(&a).Error
		}},
	{"CreateInBatches", "begin BEGIN bound INSERT bound INSERT COMMIT read SELECT",
		func(db *gorm.DB, r *run) error {
			tx := db.CreateInBatches(&[]Note{{Text: r.name}, {Text: r.name}, {Text: r.name}}, 2)
			return errors.Join(count(3, tx.RowsAffected, tx.Error), db.First(&Author{}, known).Error)
		}},
	{"CreateInBatches: one batch", "write BEGIN INSERT COMMIT", func(db *gorm.DB, r *run) error {
		return db.CreateInBatches(&[]Note{{Text: r.name}, {Text: r.name}}, 2).Error
	}},
	{"CreateInBatches: with SkipDefaultTransaction", "write INSERT write INSERT",
		func(db *gorm.DB, r *run) error {
			return db.Session(&gorm.Session{SkipDefaultTransaction: true}).
				CreateInBatches(&[]Note{{Text: r.name}, {Text: r.name}}, 1).Error
		}},
	{"CreateInBatches: by the session", "begin BEGIN bound INSERT bound INSERT COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Session(&gorm.Session{CreateBatchSize: 1}).Create(&[]Note{{Text: r.name}, {Text: r.name}}).Error
		}},
	{"Save: a new one", "write BEGIN INSERT COMMIT read SELECT", func(db *gorm.DB, r *run) error {
		return errors.Join(db.Save(&Note{Text: r.name}).Error, db.First(&Author{}, known).Error)
	}},
	{"Save", "write BEGIN UPDATE COMMIT", func(db *gorm.DB, r *run) error {
		a := alone(r.author())
		a.Age = 7
		return db.Save(a).Error
	}},
	{"Save: one with a key that is not there", "write BEGIN UPDATE COMMIT write BEGIN INSERT COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Save(&Genre{Code: r.name}).Error
		}},
	{"Save: several", "write BEGIN INSERT COMMIT", func(db *gorm.DB, r *run) error {
		return db.Save(&[]Genre{{Code: r.name + "a"}, {Code: r.name + "b"}}).Error
	}},
	{"Save: of what was asked for", "write BEGIN UPDATE COMMIT", func(db *gorm.DB, r *run) error {
		return db.Select("Age").Save(&Author{ID: r.author().ID, Age: 7}).Error
	}},
	{"Update", "write BEGIN UPDATE COMMIT read SELECT", func(db *gorm.DB, r *run) error {
		return errors.Join(db.Model(alone(r.author())).Update("age", 7).Error, db.First(&Author{}, known).Error)
	}},
	{"Update: an expression", "write BEGIN UPDATE COMMIT", func(db *gorm.DB, r *run) error {
		return db.Model(alone(r.author())).Update("age", gorm.Expr("age + ?", 1)).Error
	}},
	{"Update: a subquery", "write BEGIN UPDATE COMMIT", func(db *gorm.DB, r *run) error {
		return db.Model(alone(r.author())).
			Update("age", db.Model(&Book{}).Select("COUNT(*)").Where("title = ?", "known")).Error
	}},
	{"Update: without a condition", "write BEGIN ROLLBACK read SELECT", func(db *gorm.DB, r *run) error {
		return errors.Join(expect(gorm.ErrMissingWhereClause, db.Model(&Author{}).Update("age", 7).Error),
			db.First(&Author{}, known).Error)
	}},
	{"Updates", "write BEGIN UPDATE COMMIT", func(db *gorm.DB, r *run) error {
		return db.Model(alone(r.author())).Updates(Author{Age: 7}).Error
	}},
	{"Updates: a map", "write BEGIN UPDATE COMMIT", func(db *gorm.DB, r *run) error {
		return db.Model(&Author{}).Where("name = ?", r.author().Name).Updates(map[string]any{"age": 7}).Error
	}},
	{"Updates: of nothing", "write BEGIN COMMIT", func(db *gorm.DB, r *run) error {
		return db.Model(&Author{ID: known}).Updates(map[string]any{}).Error
	}},
	{"UpdateColumn", "write BEGIN UPDATE COMMIT", func(db *gorm.DB, r *run) error {
		return db.Model(alone(r.author())).UpdateColumn("age", 7).Error
	}},
	{"UpdateColumns", "write BEGIN UPDATE COMMIT", func(db *gorm.DB, r *run) error {
		return db.Model(alone(r.author())).UpdateColumns(Author{Age: 7}).Error
	}},
	{"Delete", "write BEGIN DELETE COMMIT read SELECT", func(db *gorm.DB, r *run) error {
		tx := db.Delete(alone(r.author()))
		return errors.Join(count(1, tx.RowsAffected, tx.Error), db.First(&Author{}, known).Error)
	}},
	{"Delete: by a condition", "write BEGIN DELETE COMMIT", func(db *gorm.DB, r *run) error {
		tx := db.Where("title = ?", r.author().Name).Delete(&Book{})
		return count(2, tx.RowsAffected, tx.Error)
	}},
	{"Delete: with its associations",
		"write BEGIN bound DELETE bound DELETE bound DELETE bound DELETE DELETE COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Select(clause.Associations).Delete(alone(r.author())).Error
		}},
	{"Delete: without a condition", "write BEGIN ROLLBACK", func(db *gorm.DB, r *run) error {
		return expect(gorm.ErrMissingWhereClause, db.Delete(&Author{}).Error)
	}},
	{"Session: AllowGlobalUpdate", "write BEGIN UPDATE COMMIT", func(db *gorm.DB, r *run) error {
		return db.Session(&gorm.Session{AllowGlobalUpdate: true}).Model(&Portrait{}).Update("file", "known").Error
	}},

	{"Clauses: OnConflict, do nothing", "write BEGIN INSERT COMMIT", func(db *gorm.DB, r *run) error {
		return db.Clauses(clause.OnConflict{DoNothing: true}).Create(&Genre{Code: r.author().Name}).Error
	}},
	{"Clauses: OnConflict, update", "write BEGIN INSERT COMMIT read SELECT", func(db *gorm.DB, r *run) error {
		upsert := clause.OnConflict{Columns: []clause.Column{{Name: "code"}},
			DoUpdates: clause.AssignmentColumns([]string{"name"})}
		return errors.Join(db.Clauses(upsert).Create(&Genre{Code: r.author().Name, Name: "new"}).Error,
			db.First(&Author{}, known).Error)
	}},
	{"Clauses: OnConflict, update all", "write BEGIN INSERT COMMIT", func(db *gorm.DB, r *run) error {
		return db.Clauses(clause.OnConflict{UpdateAll: true}).
			Create(&[]Genre{{Code: r.author().Name, Name: "new"}, {Code: r.name + "a"}}).Error
	}},

	{"Delete: softly", "write BEGIN UPDATE COMMIT", func(db *gorm.DB, r *run) error {
		d := Draft{Title: r.name}
		return errors.Join(r.direct.Create(&d).Error, db.Delete(&d).Error)
	}},
	{"Unscoped: Delete", "write BEGIN DELETE COMMIT", func(db *gorm.DB, r *run) error {
		d := Draft{Title: r.name}
		return errors.Join(r.direct.Create(&d).Error, db.Unscoped().Delete(&d).Error)
	}},
	{"Find: what is not deleted", "read SELECT", func(db *gorm.DB, r *run) error {
		var ds []Draft
		err := db.Find(&ds, "title = ?", "known").Error
		return count(1, len(ds), err)
	}},
	{"Unscoped", "read SELECT", func(db *gorm.DB, r *run) error {
		var ds []Draft
		err := db.Unscoped().Find(&ds, "title = ?", "known").Error
		return count(2, len(ds), err)
	}},
	{"Unscoped: Update", "write BEGIN UPDATE COMMIT", func(db *gorm.DB, r *run) error {
		d := Draft{Title: r.name}
		return errors.Join(r.direct.Create(&d).Error, db.Unscoped().Model(&d).Update("deleted_at", nil).Error)
	}},
}
