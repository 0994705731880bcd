package sqlkind

import "strings"

type tokenKind uint8

const (
	tokEOF    tokenKind = iota
	tokWord             // a keyword or an unquoted name
	tokQuoted           // a quoted name: `x`, [x]; also "x", which under some settings is a string
	tokString           // 'x'
	tokNumber           // 1, 1.5e3; never the letters after it
	tokParam            // ?, :name, $1
	tokUser             // @ of a MySQL user variable, with its name unless that is quoted
	tokSystem           // @@ of a MySQL system variable
	tokAssign           // :=
	tokHigh             // bytes above 0x7f outside quotes: part of a name, or blanks (see lexer.skip)
	tokPunct            // any other single byte
)

// token is a piece of the text. For quoted names and strings, start and end leave the quotes out.
type token struct {
	kind  tokenKind
	punct byte    // of tokPunct
	word  keyword // of tokWord, unless glued
	glued bool    // directly after a dot, so that it is a name even if it is spelled like a keyword
	gap   bool    // bytes above 0x7f stand between it and the token before; set by scan
	start int
	end   int
}

func (t token) is(punct byte) bool { return t.kind == tokPunct && t.punct == punct }

// isName reports whether t can be the name of a function.
func (t token) isName() bool { return t.kind == tokWord || t.kind == tokQuoted }

// isIdentifier reports whether t can be a part of a name of anything.
func (t token) isIdentifier() bool { return t.isName() || t.kind == tokHigh }

// lexer cuts a text into tokens. It never fails: it ends early and says so in doubt.
type lexer struct {
	sql     string
	pos     int
	dialect Dialect
	reading
	dot    int  // the position behind the last dot that begins a name, or -1
	number int  // the position behind the last number, or -1
	doubt  bool // something was met that cannot be read with certainty
	broken bool // something was met that every server refuses: an open quote, a stray backslash
}

func newLexer(d Dialect, sql string, r reading) lexer {
	return lexer{sql: sql, dialect: d, reading: r, dot: -1, number: -1}
}

// fail ends the text here.
func (l *lexer) fail() token {
	l.doubt = true
	l.pos = len(l.sql)
	return token{start: l.pos, end: l.pos}
}

// peek returns the byte n behind the next one, 0 behind the end. (A NUL in the text itself is refused
// earlier.)
func (l *lexer) peek(n int) byte {
	if l.pos+n < len(l.sql) {
		return l.sql[l.pos+n]
	}
	return 0
}

func (l *lexer) next() token {
	if !l.skip() {
		return l.fail()
	}
	if l.pos >= len(l.sql) {
		return token{start: l.pos, end: l.pos}
	}
	if l.dialect == PostgreSQL {
		return l.nextPostgreSQL()
	}
	c := l.sql[l.pos]
	switch {
	case isWordByte(c) && !isDigit(c) && (c != '$' || l.dialect == MySQL):
		return l.name()
	case isDigit(c):
		return l.numeral()
	case c >= 0x80:
		return l.high()
	}
	switch c {
	case '\'':
		return l.quoted(tokString, '\'', l.escapeSingle)
	case '"':
		return l.quoted(tokQuoted, '"', l.escapeDouble)
	case '`':
		return l.quoted(tokQuoted, '`', false)
	case '.':
		return l.period()
	}
	if l.dialect == SQLite {
		return l.restSQLite(c)
	}
	return l.restMySQL(c)
}

// skip moves past blanks and comments. It reports false where a comment has no certain end.
//
// It does not skip bytes above 0x7f, although one of them may be a blank. In latin1 0xA0 is one, and MariaDB
// takes "1\xA0INTO OUTFILE" for a number and two keywords there. In UTF-8 the same byte is half of an "à". So
// such bytes become tokens of their own, which end a word. Method advance of scan looks through them.
func (l *lexer) skip() bool {
	for l.pos < len(l.sql) {
		switch c := l.sql[l.pos]; {
		case isBlank(c):
			l.pos++
		case c == '-' && l.peek(1) == '-', c == '#', c == '/' && l.peek(1) == '*':
			var comment, ok bool
			switch l.dialect {
			case SQLite:
				comment, ok = l.commentSQLite(c)
			case PostgreSQL:
				comment, ok = l.commentPostgreSQL(c)
			default:
				comment, ok = l.commentMySQL(c)
			}
			if !ok {
				return false
			}
			if !comment {
				return true
			}
		default:
			return true
		}
	}
	return true
}

