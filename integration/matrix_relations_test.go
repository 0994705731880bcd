package integration

import (
	"errors"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gorm-replicated/replicated"
)

// relationCells are associations in every mode, for every kind of relation, and preloads.
var relationCells = []cell{
	{"Association", "", func(db *gorm.DB, r *run) error {
		return db.Model(&Author{ID: known}).Association("Books").Error
	}},

	{"Association.Find: has one", "read SELECT", find[Portrait]("Portrait", 1)},
	{"Association.Find: has many", "read SELECT", find[Book]("Books", 2)},
	{"Association.Find: belongs to", "read SELECT", find[Publisher]("Publisher", 1)},
	{"Association.Find: many2many", "read SELECT", find[Genre]("Genres", 1)},
	{"Association.Find: polymorphic", "read SELECT", find[Review]("Reviews", 1)},
	{"Association.Find: with a condition and Preload", "read SELECT read SELECT",
		func(db *gorm.DB, r *run) error {
			var books []Book
			err := db.Preload("Reviews").Model(&Author{ID: known}).Association("Books").
				Find(&books, "title = ?", "known")
			return count(2, len(books), err)
		}},
	{"Association.Find: of several", "read SELECT", func(db *gorm.DB, r *run) error {
		var books []Book
		err := db.Model(&[]Author{{ID: known}, {ID: known + 1}}).Association("Books").Find(&books)
		return count(4, len(books), err)
	}},

	{"Association.Count: has one", "read SELECT", counted("Portrait", 1)},
	{"Association.Count: has many", "read SELECT", counted("Books", 2)},
	{"Association.Count: belongs to", "read SELECT", counted("Publisher", 1)},
	{"Association.Count: many2many", "read SELECT", counted("Genres", 1)},
	{"Association.Count: polymorphic", "read SELECT", counted("Reviews", 1)},

	{"Association.Append: has one", "write BEGIN bound INSERT COMMIT write BEGIN UPDATE COMMIT read SELECT",
		appended("Portrait", func(r *run) any { return &Portrait{File: r.name} })},
	{"Association.Append: has many", "write BEGIN bound INSERT COMMIT read SELECT",
		appended("Books", func(r *run) any { return &Book{Title: r.name} })},
	{"Association.Append: belongs to", "write BEGIN bound INSERT UPDATE COMMIT read SELECT",
		appended("Publisher", func(r *run) any { return &Publisher{Name: r.name} })},
	{"Association.Append: many2many", "write BEGIN bound INSERT bound INSERT COMMIT read SELECT",
		appended("Genres", func(r *run) any { return &Genre{Code: r.name + "a"} })},
	{"Association.Append: polymorphic", "write BEGIN bound INSERT COMMIT read SELECT",
		appended("Reviews", func(r *run) any { return &Review{Text: r.name} })},
	{"Association.Append: a map", "write BEGIN INSERT COMMIT write BEGIN COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Model(alone(r.author())).Association("Books").Append(map[string]any{"title": r.name})
		}},

	{"Association.Append: to several", "write BEGIN bound INSERT COMMIT write BEGIN bound INSERT COMMIT",
		func(db *gorm.DB, r *run) error {
			as := []Author{*alone(r.author()), {Name: r.name}}
			return errors.Join(r.direct.Create(&as[1]).Error,
				db.Model(&as).Association("Books").Append(&Book{Title: r.name}, &Book{Title: r.name}))
		}},

	{"Association.Replace: has one", "write BEGIN bound INSERT COMMIT write BEGIN UPDATE COMMIT read SELECT",
		replaced("Portrait", func(r *run) any { return &Portrait{File: r.name} })},
	{"Association.Replace: has many", "write BEGIN bound INSERT COMMIT write BEGIN UPDATE COMMIT read SELECT",
		replaced("Books", func(r *run) any { return &Book{Title: r.name} })},
	{"Association.Replace: belongs to", "write BEGIN bound INSERT UPDATE COMMIT read SELECT",
		replaced("Publisher", func(r *run) any { return &Publisher{Name: r.name} })},
	{"Association.Replace: many2many",
		"write BEGIN bound INSERT bound INSERT COMMIT write BEGIN DELETE COMMIT read SELECT",
		replaced("Genres", func(r *run) any { return &Genre{Code: r.name + "a"} })},
	{"Association.Replace: polymorphic", "write BEGIN bound INSERT COMMIT write BEGIN UPDATE COMMIT read SELECT",
		replaced("Reviews", func(r *run) any { return &Review{Text: r.name} })},

	{"Association.Delete: has one", "write BEGIN UPDATE COMMIT read SELECT",
		deleted("Portrait", func(a *Author) any { return a.Portrait })},
	{"Association.Delete: has many", "write BEGIN UPDATE COMMIT read SELECT",
		deleted("Books", func(a *Author) any { return a.Books })},
	{"Association.Delete: belongs to", "write BEGIN UPDATE COMMIT read SELECT",
		deleted("Publisher", func(a *Author) any { return a.Publisher })},
	{"Association.Delete: many2many", "write BEGIN DELETE COMMIT read SELECT",
		deleted("Genres", func(a *Author) any { return a.Genres })},
	{"Association.Delete: polymorphic", "write BEGIN UPDATE COMMIT read SELECT",
		deleted("Reviews", func(a *Author) any { return a.Reviews })},

	{"Association.Clear: has one", "write BEGIN UPDATE COMMIT read SELECT", cleared("Portrait")},
	{"Association.Clear: has many", "write BEGIN UPDATE COMMIT read SELECT", cleared("Books")},
	{"Association.Clear: belongs to", "write BEGIN UPDATE COMMIT read SELECT", cleared("Publisher")},
	{"Association.Clear: many2many", "write BEGIN DELETE COMMIT read SELECT", cleared("Genres")},
	{"Association.Clear: polymorphic", "write BEGIN UPDATE COMMIT read SELECT", cleared("Reviews")},

	{"Association.Unscoped: has one", "write BEGIN DELETE COMMIT", clearedUnscoped("Portrait")},
	{"Association.Unscoped: has many", "write BEGIN DELETE COMMIT", clearedUnscoped("Books")},
	{"Association.Unscoped: belongs to", "write BEGIN UPDATE COMMIT write BEGIN DELETE COMMIT",
		func(db *gorm.DB, r *run) error {
			a := r.author() // GORM 1.31 cannot clear it: "DELETE FROM authors … publishers.id"
			return db.Model(alone(a)).Association("Publisher").Unscoped().Delete(a.Publisher)
		}},
	{"Association.Unscoped: many2many", "write BEGIN DELETE COMMIT", clearedUnscoped("Genres")},
	{"Association.Unscoped: polymorphic", "write BEGIN DELETE COMMIT", clearedUnscoped("Reviews")},

	{"Create: with associations of every kind",
		"write BEGIN bound INSERT INSERT bound INSERT bound INSERT bound INSERT bound INSERT bound INSERT COMMIT " +
			"read SELECT",
		func(db *gorm.DB, r *run) error {
			a := Author{
				Name: r.name, Publisher: &Publisher{Name: r.name}, Portrait: &Portrait{File: r.name},
				Books: []Book{{Title: r.name}}, Genres: []Genre{{Code: r.name, Name: "own"}},
				Reviews: []Review{{Text: r.name}},
			}
			return errors.Join(db.Create(&a).Error, db.First(&Author{}, known).Error)
		}},
	{"Create: nested associations", "write BEGIN INSERT bound INSERT bound INSERT COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Create(&Author{Name: r.name,
				Books: []Book{{Title: r.name, Reviews: []Review{{Text: r.name}}}}}).Error
		}},
	{"Save: with associations of every kind",
		"write BEGIN bound INSERT UPDATE bound INSERT bound INSERT bound INSERT bound INSERT bound INSERT COMMIT",
		func(db *gorm.DB, r *run) error {
			a := r.author()
			a.Age = 7
			return db.Save(a).Error
		}},
	{"Omit: the associations of a Create", "write BEGIN INSERT COMMIT", func(db *gorm.DB, r *run) error {
		return db.Omit(clause.Associations).Create(&Author{Name: r.name, Books: []Book{{Title: r.name}}}).Error
	}},
	{"Session: FullSaveAssociations", "write BEGIN bound INSERT UPDATE bound INSERT COMMIT",
		func(db *gorm.DB, r *run) error {
			a := r.author()
			return db.Session(&gorm.Session{FullSaveAssociations: true}).Updates(&Author{
				ID: a.ID, Age: 7, Publisher: a.Publisher, Portrait: a.Portrait,
			}).Error
		}},

	{"Preload: has one", "read SELECT read SELECT", preloaded(known, 1, "Portrait")},
	{"Preload: has many", "read SELECT read SELECT", preloaded(known, 2, "Books")},
	{"Preload: belongs to", "read SELECT read SELECT", preloaded(known, 1, "Publisher")},
	{"Preload: many2many", "read SELECT read SELECT read SELECT", preloaded(known, 1, "Genres")},
	{"Preload: polymorphic", "read SELECT read SELECT", preloaded(known, 1, "Reviews")},
	{"Preload: several", "read SELECT read SELECT read SELECT", preloaded(known, 3, "Books", "Publisher")},
	{"Preload: nested", "read SELECT read SELECT read SELECT", preloaded(known, 2, "Books.Reviews")},
	{"Preload: nested and back", "read SELECT read SELECT read SELECT read SELECT",
		preloaded(known, 2, "Books.Author.Publisher")},
	{"Preload: all associations",
		"read SELECT read SELECT read SELECT read SELECT read SELECT read SELECT read SELECT",
		preloaded(known, 6, clause.Associations)},
	{"Preload: of nothing", "read SELECT", preloaded(-1, 0, "Books")},
	{"Preload: with a condition", "read SELECT read SELECT", func(db *gorm.DB, r *run) error {
		var a Author
		err := db.Preload("Books", "title = ?", "other").First(&a, known).Error
		return count(0, len(a.Books), err)
	}},
	{"Preload: with a function", "read SELECT read SELECT read SELECT", func(db *gorm.DB, r *run) error {
		var as []Author
		err := db.Preload("Books", func(tx *gorm.DB) *gorm.DB { return tx.Order("title").Preload("Reviews") }).
			Find(&as, "name = ?", "known").Error
		return count(3, len(as), err)
	}},
	{"Preload: with a clause of its own", "read SELECT clause-m SELECT clause-m SELECT",
		func(db *gorm.DB, r *run) error {
			return db.Preload("Books.Reviews").Preload("Books",
				func(tx *gorm.DB) *gorm.DB { return tx.Clauses(replicated.Master) }).First(&Author{}, known).Error
		}},
	{"Preload: beside Joins", "read SELECT read SELECT", func(db *gorm.DB, r *run) error {
		return db.Joins("Publisher").Preload("Books").First(&Author{}, known).Error
	}},
	{"Preload: of what is joined", "read SELECT read SELECT", func(db *gorm.DB, r *run) error {
		var b Book
		err := db.Joins("Author").Preload("Author.Books").Where("title = ?", "known").Take(&b).Error
		return count(2, len(b.Author.Books), err)
	}},
	{"Preload: after a locking read", "lock SELECT read SELECT", func(db *gorm.DB, r *run) error {
		return db.Clauses(clause.Locking{Strength: "UPDATE"}).Preload("Books").First(&Author{}, known).Error
	}},
	{"Preload: in batches", "read SELECT read SELECT read SELECT read SELECT", func(db *gorm.DB, r *run) error {
		var as []Author
		return db.Preload("Books").Where("name = ?", "known").
			FindInBatches(&as, 2, func(*gorm.DB, int) error { return nil }).Error
	}},
	{"Preload: by raw SQL", "read SELECT read SELECT", func(db *gorm.DB, r *run) error {
		var as []Author
		err := db.Preload("Books").Raw("SELECT * FROM authors WHERE id = ?", known).Find(&as).Error
		return count(1, len(as), err)
	}},
}

