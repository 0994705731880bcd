package sqlkind

import (
	"strings"
	"testing"
	"time"
)

// kindTest is a text, and the verdict on it in one dialect.
type kindTest struct {
	name, sql string
	want      Kind
}

func TestClassify(t *testing.T) {
	for d, tests := range map[Dialect][]kindTest{
		Other: otherTests, MySQL: mysqlTests, SQLite: sqliteTests, PostgreSQL: postgresTests,
	} {
		names := map[string]bool{}
		for _, tt := range tests {
			if names[tt.name] {
				t.Errorf("%v: two rows are called %q", d, tt.name)
			}
			names[tt.name] = true
			t.Run(d.String()+" "+tt.name, func(t *testing.T) { expect(t, d, tt.want, tt.sql) })
		}
	}
}

func TestDialectOf(t *testing.T) {
	for name, want := range map[string]Dialect{
		"mysql": MySQL, "sqlite": SQLite, "sqlite3": SQLite, "postgres": PostgreSQL, "pgx": Other, "MySQL": Other,
		"": Other,
	} {
		if got := DialectOf(name); got != want {
			t.Errorf("DialectOf(%q) = %v, want %v", name, got, want)
		}
	}
}

func TestNothingIsAReadInOtherDialects(t *testing.T) {
	for _, d := range []Dialect{Other, 200} {
		for _, sql := range []string{"SELECT 1", "VALUES (1)", "CALL p()", ""} {
			if got := Classify(d, sql); got != Unknown {
				t.Errorf("Classify(%v, %q) = %v, want unknown", d, sql, got)
			}
		}
	}
}

func TestString(t *testing.T) {
	for got, want := range map[string]string{
		Unknown.String(): "unknown", Read.String(): "read", Catalog.String(): "catalog",
		Locking.String(): "locking", Stateful.String(): "stateful",
		Write.String(): "write", Kind(9).String(): "Kind(9)",
		Other.String(): "other", MySQL.String(): "mysql", SQLite.String(): "sqlite",
		PostgreSQL.String(): "postgres", Dialect(9).String(): "Dialect(9)",
	} {
		if got != want {
			t.Errorf("String() = %q, want %q", got, want)
		}
	}
}

func TestWorse(t *testing.T) {
	order := []Kind{Read, Catalog, Stateful, Locking, Unknown, Write}
	for i, a := range order {
		for j, b := range order {
			if got, want := worse(a, b), order[max(i, j)]; got != want {
				t.Errorf("worse(%v, %v) = %v, want %v", a, b, got, want)
			}
		}
	}
}

// The classifier must not depend on how a keyword is written, nor on what stands between two tokens.
func TestClassifyIsBlindToCaseAndBlanks(t *testing.T) {
	blind := func(d Dialect, sql, comment string, want Kind) {
		for _, sql := range []string{
			string(lower(nil, sql)), " \n" + sql, "/* x */" + sql, comment + sql, sql + "\n\t ",
		} {
			if got := Classify(d, sql); got != want {
				t.Errorf("Classify(%v, %q) = %v, want %v as without the change", d, sql, got, want)
			}
		}
	}
	for _, tt := range mysqlTests {
		if strings.ContainsAny(tt.sql, "\\") || strings.Contains(tt.sql, "/*") {
			continue // \N and /*M are not the same in lower case; 'a\B' may be
		}
		blind(MySQL, tt.sql, "# x\n", tt.want)
	}
	for _, tt := range postgresTests {
		if strings.Contains(tt.sql, "$A") {
			continue // $A$ and $a$ are not the same
		}
		blind(PostgreSQL, tt.sql, "/* /* x */ */-- x\r", tt.want)
	}
}

