package sqlkind

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Tables says which of the tables that a [Cache] watches a text names.
type Tables struct {
	// Main is the table that the statement is about: the first one of its FROM, INTO, UPDATE or TABLE, at the
	// outermost level, or of the derived table there. It is "" if that one is not watched.
	Main string
	// All is every watched table whose name is in the text, each once: also where it looks like that of a
	// column, of an alias or of a common table expression, since such a name may hide a table.
	All []string
	// Others tells whether there are tables that are not watched, or names that look like them.
	Others bool
}

// watched maps the names of tables in lower case to how they were given. A name without a schema stands for
// itself in every schema.
type watched map[string]string

// find returns what sql names of w, in all the readings that it has: see worstReading. What cannot be read
// may name everything.
func (w watched) find(d Dialect, sql string) *Tables {
	if d == Other {
		d = SQLite // it knows every kind of quotes
	}
	readings := []reading{{}}
	switch d {
	case MySQL:
		readings = readingsMySQL
		if strings.Contains(sql, "/*!") || strings.Contains(sql, "/*M!") {
			sql = executable.ReplaceAllLiteralString(sql, " ")
		}
	case PostgreSQL:
		readings = readingsPostgreSQL
	}
	if strings.IndexByte(sql, '\\') < 0 {
		readings = readings[:1]
	}
	var found *Tables
	for _, r := range readings {
		s := tableScan{
			lex: lexer{
				sql: sql, dialect: d, dot: -1, number: -1,
				escapeSingle: r.escapeSingle, escapeDouble: r.escapeDouble,
			},
			watched: w, best: deepest,
		}
		for s.next(); s.tok.kind != tokEOF; s.next() {
			s.observe()
		}
		switch {
		case s.lex.broken: // no server that reads it so takes it
			continue
		case s.lex.doubt:
			return w.everything()
		case s.best == deepest && len(s.found.All) > 0:
			s.found.Others = true // its table stands where none is looked for
		}
		found = found.and(&s.found)
	}
	if found == nil {
		return w.everything()
	}
	return found
}

// and returns what the text of t names if it is the one of other as well. t may be nil.
func (t *Tables) and(other *Tables) *Tables {
	if t == nil {
		return other
	}
	for _, name := range other.All {
		t.add(name)
	}
	t.Others = t.Others || other.Others
	return t
}

func (t *Tables) add(name string) {
	if !slices.Contains(t.All, name) {
		t.All = append(t.All, name)
	}
}

func (w watched) everything() *Tables {
	return &Tables{All: slices.Compact(slices.Sorted(maps.Values(w))), Others: true}
}

// executable matches the beginnings of comments that MySQL and MariaDB execute: what is inside counts.
var executable = regexp.MustCompile(`/\*M?![0-9]*`)

// tableScan walks through the tokens of a text.
type tableScan struct {
	lex     lexer
	watched watched
	found   Tables

	tok, prev token
	words     int // keywords and names so far

	levels   levels
	expects  bool // a table's name may come
	target   bool // it is that of a table to change, which no common table expression can be
	best     int  // how deep the text of Main is
	defines  bool // the statement is about an object ON a table
	column   bool // the name is a column's, its table stands before the dot
	ctes     int  // the depth, plus one, at which WITH defines names
	cteNames []cteName

	recursive bool // that WITH is RECURSIVE
}

// cteName is the name of a common table expression.
type cteName struct {
	name  string
	level int  // of the WITH
	body  bool // the next parenthesis that closes at that level ends what it stands for
	holds bool // from here on a table's name may be this one
}

const (
	deepest = 1 << 30
	mostCTE = 64 // of common table expressions beyond, the names are taken for tables'
)

// levels is a stack of open parentheses. Those around a derived table do not count for how deep a name is.
type levels struct {
	open, deep int
	// A bit for each of the first 63 levels, of which 0 is outside of all: whether it is a derived table's,
	// and whether a comma there brings another table.
	derived, list uint64
}