func find[T any](name string, n int) func(*gorm.DB, *run) error {
	return func(db *gorm.DB, r *run) error {
		var found []T
		err := db.Model(&Author{ID: known, PublisherID: ptr(known)}).Association(name).Find(&found)
		return count(n, len(found), err)
	}
}

func counted(name string, n int64) func(*gorm.DB, *run) error {
	return func(db *gorm.DB, r *run) error {
		a := db.Model(&Author{ID: known, PublisherID: ptr(known)}).Association(name)
		return count(n, a.Count(), a.Error)
	}
}

func appended(name string, value func(*run) any) func(*gorm.DB, *run) error {
	return func(db *gorm.DB, r *run) error {
		err := db.Model(alone(r.author())).Association(name).Append(value(r))
		return errors.Join(err, db.First(&Author{}, known).Error)
	}
}

func replaced(name string, value func(*run) any) func(*gorm.DB, *run) error {
	return func(db *gorm.DB, r *run) error {
		err := db.Model(alone(r.author())).Association(name).Replace(value(r))
		return errors.Join(err, db.First(&Author{}, known).Error)
	}
}

func deleted(name string, value func(*Author) any) func(*gorm.DB, *run) error {
	return func(db *gorm.DB, r *run) error {
		a := r.author()
		return errors.Join(db.Model(alone(a)).Association(name).Delete(value(a)), db.First(&Author{}, known).Error)
	}
}

func cleared(name string) func(*gorm.DB, *run) error {
	return func(db *gorm.DB, r *run) error {
		return errors.Join(db.Model(alone(r.author())).Association(name).Clear(), db.First(&Author{}, known).Error)
	}
}

func clearedUnscoped(name string) func(*gorm.DB, *run) error {
	return func(db *gorm.DB, r *run) error {
		return db.Model(alone(r.author())).Association(name).Unscoped().Clear()
	}
}

// preloaded wants so many related rows with the author.
func preloaded(id int64, n int, names ...string) func(*gorm.DB, *run) error {
	return func(db *gorm.DB, r *run) error {
		for _, name := range names {
			db = db.Preload(name)
		}
		var as []Author
		if err := db.Find(&as, id).Error; err != nil || len(as) == 0 {
			return count(n, 0, err)
		}
		a := as[0]
		got := len(a.Books) + len(a.Genres) + len(a.Reviews)
		if a.Publisher != nil {
			got++
		}
		if a.Portrait != nil {
			got++
		}
		return count(n, got, nil)
	}
}

func ptr[T any](v T) *T { return &v }