// Every danger is found at any place of a query, so that none of the rows above passes by luck of position.
func TestDangersAreFoundAnywhere(t *testing.T) {
	places := []string{
		"SELECT # ", "SELECT a, (#) FROM t", "SELECT a FROM t WHERE b = (SELECT #)", "SELECT 1 UNION SELECT #",
		"WITH x AS (SELECT #) SELECT 1", "(SELECT #)", "EXPLAIN SELECT #", "SELECT a FROM t ORDER BY #",
		"VALUES (#)",
		"SELECT '\\'', #", "SELECT \"\", #", "SELECT `a`#", "SELECT 1 -- \n#", "SELECT/**/#",
	}
	type danger struct {
		sql  string
		want Kind
	}
	dangers := []danger{
		{"NEXTVAL(s)", Write}, {"NEXT VALUE FOR s", Write}, {"sys_exec('x')", Write}, {"1 INTO OUTFILE 'x'", Write},
		{"GET_LOCK('a', 1)", Locking}, {"@x", Stateful}, {"@@session.x", Stateful}, {"LAST_INSERT_ID()", Stateful},
		{"1 FOR UPDATE", Locking}, {"1 LOCK IN SHARE MODE", Locking}, {"1", Read},
	}
	for _, p := range places {
		for _, d := range dangers {
			sql := strings.Replace(p, "#", " "+d.sql, 1)
			if got := Classify(MySQL, sql); got != d.want {
				t.Errorf("Classify(MySQL, %q) = %v, want %v", sql, got, d.want)
			}
		}
	}

	places = []string{
		"SELECT # ", "SELECT a, (#) FROM t", "SELECT a FROM t WHERE b = (SELECT #)", "SELECT 1 UNION SELECT #",
		"WITH x AS (SELECT #) SELECT 1", "WITH x AS (SELECT 1) SELECT #", "(SELECT #)", "EXPLAIN SELECT #",
		"EXPLAIN (ANALYZE) SELECT #",
		"SELECT a FROM t ORDER BY #", "VALUES (#)", "SELECT E'\\'', #", "SELECT \"\", #", "SELECT $a$'$a$, #",
		"SELECT 'a'\n'b', #",
		"SELECT 1 -- '\r#", "SELECT/*/**/*/#", "SELECT U&'\\0061', #", "SELECT a$b$, # -- $b$", "SELECT 1 +/**/ #",
		"SELECT ARRAY[#]",
	}
	dangers = []danger{
		{"nextval('s')", Write}, {"('s').nextval", Write}, {"1 INTO t2", Write}, {"lo_create(0)", Write},
		{"cron.schedule('x')", Write},
		{"query_to_xml('x')", Unknown}, {"U&\"x\"(1)", Unknown}, {"pg_advisory_lock(1)", Locking},
		{"current_user", Stateful},
		{"1 FOR UPDATE", Locking}, {"1 FOR NO KEY UPDATE", Locking}, {"1 FOR SHARE", Locking},
		{"1 FOR KEY SHARE", Locking},
		{"'t'::regclass", Catalog}, {"1 FROM pg_class", Catalog}, {"1", Read},
	}
	for _, p := range places {
		for _, d := range dangers {
			sql := strings.Replace(p, "#", " "+d.sql, 1)
			if got := Classify(PostgreSQL, sql); got != d.want {
				t.Errorf("Classify(PostgreSQL, %q) = %v, want %v", sql, got, d.want)
			}
		}
	}
}

