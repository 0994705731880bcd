package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// TestMatrixNotices is the matrix with a lie: what the plugin takes for slaves is the master. Every cell that
// reads from a slave has to notice, and no other.
func TestMatrixNotices(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			c, direct := library(t, e)
			j := &journal{}
			db, p := e.openOn(t, c, j, gorm.Config{}, func(*servers.Server) *servers.Server { return c.Master })
			as := intents[slices.IndexFunc(intents, func(i intent) bool { return i.name == "WithSlave" })]
			noticed := 0
			for _, cell := range e.all() {
				r := &run{direct: direct, n: runs.Add(1)}
				r.name = fmt.Sprint("run ", r.n)
				j.take()
				as.with(p, func(ctx context.Context) {
					r.ctx, r.db = ctx, db.WithContext(ctx)
					if err := cell.do(r.db, r); err != nil {
						t.Errorf("%s: %v", cell.name, err)
					}
				})
				_, text, differs := strings.Cut(string(cell.script), "||")
				if !differs {
					text = string(cell.script)
				}
				onSlave := slices.ContainsFunc(strings.Fields(text), func(word string) bool {
					return word == "read" || heard[word].intent == replicated.Slave
				})
				err := cell.script.check(as, j.take())
				if onSlave != (err != nil) || onSlave && !strings.Contains(err.Error(), `master ran`) {
					t.Errorf("%s: reads from a slave: %v; noticed: %v", cell.name, onSlave, err)
				}
				if err != nil {
					noticed++
				}
			}
			if noticed == 0 {
				t.Error("nothing to notice")
			}
		})
	}
}

type (
	// Witness is an author, and the server that tells of it.
	Witness struct {
		ID     int64
		Name   string
		Server int
		Books  []WitnessedBook `gorm:"foreignKey:AuthorID"`
	}
	WitnessedBook struct {
		ID       int64
		AuthorID int64
		Author   Witness
		Server   int
	}
)

