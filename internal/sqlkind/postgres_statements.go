package sqlkind

// statementPostgreSQL says what kind of statement begins at the current token, apart from what advance finds
// in it.
func (s *scan) statementPostgreSQL() Kind {
	if s.tok.is('(') {
		return s.query()
	}
	if s.tok.kind != tokWord {
		return Unknown
	}
	var buf [longestName]byte
	if len(s.text()) > len(buf) {
		return Unknown
	}
	switch string(lower(buf[:0], s.text())) {
	case "select", "with", "values", "table":
		return s.query()
	case "explain":
		return s.explainPostgreSQL()
	case "copy":
		return s.copyPostgreSQL()
	case "prepare":
		s.advance()
		return s.statefulUnless("transaction")
	case "commit", "rollback":
		s.advance()
		return s.statefulUnless("prepared")
	case "begin", "start", "savepoint", "release", "end", "abort",
		"set", "reset", "show", "discard", "declare", "fetch", "move", "close", "deallocate", "listen", "unlisten",
		"load":
		return Stateful
	case "lock":
		return Locking
	case "insert", "update", "delete", "merge", "truncate",
		"create", "alter", "drop", "grant", "revoke", "reassign", "comment", "security", "import",
		"analyze", "analyse", "vacuum", "cluster", "reindex", "refresh", "checkpoint", "notify":
		return Write
	default: // CALL, DO, EXECUTE and whatever is still to be invented
		return Unknown
	}
}

func (s *scan) statefulUnless(word string) Kind {
	if s.at(word) {
		return Write
	}
	return Stateful
}

// explainPostgreSQL reads EXPLAIN. The explained statement is judged as if it ran, which ANALYZE makes it.
func (s *scan) explainPostgreSQL() Kind {
	s.advance()
	if s.tok.is('(') {
		s.advance()
		if s.tok.is('(') || s.at("select", "with", "values", "table") {
			return s.query()
		}
		s.leaveGroup(s.depth - 1) // options
	} else {
		for s.accept("analyze", "analyse", "verbose") {
		}
	}
	switch {
	case s.tok.is('('), s.at("select", "with", "values", "table"):
		return s.query()
	case s.at("insert", "update", "delete", "merge", "create", "refresh"):
		return Write
	case s.at("declare"):
		return Stateful
	default: // EXECUTE
		return Unknown
	}
}

// copyPostgreSQL reads COPY. What it sends to the client is only read, but database/sql has no way to take
// it.
func (s *scan) copyPostgreSQL() Kind {
	for !s.atEnd() {
		if s.depth == 0 && s.accept("to") {
			if s.at("stdout") {
				return Unknown
			}
			return Write // a file, a program
		}
		s.advance()
	}
	return Write
}

// acceptSearchAndCycle moves past what may follow a common table expression:
// SEARCH DEPTH FIRST BY a SET b CYCLE a SET c USING d.
func (s *scan) acceptSearchAndCycle() {
	if s.accept("search") {
		s.acceptUntil("set")
	}
	if s.accept("cycle") {
		s.acceptUntil("using")
	}
}

// acceptUntil moves past word, and past the name behind it.
func (s *scan) acceptUntil(word string) {
	for !s.atEnd() && !s.accept(word) {
		s.advance()
	}
	s.acceptName()
}
