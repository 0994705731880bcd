package faults_test

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"gorm.io/driver/postgres"

	"github.com/gorm-replicated/replicated/integration/servers"
)

const (
	postgreSQLData    = "SHOW data_directory"
	postgreSQLKillAll = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'test'"
)

var postgreSQL = &engine{
	name:  "PostgreSQL",
	dial:  postgres.Open,
	start: servers.StartPostgreSQL,
	options: []string{
		"--max_connections=70", // so few that they are soon taken
		// A slave that is put back wants again what its slot has let go of: some seconds' worth.
		"--wal_keep_size=64MB",
	},
	// A connection costs both sides thousands of hashes, the race detector watching; and here they are made by
	// the hundred. One round of hashing takes from the account what protects it from nobody here.
	prepare: func(ctx context.Context, c *servers.Cluster) error {
		u, err := url.Parse(c.Master.DSN())
		if err != nil {
			return errors.New("a DSN of package servers does not parse")
		}
		password, _ := u.User.Password()
		salt := []byte("faults")
		salted, err := pbkdf2.Key(sha256.New, password, salt, 1, sha256.Size)
		if err != nil {
			return err
		}
		key := func(what string) []byte {
			h := hmac.New(sha256.New, salted)
			h.Write([]byte(what))
			return h.Sum(nil)
		}
		stored := sha256.Sum256(key("Client Key"))
		text := base64.StdEncoding.EncodeToString
		err = exec(ctx, c.Master, fmt.Sprintf("ALTER ROLE test PASSWORD 'SCRAM-SHA-256$1:%s$%s:%s'",
			text(salt), text(stored[:]), text(key("Server Key"))),
			// Or it takes minutes until a standby's position is known to be one of a new master: see
			// internal/position.
			"GRANT pg_read_all_stats TO test")
		if err != nil {
			return err
		}
		return c.CatchUp(ctx)
	},
	through: func(dsn, addr string) string {
		u, err := url.Parse(dsn)
		if err != nil {
			panic("a DSN of package servers does not parse")
		}
		u.Host = addr
		return u.String()
	},
	slow: func(d time.Duration, word string) string {
		return fmt.Sprintf("SELECT 0 AS %s FROM pg_sleep(%.3f)", word, d.Seconds())
	},
	active: "SELECT pid || '/' || query_start FROM pg_stat_activity WHERE query LIKE $1 AND state = 'active' " +
		"AND clock_timestamp() - query_start > '100 ms' AND pid <> pg_backend_pid()",
	data:        postgreSQLData,
	connections: "SELECT count(*) FROM pg_stat_activity WHERE usename = 'test'",
	killAll:     postgreSQLKillAll,
	kill:        "SELECT pg_terminate_backend(%s)",
	creates: []string{
		"CREATE OR REPLACE FUNCTION raises(state text) RETURNS int LANGUAGE plpgsql AS " +
			"$$ BEGIN RAISE EXCEPTION 'it was raised' USING ERRCODE = state; END $$",
		"CREATE OR REPLACE FUNCTION crash() RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS " +
			"$$ BEGIN IF pg_is_in_recovery() THEN COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID'; END IF; " +
			"RETURN 1; END $$",
		"CREATE EXTENSION IF NOT EXISTS postgres_fdw",
		"DROP SERVER IF EXISTS gone CASCADE",
		"CREATE SERVER gone FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1')",
		"CREATE USER MAPPING FOR test SERVER gone OPTIONS (user 'nobody', password 'none')",
		"CREATE FOREIGN TABLE remote (id int) SERVER gone",
		"GRANT SELECT ON remote TO test",
	},
	dies: "SELECT crash()",
	raises: []raiser{
		{"SELECT raises('28P01')", "was raised"}, {"SELECT raises('28000')", "was raised"},
		{"SELECT raises('08000')", "was raised"}, {"SELECT raises('53300')", "was raised"},
		{"SELECT raises('57P01')", "was raised"}, {"SELECT raises('57P03')", "was raised"},
		{"SELECT raises('3D000')", "was raised"}, {"SELECT raises('40001')", "was raised"},
		{"SELECT id FROM remote", "could not connect to server"},
	},
	refusals:    []refusal{{name: "rejected", says: "28000", begin: rejected}},
	crowd:       postgreSQLCrowded,
	lockAccount: rejected,
	lockOut:     postgreSQLLockOut,
	readOnly:    postgreSQLReadOnly,
	sever:       postgreSQLSever,
	lose:        postgreSQLLose,
	promote:     postgreSQLPromote,
	// Its log goes on by itself. Whoever is promoted has to have all of it, and gets the rest when it ends.
	retire: func(ctx context.Context, s *servers.Server) error { return s.Stop(ctx) },
	attach: postgreSQLAttach,
}

// postgreSQLCrowded has a server take no more connections.
func postgreSQLCrowded(ctx context.Context, s *servers.Server) (ending, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var task sync.WaitGroup
	full := make(chan struct{})
	task.Go(func() { postgreSQLCrowd(ctx, s, full) })
	undo := func(context.Context) error { cancel(); task.Wait(); return nil }
	select {
	case <-full:
		return undo, nil
	case <-time.After(hangs):
		return undo, fmt.Errorf("%v takes more and more connections", s)
	}
}

