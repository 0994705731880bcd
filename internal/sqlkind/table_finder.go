package sqlkind

// tableFinder finds the tables that a text names. It is shown one token after the other, and follows the
// grammar of all dialects only as far as needed to say where the names of tables stand: behind FROM, JOIN,
// INTO and the like, and behind the commas there.
type tableFinder struct {
	dialect Dialect
	sql     string
	watched watched
	found   Tables

	prev   token // the one before
	words  int   // keywords and names so far, in this statement
	name   dottedName
	levels levels
	ctes   ctes

	expects bool // a table's name may come
	target  bool // it is that of a table to change, which no common table expression can be
	best    int  // how deep the text of found.Main is
	defines bool // the statement is about an object ON a table
	column  bool // the next name is a column's, behind that of its table
}

// deepest is deeper than any name.
const deepest = 1 << 30

// newTableFinder returns nil if no tables are watched.
func newTableFinder(d Dialect, sql string, w watched) *tableFinder {
	if w == nil {
		return nil
	}
	return &tableFinder{dialect: d, sql: sql, watched: w, best: deepest}
}

// result returns what was found, once the end of the text was observed.
func (f *tableFinder) result() *Tables {
	if f.best == deepest && len(f.found.All) > 0 {
		f.found.Others = true // its table stands where none is looked for
	}
	return &f.found
}

// observe looks at the next token.
func (f *tableFinder) observe(tok token) {
	if f.name.parts == 0 || !f.extendName(tok) {
		f.endName()
		f.look(tok)
	}
	f.prev = tok
}

// look looks at a token that does not belong to the name before it.
func (f *tableFinder) look(tok token) {
	switch {
	case tok.kind == tokPunct:
		f.punctuation(tok.punct)
	case tok.kind == tokWord && !tok.glued && f.keyword(tok):
		f.words++
	case tok.isIdentifier(), tok.kind == tokString && f.expects && f.dialect == SQLite: // FROM 'users'
		f.words++
		f.name.begin(f.sql, tok, f.prev)
	default:
		f.expects = false
	}
}

func (f *tableFinder) punctuation(c byte) {
	switch c {
	case '(':
		f.levels.push(f.expects)
	case ')':
		f.levels.pop()
		f.expects = false
		f.ctes.leave(f.levels.open)
	case ',':
		f.expects = f.levels.inList()
	case ';':
		f.words, f.defines, f.ctes.names = 0, false, nil
	}
}

// expect says that the name of a table comes now, and behind each comma at this level.
func (f *tableFinder) expect(target bool) {
	f.expects, f.target = true, target
	f.levels.beginList()
}

// extendName adds tok to the name that has begun, and reports whether it belongs there.
func (f *tableFinder) extendName(tok token) bool {
	n := &f.name
	switch {
	case n.dotted && tok.isIdentifier():
		n.beginPart(f.sql, tok)
	case n.dotted:
		return false
	case tok.is('.'):
		f.notePart()
		n.dotted = true
	case n.goesOn(f.sql, tok):
		n.add(f.sql, tok)
	default:
		return false
	}
	return true
}

// endName looks at the name that ends before the current token, if there is one. Where the name of a table is
// expected, it is that, or that of a common table expression.
func (f *tableFinder) endName() {
	n := &f.name
	if n.parts == 0 {
		return
	}
	if !n.dotted {
		f.notePart()
	}
	full, table := n.of(f.column)
	alone := n.parts == 1 && !n.dotted
	n.parts, f.column = 0, false
	switch {
	case f.expects:
		f.expects = false
		if f.target || !f.ctes.hold(full) {
			f.addTable(full, table)
		}
	case alone && (n.before.is(',') || f.isWord(n.before, "with") || f.isWord(n.before, "recursive")):
		f.ctes.define(full, f.levels.open)
	}
}

// addTable adds the table of this name to those found, with and without what qualifies it.
func (f *tableFinder) addTable(full, table []byte) {
	known, ok := f.watched[string(full)]
	if !ok {
		known, ok = f.watched[string(table)]
	}
	if f.levels.deep < f.best {
		f.best, f.found.Main = f.levels.deep, known
	}
	f.found.Others = f.found.Others || !ok
}

// notePart notes the part that ends here, alone and with the one or two before it, whatever it stands for.
func (f *tableFinder) notePart() {
	n := &f.name
	for _, start := range n.starts[max(0, len(n.starts)-n.parts):] {
		f.note(n.text[start:])
	}
}

// note adds the table of this name, in lower case, to those found, if it is watched.
func (f *tableFinder) note(name []byte) {
	if known, ok := f.watched[string(name)]; ok {
		f.found.add(known)
	}
}

func (f *tableFinder) isWord(t token, word string) bool {
	return t.kind == tokWord && equalFold(f.sql[t.start:t.end], word)
}
