package cluster

import (
	"cmp"
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// IsReadOnly tells whether err is a server's way of saying that it takes no writes. It knows the errors of
// MySQL and MariaDB, of drivers that tell the SQLSTATE, as PostgreSQL's do, and of SQLite's.
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
		case 1792, 1836, 3989: // ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, ER_READ_ONLY_MODE, ER_SCHEMA_READ_ONLY
			return true
		}
		return false
	}
	said := postgresError(err)
	switch said.state {
	case "25006": // read_only_sql_transaction
		return !said.raised()
	case "55000", "XX000": // what a standby refuses further down, where a function writes past the executor
		return standbyRefuses[said.routine]
	}
	return false
}

// standbyRefuses are the functions of PostgreSQL's source in which it refuses, during recovery, what only a
// master can do: new transactions, objects and log records, and locks that conflict with reading.
var standbyRefuses = map[string]bool{
	"GetNewTransactionId": true, "GetNewObjectId": true, "GetNewMultiXactId": true,
	"XLogBeginInsert": true, "LockAcquireExtended": true,
}

// postgres is what an error of PostgreSQL says beside its text, which may be in any language.
type postgres struct {
	state    string // the SQLSTATE; "" if it is no error of PostgreSQL's
	severity string // FATAL, ERROR and the like; "" if the driver does not tell
	routine  string // the function of PostgreSQL's source that raised it, as far as the driver tells
}

// postgresError returns what err, or one that it wraps, says. pgx and pq have the rest in fields.
func postgresError(err error) postgres {
	var e interface{ SQLState() string }
	if !errors.As(err, &e) {
		return postgres{}
	}
	said := postgres{state: e.SQLState()}
	if v := reflect.Indirect(reflect.ValueOf(e)); v.Kind() == reflect.Struct {
		text := func(name string) string {
			if f := v.FieldByName(name); f.Kind() == reflect.String {
				return f.String()
			}
			return ""
		}
		said.routine = text("Routine")
		said.severity = cmp.Or(text("SeverityUnlocalized"), text("Severity"))
	}
	return said
}

// raised tells whether the error is one of RAISE, which can claim any SQLSTATE.
func (p postgres) raised() bool { return p.routine == "exec_stmt_raise" }

// IsStalePlan tells whether a server refused a prepared statement because what it returns has changed since
// it was prepared. Nothing was executed.
func IsStalePlan(err error) bool {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e.Number == 1615 // ER_NEED_REPREPARE
	}
	said := postgresError(err)
	switch said.state {
	case "0A000": // feature_not_supported, of which this is one case
		return said.routine == "RevalidateCachedQuery"
	case "08P01": // protocol_violation
		// PgBouncer shares what it has prepared among its clients: what a driver remembers of a statement may
		// be older, or it may begin anew with a name that PgBouncer knows.
		return said.routine == "PortalSetResultFormat" ||
			strings.Contains(err.Error(), "prepared statement name is already in use")
	}
	return false
}

// spoke tells whether an error is a server's answer: so it lives. A SQLSTATE of class 08,
// connection_exception, proves nothing: with it PgBouncer, which lives, says that it cannot reach the server.
func spoke(err error) bool {
	var e *mysql.MySQLError
	state := postgresError(err).state
	return errors.As(err, &e) || state != "" && !strings.HasPrefix(state, "08")
}

// kind is what the error of a statement is about.
type kind uint8

const (
	own        kind = iota // the statement, or its caller
	passing                // the slave, at this moment: nothing was executed
	suspicious             // perhaps the server. It has not executed the statement, or has said that it stopped
	terminated             // the session, which an operator has ended, unless the server is shut down
	broken                 // the connection, which has ended without a word. That may be the statement's doing
)

// ofArguments is how the errors of drivers begin that are about a parameter. What they wrap may be anything:
// a driver.Valuer of the application has failed.
var ofArguments = []string{
	"sql: converting argument ", // database/sql, for the drivers of MySQL and SQLite
	"failed to encode args[",    // pgx
}

// ending are the errors with which MySQL and MariaDB end a connection, or refuse every statement:
// ER_SERVER_SHUTDOWN, ER_SERVER_OFFLINE_MODE, Galera's ER_UNKNOWN_COM_ERROR of a node that is not prepared,
// MariaDB's ER_CONNECTION_KILLED, ER_CLIENT_INTERACTION_TIMEOUT, ER_MUST_CHANGE_PASSWORD of a password that
// has expired.
var ending = map[uint16]bool{1053: true, 3032: true, 1047: true, 1927: true, 4031: true, 1820: true}