func (l *levels) bit() uint64 { return 1 << min(l.open, 63) }

func (l *levels) push(derived bool) {
	l.open++
	l.list &^= l.bit()
	if derived && l.open < 63 {
		l.derived |= l.bit()
		l.list |= l.bit() // UPDATE (a, b)
	} else {
		l.deep++
	}
}

func (l *levels) pop() {
	switch {
	case l.open == 0:
		return
	case l.derived&l.bit() != 0:
		l.derived &^= l.bit()
	default:
		l.deep--
	}
	l.open--
}

func (s *tableScan) next() { s.prev, s.tok = s.tok, s.lex.next() }

func (s *tableScan) observe() {
	switch {
	case s.tok.is('('):
		s.levels.push(s.expects)
	case s.tok.is(')'):
		s.levels.pop()
		s.expects = false
		s.leaveCTEs()
	case s.tok.is(';'):
		s.words, s.defines, s.cteNames = 0, false, nil
	case s.tok.is(','):
		s.expects = s.levels.list&s.levels.bit() != 0
	case s.tok.kind == tokWord && !s.tok.glued && s.keyword():
		s.words++
		var buf [longestName]byte
		s.note(lower(buf[:0], s.lex.sql[s.tok.start:s.tok.end]))
	case s.tok.kind == tokWord || s.tok.kind == tokQuoted || s.tok.kind == tokHigh,
		s.tok.kind == tokString && s.expects && s.lex.dialect == SQLite: // FROM 'users'
		s.words++
		s.name()
	case s.tok.kind != tokPunct:
		s.expects = false
	}
}

// keyword handles a word that says where tables' names stand, and reports whether it was one.
func (s *tableScan) keyword() bool {
	text := s.lex.sql[s.tok.start:s.tok.end]
	if len(text) > longestName {
		return false
	}
	var buf [longestName]byte
	first := s.words == 0
	switch string(lower(buf[:0], text)) {
	case "with":
		s.ctes, s.recursive = s.levels.open+1, false
	case "recursive":
		s.recursive = s.recursive || s.prevIs("with")
	case "as":
		if n := len(s.cteNames); n > 0 && s.cteNames[n-1].level == s.levels.open {
			s.cteNames[n-1].body = true
		}
	case "select", "values", "set", "where", "group", "order", "having", "limit", "window", "returning", "union", "except", "intersect":
		s.expects = false
		s.levels.list &^= s.levels.bit()
		if s.ctes == s.levels.open+1 {
			s.ctes = 0
		}
	case "from":
		if s.prevIs("distinct") {
			return true // IS DISTINCT FROM
		}
		s.expect(s.prevIs("delete"))
	case "update":
		if !s.prevIs("for") && !s.prevIs("key") && !s.prevIs("on") && !s.defines { // CREATE TRIGGER … UPDATE OF
			s.expect(true)
		}
	case "straight_join":
		if !s.prevIs("select") {
			s.expect(false)
		}
	case "join", "table":
		s.expect(false)
	case "using":
		if !s.defines || s.best < deepest { // CREATE INDEX i USING BTREE ON
			s.expect(false)
		}
	case "into":
		s.expect(true)
	case "tables":
		if !s.prevIs("lock") && !s.prevIs("show") && !s.prevIs("full") {
			return false
		}
		s.expect(false)
	case "insert", "replace", "truncate", "describe", "desc", "analyze", "copy", "lock", "merge":
		if first {
			s.expect(true)
		}
		return first || s.prevIs("or")
	case "or", "abort", "rollback", "fail":
		return s.expects // INSERT OR REPLACE, UPDATE OR ABORT
	case "to":
		if s.defines && !s.expects { // RENAME TABLE a TO b
			s.expect(true)
		}
		return s.defines
	case "create", "drop", "alter", "comment", "grant", "revoke", "rename":
		s.defines = s.defines || first
		return first
	case "on":
		if s.defines && !s.expects {
			s.expect(false)
		}
	case "column":
		s.column = s.defines
	case "lateral", "only", "if", "not", "exists", "ignore", "low_priority", "high_priority", "delayed", "quick",
		"concurrently", "materialized":
	default:
		return false
	}
	return true
}

