package integration

import (
	"database/sql"
	"errors"
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
)

var readOnly = &sql.TxOptions{ReadOnly: true}

// transactionCells are transactions and connections.
var transactionCells = []cell{
	{"Begin Commit", "begin BEGIN bound INSERT bound SELECT COMMIT read SELECT",
		func(db *gorm.DB, r *run) error {
			tx := db.Begin()
			n := Note{Text: r.name}
			return errors.Join(tx.Error, tx.Create(&n).Error, tx.First(&Note{}, n.ID).Error,
				tx.Commit().Error, asks(db))
		}},
	{"Begin Rollback", "begin BEGIN bound INSERT ROLLBACK read SELECT", func(db *gorm.DB, r *run) error {
		tx := db.Begin()
		return errors.Join(tx.Error, tx.Create(&Note{Text: r.name}).Error, tx.Rollback().Error, asks(db))
	}},
	{"Begin: only to read", "begin BEGIN bound SELECT COMMIT read SELECT", func(db *gorm.DB, r *run) error {
		tx := db.Begin()
		return errors.Join(tx.Error, asks(tx), tx.Commit().Error, asks(db))
	}},
	{"Commit: without Begin", "",
		func(db *gorm.DB, r *run) error { return expect(gorm.ErrInvalidTransaction, db.Commit().Error) }},
	{"Rollback: without Begin", "",
		func(db *gorm.DB, r *run) error { return expect(gorm.ErrInvalidTransaction, db.Rollback().Error) }},
	{"Transaction", "begin BEGIN bound INSERT bound SELECT COMMIT read SELECT", func(db *gorm.DB, r *run) error {
		n := Note{Text: r.name}
		err := db.Transaction(
			func(tx *gorm.DB) error { return errors.Join(tx.Create(&n).Error, tx.First(&Note{}, n.ID).Error) })
		return errors.Join(err, asks(db))
	}},
	{"Transaction: that fails", "begin BEGIN bound INSERT ROLLBACK read SELECT",
		func(db *gorm.DB, r *run) error {
			err := db.Transaction(
				func(tx *gorm.DB) error { return errors.Join(tx.Create(&Note{Text: r.name}).Error, errGivenUp) })
			return errors.Join(expect(errGivenUp, err), asks(db))
		}},
	{"Transaction: that panics", "begin BEGIN bound INSERT ROLLBACK", func(db *gorm.DB, r *run) (err error) {
		defer func() {
			if v := recover(); v != errGivenUp {
				err = fmt.Errorf("recovered %v", v)
			}
		}()
		return db.Transaction(func(tx *gorm.DB) error {
			tx.Create(&Note{Text: r.name})
			panic(errGivenUp)
		})
	}},
	{"Transaction: nested", "begin BEGIN bound INSERT bound SAVEPOINT bound INSERT COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Transaction(func(tx *gorm.DB) error {
				return errors.Join(tx.Create(&Note{Text: r.name}).Error,
					tx.Transaction(func(tx *gorm.DB) error { return tx.Create(&Note{Text: r.name}).Error }))
			})
		}},
	{"Transaction: nested, and given up there",
		"begin BEGIN bound SAVEPOINT bound INSERT bound ROLLBACK-TO bound INSERT COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Transaction(func(tx *gorm.DB) error {
				err := tx.Transaction(
					func(tx *gorm.DB) error { return errors.Join(tx.Create(&Note{Text: r.name}).Error, errGivenUp) })
				return errors.Join(expect(errGivenUp, err), tx.Create(&Note{Text: r.name}).Error)
			})
		}},
	{"Transaction: nested, with DisableNestedTransaction", "begin BEGIN bound INSERT COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Session(&gorm.Session{DisableNestedTransaction: true}).Transaction(func(tx *gorm.DB) error {
				return tx.Transaction(func(tx *gorm.DB) error { return tx.Create(&Note{Text: r.name}).Error })
			})
		}},
	{"SavePoint RollbackTo",
		"begin BEGIN bound INSERT bound SAVEPOINT bound INSERT bound ROLLBACK-TO bound SELECT COMMIT",
		func(db *gorm.DB, r *run) error {
			var n int64
			tx := db.Begin()
			err := errors.Join(tx.Error, tx.Create(&Note{Text: r.name}).Error,
				tx.SavePoint("here").Error, tx.Create(&Note{Text: r.name}).Error, tx.RollbackTo("here").Error,
				tx.Model(&Note{}).Where("text = ?", r.name).Count(&n).Error, tx.Commit().Error)
			return count(1, n, err)
		}},
	{"Transaction: everything in it stays in it",
		"begin BEGIN bound SELECT bound SELECT bound SELECT bound INSERT " +
			"bound SELECT bound SELECT bound SELECT bound INSERT COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Transaction(func(tx *gorm.DB) error {
				var n int64
				var as []Author
				return errors.Join(
					tx.Preload("Books").First(&Author{}, known).Error,
					tx.FirstOrCreate(&Note{}, Note{Text: r.name}).Error,
					tx.Model(&Author{ID: known}).Association("Books").Error,
					tx.Model(&Author{}).Count(&n).Error,
					tx.Where("name = ?", "known").FindInBatches(&as, 2, func(*gorm.DB, int) error { return nil }).Error,
					tx.Exec("INSERT INTO notes (text) VALUES (?)", r.name).Error)
			})
		}},
	{"Transaction: associations in it", "begin BEGIN bound bound INSERT bound UPDATE bound SELECT COMMIT",
		func(db *gorm.DB, r *run) error {
			a := alone(r.author())
			return db.Transaction(func(tx *gorm.DB) error {
				books := tx.Model(a).Association("Books")
				return errors.Join(books.Replace(&Book{Title: r.name}),
					count(1, tx.Model(a).Association("Books").Count(), nil))
			})
		}},
	{"Transaction: with another context in it", "begin BEGIN bound SELECT bound SELECT bound SELECT COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Transaction(func(tx *gorm.DB) error {
				return errors.Join(asks(tx.WithContext(replicated.WithSlave(r.ctx))),
					asks(tx.WithContext(replicated.WithMaster(r.ctx))),
					asks(tx.Clauses(replicated.Slave)))
			})
		}},
	{"Transaction: with prepared statements in it", "begin BEGIN bound SELECT bound INSERT COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Transaction(func(tx *gorm.DB) error {
				tx = tx.Session(&gorm.Session{PrepareStmt: true})
				return errors.Join(asks(tx), tx.Create(&Note{Text: r.name}).Error)
			})
		}},
	{"Transaction: the Migrator in it", "begin BEGIN master*", func(db *gorm.DB, r *run) error {
		return db.Transaction(func(tx *gorm.DB) error {
			if m := tx.Migrator(); !m.HasTable(&Author{}) || m.HasColumn(&Author{}, "nothing") {
				return errors.New("wrong answers")
			}
			return nil
		})
	}},
	{"Transaction: read-only", "read BEGIN-RO bound SELECT bound SELECT COMMIT read SELECT",
		func(db *gorm.DB, r *run) error {
			return errors.Join(db.Transaction(func(tx *gorm.DB) error { return errors.Join(asks(tx), asks(tx)) },
				readOnly), asks(db))
		}},
	{"Transaction: read-only, repeatable", "read BEGIN-RO bound SELECT COMMIT", func(db *gorm.DB, r *run) error {
		return db.Transaction(asks, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead})
	}},
	{"Transaction: read-only, serializable", "serializable BEGIN-RO bound SELECT COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Transaction(asks, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelSerializable})
		}},
	{"Transaction: read-only, all kinds of reads",
		"read BEGIN-RO bound SELECT bound SELECT bound SELECT bound SELECT bound SELECT COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Transaction(func(tx *gorm.DB) error {
				var n int64
				rows, err := tx.Model(&Author{}).Rows()
				if err != nil {
					return err
				}
				return errors.Join(rows.Close(),
					tx.Preload("Books").First(&Author{}, known).Error,
					tx.Raw("SELECT COUNT(*) FROM authors").Row().Scan(&n),
					tx.FirstOrInit(&Author{}, known).Error)
			}, readOnly)
		}},
	{"Transaction: read-only, a write", "read BEGIN-RO bound INSERT ROLLBACK || read BEGIN-RO ROLLBACK",
		func(db *gorm.DB, r *run) error {
			return refused(db.Transaction(
				func(tx *gorm.DB) error { return tx.Create(&Note{Text: r.name}).Error }, readOnly))
		}},
	{"Transaction: read-only, a raw write",
		"read BEGIN-RO bound INSERT ROLLBACK || read BEGIN-RO bound ROLLBACK",
		func(db *gorm.DB, r *run) error {
			return refused(db.Transaction(func(tx *gorm.DB) error {
				return tx.Exec("INSERT INTO notes (text) VALUES (?)", r.name).Error
			}, readOnly))
		}},
	{"Transaction: read-only, nested", "read BEGIN-RO bound SAVEPOINT bound SELECT COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Transaction(func(tx *gorm.DB) error { return tx.Transaction(asks) }, readOnly)
		}},
	{"Connection", "bound SELECT bound BEGIN INSERT COMMIT bound SELECT", func(db *gorm.DB, r *run) error {
		return db.Connection(func(tx *gorm.DB) error {
			tx = tx.Session(&gorm.Session{})
			return errors.Join(asks(tx), tx.Create(&Note{Text: r.name}).Error, asks(tx))
		})
	}},
	{"Connection: then a read", "bound INSERT read SELECT", func(db *gorm.DB, r *run) error {
		err := db.Connection(
			func(tx *gorm.DB) error { return tx.Exec("INSERT INTO notes (text) VALUES (?)", r.name).Error })
		return errors.Join(err, asks(db))
	}},
	{"Connection: a transaction in it", "unheard BEGIN bound INSERT bound SELECT COMMIT bound SELECT",
		func(db *gorm.DB, r *run) error {
			return db.Connection(func(tx *gorm.DB) error {
				tx = tx.Session(&gorm.Session{})
				err := tx.Transaction(
					func(tx *gorm.DB) error { return errors.Join(tx.Create(&Note{Text: r.name}).Error, asks(tx)) })
				return errors.Join(err, asks(tx))
			})
		}},
}