// refusing are those with which they refuse connections. They are looked at only where connecting cannot be
// told apart from executing: see [Anywhere].
var refusing = map[uint16]bool{
	1040: true, 1203: true, 1226: true, // ER_CON_COUNT_ERROR, ER_TOO_MANY_USER_CONNECTIONS, ER_USER_LIMIT_…
	1044: true, 1045: true, 1698: true, // ER_DBACCESS_DENIED_ERROR, ER_ACCESS_DENIED_ERROR, …_NO_PASSWORD_ERROR
	1049: true, 1129: true, 1130: true, // ER_BAD_DB_ERROR, ER_HOST_IS_BLOCKED, ER_HOST_NOT_PRIVILEGED
	1862: true, 3118: true, 4151: true, // ER_MUST_CHANGE_PASSWORD_LOGIN, ER_ACCOUNT_HAS_BEEN_LOCKED, MariaDB's
	3159: true, // ER_SECURE_TRANSPORT_REQUIRED
}

// lockTimeout is the SQLSTATE of ER_LOCK_WAIT_TIMEOUT. A plain read gets it that waits for replay, or for
// what Galera's cluster has committed. The number alone may be one of SIGNAL, whose usual SQLSTATE is 45000.
var lockTimeout = [5]byte{'H', 'Y', '0', '0', '0'}

// refuses tells whether an error says that the server serves no statement at all. So a question that gets it
// has its answer: a ping behind it would prove nothing.
func refuses(err error) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && ending[e.Number] || postgresError(err).fatal()
}

// fatal tells whether the server has ended the session with the error. RAISE cannot do that.
func (p postgres) fatal() bool { return p.severity == "FATAL" || p.severity == "PANIC" }

func (p postgres) kind(text string) kind {
	switch {
	case p.raised():
		return own
	case p.state == "40001", p.state == "40P01": // serialization_failure, deadlock_detected: with replay
		return passing
	case p.state == "0A000" && p.routine == "GetSerializableTransactionSnapshot": // a standby has none
		return passing
	case p.severity == "PANIC", p.fatal() && strings.Contains(text, "server conn crashed"): // PgBouncer's server
		return broken
	case p.severity != "" && !p.fatal():
		return own
	case p.state == "57P01": // admin_shutdown
		return terminated
	case p.fatal():
		return suspicious
	}
	switch p.state[:min(2, len(p.state))] {
	case "08", "28": // connection_exception, invalid_authorization_specification
		return suspicious
	}
	switch p.state {
	case "53300", "3D000", // too_many_connections, invalid_catalog_name
		"57P02", "57P03", "57P05": // crash_shutdown, cannot_connect_now, idle_session_timeout
		return suspicious
	}
	return own
}

// kindOf returns the kind of an error that was not met while connecting, as far as that can be told. It is
// for callers whose context has not ended: then an error of a context is somebody else's, such as of who
// prepared the same statement, and proves nothing.
func kindOf(err error, place Place) kind {
	text := err.Error()
	if slices.ContainsFunc(ofArguments, func(begin string) bool { return strings.HasPrefix(text, begin) }) {
		return own
	}
	var m *mysql.MySQLError
	if errors.As(err, &m) {
		return mysqlKind(m, place)
	}
	if isConnectError(err) {
		return suspicious
	}
	if said := postgresError(err); said.state != "" {
		return said.kind(text)
	}
	return networkKind(err)
}

func mysqlKind(err *mysql.MySQLError, place Place) kind {
	switch {
	case ending[err.Number], place == Anywhere && refusing[err.Number]:
		return suspicious
	case err.Number == 1205 && err.SQLState == lockTimeout:
		return passing
	}
	return own
}

// isConnectError tells whether err is pgx's error of a connection that could not be made, for any reason.
func isConnectError(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if reflect.TypeOf(err).String() == "*pgconn.ConnectError" {
			return true
		}
	}
	return false
}

// networkKind is for an error that no server has said.
func networkKind(err error) kind {
	var name *net.DNSError
	var call *net.OpError
	var certificate *tls.CertificateVerificationError
	var early interface{ SafeToRetry() bool } // pgx: the connection was closed before anything was sent
	switch {
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone),
		err.Error() == "sql: database is closed", // there is no value for it; by who brought the pool
		errors.As(err, &early) && early.SafeToRetry(),
		errors.As(err, &certificate), errors.As(err, &name), errors.As(err, &call) && call.Op == "dial":
		return suspicious
	case call == nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)):
		return passing
	case isBroken(err):
		return broken
	}
	return own
}

// isBroken tells whether an error is that of a connection that has ended without a word.
func isBroken(err error) bool {
	for _, broken := range []error{
		driver.ErrBadConn, mysql.ErrInvalidConn, mysql.ErrMalformPkt, mysql.ErrPktSync,
		io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, io.ErrClosedPipe,
	} {
		if errors.Is(err, broken) {
			return true
		}
	}
	if err.Error() == "bad connection" { // go-sql-driver's, of closing a broken one; there is no value for it
		return true
	}
	var network net.Error // a syscall.Errno is one, too
	return errors.As(err, &network)
}
