package sqlkind

// dottedName is a name that may be qualified, as far as it was read. There is none if it has no parts.
type dottedName struct {
	text   []byte // in lower case, without quotes
	buf    [2 * longestName]byte
	parts  int
	starts [3]int // where the last three parts begin in text
	dotted bool   // a dot was read, and nothing behind it
	end    int    // of the last token
	before token  // the one before the name
}

func (n *dottedName) begin(sql string, tok, before token) {
	n.text, n.before = n.buf[:0], before
	n.parts, n.starts = 0, [3]int{}
	n.dotted = false
	n.beginPart(sql, tok)
}

func (n *dottedName) beginPart(sql string, tok token) {
	if n.dotted {
		n.text = append(n.text, '.')
		n.dotted = false
	}
	n.parts++
	n.starts = [3]int{n.starts[1], n.starts[2], len(n.text)}
	n.add(sql, tok)
}

func (n *dottedName) add(sql string, tok token) {
	n.text = lower(n.text, sql[tok.start:tok.end])
	n.end = tok.end
}

// goesOn reports whether tok is the next piece of the last part. Bytes above 0x7f make tokens of their own,
// so a name like naïve has three pieces. A quoted part has one: its end is before the quote, where no token
// begins.
func (n *dottedName) goesOn(sql string, tok token) bool {
	return tok.start == n.end && tok.start < len(sql) && (sql[tok.start] >= 0x80 || isWordByte(sql[tok.start]))
}

// of returns the name of a table, with and without what qualifies it. If the name is a column's, that of its
// table stands before the last dot.
func (n *dottedName) of(column bool) (full, table []byte) {
	first, second := n.starts[2], n.starts[1]
	if column && first > 0 {
		return n.text[:first-1], n.text[second : first-1]
	}
	return n.text, n.text[first:]
}

// ctes are the common table expressions of the place that was read so far.
type ctes struct {
	defining  int // the level, plus one, at which WITH defines names
	recursive bool
	names     []cte
}

type cte struct {
	name  string
	level int  // of the WITH
	body  bool // the next parenthesis that closes at that level ends what it stands for
	holds bool // from here on a table's name may be this one
}

// mostCTEs bounds memory: the names of those beyond are taken for tables'.
const mostCTEs = 64

func (c *ctes) begin(level int) { c.defining, c.recursive = level+1, false }

// endDefining is called where the statement begins to which the names belong.
func (c *ctes) endDefining(level int) {
	if c.defining == level+1 {
		c.defining = 0
	}
}

func (c *ctes) define(name []byte, level int) {
	if c.defining == level+1 && len(c.names) < mostCTEs {
		c.names = append(c.names, cte{name: string(name), level: level, holds: c.recursive})
	}
}

// beginBody is called behind AS.
func (c *ctes) beginBody(level int) {
	if n := len(c.names); n > 0 && c.names[n-1].level == level {
		c.names[n-1].body = true
	}
}

// leave is called behind a closing parenthesis: the names that were defined inside of it do not hold any
// longer, and the one that it ends holds from now on. Within its own body that one is still a table's, unless
// it is recursive.
func (c *ctes) leave(level int) {
	n := len(c.names)
	for n > 0 && c.names[n-1].level > level {
		n--
	}
	c.names = c.names[:n]
	if n > 0 && c.names[n-1].body && c.names[n-1].level == level {
		c.names[n-1].holds = true
	}
}

func (c *ctes) hold(name []byte) bool {
	for i := range c.names {
		if c.names[i].holds && c.names[i].name == string(name) {
			return true
		}
	}
	return false
}

// levels is a stack of open parentheses. Those around a derived table do not count for how deep a name is.
type levels struct {
	open, deep int
	// A bit for each of the first 63 levels, of which 0 is outside of all: whether it is a derived table's,
	// and whether a comma there brings another table.
	derived, list uint64
}

func (l *levels) bit() uint64 { return 1 << min(l.open, 63) }

func (l *levels) beginList()   { l.list |= l.bit() }
func (l *levels) endList()     { l.list &^= l.bit() }
func (l *levels) inList() bool { return l.list&l.bit() != 0 }

func (l *levels) push(derived bool) {
	l.open++
	l.endList()
	if derived && l.open < 63 {
		l.derived |= l.bit()
		l.beginList() // UPDATE (a, b)
	} else {
		l.deep++
	}
}

func (l *levels) pop() {
	switch {
	case l.open == 0:
		return
	case l.derived&l.bit() != 0:
		l.derived &^= l.bit()
	default:
		l.deep--
	}
	l.open--
}
