package sqlkind

// explainMySQL reads EXPLAIN, DESCRIBE and DESC: of a table, or of a statement. The explained statement is
// judged as if it ran, which EXPLAIN ANALYZE makes it.
func (s *scan) explainMySQL() Kind {
	s.advance()
	into := Read
	for {
		switch {
		case s.at("select", "with", "values", "table"), s.tok.is('('):
			return worse(into, s.query())
		case s.at("insert", "update", "delete", "replace"):
			return Write
		case s.accept("into"): // EXPLAIN FORMAT=JSON INTO @x
			into = Stateful
			s.advance()
		default:
			if k, certain := s.explainOption(); certain {
				return k
			}
		}
	}
}

// explainOption moves past an option of EXPLAIN. It returns the verdict if what stands here is none: then it
// is a table, a connection or nothing that is known.
func (s *scan) explainOption() (k Kind, certain bool) {
	switch {
	case s.accept("extended", "partitions", "analyze"):
		return Catalog, s.atEnd() // a table of that name
	case s.accept("format"):
		if !s.tok.is('=') {
			return s.describeMySQL(), true // a table of that name
		}
		return Unknown, !s.acceptValue()
	case s.accept("for"):
		if s.at("connection") {
			return Stateful, true
		}
		return Unknown, !s.accept("schema", "database") || !s.acceptName()
	case s.acceptName():
		return s.describeMySQL(), true
	}
	return Unknown, true
}

// describeMySQL reads what may follow the first name in DESCRIBE db.users 'na%'.
func (s *scan) describeMySQL() Kind {
	if s.tok.is('.') {
		s.advance()
		s.acceptName()
	}
	s.acceptName()
	if s.atEnd() {
		return Catalog
	}
	return Unknown
}

// acceptValue moves past = and a value.
func (s *scan) acceptValue() bool {
	if !s.tok.is('=') {
		return false
	}
	s.advance()
	return s.acceptName()
}

// analyzeMySQL reads MariaDB's ANALYZE [FORMAT=JSON] statement, which runs the statement. ANALYZE TABLE
// writes.
func (s *scan) analyzeMySQL() Kind {
	s.advance()
	if s.accept("format") && !s.acceptValue() {
		return Unknown
	}
	if s.at("select", "with", "values") || s.tok.is('(') {
		return s.query()
	}
	return Write
}

// showMySQL tells those SHOW statements that are about the catalog, and those which every server answers
// alike, from those about one server or connection.
func (s *scan) showMySQL() Kind {
	s.advance()
	for s.accept("full", "extended") {
	}
	switch {
	case s.at("tables", "columns", "fields", "index", "indexes", "keys", "databases", "schemas", "triggers",
		"events"):
		return Catalog
	case s.at("charset", "collation", "engines", "plugins", "privileges"):
		return Read
	case s.accept("create"):
		if s.at("table", "view", "procedure", "function", "trigger", "event", "database", "schema", "sequence") {
			return Catalog
		}
	case s.accept("table", "procedure", "function"):
		if s.at("status") {
			return Catalog
		}
	case s.accept("character", "char"):
		if s.at("set") {
			return Read
		}
	case s.accept("storage"):
		if s.at("engines") {
			return Read
		}
	}
	return Stateful
}

// setMySQL reads SET: of the connection, of the server, of passwords and roles.
func (s *scan) setMySQL() Kind {
	s.advance()
	switch {
	case s.at("default", "password"):
		return Write
	case s.at("resource"):
		return Unknown // SET RESOURCE GROUP may name other connections
	case s.accept("statement"):
		return s.setStatementMySQL()
	}
	for !s.atEnd() {
		if s.at("global", "persist", "persist_only", "password") {
			return Write
		}
		s.advance()
	}
	return Stateful
}

// setStatementMySQL reads MariaDB's SET STATEMENT max_statement_time=1 FOR SELECT …: settings for one
// statement.
func (s *scan) setStatementMySQL() Kind {
	for !s.at("for") || s.depth > 0 {
		if s.atEnd() {
			return Unknown
		}
		s.advance()
	}
	s.advance()
	switch {
	case s.tok.is('('), s.at("select", "with", "values"):
		return s.query()
	case s.at("show"):
		return s.showMySQL()
	}
	return Write // FOR UPDATE is an UPDATE here
}

// doMySQL reads DO. It is there for the effects of functions, so every one of them has to be known.
func (s *scan) doMySQL() Kind {
	for !s.atEnd() {
		s.advance()
	}
	if s.calls > 0 && s.calls == s.harmlessCalls {
		return Stateful // or Locking, which was found on the way
	}
	return Unknown
}
