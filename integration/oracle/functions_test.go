package oracle

import (
	"database/sql"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gorm-replicated/replicated/integration/servers"
	"github.com/gorm-replicated/replicated/internal/sqlkind"
)

// postgreSQLFunctionNames asks for all functions that a read may call. Left out is what serves types,
// operators and indexes alone.
const postgreSQLFunctionNames = `SELECT DISTINCT proname FROM pg_proc p
WHERE pronamespace IN ('pg_catalog'::regnamespace, 'public'::regnamespace) AND prokind <> 'p'
AND NOT ('internal'::regtype = ANY (proargtypes::oid[]) OR 'cstring'::regtype = ANY (proargtypes::oid[]))
AND prorettype::regtype::text NOT IN ('internal', 'cstring')
AND prorettype::regtype::text NOT LIKE '%_handler'
AND prorettype::regtype::text NOT LIKE '%trigger'
AND COALESCE(obj_description(oid, 'pg_proc'), '') NOT LIKE 'implementation of %'
AND COALESCE(obj_description(oid, 'pg_proc'), '') <> 'I/O'
AND (pronamespace = 'pg_catalog'::regnamespace OR provolatile <> 'v')`

// TestFunctionsAreKnown has the servers name their functions: a request that calls none but these has not
// written.
func TestFunctionsAreKnown(t *testing.T) {
	// MySQL's help has topics for statements, too.
	statements := strings.Fields("AUTO_INCREMENT BEGIN BINLOG CLONE CLOSE COMMIT DO FLUSH HANDLER HELP_DATE " +
		"HELP_VERSION LABELS MERGE OPEN PREPARE RESET RESTART ROLLBACK SAVEPOINT SHUTDOWN XA")
	for _, tt := range []struct {
		name    string
		start   func(testing.TB, servers.Config) *servers.Cluster
		dialect sqlkind.Dialect
		before  string
		names   string
		least   int
	}{
		{"MariaDB", servers.MariaDB, sqlkind.MySQL, "DO 1", mariaDBFunctionNames, 250},
		{"MySQL", servers.MySQL, sqlkind.MySQL, "DO 1", mySQLFunctionNames, 250},
		{"PostgreSQL", servers.PostgreSQL, sqlkind.PostgreSQL, postgreSQLExtensions, postgreSQLFunctionNames, 1000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := tt.start(t, servers.Config{}).Master.DB()
			if _, err := db.ExecContext(t.Context(), tt.before); err != nil {
				t.Fatal(err)
			}
			names := column(t, db, tt.names)
			if len(names) < tt.least {
				t.Fatalf("the server names %d functions, want %d at least", len(names), tt.least)
			}
			names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(statements, name) })
			expectUnknown(t, tt.dialect, names, false)
			// The control: functions of somebody's own.
			expectUnknown(t, tt.dialect, []string{"create_order", "shop.create_order", "shop.lower"}, true)
		})
	}
}

func expectUnknown(t *testing.T, d sqlkind.Dialect, functions []string, want bool) {
	t.Helper()
	for _, name := range functions {
		if got := sqlkind.CallsUnknown(d, "SELECT "+name+"()"); got != want {
			t.Errorf("%s(): unknown %t, want %t", name, got, want)
		}
	}
}

func column(t *testing.T, db *sql.DB, query string) (values []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			t.Fatal(err)
		}
		values = append(values, v)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return values
}

// ownFunction matches calls of the functions that the schemas of testdata make.
var ownFunction = regexp.MustCompile(`(?i)\b(twice|rows_of_t|series|product|adds|holds|locks|remembers)\(`)

// TestOwnFunctionsAreUnknown looks at every statement of testdata that is less than a write: those call a
// function that nobody knows which call one of our own. No other name before a parenthesis is taken for one.
func TestOwnFunctionsAreUnknown(t *testing.T) {
	for dialect, files := range map[sqlkind.Dialect][]string{
		sqlkind.MySQL:      {"binlog.sql", "mysql.sql", "mariadb.sql"},
		sqlkind.PostgreSQL: {"postgres.sql", "postgres_17.sql", "postgres_18.sql"},
	} {
		found := 0
		for _, file := range files {
			for _, s := range corpus(t, file) {
				found += checkOwn(t, dialect, s)
			}
		}
		if found < 5 {
			t.Errorf("%v: %d statements with a function of our own, want more", dialect, found)
		}
	}
}

// checkOwn returns 1 if s is less than a write, and calls a function of our own.
func checkOwn(t *testing.T, d sqlkind.Dialect, s statement) int {
	t.Helper()
	if k := sqlkind.Classify(d, s.sql); k == sqlkind.Write || k == sqlkind.Unknown {
		return 0
	}
	own := ownFunction.MatchString(s.sql)
	if got := sqlkind.CallsUnknown(d, s.sql); got != own && !strings.HasPrefix(s.sql, "PREPARE") {
		t.Errorf("%s: %s: calls an unknown function: %t", s.from, s.sql, got)
	}
	if own {
		return 1
	}
	return 0
}
