package sqlkind

import "strings"

// restMySQL reads a token that begins with a byte the dialects do not share.
func (l *lexer) restMySQL(c byte) token {
	switch c {
	case '@':
		t := token{kind: tokUser, start: l.pos}
		l.pos++
		if l.peek(0) == '@' {
			l.pos++
			t.kind = tokSystem
		} else {
			for c := l.peek(0); isWordByte(c) || c == '.'; c = l.peek(0) {
				l.pos++ // the name of a variable may contain dots
			}
		}
		t.end = l.pos
		return t
	case ':':
		if l.peek(1) == '=' {
			l.pos += 2
			return token{kind: tokAssign, start: l.pos - 2, end: l.pos}
		}
	case '?':
		l.pos++
		return token{kind: tokParam, start: l.pos - 1, end: l.pos}
	case '\\':
		// \N is NULL, and ends there: \NINTO is NULL and INTO. Nothing else may begin with a backslash.
		if l.peek(1) != 'N' {
			l.broken = true
			return l.fail()
		}
		l.pos += 2
		return token{kind: tokString, start: l.pos - 2, end: l.pos}
	}
	return l.single()
}

// commentMySQL skips a comment that begins with c, if it is one; ok is false if that cannot be said.
func (l *lexer) commentMySQL(c byte) (comment, ok bool) {
	switch c {
	case '#':
		l.skipLine()
		return true, true
	case '-':
		// Two dashes begin a comment only before a blank, a control character or the end: 5--1 is 6.
		switch next := l.peek(2); {
		case next <= ' ' || next == 0x7f:
			l.skipLine()
			return true, true
		case next >= 0x80:
			return false, false // a blank in some character sets
		default:
			return false, true
		}
	}
	body, ok := l.blockComment()
	if !ok {
		return false, false
	}
	if code, found := cutExecutable(body); found {
		// Run or ignored, depending on the server's version; even where it ends depends on that. The text
		// goes on to be read, since what follows can only make the verdict worse.
		if !harmlessIfRun(code) {
			l.doubt = true
		}
		return true, true
	}
	if strings.HasPrefix(body, "+") && !quotesClosed(body) {
		return false, false // in an optimizer hint, */ does not end the comment inside quotes
	}
	return true, true
}

// cutExecutable returns the code in /*! … */, /*!50100 … */ and MariaDB's /*M! … */, without the version.
func cutExecutable(body string) (code string, found bool) {
	if body != "" && body[0]|0x20 == 'm' {
		body = body[1:]
	}
	return strings.CutPrefix(body, "!")
}

// modifiers are words that change how a SELECT is carried out, and not what it does.
var modifiers = map[string]bool{
	"sql_no_cache": true, "sql_cache": true, "sql_small_result": true, "sql_big_result": true,
	"sql_buffer_result": true, "high_priority": true, "straight_join": true,
}

// harmlessIfRun reports whether the code of an executable comment leaves the verdict as it is, run or not:
// whether it is made of modifiers and index hints alone, in letters that every server reads alike.
func harmlessIfRun(code string) bool {
	version := 0
	for version < len(code) && isDigit(code[version]) {
		version++
	}
	if version != 0 && version != 5 && version != 6 {
		return false
	}
	words := hintWords{code[version:]}
	for {
		switch w := words.next(); {
		case w == "":
			return true
		case modifiers[w]:
		case w == "use" || w == "force" || w == "ignore":
			if !words.indexHint() {
				return false
			}
		default:
			return false
		}
	}
}

// hintWords cuts the code of an executable comment into words, `names`, parentheses and commas.
type hintWords struct{ rest string }

// next returns the next piece in lower case; "" at the end, and "?" for whatever else there is.
func (h *hintWords) next() string {
	h.rest = strings.TrimLeft(h.rest, " \t\n\v\f\r")
	if h.rest == "" {
		return ""
	}
	n, closing := 0, 0
	if h.rest[0] == '`' {
		n, closing = 1, 1
	}
	for n < len(h.rest) && isWordByte(h.rest[n]) {
		n++
	}
	switch c := h.rest[0]; {
	case closing == 1 && (n == 1 || n == len(h.rest) || h.rest[n] != '`'):
		return "?"
	case n == 0 && (c == '(' || c == ')' || c == ','):
		n = 1
	case n == 0:
		return "?"
	}
	w := h.rest[:n+closing]
	h.rest = h.rest[n+closing:]
	return strings.ToLower(w)
}

// indexHint reads what follows USE, FORCE or IGNORE: INDEX [FOR JOIN] (a, `b`).
func (h *hintWords) indexHint() bool {
	if w := h.next(); w != "index" && w != "key" {
		return false
	}
	w := h.next()
	if w == "for" {
		switch h.next() {
		case "join":
		case "order", "group":
			if h.next() != "by" {
				return false
			}
		default:
			return false
		}
		w = h.next()
	}
	if w != "(" {
		return false
	}
	for w = h.next(); w != ")"; w = h.next() {
		switch w {
		case "", "?", "(", ",":
			return false
		}
		if w = h.next(); w == ")" {
			return true
		} else if w != "," {
			return false
		}
	}
	return true
}

// quotesClosed reports whether every quote that opens in body also closes in it.
func quotesClosed(body string) bool {
	for i := 0; i < len(body); i++ {
		switch c := body[i]; c {
		case '\\':
			return false
		case '\'', '"', '`':
			end := strings.IndexByte(body[i+1:], c)
			if end < 0 {
				return false
			}
			i += end + 1
		}
	}
	return true
}