// TestAnswers has rows that say which server they come from, by a view whose every row names the server that
// runs it. It shows that the journal, on which the matrix relies, is true.
func TestAnswers(t *testing.T) {
	witness := func(ws ...Witness) (servers []int) {
		for _, w := range ws {
			servers = append(servers, w.Server)
			for _, b := range w.Books[:min(len(w.Books), 1)] {
				servers = append(servers, b.Server)
			}
		}
		return servers
	}
	reads := []struct {
		name string
		do   func(db *gorm.DB) ([]int, error) // the servers of the statements, in order
	}{
		{"First", func(db *gorm.DB) ([]int, error) {
			var w Witness
			err := db.First(&w, known).Error
			return witness(w), err
		}},
		{"Take", func(db *gorm.DB) ([]int, error) {
			var w Witness
			err := db.Take(&w, known).Error
			return witness(w), err
		}},
		{"Last", func(db *gorm.DB) ([]int, error) {
			var w Witness
			err := db.Last(&w, known).Error
			return witness(w), err
		}},
		{"Find", func(db *gorm.DB) ([]int, error) {
			var ws []Witness
			err := db.Find(&ws, known).Error
			return witness(ws...), err
		}},
		{"FindInBatches", func(db *gorm.DB) (servers []int, err error) {
			var ws []Witness
			err = db.Where("id IN ?", []int64{known, known + 1, known + 2}).
				FindInBatches(&ws, 2, func(*gorm.DB, int) error {
					servers = append(servers, ws[0].Server)
					return nil
				}).Error
			return servers, err
		}},
		{"Rows", func(db *gorm.DB) ([]int, error) {
			rows, err := db.Model(&Witness{}).Where("id = ?", known).Rows()
			if err != nil {
				return nil, err
			}
			defer rows.Close()
			var w Witness
			rows.Next()
			err = db.ScanRows(rows, &w)
			return witness(w), err
		}},
		{"Row", func(db *gorm.DB) ([]int, error) {
			var server int
			err := db.Model(&Witness{}).Where("id = ?", known).Select("server").Row().Scan(&server)
			return []int{server}, err
		}},
		{"Scan", func(db *gorm.DB) ([]int, error) {
			var server int
			err := db.Model(&Witness{}).Where("id = ?", known).Select("server").Scan(&server).Error
			return []int{server}, err
		}},
		{"Pluck", func(db *gorm.DB) (servers []int, err error) {
			err = db.Model(&Witness{}).Where("id = ?", known).Pluck("server", &servers).Error
			return servers, err
		}},
		{"Preload", func(db *gorm.DB) ([]int, error) {
			var w Witness
			err := db.Preload("Books").First(&w, known).Error
			return witness(w), err
		}},
		{"Joins", func(db *gorm.DB) ([]int, error) {
			var b WitnessedBook
			err := db.Joins("Author").Where("author_id = ?", known).Take(&b).Error
			if b.Server != b.Author.Server {
				err = errors.Join(err, errors.New("two servers in one row"))
			}
			return []int{b.Server}, err
		}},
		{"Association", func(db *gorm.DB) ([]int, error) {
			var b WitnessedBook
			err := db.Model(&Witness{ID: known}).Association("Books").Find(&b)
			return []int{b.Server}, err
		}},
		{"FirstOrInit", func(db *gorm.DB) ([]int, error) {
			var w Witness
			err := db.FirstOrInit(&w, known).Error
			return witness(w), err
		}},
		{"read-only transaction", func(db *gorm.DB) (servers []int, err error) {
			err = db.Transaction(func(tx *gorm.DB) error {
				for range 2 {
					var w Witness
					if err := tx.First(&w, known).Error; err != nil {
						return err
					}
					servers = append(servers, w.Server)
				}
				return nil
			}, readOnly)
			return servers, err
		}},
		{"transaction", func(db *gorm.DB) (servers []int, err error) {
			err = db.Transaction(func(tx *gorm.DB) error {
				var w Witness
				err := tx.First(&w, known).Error
				servers = witness(w)
				return err
			})
			return servers, err
		}},
		{"Connection", func(db *gorm.DB) (servers []int, err error) {
			err = db.Connection(func(tx *gorm.DB) error {
				var w Witness
				err := tx.First(&w, known).Error
				servers = witness(w)
				return err
			})
			return servers, err
		}},
		{"G", func(db *gorm.DB) ([]int, error) {
			w, err := gorm.G[Witness](db).Preload("Books", nil).Where("id = ?", known).First(db.Statement.Context)
			return witness(w), err
		}},
	}
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			c, _ := library(t, e)
			serverOf := e.serverOf(c)
			for _, mode := range preparing {
				j := &journal{}
				db, p := e.open(t, c, j, mode.config)
				for _, as := range intents {
					for _, read := range reads {
						t.Run(mode.name+"/"+as.name+"/"+read.name, func(t *testing.T) {
							var got []int
							var err error
							j.take()
							as.with(p, func(ctx context.Context) {
								got, err = read.do(db.WithContext(ctx).Session(&mode.session))
							})
							if err != nil {
								t.Fatal(err)
							}
							var said, ran []string
							for _, server := range got {
								said = append(said, serverOf[fmt.Sprint(server)])
							}
							for _, e := range j.take() {
								if !e.prepares && verb(e.sql) == "SELECT" {
									ran = append(ran, e.server)
								}
							}
							if len(ran) == 0 || !slices.Equal(said, ran) {
								t.Errorf("the rows come from %q, by the journal from %q", said, ran)
							}
						})
					}
				}
			}
		})
	}
}

// TestReadyMadePools has slaves whose pools the application made: they keep the limits that it gave them, and
// an error of db.Use leaves them open.
func TestReadyMadePools(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			c, _ := library(t, e)
			use := func(cfg replicated.Config) (*sql.DB, error) {
				slave := e.pool(t, c, c.Slaves[0], &journal{})
				slave.SetMaxOpenConns(3)
				db, err := gorm.Open(e.dialector(e.pool(t, c, c.Master, &journal{})),
					&gorm.Config{Logger: logger.Discard})
				if err != nil {
					t.Fatal(err)
				}
				cfg.Slaves = append([]gorm.Dialector{e.dialector(slave)}, cfg.Slaves...)
				return slave, db.Use(replicated.New(cfg))
			}
			slave, err := use(replicated.Config{Pool: replicated.PoolConfig{MaxOpen: 7}})
			if n := slave.Stats().MaxOpenConnections; err != nil || n != 3 {
				t.Errorf("%d connections at most, want 3; %v", n, err)
			}
			slave, err = use(replicated.Config{Slaves: []gorm.Dialector{broken{e.dialector(slave)}}})
			if err == nil {
				t.Error("db.Use with a slave that cannot be opened: no error")
			}
			if err := slave.PingContext(t.Context()); err != nil {
				t.Errorf("after an error of db.Use: %v", err)
			}
		})
	}
}

// broken is a dialector that cannot open.
type broken struct{ gorm.Dialector }

func (broken) Initialize(*gorm.DB) error { return errors.New("broken") }
