package sqlkind

import (
	"bytes"
	"hash/maphash"
	"strings"
)

// shape is a text without what differs from call to call: a ? stands for every literal and every list of
// them, comments are left out, words are in lower case with one blank between them. What cannot be read with
// certainty has a shape of its own.
type shape struct {
	text []byte
	safe int    // so much of text holds no literal under any setting of the server
	rest string // the whole text, if it cannot be read
}

// longestShown is how much of a shape is shown.
const longestShown = 512

// String returns what may be shown of s: no literal is in it.
func (s *shape) String() string {
	n := min(s.safe, longestShown)
	shown := strings.ToValidUTF8(string(s.text[:n]), "")
	if n < len(s.text) || s.rest != "" {
		return shown + " …"
	}
	return shown
}

func (s *shape) sum(seed maphash.Seed) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	_, _ = h.Write(s.text)
	_ = h.WriteByte(0)
	_, _ = h.WriteString(s.rest)
	return h.Sum64()
}

// shapeOf returns the shape of sql. Where the settings of a server decide what a text means, it is read as by
// default. If that is wrong, two different texts may have one shape, and a read may be taken for a write: the
// careful side.
func shapeOf(d Dialect, sql string) shape {
	if d == Other {
		d = SQLite // it knows every kind of quotes
	}
	b := shapeBuilder{
		lex:   newLexer(d, sql, readingsOf(d)[0]),
		shape: shape{text: make([]byte, 0, min(len(sql), longestShown)), safe: -1},
	}
	for tok := b.lex.next(); tok.kind != tokEOF; {
		if b.shape.safe < 0 && (b.lex.doubt || strings.IndexByte(b.textOf(tok), '\\') >= 0) {
			b.shape.safe = len(b.shape.text)
		}
		next := b.lex.next()
		b.add(tok, next)
		b.prev, tok = tok, next
	}
	if b.shape.safe < 0 {
		b.shape.safe = len(b.shape.text)
	}
	if b.lex.doubt {
		b.shape.rest = sql
	}
	return b.shape
}

// shapeBuilder makes a shape of one token after the other.
type shapeBuilder struct {
	lex   lexer
	shape shape
	prev  token // the one before
}

func (b *shapeBuilder) textOf(t token) string { return b.lex.sql[t.start:t.end] }

// add adds tok, behind which next comes.
func (b *shapeBuilder) add(tok, next token) {
	switch tok.kind {
	case tokString, tokNumber, tokParam:
		b.literal()
	case tokQuoted:
		if b.isString(tok, next) {
			b.literal()
			return
		}
		b.word(`"` + b.textOf(tok) + `"`)
	case tokWord:
		if b.prev.kind == tokNumber && b.prev.end == tok.start {
			return // the rest of 0x1F
		}
		if next.kind == tokString && next.start == tok.end+1 && b.isPrefix(tok) {
			return // of x'1F'
		}
		b.word(b.textOf(tok))
	case tokPunct:
		switch {
		case (tok.is('-') || tok.is('+')) && (next.kind == tokNumber || next.kind == tokParam): // a literal's sign
		case tok.is(')') && bytes.HasSuffix(b.shape.text, []byte("( ? ) , ( ?")):
			b.shape.text = b.shape.text[:len(b.shape.text)-len(" , ( ?")]
		default:
			b.word(b.textOf(tok))
		}
	default:
		b.word(b.textOf(tok))
	}
}

// literal adds a literal: to the list of literals before it, if there is one.
func (b *shapeBuilder) literal() {
	switch text := b.shape.text; {
	case bytes.HasSuffix(text, []byte("? ,")):
		b.shape.text = text[:len(text)-len(" ,")]
	case !bytes.HasSuffix(text, []byte("?")):
		b.word("?")
	}
}

func (b *shapeBuilder) word(w string) {
	if len(b.shape.text) > 0 {
		b.shape.text = append(b.shape.text, ' ')
	}
	b.shape.text = lower(b.shape.text, w)
}

// isString reports whether tok, in quotes of some kind, is a string and no name. By default "x" is one in
// MySQL, and SQLite takes it for one where there is no such name.
func (b *shapeBuilder) isString(tok, next token) bool {
	if b.lex.dialect == PostgreSQL || b.lex.sql[tok.start-1] != '"' {
		return false
	}
	if b.prev.is('.') || next.is('.') || next.is('(') {
		return false
	}
	if b.prev.kind != tokWord {
		return true
	}
	switch prev := b.textOf(b.prev); {
	case equalFold(prev, "from"), equalFold(prev, "join"), equalFold(prev, "into"), equalFold(prev, "update"),
		equalFold(prev, "table"), equalFold(prev, "as"):
		return false
	}
	return true
}

// isPrefix reports whether tok says what kind of string follows: N'x', X'41', b'01', _utf8mb4'x'.
func (b *shapeBuilder) isPrefix(tok token) bool {
	text := b.textOf(tok)
	return text[0] == '_' || len(text) == 1 && strings.ContainsAny(text, "nNxXbB")
}
