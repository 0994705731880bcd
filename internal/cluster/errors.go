package cluster

import (
	"errors"
	"reflect"
	"strings"

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
	return state == "0A000" && routine == "RevalidateCachedQuery" // feature_not_supported, of which this is one case
}
