package cluster

import (
	"cmp"
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/go-sql-driver/mysql"
)

// ownError is an error of the plugin's own, whose words hold nothing that a caller passed in.
type ownError string

func (e ownError) Error() string { return string(e) }

// errUnparsed stands for what drivers say of a DSN, which quotes it.
const errUnparsed = ownError("the DSN cannot be parsed; it is not shown, since it may hold a password")

// panicked returns the error of a panic with v, in code of somebody else.
func panicked(what string, v any) error {
	if err, ok := v.(runtime.Error); ok { // such as of a nil pointer: of Go's own words
		return ownError(what + ": " + err.Error())
	}
	return ownError(fmt.Sprintf("%s with a value of type %T", what, v))
}

// Describe says in words that anyone may read what err is. Errors of drivers and servers quote what they were
// given: DSNs, accounts, parameters, rows. To look for a password in them is no way: it may be an ordinary
// word, or escaped. So Describe repeats no words but those that it knows; of the rest it tells numbers,
// codes, IP addresses and types.
func Describe(err error) string {
	var own ownError
	if errors.As(err, &own) {
		return own.Error()
	}
	if text := describeServer(err); text != "" {
		return text
	}
	return describeNetwork(err)
}

// described is an error in the words of Describe. It has no Unwrap, so that nothing that prints a chain of
// errors prints the rest; whoever asks for a certain error by errors.Is or errors.As finds it.
type described struct{ cause error }

func (e described) Error() string        { return Describe(e.cause) }
func (e described) Is(target error) bool { return errors.Is(e.cause, target) }
func (e described) As(target any) bool   { return errors.As(e.cause, target) }

// describeServer says what a database answered, "" if err is no answer of one.
func describeServer(err error) string {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return coded("MySQL error "+strconv.Itoa(int(e.Number)), mysqlNumbers[e.Number])
	}
	// SQLState may be a method of anybody's error.
	if state := postgresError(err).state; fiveLetters.MatchString(state) {
		return coded("SQLSTATE "+state, cmp.Or(pgBouncers(state, err), sqlStates[state]))
	}
	var lite interface{ Code() int }
	if errors.As(err, &lite) {
		return "error code " + strconv.Itoa(lite.Code())
	}
	return ""
}

// pgBouncers says which of its own errors PgBouncer has given, "" if none. All of them have one SQLSTATE.
// Only the words are repeated that are found, not what stands around them.
func pgBouncers(state string, err error) string {
	if state != "08P01" {
		return ""
	}
	text := err.Error()
	for _, words := range []string{
		"server login has been failing", "server conn crashed", "query_wait_timeout", "no more connections allowed",
	} {
		if strings.Contains(text, words) {
			return "PgBouncer: " + words
		}
	}
	return ""
}

// describeNetwork says what happened on the way to a server.
func describeNetwork(err error) string {
	var op *net.OpError
	if !errors.As(err, &op) {
		return describeLeaf(err)
	}
	what := "network" // Op may be anybody's word
	if op.Op == "dial" || op.Op == "read" || op.Op == "write" {
		what = op.Op
	}
	if to, ok := op.Addr.(*net.TCPAddr); ok && to != nil {
		what += " " + net.JoinHostPort(to.IP.String(), strconv.Itoa(to.Port))
	}
	return what + ": " + describeLeaf(op.Err)
}

func describeLeaf(err error) string {
	for _, fixed := range fixedErrors {
		if errors.Is(err, fixed) {
			return fixed.Error()
		}
	}
	var errno syscall.Errno
	var name *net.DNSError
	var network net.UnknownNetworkError
	var certificate *tls.CertificateVerificationError
	var timeout net.Error
	switch {
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &name) && name.IsNotFound:
		return "no such host"
	case errors.As(err, &network):
		return "unknown network"
	case errors.As(err, &certificate):
		return "the server's certificate cannot be verified"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timed out"
	}
	leaf := leafOf(err)
	if kind := reflect.TypeOf(leaf); kind != nil {
		return fmt.Sprintf("an error of type %v, whose words may hold a secret", kind)
	}
	return "an unknown error"
}

// leafOf returns the innermost error of err, of several the first.
func leafOf(err error) error {
	for {
		var inner error
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			inner = e.Unwrap()
		case interface{ Unwrap() []error }:
			if all := e.Unwrap(); len(all) > 0 {
				inner = all[0]
			}
		}
		if inner == nil {
			return err
		}
		err = inner
	}
}

func coded(code, meaning string) string {
	if meaning == "" {
		return code
	}
	return code + ": " + meaning
}

// fixedErrors have the same words wherever they come from.
var fixedErrors = []error{
	context.Canceled, context.DeadlineExceeded,
	io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed,
	driver.ErrBadConn, sql.ErrConnDone, sql.ErrTxDone,
	mysql.ErrInvalidConn, mysql.ErrMalformPkt, mysql.ErrPktSync, mysql.ErrNoTLS, mysql.ErrCleartextPassword,
	mysql.ErrNativePassword, mysql.ErrOldPassword, mysql.ErrUnknownPlugin, mysql.ErrOldProtocol,
}

var fiveLetters = regexp.MustCompile(`^[0-9A-Z]{5}$`)

// mysqlNumbers says what those errors of MySQL and MariaDB mean with which a server declines to serve: see
// "Server Error Message Reference" in MySQL's manual, "Error Codes" in MariaDB's.
var mysqlNumbers = map[uint16]string{
	1040: "too many connections",
	1044: "the account may not use the database",
	1045: "access denied",
	1047: "the node is not ready", // of Galera
	1049: "unknown database",
	1053: "the server shuts down",
	1129: "the server blocks this host",
	1130: "the server does not admit this host",
	1193: "unknown system variable",
	1203: "too many connections of this account",
	1226: "the account has used up what it may",
	1227: "a privilege is missing",
	1290: "an option of the server prevents it",
	1820: "the password has to be changed",
	1862: "the password has expired",
	3032: "the server is offline",
	3118: "the account is locked",
	3159: "the server demands TLS",
	4151: "the account is locked",
}

// sqlStates are PostgreSQL's, from its manual's "PostgreSQL Error Codes".
var sqlStates = map[string]string{
	"08001": "no connection could be made",
	"08006": "the connection failed",
	"08P01": "protocol violation",
	"28000": "invalid authorization",
	"28P01": "wrong password",
	"3D000": "unknown database",
	"42501": "a privilege is missing",
	"53300": "too many connections",
	"57P01": "ended by an administrator",
	"57P02": "ended by a crash of the server",
	"57P03": "the server cannot be connected to now",
	"57P05": "ended because it was idle",
}
