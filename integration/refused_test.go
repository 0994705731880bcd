package integration

import (
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// TestRefusedByAStandby has functions write in all the ways that a standby of
// PostgreSQL refuses with different errors: each runs on the master in the same call.
func TestRefusedByAStandby(t *testing.T) {
	servers.Want(t, "PostgreSQL")
	c := servers.PostgreSQL(t, servers.Config{Slaves: 1})
	direct, err := gorm.Open(postgres.Open(c.Master.DSN()), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		t.Fatal(err)
	}
	defer closeDB(direct)
	bodies := map[string]string{
		"inserts":            "INSERT INTO written VALUES (1)",
		"makes_large_object": "PERFORM lo_create(0); INSERT INTO written VALUES (1)",
		"locks":              "LOCK TABLE written IN EXCLUSIVE MODE; INSERT INTO written VALUES (1)",
		"takes_a_number":     "PERFORM txid_current(); INSERT INTO written VALUES (1)",
		"logs":               "PERFORM pg_logical_emit_message(false, 'a', 'b'); INSERT INTO written VALUES (1)",
	}
	err = direct.Exec("CREATE TABLE written (n int)").Error
	for name, body := range bodies {
		err = errors.Join(err, direct.Exec("CREATE FUNCTION "+name+"() RETURNS int LANGUAGE plpgsql AS 'BEGIN "+
			strings.ReplaceAll(body, "'", "''")+"; RETURN 1; END'").Error)
	}
	if err := errors.Join(err, c.CatchUp(t.Context())); err != nil {
		t.Fatal(err)
	}
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			config := mode.config
			config.Logger = logger.Discard
			db, err := gorm.Open(postgres.Open(c.Master.DSN()), &config)
			if err != nil {
				t.Fatal(err)
			}
			defer closeDB(db)
			routes := &servedBy{}
			p := replicated.New(replicated.Config{
				Slaves: []gorm.Dialector{postgres.Open(c.Slaves[0].DSN())}, Observer: routes,
				Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
			})
			if err := db.Use(p); err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			db = db.WithContext(replicated.WithSlave(t.Context())).Session(&mode.session)
			for name := range bodies {
				var before, after, n int64
				direct.Table("written").Count(&before)
				if err := db.Raw("SELECT " + name + "()").Scan(&n).Error; err != nil || n != 1 {
					t.Errorf("%s: %d, %v", name, n, err)
				}
				if got, want := routes.reasons(),
					[]replicated.Reason{replicated.ReasonContext, replicated.ReasonRefused}; !slices.Equal(got, want) {
					t.Errorf("%s: routes %v, want %v", name, got, want)
				}
				if direct.Table("written").Count(&after); after != before+1 {
					t.Errorf("%s: written %d times", name, after-before)
				}
			}
		})
	}
}
