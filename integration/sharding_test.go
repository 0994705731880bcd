package integration

import (
	"errors"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/sharding"

	"github.com/gorm-replicated/replicated"
)

// Ticket is kept in two tables, by the number of its user.
type Ticket struct {
	ID     int64
	UserID int64
	Text   string
}

// TestSharding writes through gorm.io/sharding, and counts what went past the shards. The controls are
// without the plugin: gorm.io/sharding alone, and with PrepareStmt, which breaks it.
func TestSharding(t *testing.T) { eachHouse(t, testSharding) }

func testSharding(t *testing.T, h house) {
	tables := []string{"tickets", "tickets_0", "tickets_1"}
	direct, err := gorm.Open(h.dial(h.Master.DSN()), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, table := range tables {
			if err := direct.Migrator().DropTable(table); err != nil {
				t.Error(err)
			}
		}
		closeDB(direct)
	})
	for _, table := range tables {
		if err := direct.Table(table).AutoMigrate(&Ticket{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name          string
		config        gorm.Config
		before, after bool // gorm.io/sharding is registered before, or after, the plugin
		whole         bool
	}{
		{"before", gorm.Config{}, true, false, true},
		{"after", gorm.Config{}, false, true, true},
		{"before, PrepareStmt", gorm.Config{PrepareStmt: true}, true, false, true},
		{"after, PrepareStmt", gorm.Config{PrepareStmt: true}, false, true, true},
		{"control: alone", gorm.Config{}, false, false, true},
		{"control: alone, PrepareStmt", gorm.Config{PrepareStmt: true}, false, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, table := range tables {
				if err := direct.Exec("DELETE FROM " + table).Error; err != nil {
					t.Fatal(err)
				}
			}
			test.config.Logger = logger.Discard
			db, err := gorm.Open(h.dial(h.Master.DSN()), &test.config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { closeDB(db) })
			shards := sharding.Register(sharding.Config{
				ShardingKey: "user_id", NumberOfShards: 2,
				PrimaryKeyGenerator: sharding.PKCustom, PrimaryKeyGeneratorFn: func(int64) int64 { return 0 },
			}, "tickets")
			var plugins []gorm.Plugin
			if test.before || !test.after {
				plugins = append(plugins, shards)
			}
			if test.before || test.after {
				cfg := replicated.Config{}
				for _, slave := range h.Slaves {
					cfg.Slaves = append(cfg.Slaves, h.dial(slave.DSN()))
				}
				p := replicated.New(cfg)
				t.Cleanup(func() { p.Close() })
				plugins = append(plugins, p)
			}
			if test.after {
				plugins = append(plugins, shards)
			}
			for _, p := range plugins {
				if err := db.Use(p); err != nil {
					t.Fatal(err)
				}
			}
			write := func(db *gorm.DB, user int64) error {
				if err := db.Create(&Ticket{ID: user, UserID: user, Text: "new"}).Error; err != nil {
					return err
				}
				return db.Model(&Ticket{}).Where("user_id = ?", user).Update("text", "old").Error
			}
			err = errors.Join(write(db, 1), db.Transaction(func(tx *gorm.DB) error { return write(tx, 2) }))
			var counts [3]int64
			for i, table := range tables {
				if err := direct.Table(table).Where("text = 'old'").Count(&counts[i]).Error; err != nil {
					t.Fatal(err)
				}
			}
			if whole := err == nil && counts == [3]int64{0, 1, 1}; whole != test.whole {
				t.Errorf("rows in %v: %d; %v", tables, counts, err)
			}
		})
	}
}
