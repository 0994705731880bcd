package servers

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// The accounts, the password of which is the cluster's, and the database.
const (
	postgreSQLAdmin    = "admin"
	postgreSQLUser     = "test"
	postgreSQLDatabase = "test"
	postgreSQLPackage  = "postgresql"
)

// postgreSQL is the engine of PostgreSQL, from 14 on.
type postgreSQL struct{}

var _ engine = postgreSQL{}

// postgreSQLPrograms are those needed; they have to be of one version.
var postgreSQLPrograms = []string{"initdb", "postgres", "pg_basebackup"}

// postgreSQLBin returns the folder with the programs: the first one in PATH that has them all, or else
// Debian's of the newest version. (What Debian has in PATH are some clients, which pick a version as they
// like.)
func postgreSQLBin() (string, error) {
	debian, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	version := func(dir string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir))) // 0, and last, if it is none
		return n
	}
	slices.SortFunc(debian, func(a, b string) int { return version(b) - version(a) })
	for _, dir := range slices.Concat(filepath.SplitList(os.Getenv("PATH")), debian) {
		lacks := func(name string) bool {
			_, err := exec.LookPath(filepath.Join(dir, name))
			return err != nil
		}
		if filepath.IsAbs(dir) && !slices.ContainsFunc(postgreSQLPrograms, lacks) {
			return dir, nil
		}
	}
	return "", notInstalled(strings.Join(postgreSQLPrograms, ", "), postgreSQLPackage)
}

// postgreSQLAccount returns the account that PostgreSQL runs as: it refuses to be root. The result is nil if
// it can be that of this process.
func postgreSQLAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	var errs []error
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		return &account{name, uint32(uid), uint32(gid)}, errors.Join(err1, err2)
	}
	return nil, fmt.Errorf("PostgreSQL refuses to run as root: %w", errors.Join(errs...))
}

// tool returns the command that runs a program of PostgreSQL.
func (postgreSQL) tool(name string, args ...string) (command, error) {
	bin, err := postgreSQLBin()
	if err != nil {
		return command{}, err
	}
	user, err := postgreSQLAccount()
	if err != nil {
		return command{}, err
	}
	// Nothing else from here: PGDATA, PGOPTIONS and the like would change what the programs do, and if they run
	// as somebody else, the rest is none of his business.
	env := []string{"LC_ALL=C"}
	for _, name := range []string{"PATH", "LD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return command{argv: append([]string{filepath.Join(bin, name)}, args...), env: env, user: user}, nil
}

// fill runs a program that makes the data folder dir. That is there already, empty: where programs run as
// another account, it is all that this one can write to.
func (e postgreSQL) fill(ctx context.Context, r *reaper, dir string, c command) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := c.user.own(dir); err != nil {
		return err
	}
	return e.run(ctx, r, dir, c)
}