// postgreSQLLockOut has the server refuse the application, and ends its connections.
func postgreSQLLockOut(ctx context.Context, s *servers.Server) (ending, error) {
	undo, err := rejected(ctx, s)
	if err == nil {
		err = exec(ctx, s, postgreSQLKillAll)
	}
	return undo, err
}

// postgreSQLSever has a standby receive nothing.
func postgreSQLSever(ctx context.Context, s *servers.Server) (ending, error) {
	info, err := ask[string](ctx, s, "SHOW primary_conninfo")
	if err != nil {
		return nil, err
	}
	undo := func(ctx context.Context) error { return postgreSQLFollow(ctx, s, info) }
	return undo, postgreSQLFollow(ctx, s, "")
}

// postgreSQLPromote promotes the standby that has received the most, and has the others follow it.
func postgreSQLPromote(ctx context.Context, slaves []*servers.Server) (*servers.Server, error) {
	first, err := postgreSQLFurthest(ctx, slaves)
	if err != nil {
		return nil, err
	}
	if err := exec(ctx, first, "SELECT pg_promote(true, 30)"); err != nil {
		return nil, err
	}
	for _, s := range slaves {
		if s == first {
			continue
		}
		slot := fmt.Sprintf("'slave_%d'", s.ID())
		err := exec(ctx, first, "SELECT pg_create_physical_replication_slot("+slot+", true) "+
			"WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = "+slot+")")
		if err != nil {
			return nil, err
		}
		info, err := ask[string](ctx, s, "SHOW primary_conninfo")
		if err != nil {
			return nil, err
		}
		info = regexp.MustCompile(`port='?\d+'?`).ReplaceAllString(info, fmt.Sprintf("port=%d", first.Port()))
		if err := postgreSQLFollow(ctx, s, info); err != nil {
			return nil, err
		}
	}
	return first, nil
}

// postgreSQLFurthest returns the standby that has received the most.
func postgreSQLFurthest(ctx context.Context, slaves []*servers.Server) (first *servers.Server, err error) {
	var furthest string
	for _, s := range slaves { // a text of which the larger one is not always the later one
		at, err := ask[string](ctx, s, "SELECT lpad(pg_wal_lsn_diff("+
			"greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), '0/0')::text, 30)")
		if err != nil {
			return nil, err
		}
		if first == nil || at > furthest {
			first, furthest = s, at
		}
	}
	return first, nil
}

