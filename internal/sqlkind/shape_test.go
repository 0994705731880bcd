package sqlkind

import (
	"hash/maphash"
	"strings"
	"testing"
)

func TestShape(t *testing.T) {
	for _, tt := range []struct {
		d         Dialect
		sql, want string
	}{
		{MySQL, "SELECT 1", "select ?"},
		{MySQL, "  select /* a */ 'x' -- b\n", "select ?"},
		{MySQL, "SELECT f(?, 'a', -1, +2.5, 0xFF, x'1F', _utf8mb4'é', \"b\")", "select f ( ? )"},
		{MySQL, "SELECT * FROM `Users` WHERE id IN (?,?) AND a = -1", "select * from \"users\" where id in ( ? " +
			") and a = ?"},
		{MySQL, "SELECT 1 FROM t WHERE (a, b) IN ((1, 2), (3, 4), (5, 6))", "select ? from t where ( a , b ) in " +
			"( ( ? ) )"},
		{MySQL, "SELECT a, b FROM t LIMIT 10, 20", "select a , b from t limit ?"},
		{MySQL, "SELECT a - b, a -1 FROM t", "select a - b , a ? from t"},
		{MySQL, "SELECT `a`, \"b\", t.\"c\" FROM \"t\"", `select "a" , ? , t . "c" from "t"`},
		{MySQL, "SELECT @x, @@y, 用户", "select @x , @@ y , 用户"},
		{MySQL, `SELECT f('it\'s', secret)`, "select f ( …"},
		{MySQL, "SELECT 'open", "select …"},
		{MySQL, "SELECT /*!50100 secret, */ 1", "select …"},
		{PostgreSQL, `SELECT "F"($1, E'a', $$b$$) WHERE doc ? 'a'`, `select "f" ( ? ) where doc ?`},
		{PostgreSQL, "SELECT 'a'::text, 1_000", "select ? : : text , ?"},
		{PostgreSQL, `SELECT '\', secret`, "select …"},
		{SQLite, "SELECT [a b], :name, \"x\"", `select "a b" , ?`},
		{Other, "SELECT 'a'", "select ?"},
		{MySQL, "", ""},
		{MySQL, "SELECT " + strings.Repeat("a, ", 1000), "select " + strings.Repeat("a , ", 126) + "a …"},
	} {
		s := shapeOf(tt.d, tt.sql)
		if got := s.String(); got != tt.want {
			t.Errorf("%v: the shape of %.60q is %q, want %q", tt.d, tt.sql, got, tt.want)
		}
	}
}

// Texts that cannot be read have shapes of their own.
func TestShapeOfWhatCannotBeRead(t *testing.T) {
	seed := maphash.MakeSeed()
	sum := func(sql string) uint64 { s := shapeOf(MySQL, sql); return s.sum(seed) }
	if sum("SELECT 'open") == sum("SELECT 'other") {
		t.Error("two texts with an open quote have one shape")
	}
	if sum("SELECT 'a'") != sum("SELECT 'b'") {
		t.Error("the control: two literals make two shapes")
	}
}

// A shape holds nothing of a literal: another one makes no other shape.
func FuzzShape(f *testing.F) {
	f.Add("SELECT f(", ") FROM t", uint8(1))
	f.Add("SELECT '", "'", uint8(1))
	f.Add(`SELECT '\', '`, `'`, uint8(1))
	f.Add("SELECT \"", "\", 1", uint8(2))
	f.Add("SELECT E'", "'", uint8(3))
	f.Add("SELECT x AS ", "", uint8(1))
	seed := maphash.MakeSeed()
	f.Fuzz(func(t *testing.T, before, after string, dialect uint8) {
		const secret, other = "s3cr3tw0rd", "an0ther0ne"
		d := Dialect(dialect % 4)
		text := func(literal string) string { return before + " '" + literal + "' " + after }
		sql := text(secret)
		s, with := shapeOf(d, sql), shapeOf(d, text(other))
		if len(s.text) > 4*len(sql) {
			t.Errorf("the shape of %d bytes has %d", len(sql), len(s.text))
		}
		if s.rest != "" || !hasString(d, sql, len(before)+2) {
			return
		}
		if s.sum(seed) != with.sum(seed) {
			t.Errorf("%q and %q have two shapes, %q and %q", sql, text(other), s.text, with.text)
		}
		if strings.Contains(s.String(), secret) && !strings.Contains(before+after, secret) {
			t.Errorf("the shape of %q is %q", sql, s.String())
		}
	})
}

// hasString reports whether a string begins at a position of sql, as it is read by default.
func hasString(d Dialect, sql string, at int) bool {
	if d == Other {
		d = SQLite
	}
	l := newLexer(d, sql, readingsOf(d)[0])
	for tok := l.next(); tok.kind != tokEOF; tok = l.next() {
		if tok.kind == tokString && tok.start == at {
			return true
		}
	}
	return false
}
