package faults_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"
	"gorm.io/driver/mysql"

	"github.com/gorm-replicated/replicated/integration/servers"
)

// binlogEngine returns what MariaDB and MySQL have in common. Words about replication are MariaDB's: see
// exec.
func binlogEngine(kind string, start starter) *engine {
	e := &engine{
		name:  kind,
		dial:  mysql.Open,
		start: start,
		through: func(dsn, addr string) string {
			cfg := configOf(dsn)
			cfg.Addr = addr
			return cfg.FormatDSN()
		},
		slow: func(d time.Duration, word string) string {
			return fmt.Sprintf("SELECT SLEEP(%.3f) AS %s", d.Seconds(), word)
		},
		prepare:     func(context.Context, *servers.Cluster) error { return nil },
		data:        "SELECT @@datadir",
		schema:      "test.",
		connections: "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'test'",
		// It waits for statements that write, and for locks. The application's account has no privilege to
		// write all the same: it has some in its database only.
		readOnly: ordered([]string{"SET SESSION lock_wait_timeout = 10", "SET GLOBAL read_only = ON"},
			[]string{"SET GLOBAL read_only = OFF"}),
		retire:  func(context.Context, *servers.Server) error { return nil },
		sever:   ordered([]string{"STOP SLAVE"}, []string{"START SLAVE"}),
		forgets: true,
		kill:    "KILL %s",
		dies:    "SELECT dies()",
		creates: []string{
			"SET GLOBAL log_bin_trust_function_creators = ON",
			"DROP FUNCTION IF EXISTS test.raises",
			"CREATE FUNCTION test.raises(n INT) RETURNS INT DETERMINISTIC BEGIN " +
				"SIGNAL SQLSTATE '08001' SET MYSQL_ERRNO = n, MESSAGE_TEXT = 'it was raised'; RETURN 1; END",
			"DROP FUNCTION IF EXISTS test.dies",
			"CREATE FUNCTION test.dies() RETURNS INT NO SQL BEGIN KILL CONNECTION_ID(); RETURN 1; END",
		},
	}
	for _, n := range []int{1040, 1044, 1045, 1049, 1129, 1203, 1226, 1862, 3118, 3159, 4151} {
		query := fmt.Sprintf("SELECT id FROM items WHERE id = raises(%d)", n)
		e.raises = append(e.raises, raiser{query, "was raised"})
	}
	e.lockAccount = unlogged("ALTER USER test@'%' ACCOUNT LOCK", "ALTER USER test@'%' ACCOUNT UNLOCK")
	e.refusals = []refusal{
		{name: "account locked", begin: e.lockAccount, says: "3118|4151"},
		{name: "password expired", says: "1862|1820", begin: expired},
		{name: "no right to the database", says: "1044",
			begin: unlogged("REVOKE ALL ON test.* FROM test@'%'", "GRANT ALL ON test.* TO test@'%'")},
	}
	e.crowd = func(ctx context.Context, s *servers.Server) (func(context.Context) error, error) {
		return binlogCrowd(ctx, e, s)
	}
	return e
}

func configOf(dsn string) *mysqldriver.Config {
	cfg, err := mysqldriver.ParseDSN(dsn)
	if err != nil {
		panic("a DSN of package servers does not parse")
	}
	return cfg
}

// binlogCrowd takes all connections that the server has, after it has made them few.
func binlogCrowd(ctx context.Context, e *engine, s *servers.Server) (func(context.Context) error, error) {
	const least = 10 // of max_connections
	before, err := ask[int](ctx, s, "SELECT @@GLOBAL.max_connections")
	if err != nil {
		return nil, err
	}
	free, refused, err := occupy(ctx, e, s, least)
	if err = errors.Join(err, refused); err != nil {
		return nil, err
	}
	conn, err := s.DB().Conn(ctx) // it lets in one that may do everything, if there is not one already
	if err != nil {
		return nil, err
	}
	undo := func(ctx context.Context) error {
		err := execOn(ctx, conn, s, fmt.Sprintf("SET GLOBAL max_connections = %d", before))
		return errors.Join(err, conn.Close(), free())
	}
	return undo, execOn(ctx, conn, s, fmt.Sprintf("SET GLOBAL max_connections = %d", least))
}

