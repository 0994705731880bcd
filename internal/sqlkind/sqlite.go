package sqlkind

import "strings"

// observeSQLite looks for what makes the verdict worse wherever it stands in a statement.
func (s *scan) observeSQLite() {
	if s.prev.word == kwReplace && (!s.tok.is('(') || s.tok.gap) {
		s.find(Write) // replace(a, b, c) is a function
	}
	switch s.tok.word {
	case kwInto, kwInsert, kwUpdate, kwDelete:
		s.find(Write)
	}
	switch {
	case s.tok.is('('):
		s.call()
		if s.prev.isName() {
			s.family()
		}
	case s.tok.isName():
		s.pragmaTable()
		switch name := s.text(); {
		case equalFold(name, "sqlite_schema"), equalFold(name, "sqlite_master"),
			equalFold(name, "sqlite_temp_schema"), equalFold(name, "sqlite_temp_master"):
			s.find(Catalog)
		}
	}
}

// family judges the function that the current parenthesis belongs to by the beginning of its name.
func (s *scan) family() {
	name := s.textOf(s.prev)
	for _, f := range s.functions.families {
		if hasPrefixFold(name, f.beginning) {
			s.find(f.kind)
		}
	}
}

// pragmaTable judges names like pragma_table_info, tables that run a pragma when they are read:
// pragma_optimize writes.
func (s *scan) pragmaTable() {
	const prefix = "pragma_"
	if name := s.text(); hasPrefixFold(name, prefix) {
		s.find(pragmaKind(name[len(prefix):], true))
	}
}

// statementSQLite says what kind of statement begins at the current token, apart from what advance finds in
// it.
func (s *scan) statementSQLite() Kind {
	if s.tok.kind == tokHigh && strings.HasPrefix(s.lex.sql[s.tok.start:], "\ufeff") {
		s.advance() // a byte order mark is a blank
	}
	if s.tok.kind != tokWord {
		return Unknown
	}
	if s.accept("explain") {
		if s.accept("query") && !s.accept("plan") {
			return Unknown
		}
		if s.at("explain") {
			return Unknown
		}
	}
	var buf [longestName]byte
	if len(s.text()) > len(buf) {
		return Unknown
	}
	switch string(lower(buf[:0], s.text())) {
	case "select", "values":
		return Read
	case "with":
		if s.acceptCTEs() && s.at("select", "values") {
			return Read
		}
		return Unknown
	case "pragma":
		return s.pragma()
	case "savepoint", "release", "rollback", "commit", "end", "begin":
		return Stateful
	case "insert", "update", "delete", "replace", "create", "alter", "drop", "reindex", "analyze", "vacuum":
		return Write
	default: // ATTACH, DETACH and whatever is still to be invented
		return Unknown
	}
}

// pragma reads PRAGMA [schema.]name[(argument)] or = argument.
func (s *scan) pragma() Kind {
	s.advance()
	name := s.text()
	if !s.acceptName() {
		return Unknown
	}
	if s.tok.is('.') {
		s.advance()
		name = s.text()
		if !s.acceptName() {
			return Unknown
		}
	}
	if s.tok.gap {
		return Unknown // name was only the ASCII beginning of a name
	}
	if s.tok.is('=') {
		if connectionPragmas[strings.ToLower(name)] {
			return Stateful
		}
		return Unknown
	}
	argument := s.acceptGroup()
	if !s.atEnd() {
		return Unknown
	}
	return pragmaKind(name, !argument)
}

// pragmaKind judges a pragma by its name: bare, as a question, or with an argument in parentheses.
func pragmaKind(name string, bare bool) Kind {
	if len(name) > longestName {
		return Unknown
	}
	var buf [longestName]byte
	b := lower(buf[:0], name)
	switch {
	case readingPragmas[string(b)], bare && questionPragmas[string(b)]:
		return Catalog
	case connectionPragmas[string(b)]:
		return Stateful
	default:
		return Unknown
	}
}
