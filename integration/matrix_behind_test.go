package integration

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// TestFirstOrDecidesOnTheMaster has slaves that are behind, and code under the intent Slave that creates what
// is not there: what another request has just created must not be created again.
func TestFirstOrDecidesOnTheMaster(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			c, direct := library(t, e)
			holdAll(t, c)
			for _, mode := range preparing {
				j := &journal{}
				db, p := e.open(t, c, j, mode.config)
				for _, as := range intents {
					t.Run(mode.name+"/"+as.name, func(t *testing.T) {
						name := fmt.Sprint("run ", runs.Add(1))
						there := Author{Name: name, Age: 7}
						if err := direct.Create(&there).Error; err != nil {
							t.Fatal(err)
						}
						do := func(what string, f func(db *gorm.DB) error) {
							t.Helper()
							as.with(p, func(ctx context.Context) {
								if err := f(db.WithContext(ctx).Session(&mode.session)); err != nil {
									t.Errorf("%s: %v", what, err)
								}
							})
						}
						// The control: the slaves do not have it.
						do("First", func(db *gorm.DB) error {
							err := db.First(&Author{}, "name = ?", name).Error
							if as.read == replicated.Slave {
								return expect(gorm.ErrRecordNotFound, err)
							}
							return err
						})
						do("FirstOrCreate", func(db *gorm.DB) error {
							var a Author
							err := db.FirstOrCreate(&a, Author{Name: name}).Error
							return count(there.ID, a.ID, err)
						})
						do("FirstOrCreate, Assign", func(db *gorm.DB) error {
							var a Author
							err := db.Where("name = ?", name).Assign(Author{Age: 8}).FirstOrCreate(&a).Error
							return count(there.ID, a.ID, err)
						})
						do("FirstOrCreate, with a clause", func(db *gorm.DB) error {
							var a Author
							err := db.Clauses(replicated.Slave).Preload("Books").FirstOrCreate(&a, Author{Name: name}).Error
							return count(there.ID, a.ID, err)
						})
						do("FirstOrCreate, in a transaction", func(db *gorm.DB) error {
							var a Author
							err := db.Transaction(func(tx *gorm.DB) error {
								return tx.FirstOrCreate(&a, Author{Name: name}).Error
							})
							return count(there.ID, a.ID, err)
						})
						do("FirstOrInit", func(db *gorm.DB) error {
							var a Author
							err := db.Where(Author{Name: name}).Attrs(Author{Age: 9}).FirstOrInit(&a).Error
							return errors.Join(count(there.ID, a.ID, err), count(8, a.Age, nil))
						})
						do("FirstOrInit, then Save", func(db *gorm.DB) error {
							var a Author
							return errors.Join(db.FirstOrInit(&a, Author{Name: name}).Error, db.Save(&a).Error)
						})
						for range 2 {
							do("FirstOrCreate of another", func(db *gorm.DB) error {
								return db.FirstOrCreate(&Author{}, Author{Name: name + " too"}).Error
							})
						}
						var n int64
						err := direct.Model(&Author{}).Where("name IN ?", []string{name, name + " too"}).Count(&n).Error
						if err := count(2, n, err); err != nil {
							t.Errorf("duplicates: %v", err)
						}
					})
				}
			}
		})
	}
}

// TestMigrationLeavesNoStalePlan reads a table on the slaves, on several connections to each, migrates it,
// and reads it again by the same SQL: nobody may stumble over a plan made before (PostgreSQL: 0A000).
func TestMigrationLeavesNoStalePlan(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			c, direct := library(t, e)
			for _, mode := range preparing {
				t.Run(mode.name, func(t *testing.T) {
					j := &journal{}
					db, _ := e.open(t, c, j, mode.config)
					table := fmt.Sprintf("shelves_%d", runs.Add(1))
					of := func(ctx context.Context) *gorm.DB {
						return db.WithContext(ctx).Session(&mode.session).Table(table).Session(&gorm.Session{})
					}
					onSlave, onMaster := of(replicated.WithSlave(t.Context())), of(replicated.WithMaster(t.Context()))
					err := errors.Join(direct.Table(table).AutoMigrate(&Shelf{}),
						direct.Table(table).Create(&Shelf{ID: 1, Name: "top"}).Error, c.CatchUp(t.Context()))
					if err != nil {
						t.Fatal(err)
					}
					defer func() {
						if err := direct.Migrator().DropTable(table); err != nil {
							t.Error(err)
						}
					}()

					readAll(t, c, j, onSlave, onMaster)
					if err := errors.Join(onSlave.AutoMigrate(&WiderShelf{}), c.CatchUp(t.Context())); err != nil {
						t.Fatal(err)
					}
					readAll(t, c, j, onSlave, onMaster)
					err = onSlave.Migrator().DropColumn(&WiderShelf{}, "Spelled")
					if err := errors.Join(err, c.CatchUp(t.Context())); err != nil {
						t.Fatal(err)
					}
					readAll(t, c, j, onSlave, onMaster)
				})
			}
		})
	}
}