// unreplicated keeps what a session does from being replicated, also by Galera, which MariaDB alone has.
const unreplicated = "SET SESSION sql_log_bin = OFF /*M! , SESSION wsrep_on = OFF */"

// binlogLockOut changes the application's account, and ends its connections.
func binlogLockOut(e *engine, account func(password string) (do, undo string)) beginning {
	return func(ctx context.Context, s *servers.Server) (ending, error) {
		end, err := unlogged(account(configOf(s.DSN()).Passwd))(ctx, s)
		return end, errors.Join(err, exec(ctx, s, e.killAll))
	}
}

// unlogged changes a server by a statement, and undoes that by another, neither of which becomes a
// transaction of its own.
func unlogged(do, undo string) beginning {
	run := func(ctx context.Context, s *servers.Server, statement string) error {
		return exec(ctx, s, unreplicated, statement)
	}
	return func(ctx context.Context, s *servers.Server) (ending, error) {
		return func(ctx context.Context) error { return run(ctx, s, undo) }, run(ctx, s, do)
	}
}

// expired has the password of the application's account expire.
func expired(ctx context.Context, s *servers.Server) (ending, error) {
	password := configOf(s.DSN()).Passwd
	return unlogged("ALTER USER test@'%' PASSWORD EXPIRE",
		fmt.Sprintf("ALTER USER test@'%%' IDENTIFIED BY '%s'", password))(ctx, s)
}

// binlogLose has a slave that has all rows forget how far it is, by a statement; at is an expression for how
// far it is.
func binlogLose(
	e *engine, at, forget string, remember func(at string) []string,
) func(context.Context, *servers.Server, func(context.Context) error) (ending, error) {
	return func(ctx context.Context, s *servers.Server, meanwhile func(context.Context) error) (ending, error) {
		if err := meanwhile(ctx); err != nil {
			return nil, err
		}
		start, err := e.sever(ctx, s)
		if err != nil {
			return nil, err
		}
		before, err := ask[string](ctx, s, "SELECT "+at)
		if err != nil || strings.Contains(before, "'") {
			return start, fmt.Errorf("it is at %q: %w", before, err)
		}
		undo := func(ctx context.Context) error {
			return errors.Join(exec(ctx, s, remember(before)...), start(ctx))
		}
		return undo, exec(ctx, s, forget)
	}
}

// binlogPromote makes the first slave the master of the others. All of them have to be at the same position.
func binlogPromote(at string) func(context.Context, []*servers.Server) (*servers.Server, error) {
	return func(ctx context.Context, slaves []*servers.Server) (*servers.Server, error) {
		first := slaves[0]
		furthest, err := ask[string](ctx, first, "SELECT "+at)
		if err != nil {
			return nil, err
		}
		for _, s := range slaves[1:] {
			if is, err := ask[string](ctx, s, "SELECT "+at); err != nil || is != furthest {
				return nil, fmt.Errorf("%v is at %s, %v at %s: %w", first, furthest, s, is, err)
			}
		}
		if err := exec(ctx, first, "STOP SLAVE", "RESET SLAVE ALL"); err != nil {
			return nil, err
		}
		for _, s := range slaves[1:] {
			err := exec(ctx, s, "STOP SLAVE",
				fmt.Sprintf("CHANGE MASTER TO MASTER_PORT = %d", first.Port()), "START SLAVE")
			if err != nil {
				return nil, err
			}
		}
		return first, nil
	}
}

// binlogAttach has the former master follow its successor, from the position that it has got to itself.
func binlogAttach(
	prepare []string, option string,
) func(ctx context.Context, former, master *servers.Server) error {
	return func(ctx context.Context, former, master *servers.Server) error {
		if err := ensure(former)(ctx); err != nil {
			return err
		}
		return exec(ctx, former, append(prepare, fmt.Sprintf("CHANGE MASTER TO %s, MASTER_PORT = %d, "+
			"MASTER_CONNECT_RETRY = 1, MASTER_HOST = '127.0.0.1', MASTER_USER = 'admin', MASTER_PASSWORD = '%s'",
			option, master.Port(), configOf(master.DSN()).Passwd), "START SLAVE")...)
	}
}