func (s *tableScan) prevIs(word string) bool {
	return s.prev.kind == tokWord && equalFold(s.lex.sql[s.prev.start:s.prev.end], word)
}

func (s *tableScan) expect(target bool) {
	s.expects, s.target = true, target
	s.levels.list |= s.levels.bit()
}

// leaveCTEs is called behind a closing parenthesis: the names that were defined inside of it do not hold any
// longer, and the one that it ends holds from now on. Within its own body it is still a table's, unless it is
// recursive.
func (s *tableScan) leaveCTEs() {
	n := len(s.cteNames)
	for n > 0 && s.cteNames[n-1].level > s.levels.open {
		n--
	}
	s.cteNames = s.cteNames[:n]
	if n > 0 && s.cteNames[n-1].body && s.cteNames[n-1].level == s.levels.open {
		s.cteNames[n-1].holds = true
	}
}

// note looks at an identifier, in lower case, whatever it stands for.
func (s *tableScan) note(name []byte) {
	if known, ok := s.watched[string(name)]; ok {
		s.found.add(known)
	}
}

// name reads a name that may be qualified, and looks at it if it is a table's or that of a common table
// expression.
func (s *tableScan) name() {
	var buf [2 * longestName]byte
	full := buf[:0]
	var starts [3]int // where the last three parts begin in full
	for parts := 1; ; parts++ {
		starts = [3]int{starts[1], starts[2], len(full)}
		full = s.part(full)
		for i := max(0, len(starts)-parts); i < len(starts); i++ {
			s.note(full[starts[i]:])
		}
		if !s.lex.atDot() {
			break
		}
		s.next() // the dot
		s.next()
		if s.tok.kind != tokWord && s.tok.kind != tokQuoted && s.tok.kind != tokHigh {
			break
		}
		full = append(full, '.')
	}
	table := starts[2]
	if s.column && table > 0 {
		full, table = full[:table-1], starts[1]
	}
	s.column = false
	if !s.expects {
		if s.ctes == s.levels.open+1 && len(s.cteNames) < mostCTE &&
			(s.prevIs("with") || s.prevIs("recursive") || s.prev.is(',')) {
			s.cteNames = append(s.cteNames, cteName{name: string(full), level: s.levels.open, holds: s.recursive})
		}
		return
	}
	s.expects = false
	isCTE := func(c cteName) bool { return c.holds && c.name == string(full) }
	if !s.target && slices.ContainsFunc(s.cteNames, isCTE) {
		return
	}
	known, ok := s.watched[string(full)]
	if !ok {
		known, ok = s.watched[string(full[table:])]
	}
	if s.levels.deep < s.best {
		s.best, s.found.Main = s.levels.deep, known
	}
	s.found.Others = s.found.Others || !ok
}

// part appends the part of a name that the current token begins, in lower case. Bytes above 0x7f make tokens
// of their own.
func (s *tableScan) part(name []byte) []byte {
	name = lower(name, s.lex.sql[s.tok.start:s.tok.end])
	for s.tok.kind != tokQuoted && s.lex.pos < len(s.lex.sql) && s.lex.pos == s.tok.end && (s.lex.sql[s.lex.pos] >= 0x80 || isWordByte(s.lex.sql[s.lex.pos])) {
		end := s.tok.end
		s.tok = s.lex.next()
		if s.tok.start != end {
			break
		}
		name = lower(name, s.lex.sql[s.tok.start:s.tok.end])
	}
	return name
}

// atDot reports whether a dot comes next, behind blanks and comments.
func (l *lexer) atDot() bool {
	if !l.skip() {
		l.fail()
	}
	return l.peek(0) == '.'
}
