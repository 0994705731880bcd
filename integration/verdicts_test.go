package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// replicatedDB is a database on the servers of c, with a plugin whose routes go to the servedBy.
func replicatedDB(t *testing.T, c *servers.Cluster, open func(string) gorm.Dialector) (*gorm.DB, *servedBy) {
	t.Helper()
	db, err := gorm.Open(open(c.Master.DSN()), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		t.Fatal(err)
	}
	routes := &servedBy{}
	p := replicated.New(replicated.Config{
		Slaves: []gorm.Dialector{open(c.Slaves[0].DSN())}, Observer: routes, Logger: slog.New(slog.DiscardHandler),
	})
	if err := db.Use(p); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		closeDB(db)
	})
	return db, routes
}

// TestSequenceReadAsATable reads the state of a sequence: a standby that has replayed everything is ahead of
// the master.
func TestSequenceReadAsATable(t *testing.T) {
	servers.Want(t, "PostgreSQL")
	c := servers.PostgreSQL(t, servers.Config{Slaves: 1})
	db, routes := replicatedDB(t, c, postgres.Open)
	err := errors.Join(
		db.Exec("CREATE TABLE tickets (id serial PRIMARY KEY)").Error,
		db.Exec("INSERT INTO tickets DEFAULT VALUES").Error,
		c.CatchUp(t.Context()),
	)
	if err != nil {
		t.Fatal(err)
	}
	routes.take()
	for _, q := range []string{"SELECT last_value FROM tickets_id_seq", "SELECT * FROM public.tickets_id_seq"} {
		var last int64
		err := db.WithContext(replicated.WithSlave(t.Context())).Raw("SELECT last_value FROM (" + q + ") s").
			Scan(&last).Error
		if err != nil || last != 1 {
			t.Errorf("%s: %d, %v, want 1", q, last, err)
		}
		if got := routes.reasons(); !slices.Equal(got, []replicated.Reason{replicated.ReasonCatalog}) {
			t.Errorf("%s: routes %v", q, got)
		}
		// The control.
		if err := c.Slaves[0].DB().QueryRow("SELECT last_value FROM (" + q + ") s").
			Scan(&last); err != nil || last == 1 {
			t.Errorf("%s: %d on the slave, %v, want it to be ahead", q, last, err)
		}
	}
}

// TestCatalogAndLocks has a slave that lags, and one whose rows are locked.
func TestCatalogAndLocks(t *testing.T) {
	for _, kind := range []struct {
		name  string
		start func(testing.TB, servers.Config) *servers.Cluster
	}{{"MariaDB", servers.MariaDB}, {"MySQL", servers.MySQL}} {
		t.Run(kind.name, func(t *testing.T) {
			servers.Want(t, kind.name)
			c := kind.start(t, servers.Config{Slaves: 1})
			db, routes := replicatedDB(t, c, mysql.Open)
			slave, err := sql.Open("mysql", c.Slaves[0].DSN())
			if err != nil {
				t.Fatal(err)
			}
			defer slave.Close()
			t.Run("locks", func(t *testing.T) { testNoLockStopsTheReplay(t, c, db, slave) })
			t.Run("catalog", func(t *testing.T) { testCatalogOfTheMaster(t, c, db, routes, slave) })
		})
	}
}

// testCatalogOfTheMaster asks for tables and columns, as tools do that decide what to migrate.
func testCatalogOfTheMaster(t *testing.T, c *servers.Cluster, db *gorm.DB, routes *servedBy, slave *sql.DB) {
	if err := c.Slaves[0].Hold(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := db.Exec("CREATE TABLE made (id int PRIMARY KEY)").Error; err != nil {
		t.Fatal(err)
	}
	routes.take()
	for _, q := range []string{
		"SHOW TABLES LIKE 'made'", "SHOW COLUMNS FROM made", "SHOW FULL FIELDS FROM made", "SHOW INDEX FROM made",
		"SHOW KEYS IN made", "SHOW CREATE TABLE made", "SHOW TABLE STATUS LIKE 'made'", "DESCRIBE made",
		"DESC made id", "EXPLAIN made",
	} {
		rows, err := found(db.WithContext(replicated.WithSlave(t.Context())).Raw(q).Rows())
		if err != nil || rows != 1 {
			t.Errorf("%s: %d rows, %v, want 1", q, rows, err)
		}
		if got := routes.reasons(); !slices.Equal(got, []replicated.Reason{replicated.ReasonCatalog}) {
			t.Errorf("%s: routes %v", q, got)
		}
		// The control.
		if rows, err := found(slave.Query(q)); err == nil && rows > 0 {
			t.Errorf("%s: %d rows on the slave, which does not have the table", q, rows)
		}
	}
}

// found returns how many rows there are.
func found(rows *sql.Rows, err error) (n int, _ error) {
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		n++
	}
	return n, rows.Err()
}

// testNoLockStopsTheReplay tries to lock a row in a transaction on a slave.
func testNoLockStopsTheReplay(t *testing.T, c *servers.Cluster, db *gorm.DB, slave *sql.DB) {
	err := errors.Join(
		db.Exec("CREATE TABLE pets (id int PRIMARY KEY, n int)").Error,
		db.Exec("INSERT INTO pets VALUES (1, 0)").Error,
		c.CatchUp(t.Context()),
	)
	if err != nil {
		t.Fatal(err)
	}
	const locking = "SELECT n FROM pets WHERE id = 1 LOCK IN SHARE MODE"

	tx := db.Clauses(replicated.Slave).Begin()
	for name, err := range map[string]error{
		"raw": tx.Raw(locking).Scan(new(int)).Error,
		"clause.Locking": tx.Table("pets").Clauses(clause.Locking{Strength: "UPDATE"}).
			Scan(&[]map[string]any{}).Error,
		"GET_LOCK": tx.Raw("SELECT GET_LOCK('a', 0)").Scan(new(int)).Error,
	} {
		if !errors.Is(err, replicated.ErrWriteOnSlave) {
			t.Errorf("%s: %v, want ErrWriteOnSlave", name, err)
		}
	}
	err = errors.Join(
		tx.Raw("SELECT n FROM pets").Scan(new(int)).Error,
		db.Exec("UPDATE pets SET n = n + 1").Error,
		c.CatchUp(t.Context()), // while the transaction is open
		tx.Rollback().Error,
	)
	if err != nil {
		t.Error(err)
	}

	// The control: the same on the slave itself.
	direct, err := slave.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := direct.QueryRow(locking).Scan(new(int)); err != nil {
		t.Fatal(err)
	}
	if err := db.Exec("UPDATE pets SET n = n + 1").Error; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := waits(ctx, c.Slaves[0].DB()); err != nil {
		t.Errorf("the replay goes on: %v", err)
	}
	if err := errors.Join(direct.Rollback(), c.CatchUp(t.Context())); err != nil {
		t.Error(err)
	}
}

// waits returns when a transaction of the server waits for a row.
func waits(ctx context.Context, db *sql.DB) error {
	// InnoDB looks again only if it was not asked for 0.1 s.
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for {
		var waiting int
		const q = "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
		if err := db.QueryRowContext(ctx, q).Scan(&waiting); err != nil {
			return fmt.Errorf("nothing waits: %w", err)
		}
		if waiting > 0 {
			return nil
		}
		<-again.C
	}
}
