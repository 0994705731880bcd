package sqlkind

import "unicode/utf8"

// namePostgreSQL judges the name before the current token: that of a function, if there is a call; otherwise
// it may be one of the catalog's.
func (s *scan) namePostgreSQL() {
	dotted := s.prev2.is('.')
	if s.tok.is('(') || dotted && s.ofValue {
		s.callPostgreSQL(dotted)
		return
	}
	name := s.textOf(s.prev)
	if dotted {
		s.attributePostgreSQL(name)
	}
	switch {
	case hasPrefixFold(name, "pg_"):
		s.find(catalogKind(name))
	case equalFold(name, "information_schema"):
		s.find(Catalog)
	case hasPrefixFold(name, "reg") && len(name) <= longestName: // 'users'::regclass, but not t.regclass
		var buf [longestName]byte
		isType := registryTypes[string(lower(buf[:0], name))]
		s.findIf(isType && (!s.prev.glued || equalFold(s.textOf(s.qualifier), "pg_catalog")), Catalog)
	case s.isSequence(name):
		s.find(Catalog)
	}
}

// isSequence reports whether the name before the current token shows that a sequence is read like a table: it
// is the name of a column that sequences have, or of a relation that is called like the sequence of a serial
// column.
func (s *scan) isSequence(name string) bool {
	const suffix = "_seq"
	if n := len(name) - len(suffix); n > 0 && equalFold(name[n:], suffix) {
		return s.from.relation && !s.tok.is('.')
	}
	var buf [longestName]byte
	return len(name) <= longestName && sequenceColumns[string(lower(buf[:0], name))] &&
		!equalFold(s.textOf(s.prev2), "as")
}

// attributePostgreSQL judges the name of a column, which may be that of a function: audit(t) can be written
// t.audit, and where f is a value, as in FROM to_regclass('s') AS f, nextval(f) can be written f.nextval.
func (s *scan) attributePostgreSQL(name string) {
	var buf [longestName]byte
	b := lower(buf[:0], cutName(name))
	if _, ok := s.writers[string(b)]; ok {
		s.find(Write)
	}
	k, listed := s.functions.kinds[string(b)]
	if !listed && !serverViews[string(b)] {
		k, _ = s.functions.ofFamily(b)
	}
	switch {
	case k == Write && !columnNames[string(b)], k == Unknown && listed && !columnNames[string(b)],
		k == Stateful && attributesOfState[string(b)]:
		s.find(k)
	}
}

// catalogKind judges a name that begins with pg_ and is not that of a function.
func catalogKind(name string) Kind {
	var buf [longestName]byte
	b := lower(buf[:0], cutName(name))
	switch {
	case plainNames[string(b)]: // of pg_catalog it is what stands behind it that tells: pg_catalog.now()
		return Read
	case serverViews[string(b)], hasPrefixFold(name, "pg_stat_"), hasPrefixFold(name, "pg_statio_"),
		string(b) == "pg_temp", hasPrefixFold(name, "pg_temp_"):
		return Stateful
	default:
		return Catalog
	}
}

// callPostgreSQL looks up the function whose name stands before the current token.
func (s *scan) callPostgreSQL(dotted bool) {
	var buf [longestName]byte
	b := lower(buf[:0], cutName(s.textOf(s.prev)))
	if _, ok := s.writers[string(b)]; ok {
		s.find(Write)
	}
	if string(b) == "lo_open" && s.tok.is('(') && s.opening == 0 {
		s.opening = s.depth
	} else if k, ok := s.functions.kinds[string(b)]; ok {
		s.find(k)
	} else if k, ok := s.functions.ofFamily(b); ok {
		s.find(k)
	} else if _, ok := s.schemaKind(dotted); !ok && s.tok.is('(') { // (t).total is hardly ever a call
		s.callKnown(b)
	}
	if k, ok := s.schemaKind(dotted); ok {
		s.find(k)
	}
}

// largeObjectPostgreSQL judges lo_open at the end of its arguments. Opening a large object to write is
// refused by a server that is read-only, so the last argument has to be the number that stands for reading
// alone.
func (s *scan) largeObjectPostgreSQL() {
	const invRead = "262144"
	if s.prev.kind == tokNumber && s.textOf(s.prev) == invRead && s.prev2.is(',') {
		s.find(Stateful)
	} else {
		s.find(Unknown)
	}
	s.opening = 0
}

// schemaKind judges a function by the schema that it is called with, if that tells.
func (s *scan) schemaKind(dotted bool) (k Kind, ok bool) {
	if !dotted || !s.qualifier.isName() {
		return Read, false
	}
	var buf [longestName]byte
	k, ok = s.functions.schemas[string(lower(buf[:0], cutName(s.textOf(s.qualifier))))]
	return k, ok
}

// cutName returns what PostgreSQL sees of a name: its first 63 bytes.
func cutName(name string) string {
	n := longestName - 1
	if len(name) <= n {
		return name
	}
	for n > 0 && !utf8.RuneStart(name[n]) {
		n--
	}
	return name[:n]
}
