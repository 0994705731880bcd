package sqlkind

// observeMySQL looks for what makes the verdict worse wherever it stands in a statement.
func (s *scan) observeMySQL() {
	s.behindWordMySQL()
	s.wordMySQL()
	switch s.tok.kind {
	case tokUser, tokAssign:
		s.find(Stateful)
	case tokPunct:
		switch s.tok.punct {
		case '(':
			s.call()
		case '.':
			s.qualifier = s.prev
		}
	case tokWord, tokQuoted:
		s.nameMySQL()
	}
}

// behindWordMySQL judges the current token by the word before it.
func (s *scan) behindWordMySQL() {
	switch s.prev.word {
	case kwInto: // INTO @x sets a variable; INTO OUTFILE writes a file; a SELECT has nothing else there
		s.findIf(s.tok.kind != tokUser, Write)
	case kwInsert, kwReplace: // INSERT(a, 1, 2, b) and REPLACE(a, b, c) are functions
		s.findIf(!s.tok.is('(') || s.tok.gap, Write)
	case kwFor:
		s.findIf(s.tok.word == kwShare, Locking)
	}
}

func (s *scan) wordMySQL() {
	switch s.tok.word {
	case kwUpdate:
		if s.prev.word == kwFor && !s.tok.gap {
			s.find(Locking)
		} else {
			s.find(Write) // WITH … UPDATE
		}
	case kwDelete:
		s.find(Write)
	case kwLock: // LOCK IN SHARE MODE; the word is reserved
		s.find(Locking)
	case kwFor: // NEXT VALUE FOR a sequence
		s.findIf(s.prev.word == kwValue && s.prev2.word == kwNext, Write)
		s.findIf(s.prev.word == kwValue && s.prev2.word == kwPrevious, Stateful)
	case kwCalcFoundRows, kwCurrentRole:
		s.find(Stateful)
	case kwRowCount: // SQL%ROWCOUNT, MariaDB with sql_mode=ORACLE
		s.findIf(s.prev.is('%'), Stateful)
	}
}

func (s *scan) nameMySQL() {
	name := s.text()
	s.findIf(equalFold(name, "information_schema") || equalFold(name, sequenceColumnMariaDB), Catalog)
	if s.prev.kind == tokSystem {
		s.systemVariable()
	} else if s.prev.is('.') {
		s.sequence()
	}
}

// sequenceColumnMariaDB is a column that sequences of MariaDB have, which can be read like tables, and hardly
// a table.
const sequenceColumnMariaDB = "next_not_cached_value"

// systemVariable judges the name behind @@. Most variables are settings, and the slave's answer is as good as
// the master's; what belongs to one connection is not.
func (s *scan) systemVariable() {
	name := s.text()
	if len(name) > longestName {
		return
	}
	var buf [longestName]byte
	if connectionVariables[string(lower(buf[:0], name))] {
		s.find(Stateful)
	}
}

// sequence finds s.nextval and s.currval, which MariaDB understands with sql_mode=ORACLE, quoted or not.
func (s *scan) sequence() {
	switch name := s.text(); {
	case equalFold(name, "nextval"):
		s.find(Write)
	case equalFold(name, "currval"):
		s.find(Stateful)
	}
}

// statementMySQL says what kind of statement begins at the current token, apart from what advance finds in
// it.
func (s *scan) statementMySQL() Kind {
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
	case "explain", "describe", "desc":
		return s.explainMySQL()
	case "analyze":
		return s.analyzeMySQL()
	case "show":
		return s.showMySQL()
	case "set":
		return s.setMySQL()
	case "do":
		return s.doMySQL()
	case "begin":
		// BEGIN NOT ATOMIC, and with sql_mode=ORACLE any other BEGIN, opens a block of statements.
		s.advance()
		s.accept("work")
		return s.statefulIf(s.atEnd())
	case "start":
		s.advance()
		return s.statefulIf(s.at("transaction"))
	case "release":
		s.advance()
		return s.statefulIf(s.at("savepoint"))
	case "lock", "unlock":
		locks := s.at("lock")
		s.advance()
		if k := s.statefulIf(s.at("tables", "table", "instance")); k != Stateful || !locks {
			return k
		}
		return Locking
	case "get":
		s.advance()
		_ = s.accept("current") || s.accept("stacked")
		return s.statefulIf(s.at("diagnostics"))
	case "savepoint", "rollback", "commit", "use", "prepare", "deallocate", "handler":
		return Stateful
	case "insert", "update", "delete", "replace", "load", "import", "truncate", "merge",
		"create", "alter", "drop", "rename", "grant", "revoke", "install", "uninstall",
		"repair", "optimize", "cache", "flush", "reset", "purge", "change", "binlog", "stop", "clone", "backup":
		return Write
	default: // CALL, EXECUTE, XA, KILL and whatever is still to be invented
		return Unknown
	}
}

func (s *scan) statefulIf(certain bool) Kind {
	if certain {
		return Stateful
	}
	return Write
}
