package sqlkind

// observePostgreSQL looks for what makes the verdict worse wherever it stands in a statement.
func (s *scan) observePostgreSQL() {
	s.writesPostgreSQL()
	s.locksPostgreSQL()
	if s.prev.isName() {
		s.namePostgreSQL()
	}
	s.from.observe(s.prev, s.tok, s.depth)
	switch {
	case s.tok.is('('):
		s.distinctOn = s.distinctOn || s.wasWord(s.prev2, "distinct") && s.wasWord(s.prev, "on")
	case s.tok.is(')'):
		if s.depth == s.opening-1 {
			s.largeObjectPostgreSQL()
		}
	case s.tok.is('.'):
		s.ofValue = s.prev.is(')') || s.prev.is(']') || s.prev.kind == tokParam || s.ofValue && s.prev2.is('.')
		s.qualifier = s.prev
	}
}

// writesPostgreSQL finds writes, and what depends on who the connection is.
func (s *scan) writesPostgreSQL() {
	switch s.prev.word {
	case kwUpdate:
		s.findIf(s.opens && s.tok.isName() && !s.isReserved(s.tok), Write)
	case kwDelete:
		s.findIf(s.opens && s.at("from"), Write)
	}
	switch s.tok.word {
	case kwInto: // SELECT … INTO makes a table; INSERT and MERGE have the word, too
		s.find(Write)
	case kwUpdate, kwDelete:
		s.opens = s.mayOpen()
	case kwCurrentRole:
		// SET ROLE, SET SESSION AUTHORIZATION and SET search_path change them; and GORM's Migrator asks for them.
		s.find(Stateful)
	case kwUser: // CURRENT_USER, unless somebody calls a column so
		s.findIf(!equalFold(s.textOf(s.prev), "as"), Stateful)
	}
}

// locksPostgreSQL finds FOR UPDATE, FOR NO KEY UPDATE, FOR SHARE and FOR KEY SHARE.
func (s *scan) locksPostgreSQL() {
	locks := false
	switch s.tok.word {
	case kwUpdate:
		locks = s.prev.word == kwFor || s.prev.word == kwKey && s.prev2.word == kwNo
		s.opens = s.opens && !locks
	case kwShare:
		locks = s.prev.word == kwFor || s.prev.word == kwKey && s.prev2.word == kwFor
	}
	s.findIf(locks, Locking)
}

// mayOpen reports whether a statement inside of another may begin at the current token: in a parenthesis, or
// behind the last common table expression. That one ends in a parenthesis or, after SEARCH or CYCLE, in the
// name of a column.
func (s *scan) mayOpen() bool {
	switch s.prev.kind {
	case tokWord:
		return !s.isReserved(s.prev)
	case tokPunct:
		return s.prev.is('(') || s.prev.is(')')
	default:
		return s.prev.kind == tokQuoted || s.prev.kind == tokEOF
	}
}

func (s *scan) isReserved(t token) bool {
	if t.kind != tokWord || t.glued || t.end-t.start > longestName {
		return false
	}
	var buf [longestName]byte
	return reservedPostgreSQL[string(lower(buf[:0], s.textOf(t)))]
}

// from tells which names are those of relations: behind FROM, JOIN, ONLY and TABLE, and behind commas there.
type from struct {
	relation bool // the current token belongs to the name of one
	// Whether a comma brings another one: a bit for each of the first 63 depths, of which 0 is outside of all.
	lists uint64
}

// observe looks at the token behind prev, at this depth.
func (f *from) observe(prev, tok token, depth int) {
	bit := func(depth int) uint64 { return 1 << min(max(depth, 0), 63) }
	begins := prev.word == kwRelation || prev.is(',') || prev.is('(')
	switch {
	case tok.word == kwRelation:
		f.lists |= bit(depth)
		f.relation = false
	case tok.word == kwClause || tok.word == kwFor:
		f.lists &^= bit(depth)
		f.relation = false
	case tok.is('('):
		outside := f.lists&bit(depth-1) != 0
		f.lists &^= bit(depth)
		if outside && begins {
			f.lists |= bit(depth)
		}
	case tok.is('.') || prev.is('.'): // the name goes on
	default:
		f.relation = tok.isName() && begins && f.lists&bit(depth) != 0
	}
}
