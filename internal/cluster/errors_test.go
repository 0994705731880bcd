package cluster

import (
	"errors"
	"fmt"
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
