package sqlkind

import "strings"

// nextPostgreSQL reads a token. Bytes above 0x7f are letters.
//
// Operators come as the bytes they are made of: a comment begins inside of one just as it does elsewhere, and
// nothing else depends on where they end. So do ::, := and =>.
func (l *lexer) nextPostgreSQL() token {
	switch c := l.sql[l.pos]; {
	case isDigit(c):
		return l.numeral() // 0x1F and 1_000 come as a number and a word that is no keyword
	case c != '$' && isLetterPostgreSQL(c):
		return l.wordPostgreSQL(c | 0x20)
	case c == '\'':
		return l.stringPostgreSQL(l.pos+1, l.escapeSingle, true)
	case c == '"':
		return l.quoted(tokQuoted, '"', false)
	case c == '$':
		return l.dollar()
	case c == '.':
		return l.period()
	case strings.IndexByte(",;()[]:+-*/<>=~!@#%^&|`?", c) >= 0:
		return l.single()
	default: // a backslash, a brace, a control character
		l.broken = true
		return l.fail()
	}
}

// wordPostgreSQL reads a name, or a string whose kind the letter before the quote tells. first is in lower
// case.
func (l *lexer) wordPostgreSQL(first byte) token {
	switch next := l.peek(1); {
	case next == '\'' && first == 'e':
		return l.stringPostgreSQL(l.pos+2, true, true)
	case next == '\'' && (first == 'b' || first == 'x'):
		return l.stringPostgreSQL(l.pos+2, false, false)
	case next == '&' && first == 'u' && l.peek(2) == '\'':
		if l.escapeSingle { // refused where standard_conforming_strings is off
			l.broken = true
			return l.fail()
		}
		return l.stringPostgreSQL(l.pos+3, false, true)
	case next == '&' && first == 'u' && l.peek(2) == '"':
		l.pos += 2
		l.doubt = true // U&"\006eextval": any name
		return l.quoted(tokQuoted, '"', false)
	}
	t := token{kind: tokWord, start: l.pos, glued: l.dot == l.pos}
	for l.pos < len(l.sql) && isLetterPostgreSQL(l.sql[l.pos]) {
		l.pos++
	}
	t.end = l.pos
	if !t.glued {
		t.word = keywordsPostgreSQL.keyword(l.sql[t.start:t.end])
	}
	return t
}

// isLetterPostgreSQL reports whether c may stand in a name, though not at its beginning if it is a digit or a
// dollar sign.
func isLetterPostgreSQL(c byte) bool { return c >= 0x80 || isWordByte(c) }

// stringPostgreSQL reads a string from behind its opening quote, with the pieces that continue it on further
// lines. With double the quote itself is written twice inside.
func (l *lexer) stringPostgreSQL(start int, escape, double bool) token {
	for i := start; i < len(l.sql); i++ {
		switch c := l.sql[i]; {
		case c == '\\' && escape:
			i++
		case c != '\'':
		case double && i+1 < len(l.sql) && l.sql[i+1] == '\'':
			i++
		default:
			l.pos = i + 1
			next, ok := l.continuation()
			if !ok {
				return token{kind: tokString, start: start, end: i}
			}
			i = next
		}
	}
	l.broken = true
	return l.fail()
}

// continuation returns the position of the quote that continues the string which has just ended: behind
// blanks, line comments, and at least one end of a line.
func (l *lexer) continuation() (int, bool) {
	newLine := false
	for i := l.pos; i < len(l.sql); i++ {
		switch c := l.sql[i]; {
		case c == '\n' || c == '\r':
			newLine = true
		case isBlank(c):
		case c == '-' && strings.HasPrefix(l.sql[i:], "--"):
			end := strings.IndexAny(l.sql[i:], "\n\r")
			if end < 0 {
				return 0, false
			}
			i += end
			newLine = true
		default:
			return i, newLine && c == '\''
		}
	}
	return 0, false
}

// dollar reads $1, $$…$$ and $tag$…$tag$. The tag is compared as it is written.
func (l *lexer) dollar() token {
	start := l.pos
	l.pos++
	if isDigit(l.peek(0)) {
		l.digits()
		return token{kind: tokParam, start: start, end: l.pos}
	}
	for c := l.peek(0); c != '$' && isLetterPostgreSQL(c); c = l.peek(0) {
		l.pos++
	}
	if l.peek(0) == '$' {
		l.pos++
		tag := l.sql[start:l.pos]
		if n := strings.Index(l.sql[l.pos:], tag); n >= 0 {
			t := token{kind: tokString, start: l.pos, end: l.pos + n}
			l.pos = t.end + len(tag)
			return t
		}
	}
	l.broken = true
	return l.fail()
}

// commentPostgreSQL skips a comment that begins with c, if it is one; ok is false if it does not end.
func (l *lexer) commentPostgreSQL(c byte) (comment, ok bool) {
	switch c {
	case '#':
		return false, true
	case '-':
		if i := strings.IndexAny(l.sql[l.pos:], "\n\r"); i >= 0 {
			l.pos += i + 1
		} else {
			l.pos = len(l.sql)
		}
		return true, true
	}
	depth := 0
	for i := l.pos; i+1 < len(l.sql); i++ {
		switch l.sql[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
		}
		if depth == 0 {
			l.pos = i + 1
			return true, true
		}
	}
	l.broken = true
	return false, false
}
