package sqlkind

import (
	"strings"
	"testing"
)

func FuzzMySQL(f *testing.F) {
	for _, tt := range mysqlTests {
		f.Add(tt.sql)
	}
	f.Add(`SELECT '\'' INTO E '`) // whole with NO_BACKSLASH_ESCAPES, broken otherwise
	fuzz(f, MySQL, "1 FOR UPDATE")
}

func FuzzSQLite(f *testing.F) {
	for _, tt := range sqliteTests {
		f.Add(tt.sql)
	}
	fuzz(f, SQLite, "1 INTO x")
}

func FuzzPostgreSQL(f *testing.F) {
	for _, tt := range postgresTests {
		f.Add(tt.sql)
	}
	f.Add(`SELECT '\'' INTO t2 '`) // whole with standard_conforming_strings off, broken otherwise
	fuzz(f, PostgreSQL, "1 FOR UPDATE")
}

// fuzz checks what must be true of every text. danger is what turns a query that it is written into or behind
// into something else than a Read.
func fuzz(f *testing.F, d Dialect, danger string) {
	f.Fuzz(func(t *testing.T, sql string) {
		k := Classify(d, sql)
		same := func(what, changed string) {
			if got := Classify(d, changed); got != k {
				t.Errorf("%s: Classify(%q) = %v, but Classify(%q) = %v", what, sql, k, changed, got)
			}
		}
		notBetter := func(what, changed string, than Kind) {
			if got := Classify(d, changed); severity[got] < severity[than] {
				t.Errorf("%s: Classify(%q) = %v, but Classify(%q) = %v", what, sql, k, changed, got)
			}
		}

		if !strings.HasPrefix(sql, "\ufeff") { // SQLite: a blank at the beginning only
			same("blanks before", " \t\r\n"+sql)
			same("comment before", "/* it's */ -- it's\n"+sql)
		}
		same("blanks behind", sql+"\n \t")
		notBetter("write before", "DELETE FROM t; "+sql, Unknown)
		notBetter("write before, on a line", "DELETE FROM t -- \n;"+sql, Unknown)
		if severity[k] < severity[Unknown] {
			same("comment behind", sql+"\n/* x */ -- x") // no quotes: one could close a string in a broken reading
			same("semicolon behind", sql+"\n;")
			notBetter("a second statement", sql+"\n; SELECT 1", Write)
			notBetter("in parentheses", "("+sql+"\n)", Read)
		}
		if k == Read {
			notBetter("danger behind", sql+"\n "+danger[2:], Locking)
			notBetter("union", "SELECT "+danger+" UNION "+sql, Locking)
			notBetter("write behind", sql+"\n INTO OUTFILE 'x'", Write)
		}
		if !strings.ContainsAny(sql, "\\'\"`[$") && !strings.Contains(sql, "/*") {
			same("lower case", string(lower(nil, sql)))
			same("upper case", upper(sql))
		}
	})
}

func upper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c-'a' < 26 {
			b[i] = c &^ 0x20
		}
	}
	return string(b)
}

func FuzzCache(f *testing.F) {
	c := NewCache(MySQL)
	for _, tt := range mysqlTests {
		f.Add(tt.sql)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		want := Classify(MySQL, sql)
		for range 2 { // missed, then found
			if got := c.Kind(sql); got != want {
				t.Errorf("Kind(%q) = %v, but Classify = %v", sql, got, want)
			}
		}
	})
}

// FuzzHole puts a danger between two texts. If the verdict on the whole is Read, the danger must have been in
// a string, a quoted name or a comment, and then what it is spelled like cannot matter.
func FuzzHole(f *testing.F) {
	f.Add("SELECT ", " FROM t")
	f.Add("SELECT '", "'")
	f.Add("SELECT `a", "` FROM t")
	f.Add(`SELECT "\"`, `"`)
	f.Add("SELECT /* ", " */ 1")
	f.Add("SELECT 1 -- ", "\n")
	f.Add(`SELECT '\`, `'`)
	f.Add("SELECT 1.", "")
	f.Add("SELECT /*! USE INDEX (", ") */ 1")
	f.Add("SELECT 1--\xa0", "")
	f.Add("SELECT [", "]")
	f.Add("SELECT $a$", "$a$")
	f.Add("SELECT E'\\'", "'")
	f.Add("SELECT /* /* */ ", " */ 1")
	f.Add("SELECT 'a'\n'", "'")
	f.Add("SELECT 1 -- ", "\r")
	f.Add(`SELECT U&"`, `"`)
	f.Fuzz(func(t *testing.T, before, after string) {
		for _, d := range []Dialect{MySQL, SQLite, PostgreSQL} {
			if Classify(d, before+" INSERT INTO t "+after) != Read {
				continue
			}
			// Harmless there. Then it is still so for a text that would be an error anywhere but inside
			// quotes.
			if got := Classify(d, before+" ) FROB ( "+after); got != Read {
				t.Errorf("%v: a write is overlooked between %q and %q", d, before, after)
			}
		}
	})
}