// Texts made to hurt: no panic, and a megabyte takes a fraction of a second. A quadratic step would take many
// minutes.
func TestHostileTexts(t *testing.T) {
	const n = 1 << 17
	repeat := func(s string) string { return strings.Repeat(s, n/len(s)) }
	for name, sql := range map[string]string{
		"opening parentheses":     strings.Repeat("(", 1<<20),
		"parentheses of a query":  "SELECT " + repeat("(") + "1",
		"closing parentheses":     "SELECT " + repeat(")"),
		"quotes":                  "SELECT " + repeat("'"),
		"backslashes":             "SELECT '" + repeat(`\`),
		"escaped quotes":          "SELECT '" + repeat(`\'`),
		"comments":                "SELECT 1 " + repeat("/**/"),
		"open comments":           "SELECT 1 " + repeat("/*"),
		"executable comments":     "SELECT 1 " + repeat("/*!*/"),
		"index hints":             "SELECT 1 /*! " + repeat("use index (a) ") + "*/",
		"an index hint":           "SELECT 1 /*! use index (" + repeat("a,") + ")*/",
		"dashes":                  "SELECT 1 " + repeat("-"),
		"line comments":           "SELECT 1 " + repeat("-- \n"),
		"semicolons":              "SELECT 1 " + repeat(";"),
		"one word":                repeat("a"),
		"words":                   "SELECT " + repeat("update "),
		"dots":                    "SELECT a" + repeat("."),
		"numbers":                 "SELECT " + repeat("1e5."),
		"high bytes":              "SELECT " + repeat("\xff"),
		"high bytes and backtick": "SELECT " + repeat("\xff`"),
		"ctes":                    "WITH " + repeat("a AS (SELECT 1),") + "b AS (SELECT 1) SELECT 1",
		"unions":                  "SELECT 1 " + repeat("UNION SELECT 1 "),
		"calls":                   "SELECT " + repeat("f(") + repeat(")"),
		"explain":                 repeat("EXPLAIN "),
		"explain extended":        "EXPLAIN " + repeat("EXTENDED "),
		"set":                     "SET " + repeat("a=1,"),
		"set statement":           repeat("SET STATEMENT a=1 FOR "),
		"ats":                     "SELECT " + repeat("@"),
		"dollars":                 "SELECT a" + repeat("$"),
		"parameters":              "SELECT $a" + repeat("::"),
		"brackets":                "SELECT " + repeat("["),
		"nested comments":         "SELECT 1 " + repeat("/*") + repeat("*/"),
		"dollar quotes":           "SELECT " + repeat("$a$ $b$ $a$ "),
		"open dollar quotes":      "SELECT $a$" + repeat("$b$"),
		"dollar tags":             "SELECT " + repeat("$a"),
		"a dollar tag":            "SELECT $" + repeat("a"),
		"pieces of a string":      "SELECT E''" + repeat("\n''"),
		"comments in a string":    "SELECT ''" + repeat("\n--"),
		"strings and comments":    "SELECT " + repeat("'' --\n"),
		"attributes":              "SELECT ($1)" + repeat(".a"),
		"unicode names":           "SELECT " + repeat(`U&"a"`),
		"copy":                    "COPY " + repeat("to "),
		"search": "WITH RECURSIVE " +
			repeat("a AS (SELECT 1) SEARCH DEPTH FIRST BY a SET a CYCLE a SET b USING c,"),
	} {
		for _, d := range []Dialect{MySQL, SQLite, PostgreSQL} {
			t.Run(name+" "+d.String(), func(t *testing.T) {
				start := time.Now()
				Classify(d, sql)
				if took := time.Since(start); took > time.Minute {
					t.Errorf("took %v", took)
				}
			})
		}
	}
}

func BenchmarkClassify(b *testing.B) {
	for _, bb := range []struct{ name, sql string }{
		{"find", benchText},
		{"backslash", benchText + ` AND a LIKE '\%'`},
		{"write", "UPDATE `users` SET `name`=?,`updated_at`=? WHERE `users`.`deleted_at` IS NULL AND `id` = ?"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(bb.sql)))
			for b.Loop() {
				Classify(MySQL, bb.sql)
			}
		})
	}
	b.Run("postgres", func(b *testing.B) {
		sql := strings.ReplaceAll(strings.ReplaceAll(benchText, "`", `"`), "?", "$1")
		b.ReportAllocs()
		b.SetBytes(int64(len(sql)))
		for b.Loop() {
			Classify(PostgreSQL, sql)
		}
	})
}

// benchText has 100 bytes.
const benchText = "SELECT * FROM `users` WHERE `users`.`id` = ? AND `users`.`deleted_at` IS NULL ORDER BY " +
	"`id` LIMIT 10"
