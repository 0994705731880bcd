package sqlkind

// scan walks through the tokens of a text once, in one reading of it. Method advance finds what makes a
// verdict worse wherever it stands, and shows each token to the tableFinder. Method statement follows the
// grammar of the statement, only as far as needed to say what kind of statement it is.
type scan struct {
	lex       lexer
	functions *functions
	writers   map[string]struct{} // further functions that write
	tables    *tableFinder        // nil if no tables are watched

	tok         token // the current token
	prev, prev2 token // the two before it, not counting tokHigh
	depth       int   // open parentheses, the current token included
	ended       bool  // a semicolon was passed
	found       Kind  // the worst thing found so far

	calls, harmlessCalls int   // function calls, and those that are listed as Stateful or Locking
	strange              bool  // one of them is of a function that nobody knows
	naming               bool  // what comes is the name of a common table expression
	qualifier            token // what stands before the last dot
	distinctOn           bool  // DISTINCT ON (…) was passed, behind which there may be a call

	// PostgreSQL.
	opens   bool // the UPDATE or DELETE passed last may begin a statement
	from    from // which names are those of relations
	opening int  // the depth inside of the parentheses of lo_open, or 0
	ofValue bool // the qualifier is not a name, but a value: ('s'::regclass).nextval is a call
}

// newScan returns a scan that stands on the first token.
func newScan(l lexer, writers map[string]struct{}, tables *tableFinder) scan {
	s := scan{lex: l, functions: functionsOf[l.dialect](), writers: writers, tables: tables, found: Read}
	s.tok.kind = tokHigh // nothing: it will not become a predecessor
	s.advance()
	s.tok.gap = false
	return s
}

// advance moves to the next token. At the end it stays there.
func (s *scan) advance() {
	gap := s.tok.kind == tokHigh
	if !gap {
		s.prev2, s.prev = s.prev, s.tok
	}
	s.tok = s.lex.next()
	s.tok.gap = gap
	if s.tables != nil {
		s.tables.observe(s.tok)
	}
	switch {
	case s.tok.is('('):
		s.depth++
	case s.tok.is(')'):
		s.depth--
		if s.depth < 0 {
			s.find(Unknown)
		}
	case s.tok.is(';'):
		s.ended = true
		if s.depth != 0 {
			s.find(Unknown)
		}
	}
	if s.ended && s.tok.kind != tokEOF && !s.tok.is(';') {
		s.find(Write) // a second statement
	}
	if s.tok.kind == tokHigh {
		return
	}
	switch s.lex.dialect {
	case MySQL:
		s.observeMySQL()
	case SQLite:
		s.observeSQLite()
	default:
		s.observePostgreSQL()
	}
}

func (s *scan) find(k Kind) { s.found = worse(s.found, k) }

func (s *scan) findIf(so bool, k Kind) {
	if so {
		s.find(k)
	}
}

// statement says what kind of statement begins at the current token, apart from what advance finds in it.
func (s *scan) statement() Kind {
	switch s.lex.dialect {
	case SQLite:
		return s.statementSQLite()
	case PostgreSQL:
		return s.statementPostgreSQL()
	default:
		return s.statementMySQL()
	}
}

// finish walks to the end and returns the verdict on a text whose statement is a k.
func (s *scan) finish(k Kind) Kind {
	for s.tok.kind != tokEOF {
		s.advance()
	}
	if s.lex.doubt || s.depth != 0 {
		s.find(Unknown)
	}
	return worse(k, s.found)
}

// text returns the current token as it is written, without quotes.
func (s *scan) text() string { return s.textOf(s.tok) }

func (s *scan) textOf(t token) string { return s.lex.sql[t.start:t.end] }

// at reports whether the current token is one of words, unquoted.
func (s *scan) at(words ...string) bool {
	if s.tok.kind != tokWord || s.tok.glued {
		return false
	}
	for _, w := range words {
		if equalFold(s.text(), w) {
			return true
		}
	}
	return false
}

// wasWord reports whether t is this word, which may be a name.
func (s *scan) wasWord(t token, word string) bool {
	return t.kind == tokWord && equalFold(s.textOf(t), word)
}

// atEnd reports whether the statement ends here.
func (s *scan) atEnd() bool { return s.tok.kind == tokEOF || s.tok.is(';') }

// accept moves past the current token if it is one of words.
func (s *scan) accept(words ...string) bool {
	if !s.at(words...) {
		return false
	}
	s.advance()
	return true
}

// acceptName moves past a name, and reports whether there was one.
func (s *scan) acceptName() bool {
	switch s.tok.kind {
	case tokWord, tokQuoted, tokString, tokHigh:
	default:
		return false
	}
	end := s.tok.end
	s.advance()
	for (s.tok.kind == tokWord || s.tok.kind == tokHigh) && s.tok.start == end {
		end = s.tok.end // the rest of a name like naïve
		s.advance()
	}
	return true
}

// acceptGroup moves past a parenthesised group, and reports whether there was one.
func (s *scan) acceptGroup() bool {
	if !s.tok.is('(') {
		return false
	}
	s.leaveGroup(s.depth - 1)
	return true
}

// leaveGroup moves behind the parenthesis that closes what is inside of others at that depth.
func (s *scan) leaveGroup(outside int) {
	for s.depth > outside && s.tok.kind != tokEOF {
		s.advance()
	}
	s.advance()
}

// acceptCTEs moves past WITH and its common table expressions, to the statement they belong to.
func (s *scan) acceptCTEs() bool {
	s.advance()
	s.accept("recursive")
	for s.acceptCTE() {
		if !s.tok.is(',') {
			return true
		}
		s.advance()
	}
	return false
}

// acceptCTE moves past name (columns) AS (query).
func (s *scan) acceptCTE() bool {
	s.naming = true
	named := s.acceptName()
	s.naming = false
	if !named {
		return false
	}
	s.acceptGroup()
	if !s.accept("as") {
		return false
	}
	s.accept("not")
	s.accept("materialized")
	if !s.acceptGroup() {
		return false
	}
	if s.lex.dialect == PostgreSQL {
		s.acceptSearchAndCycle()
	} else if s.at("cycle") { // MariaDB: CYCLE a, b RESTRICT
		for !s.atEnd() && !s.accept("restrict") {
			s.advance()
		}
	}
	return true
}

// query reads the beginning of a query, in parentheses or not.
func (s *scan) query() Kind {
	for s.tok.is('(') {
		s.advance()
	}
	if s.at("with") {
		if !s.acceptCTEs() {
			return Unknown
		}
		for s.tok.is('(') {
			s.advance()
		}
	}
	if s.at("select", "values", "table") {
		return Read
	}
	return Unknown
}

// call looks up the function that the current parenthesis belongs to, if it does.
func (s *scan) call() {
	if !s.prev.isName() {
		return
	}
	s.calls++
	name := s.textOf(s.prev)
	if len(name) > longestName {
		s.callKnown(nil) // 64 characters may be more bytes, and SQLite has no such limit
		return
	}
	var buf [longestName]byte
	b := lower(buf[:0], name)
	if _, ok := s.writers[string(b)]; ok {
		s.find(Write)
	}
	if k, ok := s.functions.kinds[string(b)]; ok {
		s.find(k)
		if k == Stateful || k == Locking {
			s.harmlessCalls++
		}
	} else {
		s.callKnown(b)
	}
}

// longestName is the length limit of identifiers in MySQL and MariaDB.
const longestName = 64