// run runs a program that works on the data folder dir.
func (postgreSQL) run(ctx context.Context, r *reaper, dir string, c command) error {
	name := filepath.Base(c.argv[0])
	if err := r.runToEnd(ctx, fmt.Sprintf("%s.%s.log", dir, name), c); err != nil {
		if c.user != nil {
			name += " as " + c.user.name
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (e postgreSQL) install(ctx context.Context, c *Cluster, dir string) error {
	password := dir + ".password"
	initdb, err := e.tool("initdb",
		"--pgdata="+dir,
		"--username="+postgreSQLAdmin,
		"--pwfile="+password,
		"--auth=scram-sha-256",
		"--encoding=UTF8",
		"--locale=C",
		"--wal-segsize=1", // MB: starts, and copies, are faster
		"--no-sync",
	)
	if err != nil {
		return err
	}
	if err := os.WriteFile(password, []byte(c.password), 0o600); err != nil {
		return fmt.Errorf("servers: %w", err)
	}
	if err := errors.Join(initdb.user.own(password), initdb.user.letThrough(c.reaper.dir)); err != nil {
		return fmt.Errorf("servers: %w", err)
	}
	if err := e.fill(ctx, c.reaper, dir, initdb); err != nil {
		return fmt.Errorf("servers: installing PostgreSQL: %w", err)
	}
	// The database is made before any server runs, as nobody can connect to one that is not there.
	single, err := e.tool("postgres", "--single", "-D", dir, "-c", "exit_on_error=on", "-c", "fsync=off",
		"-c", "dynamic_shared_memory_type=mmap", "postgres")
	if err != nil {
		return err
	}
	createDatabase := "CREATE DATABASE " + postgreSQLDatabase
	single.argv = append([]string{"/bin/sh", "-c", `echo "$0" | exec "$@"`, createDatabase}, single.argv...)
	if err := e.run(ctx, c.reaper, dir, single); err != nil {
		return fmt.Errorf("servers: installing PostgreSQL: %w", err)
	}
	return nil
}

func (e postgreSQL) create(ctx context.Context, s *Server, installed string) error {
	account, err := postgreSQLAccount()
	if err != nil {
		return err
	}
	if err := account.letThrough(s.dir); err != nil {
		return err
	}
	if s.master == nil {
		return os.Rename(installed, s.data())
	}
	// From here on the master keeps what the slave has not received, however long the slave is down.
	_, err = s.master.db.ExecContext(ctx, "SELECT pg_create_physical_replication_slot($1, true)", e.slot(s))
	if err != nil {
		return err
	}
	backup, err := e.tool("pg_basebackup",
		"--dbname="+fmt.Sprintf("host=127.0.0.1 port=%d user=%s sslmode=disable", s.master.port, postgreSQLAdmin),
		"--pgdata="+s.data(),
		"--write-recovery-conf",
		"--checkpoint=fast",
		"--wal-method=none", // it gets that from the slot
		"--no-manifest",
		"--no-sync",
	)
	if err != nil {
		return err
	}
	backup.env = append(backup.env, "PGPASSWORD="+s.cluster.password)
	return e.fill(ctx, s.cluster.reaper, s.data(), backup)
}

// postgreSQLLog are the settings that ownTransactions relies on.
var postgreSQLLog = map[string]string{
	"log_destination":         "stderr",
	"logging_collector":       "off", // would write later than it answers
	"log_line_prefix":         "%m [%p] %e ",
	"log_timezone":            "UTC",
	"log_min_messages":        "warning",
	"log_min_error_statement": "error",
	"log_error_verbosity":     "default",
	"lc_messages":             "C",
}

func (e postgreSQL) command(s *Server) (command, error) {
	// The same everywhere: a standby with less than its master does not work.
	senders := 10 + 2*len(s.cluster.Slaves)
	options := []string{
		"-D", s.data(),
		"--listen_addresses=127.0.0.1",
		fmt.Sprintf("--port=%d", s.port),
		"--unix_socket_directories=", // none
		"--cluster_name=" + e.name(s),
		"--max_connections=200",
		fmt.Sprintf("--max_wal_senders=%d", senders),
		fmt.Sprintf("--max_replication_slots=%d", senders),
		"--max_logical_replication_workers=0",
		"--shared_buffers=32MB",
		"--dynamic_shared_memory_type=mmap", // in the data folder; what is in /dev/shm outlasts kill -9
		// A server that is killed loses nothing: what is committed has been written, that is, reached the kernel,
		// and nothing here has to survive the machine. But full_page_writes stays on: kill -9 may end a write
		// between two pages of memory, which make one page of the database.
		"--fsync=off",
		"--wal_init_zero=off",
		"--min_wal_size=16MB",
		"--max_wal_size=128MB",
		// Seconds until it notices that the other one is frozen; otherwise it takes a minute to stop cleanly.
		"--wal_sender_timeout=5s",
		"--wal_receiver_timeout=5s",
		"--wal_retrieve_retry_interval=100ms", // until a slave tries again to reach its master
		// No query on a slave fails because the master has cleaned up what the query reads. A test that wants that
		// drops the table.
		"--hot_standby_feedback=on",
		"--wal_receiver_status_interval=1s",
		// No test can foresee what it does: it moves the position of an idle master, and takes locks.
		"--autovacuum=off",
		"--timezone=UTC",
		"--log_checkpoints=off",
	}
	if s.master != nil {
		options = append(options, "--primary_slot_name="+e.slot(s))
	}
	for _, name := range slices.Sorted(maps.Keys(postgreSQLLog)) {
		options = append(options, "--"+name+"="+postgreSQLLog[name])
	}
	cmd, err := e.tool("postgres", options...)
	if err != nil {
		return command{}, err
	}
	// A server that was killed has left its id behind. If a process of the same account has that id now, the new
	// server takes it for the old one, unless the process is the new server's grandparent, as is usual when a
	// machine has started again.
	if b, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid")); err == nil {
		pid, _, _ := strings.Cut(string(b), "\n")
		cmd.env = append(cmd.env, "PG_GRANDPARENT_PID="+pid)
	}
	return cmd, nil
}

// slot is the name of a slave's replication slot on its master.
func (postgreSQL) slot(s *Server) string { return "slave_" + strconv.Itoa(s.id) }

// name is the server's name in the list of processes, which no other server on the machine has.
func (postgreSQL) name(s *Server) string {
	return filepath.Base(s.cluster.reaper.dir) + "/" + strconv.Itoa(s.id)
}

// stopSignal asks for what PostgreSQL calls a fast shutdown; with SIGTERM it would wait for its clients.
func (postgreSQL) stopSignal() syscall.Signal { return syscall.SIGINT }

func (postgreSQL) portTaken(log string) bool { return strings.Contains(log, "Address already in use") }

func (postgreSQL) url(s *Server, addr, user string) string {
	u := url.URL{
		Scheme: "postgres",
		User:   url.UserPassword(user, s.cluster.password),
		Host:   addr,
		Path:   postgreSQLDatabase,
		// Also if the environment has other wishes.
		RawQuery: url.Values{"sslmode": {"disable"}, "timezone": {"UTC"}}.Encode(),
	}
	return u.String()
}

func (e postgreSQL) open(s *Server) (*sql.DB, error) {
	cfg, err := pgx.ParseConfig(e.url(s, s.ownAddr(), postgreSQLAdmin))
	if err != nil {
		return nil, err
	}
	// Keeps no statement, which could go stale when a test changes its tables.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec
	return stdlib.OpenDB(*cfg), nil
}

func (e postgreSQL) dsn(s *Server) string { return e.url(s, s.Addr(), postgreSQLUser) }

func (postgreSQL) answers(ctx context.Context, s *Server, db *sql.DB) error {
	var data string
	if err := db.QueryRowContext(ctx, "SHOW data_directory").Scan(&data); err != nil {
		return err
	}
	if data != s.data() {
		return fmt.Errorf("the server of %s is at %s", data, s.ownAddr()) // it was faster to take the port
	}
	return nil
}

func (postgreSQL) words(statement string) string { return statement }

// follow does nothing: what pg_basebackup makes is a standby from the beginning.
func (postgreSQL) follow(context.Context, *Server) error { return nil }

// createDatabase gives the database that is there to an account that is not: one transaction.
func (postgreSQL) createDatabase(ctx context.Context, master *Server) error {
	tx, err := master.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing, if it is committed
	for _, q := range []string{
		fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", postgreSQLUser, master.cluster.password),
		fmt.Sprintf("ALTER DATABASE %s OWNER TO %s", postgreSQLDatabase, postgreSQLUser),
		fmt.Sprintf("REVOKE ALL ON DATABASE %s, postgres, template1 FROM PUBLIC", postgreSQLDatabase),
	} {
		if _, err := tx.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("creating the database: %w", err)
		}
	}
	return tx.Commit()
}

// position is what has been flushed. What has been inserted into the log may stay ahead of that without a
// commit, at the end of a segment for one.
func (postgreSQL) position(ctx context.Context, master *Server) (position string, err error) {
	err = master.db.QueryRowContext(ctx, "SELECT pg_current_wal_flush_lsn()::text").Scan(&position)
	return position, err
}

func (postgreSQL) replayed(ctx context.Context, s *Server, position string) error {
	var failed error
	err := poll(ctx, func() error {
		var standby bool
		var there sql.NullBool
		var at sql.NullString
		failed = s.db.QueryRowContext(ctx,
			"SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn() >= $1::text::pg_lsn, "+
				"pg_last_wal_replay_lsn()::text", position).Scan(&standby, &there, &at)
		if failed == nil && !standby {
			failed = errors.New("it is no longer a standby")
		}
		if failed == nil && !there.Bool {
			return fmt.Errorf("it is at %s", at.String)
		}
		return nil
	})
	if err := errors.Join(failed, err); err != nil {
		return fmt.Errorf("waiting for %s: %w", position, err)
	}
	return nil
}

func (postgreSQL) exec(ctx context.Context, s *Server, q string) error {
	if _, err := s.db.ExecContext(ctx, q); err != nil {
		return fmt.Errorf("%s: %w", q, err)
	}
	return nil
}

// until asks, at intervals, until what it selects is true.
func (postgreSQL) until(ctx context.Context, on interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}, query string, args ...any) error {
	var failed error
	err := poll(ctx, func() error {
		var is bool
		failed = on.QueryRowContext(ctx, query, args...).Scan(&is)
		if failed == nil && !is {
			return errors.New("it is not so: " + query)
		}
		return nil
	})
	return errors.Join(failed, err)
}

