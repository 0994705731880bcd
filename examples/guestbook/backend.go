package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/glebarez/sqlite"
	mysqldriver "github.com/go-sql-driver/mysql"
	"gorm.io/driver/mysql"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gorm-replicated/replicated"
)

// backend is where the entries live: a master and its slaves.
type backend struct {
	master      gorm.Dialector
	slaves      []gorm.Dialector
	addresses   map[string]string         // of the servers, by name, where they have any
	replication *replication              // nil on real servers, whose replication is their own
	source      replicated.PositionSource // nil on real servers, which the plugin knows how to ask
	dir         string                    // to remove in the end
}

const masterName = "master"

// openFiles makes a master and two slaves in files that Close removes.
func openFiles() (*backend, error) {
	dir, err := os.MkdirTemp("", "guestbook-")
	if err != nil {
		return nil, err
	}
	r, err := startReplication(dir, 2)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	b := &backend{master: sqlite.Open(r.MasterDSN()), replication: r, source: positions{}, dir: dir}
	for i, dsn := range r.SlaveDSNs() {
		b.slaves = append(b.slaves, replicated.Server{Dialector: sqlite.Open(dsn), ID: slaveName(i)})
	}
	return b, nil
}

// openServers takes MySQL or MariaDB servers that replicate already. It makes the guestbook's table on the
// master, and waits a while for the slaves to have it.
func openServers(ctx context.Context, master string, slaves []string) (*backend, error) {
	b := &backend{addresses: map[string]string{}}
	dsns := append([]string{master}, slaves...)
	for i, dsn := range dsns {
		name := masterName
		if i > 0 {
			name = slaveName(i - 1)
		}
		cfg, err := mysqldriver.ParseDSN(dsn)
		if err != nil {
			return nil, fmt.Errorf("the DSN of %s: %w", name, err) // the driver's errors do not quote it
		}
		cfg.ParseTime = true
		b.addresses[name] = cfg.Addr
		if d := mysql.New(mysql.Config{DSNConfig: cfg}); i == 0 {
			b.master = d
		} else {
			b.slaves = append(b.slaves, replicated.Server{Dialector: d, ID: name})
		}
	}
	if err := b.migrate(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *backend) migrate(ctx context.Context) error {
	err := b.connect(b.master, func(db *gorm.DB) error { return db.WithContext(ctx).AutoMigrate(&Entry{}) })
	if err != nil {
		return fmt.Errorf("make the table on the master: %w", err)
	}
	patience, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for i, d := range b.slaves {
		err := b.connect(d, func(db *gorm.DB) error { return awaitTable(patience, db) })
		if err != nil {
			slog.Warn("a slave is not ready: it cannot be asked for the table", "slave", slaveName(i), "error", err)
		}
	}
	return ctx.Err()
}

// connect opens a server for the time of one call.
func (b *backend) connect(d gorm.Dialector, use func(*gorm.DB) error) error {
	db, err := gorm.Open(d, quiet())
	if err != nil {
		return err
	}
	pool, err := db.DB()
	if err != nil {
		return err
	}
	return errors.Join(use(db), pool.Close())
}

// awaitTable asks for the entries' table until it is there.
func awaitTable(ctx context.Context, db *gorm.DB) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := db.WithContext(ctx).Limit(1).Find(&[]Entry{}).Error
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// slaveNames are the names by which the plugin knows the slaves.
func (b *backend) slaveNames() []string {
	var names []string
	for i := range b.slaves {
		names = append(names, slaveName(i))
	}
	return names
}

// Close ends what openFiles began.
func (b *backend) Close() error {
	if b.replication == nil {
		return nil
	}
	return errors.Join(b.replication.Close(), os.RemoveAll(b.dir))
}

// quiet is GORM without its own log: whoever asks handles the error.
func quiet() *gorm.Config { return &gorm.Config{Logger: logger.Discard} }