// skipLine moves behind the end of the line; only a line feed ends one.
func (l *lexer) skipLine() {
	if i := strings.IndexByte(l.sql[l.pos:], '\n'); i >= 0 {
		l.pos += i + 1
	} else {
		l.pos = len(l.sql)
	}
}

// blockComment moves behind a /* comment */ and returns what is inside; false if it does not end.
func (l *lexer) blockComment() (string, bool) {
	body := l.sql[l.pos+2:]
	end := strings.Index(body, "*/")
	if end < 0 {
		return "", false
	}
	l.pos += 2 + end + 2
	return body[:end], true
}

func (l *lexer) name() token {
	t := token{kind: tokWord, start: l.pos, glued: l.dot == l.pos}
	for l.pos < len(l.sql) && isWordByte(l.sql[l.pos]) {
		l.pos++
	}
	t.end = l.pos
	text := l.sql[t.start:t.end]
	if text[0] == '$' && strings.IndexByte(text[1:], '$') >= 0 {
		return l.fail() // since MySQL 8.1 $$ or $tag$ begins a string
	}
	if !t.glued {
		t.word = keywords.keyword(text)
	}
	return t
}

// numeral reads digits, a fraction and an exponent. It leaves the letters behind them to become a word: the
// servers read 1.INTO, .5INTO and 1e5INTO as a number and a keyword. In 1INTO and t.1INTO a server sees a
// name, and this lexer a keyword, which is the careful side.
func (l *lexer) numeral() token {
	t := token{kind: tokNumber, start: l.pos}
	l.digits()
	if l.peek(0) == '.' {
		l.pos++
		l.digits()
	}
	if c := l.peek(0); c == 'e' || c == 'E' {
		sign := 0
		if c := l.peek(1); c == '+' || c == '-' {
			sign = 1
		}
		if isDigit(l.peek(1 + sign)) {
			l.pos += 1 + sign
			l.digits()
		}
	}
	t.end = l.pos
	l.number = l.pos
	return t
}

func (l *lexer) digits() {
	for l.pos < len(l.sql) && isDigit(l.sql[l.pos]) {
		l.pos++
	}
}

func (l *lexer) high() token {
	t := token{kind: tokHigh, start: l.pos}
	for l.pos < len(l.sql) && l.sql[l.pos] >= 0x80 {
		l.pos++
	}
	t.end = l.pos
	return t
}

func (l *lexer) period() token {
	afterNumber := l.number == l.pos // 1e5.UPDATE: not certainly a name behind it
	t := l.single()
	if !afterNumber {
		l.dot = l.pos
	}
	return t
}

func (l *lexer) single() token {
	t := token{kind: tokPunct, punct: l.sql[l.pos], start: l.pos, end: l.pos + 1}
	l.pos++
	return t
}

// quoted reads from an opening quote to the closing one. The quote itself is written twice inside.
func (l *lexer) quoted(kind tokenKind, quote byte, escape bool) token {
	start := l.pos + 1
	for i := start; i < len(l.sql); i++ {
		switch c := l.sql[i]; {
		case c == '\\' && escape:
			i++
		case c == quote && i+1 < len(l.sql) && l.sql[i+1] == quote:
			i++
		case c == quote:
			l.pos = i + 1
			return token{kind: kind, start: start, end: i}
		}
	}
	l.broken = true
	return l.fail()
}

func isBlank(c byte) bool { return c == ' ' || c-'\t' < 5 } // tab, LF, VT, FF, CR
func isDigit(c byte) bool { return c-'0' < 10 }
func isWordByte(c byte) bool {
	return (c|0x20)-'a' < 26 || isDigit(c) || c == '_' || c == '$'
}
