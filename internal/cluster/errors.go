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
	var state interface{ SQLState() string }
	return errors.As(err, &state) && state.SQLState() == "25006" // read_only_sql_transaction
}

// IsStalePlan tells whether a server refused a prepared statement because what it returns has changed since it was
// prepared. Nothing was executed.
func IsStalePlan(err error) bool {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e.Number == 1615 // ER_NEED_REPREPARE
	}
	var state interface{ SQLState() string }
	if !errors.As(err, &state) || state.SQLState() != "0A000" { // feature_not_supported, of which this is one case
		return false
	}
	// PostgreSQL's message may be in any language; the function in which the error came up has one name. pgx and pq have it in a field.
	v := reflect.Indirect(reflect.ValueOf(state))
	return v.Kind() == reflect.Struct && v.FieldByName("Routine").IsValid() && v.FieldByName("Routine").String() == "RevalidateCachedQuery"
}
