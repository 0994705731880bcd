package sqlkind

import (
	"strings"
	"unicode/utf8"
)

// reading is one of the meanings that settings, which a text does not show, can give to its backslashes.
type reading struct{ escapeSingle, escapeDouble bool }

// worstReading returns the verdict on a text that means something else under each of several settings: the worst of all
// readings that it has. Without a backslash they are all the same. It is strange if it calls a function that
// nobody knows, in any of them.
func worstReading(
	d Dialect, sql string, readings []reading, writers map[string]struct{},
) (verdict Kind, strange bool) {
	if strings.IndexByte(sql, '\\') < 0 {
		readings = readings[:1]
	}
	verdict = Read
	broken := Read
	whole := false
	for _, r := range readings {
		s := newScan(lexer{sql: sql, dialect: d, escapeSingle: r.escapeSingle, escapeDouble: r.escapeDouble}, writers)
		k := s.finish(s.statement())
		strange = strange || s.strange
		if s.lex.broken && !s.ended {
			// A server that reads the text this way refuses it, so this reading is no danger as long as there is
			// another. 'it\'s' has a whole reading and a broken one.
			broken = worse(broken, k)
		} else {
			verdict, whole = worse(verdict, k), true
		}
	}
	if !whole {
		return broken, strange
	}
	return verdict, strange
}

// halfCharacters reports whether one of the bytes of meaning may be the second half of a character: after a byte that
// begins one, in a text that is not UTF-8. GBK, Big5, Shift-JIS, GB18030, UHC and Johab have such characters.
func halfCharacters(sql, meaning string) bool {
	for i := 1; i < len(sql); i++ {
		if sql[i-1] >= 0x80 && sql[i] < 0x80 && strings.IndexByte(meaning, sql[i]) >= 0 {
			return !utf8.ValidString(sql)
		}
	}
	return false
}
