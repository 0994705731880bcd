package cluster

import (
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"syscall"

	"github.com/go-sql-driver/mysql"
)

// IsReadOnly tells whether err is a server's way of saying that it takes no
// writes. It knows the errors of MySQL and MariaDB, of drivers that tell the SQLSTATE, as
// PostgreSQL's do, and of SQLite's.
func IsReadOnly(dialect string, err error) bool {
	if dialect == "sqlite" {
		var e interface{ Code() int }
		return errors.As(err, &e) && e.Code()&0xff == 8 // SQLITE_READONLY, without the extension
	}
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		switch e.Number {
		case 1290: // ER_OPTION_PREVENTS_STATEMENT, for several options
			return strings.Contains(e.Message, "read-only") || strings.Contains(e.Message, "read_only")
		case 1792, 1836: // ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, ER_READ_ONLY_MODE
			return true
		}
		return false
	}
	state, routine := postgresError(err)
	switch state {
	case "25006": // read_only_sql_transaction
		return true
	case "55000", "XX000": // what a standby refuses further down, where a function writes past the executor
		return standbyRefuses[routine]
	}
	return false
}

// standbyRefuses are the functions of PostgreSQL's source in which it refuses, during recovery, what only a master can do: new
// transactions, objects and log records, and locks that conflict with reading.
var standbyRefuses = map[string]bool{
	"GetNewTransactionId": true, "GetNewObjectId": true, "GetNewMultiXactId": true, "XLogBeginInsert": true, "LockAcquireExtended": true,
}

// postgresError returns the SQLSTATE of an error and the function of PostgreSQL's source that raised it, as far as the driver
// tells. PostgreSQL's messages may be in any language; pgx and pq have the function's name in a field.
func postgresError(err error) (state, routine string) {
	var e interface{ SQLState() string }
	if !errors.As(err, &e) {
		return "", ""
	}
	if v := reflect.Indirect(reflect.ValueOf(e)); v.Kind() == reflect.Struct {
		if f := v.FieldByName("Routine"); f.Kind() == reflect.String {
			routine = f.String()
		}
	}
	return e.SQLState(), routine
}

// IsStalePlan tells whether a server refused a prepared statement because what it returns has changed since it was
// prepared. Nothing was executed.
func IsStalePlan(err error) bool {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e.Number == 1615 // ER_NEED_REPREPARE
	}
	state, routine := postgresError(err)
	switch state {
	case "0A000": // feature_not_supported, of which this is one case
		return routine == "RevalidateCachedQuery"
	case "08P01": // protocol_violation
		// PgBouncer shares what it has prepared among its clients: what a driver remembers of a statement may
		// be older, or it may begin anew with a name that PgBouncer knows.
		return routine == "PortalSetResultFormat" ||
			strings.Contains(err.Error(), "prepared statement name is already in use")
	}
	return false
}

// Failure is what an error of a read says about its server.
type Failure uint8

const (
	NoFailure Failure = iota // it is about the statement
	Passing                  // this server could not run it now, another one may
	Gone                     // the server cannot be reached, breaks connections, or says that it does not serve
)

// ofNetwork are the errors of system calls that are about connections.
var ofNetwork = map[syscall.Errno]bool{
	syscall.ECONNREFUSED: true, syscall.ECONNRESET: true, syscall.ECONNABORTED: true, syscall.EPIPE: true, syscall.ETIMEDOUT: true,
	syscall.EHOSTUNREACH: true, syscall.ENETUNREACH: true, syscall.ENETDOWN: true, syscall.ENOTCONN: true,
}

// spoke tells whether an error is a server's answer: so it lives. A SQLSTATE of class 08,
// connection_exception, proves nothing: with it PgBouncer, which lives, says that it cannot reach the server.
func spoke(err error) bool {
	var e *mysql.MySQLError
	state, _ := postgresError(err)
	return errors.As(err, &e) || state != "" && !strings.HasPrefix(state, "08")
}

// FailureOf tells what the error of a read on a slave says about the slave. It is for callers whose context has not ended: then an error of
// a context is somebody else's, such as of who prepared the same statement, or a connection's own time limit, and proves nothing.
func FailureOf(err error) Failure {
	if err == nil {
		return NoFailure
	}
	if strings.HasPrefix(err.Error(), "sql: converting argument ") { // a driver.Valuer of the application failed
		return NoFailure
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return Passing
	}
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		switch e.Number {
		case 1040, 1203, 1226, // ER_CON_COUNT_ERROR, ER_TOO_MANY_USER_CONNECTIONS, ER_USER_LIMIT_REACHED
			1045, 1129, 1130, // ER_ACCESS_DENIED_ERROR, ER_HOST_IS_BLOCKED, ER_HOST_NOT_PRIVILEGED
			1053, 3032, // ER_SERVER_SHUTDOWN, ER_SERVER_OFFLINE_MODE
			1927: // MariaDB's ER_CONNECTION_KILLED
			return Gone
		}
		return NoFailure
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if reflect.TypeOf(e).String() == "*pgconn.ConnectError" { // it wraps any reason for which there is no connection
			return Gone
		}
	}
	if state, _ := postgresError(err); state != "" {
		switch state[:min(2, len(state))] {
		case "08", "28": // connection_exception, invalid_authorization_specification
			return Gone
		}
		switch state {
		case "40001", "40P01": // a conflict with replay: serialization_failure, deadlock_detected
			return Passing
		case "53300", "57P01", "57P02", "57P03", "57P05", "3D000": // too_many_connections, admin_shutdown, crash_shutdown, cannot_connect_now, idle_session_timeout, invalid_catalog_name
			return Gone
		}
		return NoFailure
	}
	for _, broken := range []error{
		driver.ErrBadConn, mysql.ErrInvalidConn, mysql.ErrMalformPkt, mysql.ErrPktSync, sql.ErrConnDone, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, io.ErrClosedPipe,
	} {
		if errors.Is(err, broken) {
			return Gone
		}
	}
	var early interface{ SafeToRetry() bool } // pgx: the connection was closed before anything was sent
	if errors.As(err, &early) && early.SafeToRetry() {
		return Gone
	}
	var network net.Error
	var call syscall.Errno
	var certificate *tls.CertificateVerificationError
	switch err.Error() { // there is no value for these
	case "sql: database is closed", // by who brought the pool
		"bad connection": // go-sql-driver's, of closing one that is broken
		return Gone
	}
	if errors.As(err, &network) || errors.As(err, &call) && ofNetwork[call] || errors.As(err, &certificate) {
		return Gone
	}
	return NoFailure
}
