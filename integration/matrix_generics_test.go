package integration

import (
	"errors"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
)

// genericCells are the generics API.
var genericCells = []cell{
	{"G.First", "read SELECT", func(db *gorm.DB, r *run) error {
		_, err := gorm.G[Author](db).Where("id = ?", known).First(r.ctx)
		return err
	}},
	{"G.Take", "read SELECT", func(db *gorm.DB, r *run) error {
		_, err := gorm.G[Author](db).Where("id = ?", known).Take(r.ctx)
		return err
	}},
	{"G.Last", "read SELECT", func(db *gorm.DB, r *run) error {
		_, err := gorm.G[Author](db).Where("name = ?", "known").Last(r.ctx)
		return err
	}},
	{"G.Find", "read SELECT", func(db *gorm.DB, r *run) error {
		as, err := gorm.G[Author](db).Where("name = ?", "known").Find(r.ctx)
		return count(3, len(as), err)
	}},
	{"G.FindInBatches", "read SELECT read SELECT", func(db *gorm.DB, r *run) error {
		return gorm.G[Author](db).Where("name = ?", "known").
			FindInBatches(r.ctx, 2, func([]Author, int) error { return nil })
	}},
	{"G.Count", "read SELECT", func(db *gorm.DB, r *run) error {
		n, err := gorm.G[Author](db).Where("name = ?", "known").Count(r.ctx, "*")
		return count(3, n, err)
	}},
	{"G.Scan", "read SELECT", func(db *gorm.DB, r *run) error {
		var as []struct{ Name string }
		err := gorm.G[Author](db).Where("name = ?", "known").Scan(r.ctx, &as)
		return count(3, len(as), err)
	}},
	{"G.Row", "read SELECT", func(db *gorm.DB, r *run) error {
		var name string
		return gorm.G[Author](db).Select("name").Where("id = ?", known).Row(r.ctx).Scan(&name)
	}},
	{"G.Rows", "read SELECT", func(db *gorm.DB, r *run) error {
		rows, err := gorm.G[Author](db).Where("id = ?", known).Rows(r.ctx)
		if err != nil {
			return err
		}
		return rows.Close()
	}},
	{"G.Raw: Find", "read SELECT", func(db *gorm.DB, r *run) error {
		as, err := gorm.G[Author](db).Raw("SELECT * FROM authors WHERE name = ?", "known").Find(r.ctx)
		return count(3, len(as), err)
	}},
	{"G.Raw: Scan", "read SELECT", func(db *gorm.DB, r *run) error {
		var n int64
		err := gorm.G[Author](db).Raw("SELECT COUNT(*) FROM authors WHERE name = ?", "known").Scan(r.ctx, &n)
		return count(3, n, err)
	}},
	{"G.Raw: Row and Rows", "read SELECT read SELECT", func(db *gorm.DB, r *run) error {
		var n int64
		raw := gorm.G[Author](db).Raw("SELECT COUNT(*) FROM authors WHERE name = ?", "known")
		if err := raw.Row(r.ctx).Scan(&n); err != nil {
			return err
		}
		rows, err := raw.Rows(r.ctx)
		if err != nil {
			return err
		}
		return rows.Close()
	}},
	{"G.Raw: that locks", "lock SELECT", func(db *gorm.DB, r *run) error {
		_, err := gorm.G[Author](db).Raw("SELECT * FROM authors WHERE id = ? FOR UPDATE", known).Find(r.ctx)
		return err
	}},
	{"G.Exec", "write INSERT read SELECT", func(db *gorm.DB, r *run) error {
		return errors.Join(gorm.G[Note](db).Exec(r.ctx, "INSERT INTO notes (text) VALUES (?)", r.name), asks(db))
	}},
	{"G.Exec: a read", "read SELECT",
		func(db *gorm.DB, r *run) error { return gorm.G[Note](db).Exec(r.ctx, "SELECT 1") }},

	{"G.Where G.Or G.Not G.Order G.Limit G.Offset", "read SELECT", func(db *gorm.DB, r *run) error {
		as, err := gorm.G[Author](db).Where("id = ?", known).Or("id = ?", known+1).Not("id = -1").Order("id").
			Limit(1).Offset(1).Find(r.ctx)
		return count(1, len(as), err)
	}},
	{"G.Group G.Having G.Select G.Distinct", "read SELECT", func(db *gorm.DB, r *run) error {
		var names []string
		err := gorm.G[Author](db).Select("name").Where("name = ?", "known").Group("name").Having("COUNT(*) > 1").
			Distinct().Scan(r.ctx, &names)
		return count(1, len(names), err)
	}},
	{"G.Omit G.MapColumns G.Scopes G.Table", "read SELECT", func(db *gorm.DB, r *run) error {
		as, err := gorm.G[Author](db).Table("authors").Omit("age").MapColumns(map[string]string{"a": "b"}).
			Scopes(func(s *gorm.Statement) { s.Where("name = ?", "known") }).Find(r.ctx)
		return count(3, len(as), err)
	}},
	{"G.Build: as a subquery", "read SELECT", func(db *gorm.DB, r *run) error {
		books := gorm.G[Book](db).Select("author_id").Where("title = ?", "known")
		as, err := gorm.G[Author](db).Where("id IN (?)", books).Find(r.ctx)
		return count(3, len(as), err)
	}},
	{"G.Joins", "read SELECT", func(db *gorm.DB, r *run) error {
		a, err := gorm.G[Author](db).
			Joins(clause.InnerJoin.Association("Publisher"), func(j gorm.JoinBuilder, joined, _ clause.Table) error {
				j.Where("?.name = ?", joined, "known")
				return nil
			}).Where("authors.id = ?", known).First(r.ctx)
		return errors.Join(err, count(known, a.Publisher.ID, nil))
	}},
	{"G.Joins: a subquery", "read SELECT", func(db *gorm.DB, r *run) error {
		publishers := gorm.G[Publisher](db).Where("name = ?", "known")
		_, err := gorm.G[Author](db).Joins(clause.LeftJoin.AssociationFrom("Publisher", publishers).As("p"),
			func(j gorm.JoinBuilder, joined, cur clause.Table) error {
				j.Where("?.id = ?.publisher_id", joined, cur)
				return nil
			}).Where("authors.id = ?", known).First(r.ctx)
		return err
	}},
	{"G.Preload", "read SELECT read SELECT", func(db *gorm.DB, r *run) error {
		a, err := gorm.G[Author](db).Preload("Books", nil).Where("id = ?", known).First(r.ctx)
		return count(2, len(a.Books), err)
	}},
	{"G.Preload: nested, with conditions", "read SELECT read SELECT read SELECT",
		func(db *gorm.DB, r *run) error {
			a, err := gorm.G[Author](db).Preload("Books.Reviews", nil).
				Preload("Books", func(p gorm.PreloadBuilder) error {
					p.Where("title = ?", "known").Order("id")
					return nil
				}).Where("id = ?", known).First(r.ctx)
			return count(2, len(a.Books), err)
		}},
	{"G.Preload: so many of each", "read SELECT read SELECT", func(db *gorm.DB, r *run) error {
		a, err := gorm.G[Author](db).Preload("Books", func(p gorm.PreloadBuilder) error {
			p.LimitPerRecord(1)
			return nil
		}).Where("id = ?", known).First(r.ctx)
		return count(1, len(a.Books), err)
	}},
	{"G.Find: hooks", "read SELECT read SELECT read SELECT", func(db *gorm.DB, r *run) error {
		_, err := gorm.G[Watched](db).Where("name = ?", "known").Find(r.ctx)
		return err
	}},
	{"G.First: by another context", "context-s SELECT context-m SELECT", func(db *gorm.DB, r *run) error {
		g := gorm.G[Author](db).Where("id = ?", known)
		_, err := g.First(replicated.WithSlave(r.ctx))
		_, err2 := g.First(replicated.WithMaster(r.ctx))
		return errors.Join(err, err2)
	}},
	{"G.First: clauses", "clause-m SELECT clause-s SELECT clause-m SELECT lock SELECT",
		func(db *gorm.DB, r *run) error {
			for _, c := range []clause.Expression{replicated.Master, replicated.Slave, dbresolver.Write,
				clause.Locking{Strength: "UPDATE"}} {
				if _, err := gorm.G[Author](db, c).Where("id = ?", known).First(r.ctx); err != nil {
					return err
				}
			}
			return nil
		}},
	{"G.Preload: clauses", "clause-m SELECT clause-m SELECT clause-s SELECT clause-s SELECT",
		func(db *gorm.DB, r *run) error {
			for _, c := range []clause.Expression{replicated.Master, replicated.Slave} {
				if _, err := gorm.G[Author](db, c).Preload("Books", nil).Where("id = ?", known).First(r.ctx); err != nil {
					return err
				}
			}
			return nil
		}},
	{"G.First: in a transaction", "begin BEGIN bound SELECT bound INSERT COMMIT",
		func(db *gorm.DB, r *run) error {
			return db.Transaction(func(tx *gorm.DB) error {
				_, err := gorm.G[Author](tx).Where("id = ?", known).First(r.ctx)
				return errors.Join(err, gorm.G[Note](tx).Create(r.ctx, &Note{Text: r.name}))
			})
		}},

	{"G.Create", "write BEGIN INSERT COMMIT read SELECT", func(db *gorm.DB, r *run) error {
		return errors.Join(gorm.G[Note](db).Create(r.ctx, &Note{Text: r.name}), asks(db))
	}},
	{"G.Create: with what it did", "write BEGIN INSERT COMMIT", func(db *gorm.DB, r *run) error {
		result := gorm.WithResult()
		err := gorm.G[Note](db, result).Create(r.ctx, &Note{Text: r.name})
		return count(1, result.RowsAffected, err)
	}},
	{"G.Create: upsert", "write BEGIN INSERT COMMIT", func(db *gorm.DB, r *run) error {
		return gorm.G[Genre](db, clause.OnConflict{UpdateAll: true}).
			Create(r.ctx, &Genre{Code: r.author().Name, Name: "new"})
	}},
	{"G.Create: under the clause Slave", "write BEGIN INSERT COMMIT", func(db *gorm.DB, r *run) error {
		return gorm.G[Note](db, replicated.Slave).Create(r.ctx, &Note{Text: r.name})
	}},
	{"G.Create: hooks", "write BEGIN bound SELECT bound SELECT INSERT bound SELECT bound SELECT COMMIT",
		func(db *gorm.DB, r *run) error {
			return gorm.G[Watched](db).Create(r.ctx, &Watched{Name: r.name})
		}},
	{"G.CreateInBatches", "begin BEGIN bound INSERT bound INSERT COMMIT", func(db *gorm.DB, r *run) error {
		return gorm.G[Note](db).CreateInBatches(r.ctx, &[]Note{{Text: r.name}, {Text: r.name}}, 1)
	}},
	{"G.Update", "write BEGIN UPDATE COMMIT read SELECT", func(db *gorm.DB, r *run) error {
		n, err := gorm.G[Author](db).Where("name = ?", r.author().Name).Update(r.ctx, "age", 7)
		return errors.Join(count(1, n, err), asks(db))
	}},
	{"G.Updates", "write BEGIN UPDATE COMMIT", func(db *gorm.DB, r *run) error {
		n, err := gorm.G[Author](db).Where("name = ?", r.author().Name).Updates(r.ctx, Author{Age: 7})
		return count(1, n, err)
	}},
	{"G.Delete", "write BEGIN DELETE COMMIT read SELECT", func(db *gorm.DB, r *run) error {
		n, err := gorm.G[Author](db).Where("name = ?", r.author().Name).Delete(r.ctx)
		return errors.Join(count(1, n, err), asks(db))
	}},
	{"G.Set: Update", "write BEGIN UPDATE COMMIT", func(db *gorm.DB, r *run) error {
		n, err := gorm.G[Author](db).Where("name = ?", r.author().Name).
			Set(clause.Assignment{Column: clause.Column{Name: "age"}, Value: 7}).Update(r.ctx)
		return count(1, n, err)
	}},
	{"G.Set: Create", "write BEGIN INSERT COMMIT", func(db *gorm.DB, r *run) error {
		return gorm.G[Author](db).Set(clause.Assignment{Column: clause.Column{Name: "name"}, Value: r.name}).
			Create(r.ctx)
	}},
	{"G.Set: has many, create", "read SELECT write BEGIN INSERT COMMIT write BEGIN COMMIT",
		sets("Books", clause.OpCreate, "title")},
	{"G.Set: has many, update", "write BEGIN UPDATE COMMIT", sets("Books", clause.OpUpdate, "title")},
	{"G.Set: has many, unlink", "write BEGIN UPDATE COMMIT", sets("Books", clause.OpUnlink, "")},
	{"G.Set: has many, delete", "write BEGIN DELETE COMMIT", sets("Books", clause.OpDelete, "")},
	{"G.Set: has one, update", "write BEGIN UPDATE COMMIT", sets("Portrait", clause.OpUpdate, "file")},
	{"G.Set: has one, delete", "write BEGIN DELETE COMMIT", sets("Portrait", clause.OpDelete, "")},
	{"G.Set: belongs to, update", "write BEGIN UPDATE COMMIT", sets("Publisher", clause.OpUpdate, "name")},
	{"G.Set: belongs to, unlink", "write BEGIN UPDATE COMMIT", sets("Publisher", clause.OpUnlink, "")},
	{"G.Set: belongs to, delete", "begin BEGIN bound DELETE bound UPDATE COMMIT",
		sets("Publisher", clause.OpDelete, "")},
	{"G.Set: many2many, update", "write BEGIN UPDATE COMMIT", sets("Genres", clause.OpUpdate, "name")},
	{"G.Set: many2many, unlink", "write BEGIN DELETE COMMIT", sets("Genres", clause.OpUnlink, "")},
	{"G.Set: many2many, delete", "write BEGIN DELETE COMMIT", sets("Genres", clause.OpDelete, "")},
}

// sets does something to an association of an author that the slaves have, too.
func sets(name string, op clause.AssociationOpType, column string) func(*gorm.DB, *run) error {
	return func(db *gorm.DB, r *run) error {
		a := r.author()
		if op == clause.OpCreate { // GORM looks for the author first
			a = &Author{ID: known + 2}
		}
		do := clause.Association{Association: name, Type: op}
		if name == "Genres" { // GORM 1.31 forgets the condition on the author
			do.Conditions = []clause.Expression{clause.Eq{Column: "genres.code", Value: r.name}}
		}
		if column != "" {
			do.Set = []clause.Assignment{{Column: clause.Column{Name: column}, Value: r.name}}
		}
		_, err := gorm.G[Author](db).Where("id = ?", a.ID).Set(do).Update(r.ctx)
		return err
	}
}