var mariaDB = mariaDBEngine("MariaDB", servers.StartMariaDB)

func mariaDBEngine(kind string, start starter) *engine {
	e := binlogEngine(kind, start)
	e.active = "SELECT CONCAT(ID, '/', QUERY_ID) FROM information_schema.PROCESSLIST " +
		"WHERE INFO LIKE ? AND TIME_MS > 100 AND ID <> CONNECTION_ID()"
	e.killAll = "KILL USER test"
	e.prepared = "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS " +
		"WHERE VARIABLE_NAME = 'PREPARED_STMT_COUNT'"
	e.lose = binlogLose(e, "@@GLOBAL.gtid_slave_pos", "SET GLOBAL gtid_slave_pos = ''",
		func(at string) []string { return []string{"SET GLOBAL gtid_slave_pos = '" + at + "'"} })
	e.lockOut = binlogLockOut(e, func(password string) (do, undo string) {
		return "ALTER USER test@'%' IDENTIFIED BY 'another'",
			fmt.Sprintf("ALTER USER test@'%%' IDENTIFIED BY '%s'", password)
	})
	// By default MariaDB lets in whose password has expired, and refuses all that he asks.
	e.refusals = append(e.refusals, refusal{name: "password expired, disconnecting", says: "1862",
		begin: func(ctx context.Context, s *servers.Server) (ending, error) {
			err := exec(ctx, s, "SET GLOBAL disconnect_on_expired_password = ON")
			if err != nil {
				return nil, err
			}
			end, err := expired(ctx, s)
			return func(ctx context.Context) error {
				return errors.Join(end(ctx), exec(ctx, s, "SET GLOBAL disconnect_on_expired_password = OFF"))
			}, err
		}})
	e.promote = binlogPromote("@@GLOBAL.gtid_binlog_pos") // of the one domain that there is
	e.attach = binlogAttach([]string{"SET GLOBAL gtid_slave_pos = @@GLOBAL.gtid_binlog_pos"},
		"MASTER_USE_GTID = slave_pos")
	return e
}

var mySQL = mySQLEngine("MySQL", servers.StartMySQL)

// mySQLEngine: MySQL has no statement that ends the connections of an account.
func mySQLEngine(kind string, start func(context.Context, servers.Config) (*servers.Cluster, error)) *engine {
	e := binlogEngine(kind, start)
	e.prepare = func(ctx context.Context, c *servers.Cluster) error {
		err := exec(ctx, c.Master, "CREATE DATABASE tools", `CREATE PROCEDURE tools.kill_all() BEGIN
DECLARE done INT DEFAULT 0;
DECLARE found BIGINT;
DECLARE all_of CURSOR FOR SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'test';
DECLARE CONTINUE HANDLER FOR NOT FOUND SET done = 1;
DECLARE CONTINUE HANDLER FOR 1094 BEGIN END; -- it has ended by itself
OPEN all_of;
each_one: LOOP
	FETCH all_of INTO found;
	IF done THEN LEAVE each_one; END IF;
	KILL found;
END LOOP;
CLOSE all_of;
END`)
		return errors.Join(err, c.CatchUp(ctx))
	}
	e.killAll = "CALL tools.kill_all()"
	e.active = "SELECT CONCAT(ID, '/', INFO) FROM information_schema.PROCESSLIST " +
		"WHERE INFO LIKE ? AND STATE = 'User sleep' AND ID <> CONNECTION_ID()"
	e.prepared = "SELECT VARIABLE_VALUE FROM performance_schema.global_status " +
		"WHERE VARIABLE_NAME = 'PREPARED_STMT_COUNT'"
	e.lose = binlogLose(e, "@@GLOBAL.gtid_executed", "RESET MASTER", func(at string) []string {
		return []string{"RESET MASTER", "SET GLOBAL gtid_purged = '" + strings.ReplaceAll(at, "\n", "") + "'"}
	})
	// Debian's 9.7 keeps the password that it saw last in mind, and goes on taking it after ALTER USER: it
	// lacks the part of the server that would have it forgotten.
	e.refusals = append(e.refusals, refusal{name: "TLS required", says: "3159", begin: tlsRequired})
	e.lockOut = binlogLockOut(e, func(string) (do, undo string) {
		return "RENAME USER test@'%' TO another@'%'", "RENAME USER another@'%' TO test@'%'"
	})
	e.promote = binlogPromote("@@GLOBAL.gtid_executed")
	e.attach = binlogAttach(nil, "MASTER_AUTO_POSITION = 1")
	return e
}