// TestStalePlanEndsWithItsTransaction is the same in transactions on the slaves. There nothing can be
// repeated, but who begins again has to get through: once each connection has failed at most.
func TestStalePlanEndsWithItsTransaction(t *testing.T) {
	const connections = 3
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			c, direct := library(t, e)
			for _, mode := range preparing {
				t.Run(mode.name, func(t *testing.T) {
					db, _ := e.open(t, c, &journal{}, mode.config)
					table := fmt.Sprintf("shelves_%d", runs.Add(1))
					db = db.WithContext(replicated.WithSlave(t.Context())).Session(&mode.session).Table(table).
						Session(&gorm.Session{})
					err := errors.Join(direct.Table(table).AutoMigrate(&Shelf{}),
						direct.Table(table).Create(&Shelf{ID: 1, Name: "top"}).Error, c.CatchUp(t.Context()))
					if err != nil {
						t.Fatal(err)
					}
					defer func() {
						if err := direct.Migrator().DropTable(table); err != nil {
							t.Error(err)
						}
					}()
					read := func() error {
						return db.Transaction(func(tx *gorm.DB) error {
							return tx.Take(&map[string]any{}, "id = 1").Error
						}, readOnly)
					}
					for range 20 * len(c.Slaves) {
						if err := errors.Join(read(), db.Take(&map[string]any{}, "id = 1").Error); err != nil {
							t.Fatal(err)
						}
					}
					if err := errors.Join(db.AutoMigrate(&WiderShelf{}), c.CatchUp(t.Context())); err != nil {
						t.Fatal(err)
					}
					failed := 0
					for range 20 * len(c.Slaves) {
						if err = read(); err != nil {
							failed++
						}
					}
					if failed > connections*len(c.Slaves) {
						t.Errorf("%d transactions failed, the last with %v", failed, err)
					}
				})
			}
		})
	}
}

// readAll reads the table in every way, several at a time, until every server has answered.
func readAll(t *testing.T, c *servers.Cluster, j *journal, dbs ...*gorm.DB) {
	t.Helper()
	table := dbs[0].Statement.Table
	ways := []struct {
		name string
		do   func(*gorm.DB) error
	}{
		{"Find", func(db *gorm.DB) error {
			var all []map[string]any
			err := db.Where("id = ?", 1).Find(&all).Error
			return count(1, len(all), err)
		}},
		{"First", func(db *gorm.DB) error { return db.Model(&Shelf{}).First(&map[string]any{}, 1).Error }},
		{"Rows", func(db *gorm.DB) error {
			rows, err := db.Where("id > ?", 0).Rows()
			if err != nil {
				return err
			}
			defer rows.Close()
			n := 0
			for rows.Next() {
				n++
			}
			return count(1, n, rows.Err())
		}},
		{"Raw", func(db *gorm.DB) error {
			var shelf Shelf
			err := db.Raw("SELECT * FROM "+table+" WHERE id < ?", 2).Scan(&shelf).Error
			return count(1, shelf.ID, err)
		}},
		{"Row", func(db *gorm.DB) error {
			return db.Raw("SELECT * FROM " + table).Row().Err()
		}},
	}
	j.take()
	answered := map[string]bool{}
	for round := 0; len(answered) < 1+len(c.Slaves); round++ {
		if round == 50 { // that a slave is never asked by chance: once in 2^1000
			t.Fatalf("only %v answered", answered)
		}
		for _, way := range ways {
			var all sync.WaitGroup
			for _, db := range dbs {
				for range 4 {
					all.Go(func() {
						if err := way.do(db.Session(&gorm.Session{})); err != nil {
							t.Errorf("%s: %v", way.name, err)
						}
					})
				}
			}
			all.Wait()
		}
		for _, e := range j.take() {
			answered[e.server] = true
		}
	}
}