// refused wants an error of the plugin or of the server.
func refused(err error) error {
	if err == nil {
		return errors.New("it was written")
	}
	return nil
}

// clauseCells are statements with a clause of ours, or of dbresolver.
var clauseCells = []cell{
	{"Clauses: Master", "clause-m SELECT read SELECT", func(db *gorm.DB, r *run) error {
		return errors.Join(asks(db.Clauses(replicated.Master)), asks(db))
	}},
	{"Clauses: Slave", "clause-s SELECT read SELECT", func(db *gorm.DB, r *run) error {
		return errors.Join(asks(db.Clauses(replicated.Slave)), asks(db))
	}},
	{"Clauses: dbresolver.Write", "clause-m SELECT",
		func(db *gorm.DB, r *run) error { return asks(db.Clauses(dbresolver.Write)) }},
	{"Clauses: dbresolver.Read", "clause-s SELECT",
		func(db *gorm.DB, r *run) error { return asks(db.Clauses(dbresolver.Read)) }},
	{"Clauses: dbresolver.Use", "read SELECT",
		func(db *gorm.DB, r *run) error { return asks(db.Clauses(dbresolver.Use("other"))) }},
	{"Clauses: Master, every finisher",
		"clause-m SELECT clause-m SELECT clause-m SELECT clause-m SELECT clause-m SELECT",
		everyFinisher(replicated.Master)},
	{"Clauses: Slave, every finisher",
		"clause-s SELECT clause-s SELECT clause-s SELECT clause-s SELECT clause-s SELECT",
		everyFinisher(replicated.Slave)},
	{"Clauses: Master, Preload", "clause-m SELECT clause-m SELECT clause-m SELECT",
		func(db *gorm.DB, r *run) error {
			return db.Clauses(replicated.Master).Preload("Books.Reviews").First(&Author{}, known).Error
		}},
	{"Clauses: Slave, Preload", "clause-s SELECT clause-s SELECT clause-s SELECT",
		func(db *gorm.DB, r *run) error {
			return db.Clauses(replicated.Slave).Preload("Books.Reviews").First(&Author{}, known).Error
		}},
	{"Clauses: dbresolver.Read, Preload", "clause-s SELECT clause-s SELECT", func(db *gorm.DB, r *run) error {
		return db.Clauses(dbresolver.Read).Preload("Books").First(&Author{}, known).Error
	}},
	{"Clauses: Master, hooks", "clause-m SELECT clause-m SELECT", func(db *gorm.DB, r *run) error {
		return db.Clauses(replicated.Master).First(&Watched{}, known).Error
	}},
	{"Clauses: Slave, hooks", "clause-s SELECT clause-s SELECT", func(db *gorm.DB, r *run) error {
		return db.Clauses(replicated.Slave).First(&Watched{}, known).Error
	}},
	{"Clauses: Slave, a hook that writes", "clause-s SELECT write BEGIN INSERT COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Clauses(replicated.Slave).First(&Diary{}, known).Error
		}},
	{"Clauses: Master, an association", "clause-m SELECT clause-m SELECT", func(db *gorm.DB, r *run) error {
		var books []Book
		a := db.Clauses(replicated.Master).Model(&Author{ID: known}).Association("Books")
		return errors.Join(a.Find(&books),
			count(2, db.Clauses(replicated.Master).Model(&Author{ID: known}).Association("Books").Count(), nil))
	}},
	{"Clauses: Slave, an association", "clause-s SELECT", func(db *gorm.DB, r *run) error {
		var books []Book
		err := db.Clauses(replicated.Slave).Model(&Author{ID: known}).Association("Books").Find(&books)
		return count(2, len(books), err)
	}},
	{"Clauses: Slave, batches", "clause-s SELECT clause-s SELECT", func(db *gorm.DB, r *run) error {
		var as []Author
		return db.Clauses(replicated.Slave).Where("name = ?", "known").
			FindInBatches(&as, 2, func(*gorm.DB, int) error { return nil }).Error
	}},
	{"Clauses: Master, FirstOrCreate", "clause-m SELECT write BEGIN INSERT COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Clauses(replicated.Master).FirstOrCreate(&Note{}, Note{Text: r.name}).Error
		}},
	{"Clauses: Slave, FirstOrCreate", "first-or SELECT write BEGIN INSERT COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Clauses(replicated.Slave).FirstOrCreate(&Note{}, Note{Text: r.name}).Error
		}},
	{"Clauses: Slave, locking", "lock SELECT", func(db *gorm.DB, r *run) error {
		return asks(db.Clauses(replicated.Slave, clause.Locking{Strength: "UPDATE"}))
	}},
	{"Clauses: Slave, a write and then a read", "write BEGIN INSERT COMMIT read SELECT",
		func(db *gorm.DB, r *run) error {
			return errors.Join(db.Clauses(replicated.Slave).Create(&Note{Text: r.name}).Error, asks(db))
		}},
	{"Clauses: Slave, Save of what is not there", "write BEGIN UPDATE COMMIT write BEGIN INSERT COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Clauses(replicated.Slave).Save(&Genre{Code: r.name}).Error
		}},
	{"Clauses: Slave, Exec", "write INSERT", func(db *gorm.DB, r *run) error {
		return db.Clauses(replicated.Slave).Exec("INSERT INTO notes (text) VALUES (?)", r.name).Error
	}},
	{"Clauses: after a write", "write BEGIN INSERT COMMIT clause-s SELECT read SELECT",
		func(db *gorm.DB, r *run) error {
			return errors.Join(db.Create(&Note{Text: r.name}).Error, asks(db.Clauses(replicated.Slave)), asks(db))
		}},
	{"WithContext: after a write", "write BEGIN INSERT COMMIT context-s SELECT context-m SELECT read SELECT",
		func(db *gorm.DB, r *run) error {
			return errors.Join(db.Create(&Note{Text: r.name}).Error, asks(db.WithContext(replicated.WithSlave(r.ctx))),
				asks(db.WithContext(replicated.WithMaster(r.ctx))), asks(db))
		}},
	{"Clauses: Slave, Begin", "clause-s BEGIN-RO bound SELECT COMMIT", func(db *gorm.DB, r *run) error {
		tx := db.Clauses(replicated.Slave).Begin()
		return errors.Join(tx.Error, asks(tx), tx.Commit().Error)
	}},
	{"Clauses: dbresolver.Read, Transaction", "clause-s BEGIN-RO bound SELECT bound SELECT COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Clauses(dbresolver.Read).
				Transaction(func(tx *gorm.DB) error { return tx.Preload("Books").First(&Author{}, known).Error })
		}},
	{"Clauses: Master, a read-only transaction", "clause-m BEGIN-RO bound SELECT COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Clauses(replicated.Master).Transaction(asks, readOnly)
		}},
	{"Clauses: Slave, a write in a transaction", "clause-s BEGIN-RO ROLLBACK", func(db *gorm.DB, r *run) error {
		err := db.Clauses(replicated.Slave).
			Transaction(func(tx *gorm.DB) error { return tx.Create(&Note{Text: r.name}).Error })
		return expect(replicated.ErrWriteOnSlave, err)
	}},
	{"Clauses: Slave, CreateInBatches", "clause-s BEGIN-RO ROLLBACK", func(db *gorm.DB, r *run) error {
		err := db.Clauses(replicated.Slave).CreateInBatches(&[]Note{{Text: r.name}, {Text: r.name}}, 1).Error
		return expect(replicated.ErrWriteOnSlave, err)
	}},
}

// everyFinisher reads by every finisher that reads but those of their own cells.
func everyFinisher(i replicated.Intent) func(*gorm.DB, *run) error {
	return func(db *gorm.DB, r *run) error {
		var n int64
		var names []string
		rows, err := db.Clauses(i).Model(&Author{}).Rows()
		if err != nil {
			return err
		}
		return errors.Join(rows.Close(),
			db.Clauses(i).Model(&Author{}).Count(&n).Error,
			db.Clauses(i).Model(&Author{}).Pluck("name", &names).Error,
			db.Clauses(i).Raw("SELECT COUNT(*) FROM authors").Scan(&n).Error,
			db.Clauses(i).Model(&Author{}).Select("id").Row().Scan(&n))
	}
}
