package integration

import (
	"errors"

	"gorm.io/gorm"
)

// Watched has every hook that GORM knows, and each of them queries.
type Watched struct {
	ID   int64
	Name string `gorm:"size:50"`
}

func asks(tx *gorm.DB) error { return tx.First(&Author{}, known).Error }

func (*Watched) BeforeSave(tx *gorm.DB) error   { return asks(tx) }
func (*Watched) AfterSave(tx *gorm.DB) error    { return asks(tx) }
func (*Watched) BeforeCreate(tx *gorm.DB) error { return asks(tx) }
func (*Watched) AfterCreate(tx *gorm.DB) error  { return asks(tx) }
func (*Watched) BeforeUpdate(tx *gorm.DB) error { return asks(tx) }
func (*Watched) AfterUpdate(tx *gorm.DB) error  { return asks(tx) }
func (*Watched) BeforeDelete(tx *gorm.DB) error { return asks(tx) }
func (*Watched) AfterDelete(tx *gorm.DB) error  { return asks(tx) }
func (*Watched) AfterFind(tx *gorm.DB) error    { return asks(tx) }

// Diary notes what happens to it, in its hooks.
type Diary struct {
	ID   int64
	Text string `gorm:"size:50"`
}

var errGivenUp = errors.New("given up")

func (d *Diary) BeforeCreate(tx *gorm.DB) error {
	if d.Text == "give up" {
		return errGivenUp
	}
	return nil
}

func (d *Diary) AfterCreate(tx *gorm.DB) error {
	switch d.Text {
	case "in a transaction":
		return tx.Transaction(func(tx *gorm.DB) error { return tx.Create(&Note{Text: "created"}).Error })
	case "give up late":
		return errGivenUp
	}
	return tx.Create(&Note{Text: "created"}).Error
}

func (d *Diary) AfterFind(tx *gorm.DB) error { return tx.Create(&Note{Text: "read"}).Error }

// hookCells are hooks that query, by the *gorm.DB that they get.
var hookCells = []cell{
	{"Create: hooks",
		"write BEGIN bound SELECT bound SELECT INSERT bound SELECT bound SELECT COMMIT read SELECT",
		func(db *gorm.DB, r *run) error {
			return errors.Join(db.Create(&Watched{Name: r.name}).Error, asks(db))
		}},
	{"Create: hooks, for each of several",
		"write BEGIN bound SELECT bound SELECT bound SELECT bound SELECT INSERT " +
			"bound SELECT bound SELECT bound SELECT bound SELECT COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Create(&[]Watched{{Name: r.name}, {Name: r.name}}).Error
		}},
	{"Create: hooks, with SkipDefaultTransaction",
		"write follows SELECT follows SELECT INSERT follows SELECT follows SELECT read SELECT",
		func(db *gorm.DB, r *run) error {
			own := db.Session(&gorm.Session{SkipDefaultTransaction: true})
			return errors.Join(own.Create(&Watched{Name: r.name}).Error, asks(db))
		}},
	{"Create: without hooks", "write BEGIN INSERT COMMIT", func(db *gorm.DB, r *run) error {
		return db.Session(&gorm.Session{SkipHooks: true}).Create(&Watched{Name: r.name}).Error
	}},
	{"Save: hooks", "write BEGIN bound SELECT bound SELECT UPDATE bound SELECT bound SELECT COMMIT",
		func(db *gorm.DB, r *run) error {
			w := r.watched()
			w.Name += "a"
			return db.Save(w).Error
		}},
	{"Update: hooks", "write BEGIN bound SELECT bound SELECT UPDATE bound SELECT bound SELECT COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Model(r.watched()).Update("name", r.name+"a").Error
		}},
	{"Updates: hooks, with SkipDefaultTransaction",
		"write follows SELECT follows SELECT UPDATE follows SELECT follows SELECT",
		func(db *gorm.DB, r *run) error {
			return db.Session(&gorm.Session{SkipDefaultTransaction: true}).Model(r.watched()).
				Updates(Watched{Name: r.name + "a"}).Error
		}},
	{"UpdateColumn: without hooks", "write BEGIN UPDATE COMMIT", func(db *gorm.DB, r *run) error {
		return db.Model(r.watched()).UpdateColumn("name", r.name+"a").Error
	}},
	{"Delete: hooks", "write BEGIN bound SELECT DELETE bound SELECT COMMIT", func(db *gorm.DB, r *run) error {
		return db.Delete(r.watched()).Error
	}},
	{"Delete: hooks, with SkipDefaultTransaction", "write follows SELECT DELETE follows SELECT",
		func(db *gorm.DB, r *run) error {
			return db.Session(&gorm.Session{SkipDefaultTransaction: true}).Delete(r.watched()).Error
		}},
	{"First: hooks", "read SELECT read SELECT",
		func(db *gorm.DB, r *run) error { return db.First(&Watched{}, known).Error }},
	{"Find: hooks, for each of several", "read SELECT read SELECT read SELECT", func(db *gorm.DB, r *run) error {
		return db.Find(&[]Watched{}, "name = ?", "known").Error
	}},
	{"FirstOrCreate: hooks", "first-or SELECT first-or SELECT",
		func(db *gorm.DB, r *run) error { return db.FirstOrCreate(&Watched{}, known).Error }},
	{"Create: a hook that writes", "write BEGIN INSERT bound INSERT COMMIT read SELECT",
		func(db *gorm.DB, r *run) error {
			return errors.Join(db.Create(&Diary{Text: r.name}).Error, asks(db))
		}},
	{"Create: a hook that writes, with SkipDefaultTransaction", "write INSERT write INSERT",
		func(db *gorm.DB, r *run) error {
			return db.Session(&gorm.Session{SkipDefaultTransaction: true}).Create(&Diary{Text: r.name}).Error
		}},
	{"Create: a hook with a transaction of its own", "write BEGIN INSERT bound SAVEPOINT bound INSERT COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Create(&Diary{Text: "in a transaction"}).Error
		}},
	{"Create: a hook with a transaction of its own, with SkipDefaultTransaction",
		"write INSERT begin BEGIN bound INSERT COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Session(&gorm.Session{SkipDefaultTransaction: true}).
				Create(&Diary{Text: "in a transaction"}).Error
		}},
	{"Create: a hook that gives up", "write BEGIN ROLLBACK read SELECT", func(db *gorm.DB, r *run) error {
		return errors.Join(expect(errGivenUp, db.Create(&Diary{Text: "give up"}).Error), asks(db))
	}},
	{"Create: a hook that gives up late", "write BEGIN INSERT ROLLBACK", func(db *gorm.DB, r *run) error {
		return expect(errGivenUp, db.Create(&Diary{Text: "give up late"}).Error)
	}},
	{"First: a hook that writes", "read SELECT write BEGIN INSERT COMMIT read SELECT",
		func(db *gorm.DB, r *run) error {
			return errors.Join(db.First(&Diary{}, known).Error, asks(db))
		}},
}

// watched creates a Watched of this run's own on the master.
func (r *run) watched() *Watched {
	w := &Watched{Name: r.name}
	if err := r.direct.Session(&gorm.Session{SkipHooks: true}).Create(w).Error; err != nil {
		panic(err)
	}
	return w
}
