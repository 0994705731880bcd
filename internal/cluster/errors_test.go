package cluster

import (
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/gorm-replicated/replicated/internal/cluster/testdata/pgconn"
)

type sqlState string

func (s sqlState) Error() string    { return string(s) }
func (s sqlState) SQLState() string { return string(s) }

type sqliteCode int

func (c sqliteCode) Error() string { return "SQLite" }
func (c sqliteCode) Code() int     { return int(c) }

// prevented returns the error of an option that prevents a statement.
func prevented(option string) error {
	return &mysql.MySQLError{
		Number: 1290, Message: "The " + option + " option so it cannot execute this statement",
	}
}

func TestIsReadOnly(t *testing.T) {
	for _, test := range []struct {
		name, dialect string
		err           error
		want          bool
	}{
		{"MariaDB, read_only", "mysql", prevented("MariaDB server is running with the --read-only"), true},
		{"MySQL, super_read_only", "mysql", prevented("MySQL server is running with the --super-read-only"), true},
		{"another option", "mysql", prevented("MySQL server is running with the --secure-file-priv"), false},
		{"read-only transaction", "mysql", &mysql.MySQLError{Number: 1792}, true},
		{"read-only mode", "mysql", &mysql.MySQLError{Number: 1836}, true},
		{"a syntax error", "mysql", &mysql.MySQLError{Number: 1064}, false},
		{"wrapped", "mysql", fmt.Errorf("query: %w", &mysql.MySQLError{Number: 1792}), true},
		{"read-only schema", "mysql", &mysql.MySQLError{Number: 3989}, true},
		{"PostgreSQL", "postgres", sqlState("25006"), true},
		{"PostgreSQL, raised by a function", "postgres",
			&pgError{code: "25006", Routine: "exec_stmt_raise"}, false},
		{"PostgreSQL, a transaction's number", "postgres",
			&pgError{code: "XX000", Routine: "GetNewTransactionId"}, true},
		{"PostgreSQL, an object's number", "postgres", &pgError{code: "XX000", Routine: "GetNewObjectId"}, true},
		{"PostgreSQL, a lock", "postgres", &pgError{code: "55000", Routine: "LockAcquireExtended"}, true},
		{"PostgreSQL, another of that class", "postgres", &pgError{code: "55000", Routine: "lastval"}, false},
		{"PostgreSQL, an internal error", "postgres", sqlState("XX000"), false},
		{"PostgreSQL, a conflict", "postgres", sqlState("40001"), false},
		{"SQLite", "sqlite", sqliteCode(8), true},
		{"SQLite, extended", "sqlite", sqliteCode(8 | 3<<8), true},
		{"SQLite, busy", "sqlite", sqliteCode(5), false},
		{"no such driver", "mysql", errors.New("read-only"), false},
		{"none", "mysql", nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := IsReadOnly(test.dialect, test.err); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// pgError has what pgx's and pq's errors have.
type pgError struct{ code, Routine, Severity string }

func (e *pgError) Error() string {
	return "ERROR: der zwischengespeicherte Plan darf den Ergebnistyp nicht ändern"
}
func (e *pgError) SQLState() string { return e.code }

func TestIsStalePlan(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want bool
	}{
		{"PostgreSQL", &pgError{code: "0A000", Routine: "RevalidateCachedQuery"}, true},
		{"wrapped", fmt.Errorf("query: %w", &pgError{code: "0A000", Routine: "RevalidateCachedQuery"}), true},
		{"another feature", &pgError{code: "0A000", Routine: "transformSetOperationStmt"}, false},
		{"PgBouncer, another number of columns", &pgError{code: "08P01", Routine: "PortalSetResultFormat"}, true},
		{"PgBouncer, the name", fmt.Errorf("FATAL: prepared statement name is already in use (SQLSTATE 08P01): %w",
			sqlState("08P01")), true},
		{"PgBouncer, another error", sqlState("08P01"), false},
		{"another violation of the protocol", &pgError{code: "08P01", Routine: "exec_bind_message"}, false},
		{"another error there", &pgError{code: "42P01", Routine: "RevalidateCachedQuery"}, false},
		{"a driver that tells too little", sqlState("0A000"), false},
		{"MySQL", &mysql.MySQLError{Number: 1615}, true},
		{"another of MySQL's", &mysql.MySQLError{Number: 1054}, false},
		{"none", nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := IsStalePlan(test.err); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestSpoke(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want bool
	}{
		{"MySQL: too many connections", &mysql.MySQLError{Number: 1040}, true},
		{"PostgreSQL: too many connections", sqlState("53300"), true},
		{"PostgreSQL: access denied, wrapped", fmt.Errorf("asking: %w", sqlState("28000")), true},
		{"PgBouncer: server login has been failing", sqlState("08P01"), false},
		{"PgBouncer: query_wait_timeout, wrapped", fmt.Errorf("asking: %w", sqlState("08P01")), false},
		{"a time-out", context.DeadlineExceeded, false},
		{"connection refused", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := spoke(test.err); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// dialError is a net.Error of a driver's own.
type dialError struct{ timeout bool }

func (dialError) Error() string   { return "dial" }
func (e dialError) Timeout() bool { return e.timeout }
func (dialError) Temporary() bool { return false }

// dialled returns the error of dialling what nobody listens to, within less time than that takes.
func dialled(t *testing.T) error {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: time.Nanosecond}).Dial("tcp", "192.0.2.1:3306")
	if err == nil {
		conn.Close()
		t.Fatal("somebody listens")
	}
	return err
}

func TestKindOf(t *testing.T) {
	number := func(n uint16) error { return &mysql.MySQLError{Number: n} }
	fatal := func(state string) error { return &pgError{code: state, Severity: "FATAL"} }
	raised := func(state string) error {
		return &pgError{code: state, Severity: "ERROR", Routine: "exec_stmt_raise"}
	}
	argument := func(prefix string, err error) error { return fmt.Errorf("%s0]: %w", prefix, err) }
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, test := range []struct {
		name string
		err  error
		want kind
	}{
		{"any error", errors.New("connection refused"), own},
		{"no rows", sql.ErrNoRows, own},
		{"the end of a transaction", sql.ErrTxDone, own},
		{"driver.ErrSkip", driver.ErrSkip, own},
		{"an argument, the end", argument("sql: converting argument $1 type: [", io.EOF), own},
		{"an argument, refused", argument("failed to encode args[", refused), own},
		{"an argument, an error of PostgreSQL's", argument("failed to encode args[", fatal("57P01")), own},
		{"somebody's context", context.Canceled, passing},
		{"somebody's deadline, wrapped", fmt.Errorf("preparing: %w", context.DeadlineExceeded), passing},
		{"a dial timeout", dialled(t), suspicious},
		{"connection refused", refused, suspicious},
		{"no route", &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}, suspicious},
		{"no such host", &net.DNSError{Err: "no such host", IsNotFound: true}, suspicious},
		{"a certificate", &tls.CertificateVerificationError{Err: errors.New("expired")}, suspicious},
		{"a bad connection", driver.ErrBadConn, suspicious},
		{"a connection that was closed before", sql.ErrConnDone, suspicious},
		{"a pool that was closed", errors.New("sql: database is closed"), suspicious},
		{"pgx: nothing was sent", unsent{}, suspicious},
		{"pgx: no connection, for a reason of its own", &pgconn.ConnectError{Cause: errors.New("no RSA key")},
			suspicious},
		{"pgx: no connection, for one that ends those that there are",
			fmt.Errorf("query: %w", &pgconn.ConnectError{Cause: io.EOF}), suspicious},
		{"a driver's own time-out", dialError{true}, broken},
		{"a read's time-out", &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, broken},
		{"a reset", syscall.ECONNRESET, broken},
		{"a broken pipe, wrapped", fmt.Errorf("write: %w", os.NewSyscallError("write", syscall.EPIPE)), broken},
		{"a bad connection that is closed", errors.New("bad connection"), broken},
		{"an invalid connection", mysql.ErrInvalidConn, broken},
		{"an invalid connection, wrapped", fmt.Errorf("query: %w", mysql.ErrInvalidConn), broken},
		{"a closed socket", net.ErrClosed, broken},
		{"the end", io.EOF, broken},
		{"the end amidst", io.ErrUnexpectedEOF, broken},
		{"MySQL: shutdown", number(1053), suspicious},
		{"MySQL: offline mode", number(3032), suspicious},
		{"MySQL: idle for too long", number(4031), suspicious},
		{"Galera: not prepared", number(1047), suspicious},
		{"MariaDB: the password has expired", number(1820), suspicious},
		{"MariaDB: connection killed", number(1927), suspicious},
		{"MySQL: syntax", number(1064), own},
		{"MySQL: no such table", number(1146), own},
		{"MySQL: interrupted", number(1317), own},
		{"MySQL: a lock's time-out", &mysql.MySQLError{Number: 1205, SQLState: lockTimeout}, passing},
		{"MySQL: a lock's time-out that was signalled",
			&mysql.MySQLError{Number: 1205, SQLState: [5]byte{'4', '5', '0', '0', '0'}}, own},
		{"MySQL: a deadlock", number(1213), own},
		{"PostgreSQL: conflict with replay", &pgError{code: "40001", Severity: "ERROR"}, passing},
		{"PostgreSQL: conflict with replay, which ends the session", fatal("40001"), passing},
		{"PostgreSQL: deadlock with replay", sqlState("40P01"), passing},
		{"PostgreSQL: a standby cannot serialize",
			&pgError{code: "0A000", Severity: "ERROR", Routine: "GetSerializableTransactionSnapshot"}, passing},
		{"PostgreSQL: another feature",
			&pgError{code: "0A000", Severity: "ERROR", Routine: "transformLockingClause"}, own},
		{"PostgreSQL: admin shutdown", fatal("57P01"), terminated},
		{"PostgreSQL: crash shutdown", fatal("57P02"), suspicious},
		{"PostgreSQL: cannot connect now", fatal("57P03"), suspicious},
		{"PostgreSQL: idle for too long", fatal("57P05"), suspicious},
		{"PostgreSQL: too many connections", fatal("53300"), suspicious},
		{"PostgreSQL: a wrong password", fatal("28P01"), suspicious},
		{"PostgreSQL: a panic", &pgError{code: "XX000", Severity: "PANIC"}, broken},
		{"PgBouncer: its server's connection", fatal("08P01"), suspicious},
		{"PgBouncer: its server's connection has ended",
			fmt.Errorf("FATAL: server conn crashed?: %w", fatal("08P01")), broken},
		{"PostgreSQL: a foreign server",
			&pgError{code: "08001", Severity: "ERROR", Routine: "connect_pg_server"}, own},
		{"PostgreSQL: query cancelled", &pgError{code: "57014", Severity: "ERROR"}, own},
		{"PostgreSQL: syntax", &pgError{code: "42601", Severity: "ERROR"}, own},
		{"RAISE: a wrong password", raised("28P01"), own},
		{"RAISE: connection exception", raised("08000"), own},
		{"RAISE: too many connections", raised("53300"), own},
		{"RAISE: cannot connect now", raised("57P03"), own},
		{"RAISE: no such database", raised("3D000"), own},
		{"RAISE: a conflict with replay", raised("40001"), own},
		{"a driver that tells no severity: admin shutdown", sqlState("57P01"), terminated},
		{"a driver that tells no severity: cannot connect now", sqlState("57P03"), suspicious},
		{"a driver that tells no severity: connection failure", sqlState("08006"), suspicious},
		{"a driver that tells no severity: out of memory", sqlState("53200"), own},
		{"a driver that tells no severity: short", sqlState("0"), own},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := kindOf(test.err, Executing); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
	for _, n := range []uint16{1040, 1044, 1045, 1049, 1129, 1130, 1203, 1226, 1698, 1862, 3118, 3159, 4151} {
		t.Run(fmt.Sprintf("MySQL refuses connections with %d", n), func(t *testing.T) {
			if got := kindOf(number(n), Executing); got != own {
				t.Errorf("raised by a statement: got %d", got)
			}
			if got := kindOf(number(n), Anywhere); got != suspicious {
				t.Errorf("by what may not be one: got %d", got)
			}
		})
	}
}

// unsent is an error of pgx's.
type unsent struct{}

func (unsent) Error() string     { return "conn closed" }
func (unsent) SafeToRetry() bool { return true }
