package sqlkind

import (
	"unicode/utf8"
)

var keywordsPostgreSQL = newVocabulary(map[string]keyword{
	"current_catalog": kwCurrentRole,
	"current_role":    kwCurrentRole,
	"current_schema":  kwCurrentRole,
	"current_user":    kwCurrentRole,
	"except":          kwClause,
	"from":            kwRelation,
	"group":           kwClause,
	"having":          kwClause,
	"intersect":       kwClause,
	"join":            kwRelation,
	"limit":           kwClause,
	"only":            kwRelation,
	"order":           kwClause,
	"returning":       kwClause,
	"select":          kwClause,
	"table":           kwRelation,
	"union":           kwClause,
	"values":          kwClause,
	"where":           kwClause,
	"window":          kwClause,
	"delete":          kwDelete,
	"for":             kwFor,
	"into":            kwInto,
	"key":             kwKey,
	"no":              kwNo,
	"session_user":    kwCurrentRole,
	"share":           kwShare,
	"update":          kwUpdate,
	"user":            kwUser,
})

// reservedPostgreSQL are words that no table and no column can be called. They help to tell a statement inside of another
// from a column called update: SELECT update FROM t, WITH x AS (UPDATE t …
var reservedPostgreSQL = set(
	"and", "any", "as", "asc", "both", "case", "desc", "distinct", "else", "end", "except", "fetch", "for", "from",
	"group", "having", "ilike", "in", "intersect", "into", "is", "leading", "like", "limit", "not", "offset", "on", "or",
	"order", "select", "similar", "some", "then", "trailing", "union", "using", "variadic", "when", "where", "window", "with",
)

// observePostgreSQL looks for what makes the verdict worse wherever it stands in a statement.
func (s *scan) observePostgreSQL() {
	t := s.tok
	switch s.prev.word {
	case kwUpdate:
		if s.opens && t.isName() && !s.isReserved(t) {
			s.find(Write)
		}
	case kwDelete:
		if s.opens && s.at("from") {
			s.find(Write)
		}
	}
	switch t.word {
	case kwInto: // SELECT … INTO makes a table; INSERT and MERGE have the word, too
		s.find(Write)
	case kwUpdate:
		s.opens = s.mayOpen()
		if s.prev.word == kwFor || s.prev.word == kwKey && s.prev2.word == kwNo {
			s.opens = false
			s.find(Locking)
		}
	case kwDelete:
		s.opens = s.mayOpen()
	case kwShare:
		if s.prev.word == kwFor || s.prev.word == kwKey && s.prev2.word == kwFor {
			s.find(Locking)
		}
	case kwCurrentRole: // SET ROLE, SET SESSION AUTHORIZATION and SET search_path change them; and the Migrator asks for them
		s.find(Stateful)
	case kwUser: // CURRENT_USER, unless somebody calls a column so
		if !equalFold(s.textOf(s.prev), "as") {
			s.find(Stateful)
		}
	}
	if t.is('(') && s.prev2.kind == tokWord && s.prev.kind == tokWord &&
		equalFold(s.textOf(s.prev), "on") && equalFold(s.textOf(s.prev2), "distinct") {
		s.distinctOn = true
	}
	if s.prev.isName() {
		s.namePostgreSQL()
	}
	s.from.observe(s.prev, t, s.depth)
	if t.is(')') && s.depth == s.opening-1 {
		s.largeObjectPostgreSQL()
	}
	if t.is('.') {
		s.ofValue = s.prev.is(')') || s.prev.is(']') || s.prev.kind == tokParam || s.ofValue && s.prev2.is('.')
		s.qualifier = s.prev
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

// mayOpen reports whether a statement inside of another may begin at the current token: in a parenthesis, or behind the
// last common table expression, which ends in one or, after SEARCH or CYCLE, in the name of a column.
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

// namePostgreSQL judges the name before the current token: that of a function, if there is a call; otherwise it may be one
// of the catalog's.
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
		if registryTypes[string(lower(buf[:0], name))] && (!s.prev.glued || equalFold(s.textOf(s.qualifier), "pg_catalog")) {
			s.find(Catalog)
		}
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

// from tells which names are those of relations: behind FROM, JOIN, ONLY and TABLE, and behind commas there.
type from struct {
	relation bool // the current token belongs to the name of one
	// Whether a comma brings another one: a bit for each of the first 63 depths, of which 0 is outside of all.
	lists uint64
}

// observe looks at the token behind prev, at this depth.
func (f *from) observe(prev, tok token, depth int) {
	bit := func(depth int) uint64 { return 1 << min(max(depth, 0), 63) }
	in := f.lists&bit(depth) != 0
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
		if outside && (prev.word == kwRelation || prev.is(',') || prev.is('(')) {
			f.lists |= bit(depth)
		}
	case tok.is('.') || prev.is('.'): // the name goes on
	default:
		f.relation = tok.isName() && in && (prev.word == kwRelation || prev.is(',') || prev.is('('))
	}
}

// attributePostgreSQL judges the name of a column, which may be that of a function: audit(t) can be written t.audit, and where f
// is a value, as in FROM to_regclass('s') AS f, nextval(f) can be written f.nextval.
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
