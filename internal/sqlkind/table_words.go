package sqlkind

// keyword looks at a word that says where the names of tables stand, and reports whether it was one.
func (f *tableFinder) keyword(tok token) bool {
	text := f.sql[tok.start:tok.end]
	if len(text) > longestName {
		return false
	}
	var buf [longestName]byte
	word := lower(buf[:0], text)
	if !f.place(word) && !f.cteWord(word) && !f.placeInContext(word) {
		return false
	}
	f.note(word)
	return true
}

// place handles words that say where names stand wherever they are.
func (f *tableFinder) place(word []byte) bool {
	switch string(word) {
	case "select", "values", "set", "where", "group", "order", "having", "limit", "window", "returning",
		"union", "except", "intersect":
		f.expects = false
		f.levels.endList()
		f.ctes.endDefining(f.levels.open)
	case "join", "table":
		f.expect(false)
	case "into":
		f.expect(true)
	case "column":
		f.column = f.defines
	case "lateral", "only", "if", "not", "exists", "ignore", "low_priority", "high_priority", "delayed", "quick",
		"concurrently", "materialized": // they may stand before the name of a table
	default:
		return false
	}
	return true
}

func (f *tableFinder) cteWord(word []byte) bool {
	switch string(word) {
	case "with":
		f.ctes.begin(f.levels.open)
	case "recursive":
		f.ctes.recursive = f.ctes.recursive || f.behind("with")
	case "as":
		f.ctes.beginBody(f.levels.open)
	default:
		return false
	}
	return true
}

// placeInContext handles words that say where names stand if the words before them fit. Some of them are
// names otherwise.
func (f *tableFinder) placeInContext(word []byte) bool {
	first := f.words == 0
	switch string(word) {
	case "from":
		f.expectIf(!f.behind("distinct"), f.behind("delete")) // not IS DISTINCT FROM
	case "update":
		// Not FOR UPDATE, FOR NO KEY UPDATE, ON DUPLICATE KEY UPDATE, and CREATE TRIGGER … UPDATE OF.
		f.expectIf(!f.behind("for") && !f.behind("key") && !f.behind("on") && !f.defines, true)
	case "straight_join":
		f.expectIf(!f.behind("select"), false)
	case "using":
		f.expectIf(!f.defines || f.best < deepest, false) // not CREATE INDEX i USING BTREE ON
	case "on":
		f.expectIf(f.defines && !f.expects, false)
	case "tables":
		return f.expectIf(f.behind("lock") || f.behind("show") || f.behind("full"), false)
	case "insert", "replace", "truncate", "describe", "desc", "analyze", "copy", "lock", "merge":
		f.expectIf(first, true)
		return first || f.behind("or")
	case "or", "abort", "rollback", "fail":
		return f.expects // INSERT OR REPLACE, UPDATE OR ABORT
	case "to":
		f.expectIf(f.defines && !f.expects, true) // RENAME TABLE a TO b
		return f.defines
	case "create", "drop", "alter", "comment", "grant", "revoke", "rename":
		f.defines = f.defines || first
		return first
	default:
		return false
	}
	return true
}

// expectIf says that the name of a table comes now, if that is so, and returns whether it is.
func (f *tableFinder) expectIf(so, target bool) bool {
	if so {
		f.expect(target)
	}
	return so
}

// behind reports whether the token before the current one is this word.
func (f *tableFinder) behind(word string) bool { return f.isWord(f.prev, word) }
