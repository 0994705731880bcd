package sqlkind

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// Verdict is all that is known of a text.
type Verdict struct {
	Kind         Kind
	CallsUnknown bool    // it calls a function of which nobody knows what it does
	Tables       *Tables // the watched tables that it names: nil if none are watched
}

// looker knows what to look for in the texts of one dialect.
type looker struct {
	dialect Dialect
	writers map[string]struct{} // further functions that write: their names in lower case
	watched watched             // nil: nobody wants to know the tables
}

// look returns the verdict on sql. Most often kind and tables are found in one pass.
func (l *looker) look(sql string) Verdict {
	v := Verdict{Kind: Unknown}
	d, opened := l.dialect, sql
	if d == MySQL && l.watched != nil {
		opened = openComments(sql)
	}
	switch {
	case readingsOf(d) == nil:
		v.Kind, d = classifyOther(sql), SQLite // for the tables: SQLite knows every kind of quotes
	case isAmbiguous(d, sql):
	case opened != sql:
		v = l.read(d, sql, nil)
	default:
		return l.read(d, sql, l.watched)
	}
	if l.watched != nil {
		v.Tables = l.read(d, opened, l.watched).Tables
	}
	return v
}

// read reads sql once for each meaning that its backslashes may have. Without a backslash there is one.
func (l *looker) read(d Dialect, sql string, w watched) Verdict {
	readings := readingsOf(d)
	if strings.IndexByte(sql, '\\') < 0 {
		readings = readings[:1]
	}
	f := findings{whole: Read, broken: Read}
	for _, r := range readings {
		s := newScan(newLexer(d, sql, r), l.writers, newTableFinder(d, sql, w))
		k := s.finish(s.statement())
		f.add(&s, k)
	}
	return f.verdict(w)
}

// findings gathers what is found in the readings of a text: the worst of it counts.
//
// A reading is broken if a quote is open at its end: one reading of 'it\'s' is whole, and the other one is
// broken. A server that reads the text in the broken way refuses it. So that reading is no danger as long as
// there is another.
type findings struct {
	whole, broken Kind // the worst kind in readings of that sort
	anyWhole      bool
	strange       bool
	tables        *Tables // of all readings that are not broken
	obscure       bool    // the tables of one of these are not certain
}

func (f *findings) add(s *scan, k Kind) {
	f.strange = f.strange || s.strange
	if s.lex.broken && !s.ended {
		f.broken = worse(f.broken, k)
	} else {
		f.whole, f.anyWhole = worse(f.whole, k), true
	}
	if s.tables == nil || s.lex.broken {
		return
	}
	if s.lex.doubt {
		f.obscure = true
	} else {
		f.tables = f.tables.and(s.tables.result())
	}
}

func (f *findings) verdict(w watched) Verdict {
	v := Verdict{Kind: f.whole, CallsUnknown: f.strange, Tables: f.tables}
	if !f.anyWhole {
		v.Kind = f.broken
	}
	if w != nil && (f.obscure || f.tables == nil) {
		v.Tables = w.everything()
	}
	return v
}

// reading is one of the meanings that the settings of a server, which a text does not show, give to its
// backslashes.
type reading struct{ escapeSingle, escapeDouble bool }

var (
	// By default a backslash escapes inside '…' and inside "…". With ANSI_QUOTES "…" is a name, and the
	// backslash escapes inside '…' only. With NO_BACKSLASH_ESCAPES it escapes nowhere.
	readingsMySQL = []reading{{true, true}, {true, false}, {false, false}}
	// A backslash is a character like others.
	readingsSQLite = []reading{{false, false}}
	// A backslash escapes inside '…' only where standard_conforming_strings is off. Inside E'…' it always does.
	readingsPostgreSQL = []reading{{false, false}, {true, false}}
)

// readingsOf returns the readings of a dialect, the default one first; nil for a dialect of which nothing is
// known.
func readingsOf(d Dialect) []reading {
	switch d {
	case MySQL:
		return readingsMySQL
	case SQLite:
		return readingsSQLite
	case PostgreSQL:
		return readingsPostgreSQL
	default:
		return nil
	}
}

// isAmbiguous reports whether nobody can tell where the tokens of sql end: because of a NUL, or because of
// characters of several bytes.
func isAmbiguous(d Dialect, sql string) bool {
	if strings.IndexByte(sql, 0) >= 0 {
		return true
	}
	switch d {
	case MySQL:
		return halfCharacters(sql, "\\`")
	case PostgreSQL:
		// These bytes end a name, unless they are half of a character. Where a name ends matters: in |E'a' an
		// escape string follows an operator, in ポE'a' another string follows a name.
		return halfCharacters(sql, ":;<=>?@[\\]^`{|}~")
	default:
		return false
	}
}

// halfCharacters reports whether one of the bytes of meaning may be the second half of a character: it stands
// behind a byte that begins one, in a text that is not UTF-8. GBK, Big5, Shift-JIS, GB18030, UHC and Johab
// have such characters.
func halfCharacters(sql, meaning string) bool {
	for i := 1; i < len(sql); i++ {
		if sql[i-1] >= 0x80 && sql[i] < 0x80 && strings.IndexByte(meaning, sql[i]) >= 0 {
			return !utf8.ValidString(sql)
		}
	}
	return false
}

// openComments returns sql with the comments opened that MySQL and MariaDB execute: the names inside count.
func openComments(sql string) string {
	if strings.Contains(sql, "/*!") || strings.Contains(sql, "/*M!") {
		return executable.ReplaceAllLiteralString(sql, " ")
	}
	return sql
}

// executable matches the beginnings of such comments.
var executable = regexp.MustCompile(`/\*M?![0-9]*`)
