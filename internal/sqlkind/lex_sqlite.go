package sqlkind

import "strings"

// restSQLite reads a token that begins with a byte the dialects do not share.
func (l *lexer) restSQLite(c byte) token {
	switch c {
	case '[':
		start := l.pos + 1
		end := strings.IndexByte(l.sql[start:], ']')
		if end < 0 {
			return l.fail()
		}
		l.pos = start + end + 1
		return token{kind: tokQuoted, start: start, end: start + end}
	case '?', ':', '@', '$':
		return l.paramSQLite()
	case '#', '\\':
		return l.fail()
	}
	return l.single()
}

// paramSQLite reads ?, ?1, :a, @a and $a. Of $a::b(…) SQLite takes everything up to the closing parenthesis
// for the name, quotes included; nobody writes that in Go.
func (l *lexer) paramSQLite() token {
	t := token{kind: tokParam, start: l.pos}
	numbered := l.peek(0) == '?'
	l.pos++
	if numbered {
		l.digits() // and no more: ?1INTO is a parameter and a keyword
	}
	for !numbered && (isWordByte(l.peek(0)) || l.peek(0) >= 0x80 || l.peek(0) == ':' && l.peek(1) == ':') {
		if l.peek(0) == ':' {
			l.pos++
		}
		l.pos++
	}
	if !numbered && l.peek(0) == '(' {
		return l.fail()
	}
	t.end = l.pos
	return t
}

// commentSQLite skips a comment that begins with c, if it is one; ok is false if it does not end.
func (l *lexer) commentSQLite(c byte) (comment, ok bool) {
	switch c {
	case '#':
		return false, true
	case '-':
		l.skipLine()
		return true, true
	default:
		_, ok := l.blockComment()
		return ok, ok
	}
}
