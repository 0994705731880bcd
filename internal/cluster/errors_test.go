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

	"github.com/go-sql-driver/mysql"
)

type sqlState string

func (s sqlState) Error() string    { return string(s) }
func (s sqlState) SQLState() string { return string(s) }

type sqliteCode int

func (c sqliteCode) Error() string { return "SQLite" }
func (c sqliteCode) Code() int     { return int(c) }

func TestIsReadOnly(t *testing.T) {
	for _, test := range []struct {
		name, dialect string
		err           error
		want          bool
	}{
		{"MariaDB, read_only", "mysql", &mysql.MySQLError{Number: 1290, Message: "The MariaDB server is running with the --read-only option so it cannot execute this statement"}, true},
		{"MySQL, super_read_only", "mysql", &mysql.MySQLError{Number: 1290, Message: "The MySQL server is running with the --super-read-only option so it cannot execute this statement"}, true},
		{"another option", "mysql", &mysql.MySQLError{Number: 1290, Message: "The MySQL server is running with the --secure-file-priv option so it cannot execute this statement"}, false},
		{"read-only transaction", "mysql", &mysql.MySQLError{Number: 1792}, true},
		{"read-only mode", "mysql", &mysql.MySQLError{Number: 1836}, true},
		{"a syntax error", "mysql", &mysql.MySQLError{Number: 1064}, false},
		{"wrapped", "mysql", fmt.Errorf("query: %w", &mysql.MySQLError{Number: 1792}), true},
		{"PostgreSQL", "postgres", sqlState("25006"), true},
		{"PostgreSQL, a transaction's number", "postgres", &pgError{"XX000", "GetNewTransactionId"}, true},
		{"PostgreSQL, an object's number", "postgres", &pgError{"XX000", "GetNewObjectId"}, true},
		{"PostgreSQL, a lock", "postgres", &pgError{"55000", "LockAcquireExtended"}, true},
		{"PostgreSQL, another of that class", "postgres", &pgError{"55000", "lastval"}, false},
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
type pgError struct{ code, Routine string }

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
		{"PostgreSQL", &pgError{"0A000", "RevalidateCachedQuery"}, true},
		{"wrapped", fmt.Errorf("query: %w", &pgError{"0A000", "RevalidateCachedQuery"}), true},
		{"another feature", &pgError{"0A000", "transformSetOperationStmt"}, false},
		{"PgBouncer, another number of columns", &pgError{"08P01", "PortalSetResultFormat"}, true},
		{"PgBouncer, the name", fmt.Errorf("FATAL: prepared statement name is already in use (SQLSTATE 08P01): %w",
			sqlState("08P01")), true},
		{"PgBouncer, another error", sqlState("08P01"), false},
		{"another violation of the protocol", &pgError{"08P01", "exec_bind_message"}, false},
		{"another error there", &pgError{"42P01", "RevalidateCachedQuery"}, false},
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

func TestFailureOf(t *testing.T) {
	number := func(n uint16) error { return &mysql.MySQLError{Number: n} }
	for _, test := range []struct {
		name string
		err  error
		want Failure
	}{
		{"any error", errors.New("connection refused"), NoFailure},
		{"no rows", sql.ErrNoRows, NoFailure},
		{"the end of a transaction", sql.ErrTxDone, NoFailure},
		{"driver.ErrSkip", driver.ErrSkip, NoFailure},
		{"somebody's context", context.Canceled, Passing},
		{"somebody's deadline, wrapped", fmt.Errorf("preparing: %w", context.DeadlineExceeded), Passing},
		{"connection refused", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, Gone},
		{"no route", &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}, Gone},
		{"no such host", &net.DNSError{Err: "no such host", IsNotFound: true}, Gone},
		{"a driver's own time-out", dialError{true}, Gone},
		{"a reset", syscall.ECONNRESET, Gone},
		{"a bad connection", driver.ErrBadConn, Gone},
		{"a bad connection that is closed", errors.New("bad connection"), Gone},
		{"an invalid connection", mysql.ErrInvalidConn, Gone},
		{"an invalid connection, wrapped", fmt.Errorf("query: %w", mysql.ErrInvalidConn), Gone},
		{"a closed one", sql.ErrConnDone, Gone},
		{"a closed socket", net.ErrClosed, Gone},
		{"the end", io.EOF, Gone},
		{"the end amidst", io.ErrUnexpectedEOF, Gone},
		{"a certificate", &tls.CertificateVerificationError{Err: errors.New("expired")}, Gone},
		{"MySQL: too many connections", number(1040), Gone},
		{"MySQL: access denied", number(1045), Gone},
		{"MySQL: shutdown", number(1053), Gone},
		{"MySQL: host is blocked", number(1129), Gone},
		{"MySQL: offline mode", number(3032), Gone},
		{"MariaDB: connection killed", number(1927), Gone},
		{"MySQL: syntax", number(1064), NoFailure},
		{"MySQL: no such table", number(1146), NoFailure},
		{"MySQL: interrupted", number(1317), NoFailure},
		{"MySQL: a lock's time-out", number(1205), NoFailure},
		{"MySQL: a deadlock", number(1213), NoFailure},
		{"PostgreSQL: conflict with replay", sqlState("40001"), Passing},
		{"PostgreSQL: deadlock with replay", sqlState("40P01"), Passing},
		{"PostgreSQL: admin shutdown", sqlState("57P01"), Gone},
		{"PostgreSQL: crash shutdown", sqlState("57P02"), Gone},
		{"PostgreSQL: cannot connect now", sqlState("57P03"), Gone},
		{"PostgreSQL: too many connections", sqlState("53300"), Gone},
		{"PostgreSQL: connection failure", sqlState("08006"), Gone},
		{"PostgreSQL: a wrong password", sqlState("28P01"), Gone},
		{"PostgreSQL: query cancelled", sqlState("57014"), NoFailure},
		{"PostgreSQL: out of memory", sqlState("53200"), NoFailure},
		{"PostgreSQL: syntax", sqlState("42601"), NoFailure},
		{"PostgreSQL: short", sqlState("0"), NoFailure},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := FailureOf(test.err); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}