func (e postgreSQL) hold(ctx context.Context, s *Server) error {
	if err := e.exec(ctx, s, "SELECT pg_wal_replay_pause()"); err != nil {
		return err
	}
	// Either the process that replays has paused, or it waits until a transaction is as old as Delay says. After
	// that wait it looks whether it is to pause, before it does anything else.
	return e.until(ctx, s.db, "SELECT pg_get_wal_replay_pause_state() = 'paused' OR EXISTS (SELECT FROM "+
		"pg_stat_activity WHERE backend_type = 'startup' AND wait_event = 'RecoveryApplyDelay')")
}

func (e postgreSQL) release(ctx context.Context, s *Server) error {
	return e.exec(ctx, s, "SELECT pg_wal_replay_resume()")
}

func (e postgreSQL) delay(ctx context.Context, s *Server, seconds int) error {
	var held bool
	err := s.db.QueryRowContext(ctx, "SELECT pg_is_wal_replay_paused()").Scan(&held) // or about to pause
	if err != nil {
		return err
	}
	set := fmt.Sprintf("ALTER SYSTEM SET recovery_min_apply_delay = '%ds'", seconds)
	if err := e.exec(ctx, s, set); err != nil {
		return err
	}
	if err := e.reload(ctx, s); err != nil {
		return err
	}
	// The process that replays has been told. Nothing shows when it takes notice, but it does before it pauses.
	if !held {
		return errors.Join(e.hold(ctx, s), e.release(ctx, s))
	}
	if seconds == 0 {
		return nil // it takes notice, at the latest, when it is about to wait
	}
	// While it pauses, it takes notice once a second.
	return e.exec(ctx, s, "SELECT pg_sleep(1.5)")
}