// tlsRequired has a server refuse connections without TLS, such as those of this package: it keeps one to
// undo that.
func tlsRequired(ctx context.Context, s *servers.Server) (ending, error) {
	conn, err := s.DB().Conn(ctx)
	if err != nil {
		return nil, err
	}
	undo := func(ctx context.Context) error {
		return errors.Join(execOn(ctx, conn, s, "SET GLOBAL require_secure_transport = OFF"), conn.Close())
	}
	return undo, execOn(ctx, conn, s, "SET GLOBAL require_secure_transport = ON")
}

// groupReplication is a group with a single primary. Its slaves refuse writes, also those of this package,
// until they are told not to.
var groupReplication = func() *engine {
	e := mySQLEngine("Group Replication", servers.StartGroupReplication)
	e.group = true
	e.readOnly = func(ctx context.Context, s *servers.Server) (func(context.Context) error, error) {
		if is, err := ask[bool](ctx, s, "SELECT @@GLOBAL.read_only"); is || err != nil {
			return nothing, err
		}
		return mySQL.readOnly(ctx, s)
	}
	e.sever = func(ctx context.Context, s *servers.Server) (func(context.Context) error, error) {
		start := "START GROUP_REPLICATION USER = 'admin', PASSWORD = '" + configOf(s.DSN()).Passwd + "'"
		undo := func(ctx context.Context) error { return exec(ctx, s, start) }
		return undo, exec(ctx, s, "STOP GROUP_REPLICATION")
	}
	lockOut := func(ctx context.Context, s *servers.Server, statement string) error {
		is, err := ask[bool](ctx, s, "SELECT @@GLOBAL.super_read_only")
		if err != nil {
			return err
		}
		return exec(ctx, s, unreplicated, "SET GLOBAL super_read_only = OFF", statement,
			fmt.Sprintf("SET GLOBAL super_read_only = %t", is))
	}
	e.lockOut = func(ctx context.Context, s *servers.Server) (func(context.Context) error, error) {
		undo := func(ctx context.Context) error { return lockOut(ctx, s, "RENAME USER another@'%' TO test@'%'") }
		return undo, errors.Join(lockOut(ctx, s, "RENAME USER test@'%' TO another@'%'"), exec(ctx, s, e.killAll))
	}
	e.lockAccount = func(ctx context.Context, s *servers.Server) (ending, error) {
		undo := func(ctx context.Context) error { return lockOut(ctx, s, "ALTER USER test@'%' ACCOUNT UNLOCK") }
		return undo, lockOut(ctx, s, "ALTER USER test@'%' ACCOUNT LOCK")
	}
	e.refusals = []refusal{{name: "account locked", begin: e.lockAccount, says: "3118|4151"}}
	e.promote = func(ctx context.Context, slaves []*servers.Server) (primary *servers.Server, err error) {
		err = await(ctx, func() error {
			for _, s := range slaves {
				is, err := ask[bool](ctx, s, "SELECT member_role = 'PRIMARY' "+
					"FROM performance_schema.replication_group_members "+
					"WHERE member_id = @@GLOBAL.server_uuid")
				if err != nil {
					return err
				} else if is {
					primary = s
					return exec(ctx, s, "SET GLOBAL group_replication_member_weight = 100") // and stays it
				}
			}
			return errNotYet
		})
		return primary, err
	}
	e.attach = func(ctx context.Context, former, _ *servers.Server) error { return former.Start(ctx) }
	return e
}()