// postgreSQLAttach starts a former master, which is down, as a standby.
func postgreSQLAttach(ctx context.Context, former, master *servers.Server) error {
	there, err := ask[string](ctx, master, "SHOW data_directory") // …/2/data
	if err != nil {
		return err
	}
	dir := filepath.Join(filepath.Dir(filepath.Dir(there)), fmt.Sprint(former.ID()), "data")
	u, err := url.Parse(master.DSN())
	if err != nil {
		return errors.New("a DSN of package servers does not parse")
	}
	password, _ := u.User.Password()
	settings, err := os.OpenFile(filepath.Join(dir, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(settings,
		"\nprimary_conninfo = 'host=127.0.0.1 port=%d user=admin password=%s sslmode=disable'\n",
		master.Port(), password)
	err = errors.Join(err, settings.Close(), os.WriteFile(filepath.Join(dir, "standby.signal"), nil, 0o644))
	if err != nil {
		return err
	}
	return former.Start(ctx)
}

// rejected has the server reject new connections of the application's account.
func rejected(ctx context.Context, s *servers.Server) (ending, error) {
	file, err := ask[string](ctx, s, "SHOW hba_file")
	if err != nil {
		return nil, err
	}
	before, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	write := func(ctx context.Context, text string) error {
		return errors.Join(os.WriteFile(file, []byte(text), 0o600), exec(ctx, s, "SELECT pg_reload_conf()"))
	}
	undo := func(ctx context.Context) error { return write(ctx, string(before)) }
	return undo, write(ctx, "host all test all reject\n"+string(before))
}

// postgreSQLCrowd takes every connection that a server has until ctx ends. One that has begun to introduce
// itself, and waits for ever with its password, counts. It closes full when there was none left.
func postgreSQLCrowd(ctx context.Context, s *servers.Server, full chan<- struct{}) {
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	begin := []byte("\x00\x00\x00\x00\x00\x03\x00\x00user\x00test\x00database\x00test\x00\x00")
	begin[3] = byte(len(begin))
	once := sync.OnceFunc(func() { close(full) })
	for ctx.Err() == nil {
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			return // it is down
		}
		answer := make([]byte, 1)
		_ = c.SetDeadline(time.Now().Add(hangs / 4))
		if _, err = c.Write(begin); err == nil {
			_, err = c.Read(answer)
		}
		if err == nil && answer[0] == 'R' {
			conns = append(conns, c)
			continue
		}
		_ = c.Close()
		once()
		pass(ctx, 20*time.Millisecond)
	}
}

// postgreSQLFollow has a standby receive from the server that info, which has a password, leads to; "": from
// none.
func postgreSQLFollow(ctx context.Context, s *servers.Server, info string) error {
	return exec(ctx, s, "ALTER SYSTEM SET primary_conninfo = '"+strings.ReplaceAll(info, "'", "''")+"'",
		"SELECT pg_reload_conf()")
}

// postgreSQLLose replaces a standby, after it has come further, by a copy of what it was before, as one
// restored from a snapshot. The copy does not replay what was committed since.
func postgreSQLLose(
	ctx context.Context, s *servers.Server, meanwhile func(context.Context) error,
) (ending, error) {
	data, err := ask[string](ctx, s, postgreSQLData)
	if err != nil {
		return nil, err
	}
	before, after := data+".before", data+".after"
	undo := func(ctx context.Context) error {
		// As it is again if the copy could not take its place; otherwise there is nothing to rename.
		_ = os.Rename(after, data)
		return errors.Join(os.RemoveAll(before), os.RemoveAll(after), ensure(s)(ctx),
			exec(ctx, s, "ALTER SYSTEM RESET recovery_min_apply_delay", "SELECT pg_reload_conf()"))
	}
	// A copy begins where all was last written to the folder. That shall not be long ago.
	if err := exec(ctx, s, "CHECKPOINT"); err != nil {
		return undo, err
	}
	if err := errors.Join(s.Freeze(), copied(ctx, data, before), s.Thaw()); err != nil {
		return undo, err
	}
	at, err := ask[string](ctx, s, "SELECT pg_last_wal_replay_lsn()::text")
	if err != nil {
		return undo, err
	}
	if err := meanwhile(ctx); err != nil {
		return undo, err
	}
	if err := postgreSQLAdvance(ctx, s, at); err != nil {
		return undo, err
	}
	// Were it killed, its shared memory would be left behind: the id is in the folder.
	if err := s.Stop(ctx); err != nil {
		return undo, err
	}
	settings, err := os.OpenFile(filepath.Join(before, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return undo, err
	}
	_, err = fmt.Fprintln(settings, "\nrecovery_min_apply_delay = '1h'")
	// The file is that of the server that was frozen.
	err = errors.Join(err, settings.Close(), os.Remove(filepath.Join(before, "postmaster.pid")))
	if err != nil {
		return undo, err
	}
	if err := errors.Join(os.Rename(data, after), os.Rename(before, data)); err != nil {
		return undo, err
	}
	return undo, errors.Join(os.RemoveAll(after), s.Start(ctx))
}

// copied copies a folder, its owner and its modes included.
func copied(ctx context.Context, from, to string) error {
	if out, err := osexec.CommandContext(ctx, "cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copying %s: %w: %s", from, err, out)
	}
	return nil
}

// postgreSQLAdvance waits until a standby has told the application of a position that is later than at. It
// does not wait for ever: the master may be down.
func postgreSQLAdvance(ctx context.Context, s *servers.Server, at string) error {
	conn, err := s.DB().Conn(ctx)
	if err != nil {
		return fmt.Errorf("%v: %w", s, err)
	}
	defer conn.Close()
	for _, query := range []string{ // what each returns is the argument of the next
		"SELECT clock_timestamp()::text WHERE pg_last_wal_replay_lsn() > $1::text::pg_lsn",
		"SELECT query FROM pg_stat_activity WHERE usename = 'test' AND state = 'idle' " +
			"AND query LIKE '%pg_last_wal_replay_lsn%' AND query_start > $1::text::timestamptz LIMIT 1",
	} {
		err := await(ctx, func() error { return conn.QueryRowContext(ctx, query, at).Scan(&at) })
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		} else if err != nil {
			return fmt.Errorf("%v: %w", s, err)
		}
	}
	return nil
}

// postgreSQLReadOnly returns when no transaction can write any longer.
func postgreSQLReadOnly(ctx context.Context, s *servers.Server) (ending, error) {
	undo, err := ordered(
		[]string{"ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"},
		[]string{"ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"},
	)(ctx, s)
	if err != nil {
		return undo, err
	}
	// A new session has the setting once the server has told all sessions of it. They heed it in their next
	// transaction.
	var since string
	err = await(ctx, func() (err error) {
		since, err = ask[string](ctx, s, "SELECT clock_timestamp()::text "+
			"WHERE current_setting('default_transaction_read_only') = 'on'")
		return err
	})
	if err != nil {
		return undo, err
	}
	return undo, await(ctx, func() error {
		n, err := ask[int](ctx, s, "SELECT count(*) FROM pg_stat_activity WHERE NOT pg_is_in_recovery() "+
			"AND usename = 'test' AND xact_start < $1::text::timestamptz", since)
		if err == nil && n > 0 {
			err = fmt.Errorf("%v: %d transactions from before go on", s, n)
		}
		return err
	})
}