// reload has all processes of s told that its configuration has changed.
func (e postgreSQL) reload(ctx context.Context, s *Server) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	// The server tells one process after the other, in its own time. When the process of this connection has
	// been told a second time, all have been told the first time.
	for range 2 {
		var before string
		if err := conn.QueryRowContext(ctx, "SELECT pg_conf_load_time()::text").Scan(&before); err != nil {
			return err
		}
		if _, err := conn.ExecContext(ctx, "SELECT pg_reload_conf()"); err != nil {
			return err
		}
		if err := e.until(ctx, conn, "SELECT pg_conf_load_time()::text <> $1::text", before); err != nil {
			return err
		}
	}
	return nil
}

// ownTransactions finds the statements that the standby has refused because they write, and logged before it
// answered. Each message reaches the file at once, and as a whole.
func (e postgreSQL) ownTransactions(ctx context.Context, s *Server) ([]string, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT name, setting FROM pg_settings")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name, setting string
		if err := rows.Scan(&name, &setting); err != nil {
			return nil, err
		}
		if want, ok := postgreSQLLog[name]; ok && setting != want {
			return nil, fmt.Errorf("%s is %q: it has to be %q, or the log does not tell", name, setting, want)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	var standby bool
	if err := s.db.QueryRowContext(ctx, "SELECT pg_is_in_recovery()").Scan(&standby); err != nil {
		return nil, err
	}
	log, err := os.Open(s.log())
	if err != nil {
		return nil, err
	}
	defer log.Close()
	own, err := postgreSQLRefused(log)
	if err == nil && !standby {
		own = append(own, "it is no longer a standby, and takes writes")
	}
	return own, err
}

// postgreSQLRefused returns the statements that a log has as refused because they write: SQLSTATE 25006.
func postgreSQLRefused(log io.Reader) ([]string, error) {
	var all refusals
	for r := bufio.NewReader(log); ; {
		line, err := r.ReadString('\n')
		all.read(strings.TrimSuffix(line, "\n"))
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	var own []string
	for _, text := range all.texts {
		own = append(own, text.String())
	}
	return own, nil
}

// refusals are gathered from a log line by line.
type refusals struct {
	texts []*strings.Builder // each the message, and the statement if the log has it
	goOn  bool               // lines that begin with a tab continue the last text
}

func (r *refusals) read(line string) {
	last := len(r.texts) - 1
	if more, ok := strings.CutPrefix(line, "\t"); ok {
		if r.goOn {
			r.texts[last].WriteString("\n" + more)
		}
		return
	}
	who, code, kind, text, ok := postgreSQLLine(line)
	if !ok {
		return
	}
	r.goOn = false
	switch {
	case code != "25006":
	case kind == "ERROR" || kind == "FATAL":
		r.goOn = true
		first := &strings.Builder{}
		first.WriteString(who + " " + text)
		r.texts = append(r.texts, first)
	case kind == "STATEMENT" && last >= 0:
		r.goOn = true
		r.texts[last].WriteString(": " + text)
	}
}

// postgreSQLLine takes apart a line that begins a message, or a part of one:
//
//	2006-01-02 15:04:05.000 UTC [4711] 25006 ERROR:  cannot …
//
// Lines that continue a text begin with a tab.
func postgreSQLLine(line string) (who, code, kind, text string, ok bool) {
	bracket := strings.Index(line[:min(len(line), 64)], "] ")
	if bracket < 0 {
		return "", "", "", "", false
	}
	who = line[:bracket+1]
	code, rest, _ := strings.Cut(line[bracket+2:], " ")
	kind, text, ok = strings.Cut(rest, ":  ")
	return who, code, kind, text, ok
}
