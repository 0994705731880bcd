package servers

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// PgBouncer says how a PgBouncer before each server is run. The zero value has it on its server's machine,
// where it shares the server's fate: what stops, kills or freezes one does the same to the other.
type PgBouncer struct {
	// Apart has each PgBouncer on a machine of its own: it goes on when its server is stopped, killed or frozen.
	Apart bool

	// Settings are lines of pgbouncer.ini, which win over those of this package: "max_client_conn = 50". Default
	// none.
	Settings []string
}

// pgBouncer is the engine of PostgreSQL with a PgBouncer, from 1.21 on, before each server.
type pgBouncer struct {
	postgreSQL
	settings PgBouncer
}

var (
	_ engine  = pgBouncer{}
	_ fronted = pgBouncer{}
)

func (e pgBouncer) front() (_ daemon, apart bool) {
	return pgBouncerDaemon{settings: e.settings.Settings}, e.settings.Apart
}

// pgBouncerDaemon runs a PgBouncer.
type pgBouncerDaemon struct{ settings []string }

func (e pgBouncerDaemon) command(s *Server) (command, error) {
	path, err := program("pgbouncer", "pgbouncer")
	if err != nil {
		return command{}, err
	}
	account, err := postgreSQLAccount() // PgBouncer refuses to be root as well
	if err != nil {
		return command{}, err
	}
	settings := slices.Concat([]string{
		"[databases]",
		fmt.Sprintf("%s = host=127.0.0.1 port=%d", postgreSQLDatabase, s.behind.port),
		"[pgbouncer]",
		"listen_addr = 127.0.0.1",
		fmt.Sprintf("listen_port = %d", s.port),
		"unix_socket_dir =", // none
		"auth_type = scram-sha-256",
		"auth_file = " + s.file("users"),
		"admin_users = " + postgreSQLAdmin,
		"stats_users = " + postgreSQLUser, // may ask it which clients it has
		"pool_mode = transaction",
		"max_prepared_statements = 200", // per connection; with 0, the default before 1.24, pgx's would be unknown
		"max_client_conn = 500",
		// Until it tries again to reach its server, for which clients wait in vain meanwhile. The default are 15 s.
		"server_login_retry = 1",
		"log_connections = 0",
		"log_disconnections = 0",
		"log_stats = 0",
	}, e.settings)
	users := ""
	for _, user := range []string{postgreSQLAdmin, postgreSQLUser} {
		users += fmt.Sprintf("%q %q\n", user, s.cluster.password)
	}
	for name, text := range map[string]string{"ini": strings.Join(settings, "\n") + "\n", "users": users} {
		if err := os.WriteFile(s.file(name), []byte(text), 0o600); err != nil {
			return command{}, err
		}
		if err := account.own(s.file(name)); err != nil {
			return command{}, err
		}
	}
	cmd := command{argv: []string{path, s.file("ini")}, env: []string{"LC_ALL=C"}, user: account}
	return cmd, account.letThrough(s.dir)
}

// file is the path of one of a PgBouncer's files.
func (s *Server) file(name string) string { return filepath.Join(s.dir, "pgbouncer."+name) }

// stopSignal ends PgBouncer at once; with SIGINT and SIGTERM it would wait for its clients.
func (pgBouncerDaemon) stopSignal() syscall.Signal { return syscall.SIGQUIT }

func (pgBouncerDaemon) portTaken(log string) bool {
	return strings.Contains(log, "Address already in use")
}

// open returns a pool of connections to PgBouncer's console.
func (pgBouncerDaemon) open(s *Server) (*sql.DB, error) {
	cfg, err := pgx.ParseConfig(postgreSQL{}.url(s, s.ownAddr(), postgreSQLAdmin))
	if err != nil {
		return nil, err
	}
	cfg.Database = "pgbouncer"
	cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol // it speaks no other
	delete(cfg.RuntimeParams, "timezone")
	db := stdlib.OpenDB(*cfg)
	db.SetMaxIdleConns(0) // it is asked when it starts, and not again
	return db, nil
}

// answers needs no proof that it is this one: nobody else's has an account with the cluster's password.
func (pgBouncerDaemon) answers(ctx context.Context, _ *Server, db *sql.DB) error {
	var version string
	return db.QueryRowContext(ctx, "SHOW VERSION").Scan(&version)
}
