package sqlkind

import "strings"

// keyword is a word that means something wherever it stands in a statement. Words that matter in one place
// only are compared there.
type keyword uint8

const (
	notKeyword keyword = iota
	kwCalcFoundRows
	kwClause
	kwCurrentRole
	kwDelete
	kwFor
	kwInsert
	kwInto
	kwKey
	kwLock
	kwNext
	kwNo
	kwPrevious
	kwRelation
	kwReplace
	kwRowCount
	kwShare
	kwUpdate
	kwUser
	kwValue
)

// keywords are those of MySQL, MariaDB and SQLite.
var keywords = newVocabulary(map[string]keyword{
	"sql_calc_found_rows": kwCalcFoundRows,
	"current_role":        kwCurrentRole,
	"delete":              kwDelete,
	"for":                 kwFor,
	"insert":              kwInsert,
	"into":                kwInto,
	"lock":                kwLock,
	"next":                kwNext,
	"previous":            kwPrevious,
	"replace":             kwReplace,
	"rowcount":            kwRowCount,
	"share":               kwShare,
	"update":              kwUpdate,
	"value":               kwValue,
})

var keywordsPostgreSQL = newVocabulary(map[string]keyword{
	"current_catalog": kwCurrentRole,
	"current_role":    kwCurrentRole,
	"current_schema":  kwCurrentRole,
	"current_user":    kwCurrentRole,
	"delete":          kwDelete,
	"except":          kwClause,
	"for":             kwFor,
	"from":            kwRelation,
	"group":           kwClause,
	"having":          kwClause,
	"intersect":       kwClause,
	"into":            kwInto,
	"join":            kwRelation,
	"key":             kwKey,
	"limit":           kwClause,
	"no":              kwNo,
	"only":            kwRelation,
	"order":           kwClause,
	"returning":       kwClause,
	"select":          kwClause,
	"session_user":    kwCurrentRole,
	"share":           kwShare,
	"table":           kwRelation,
	"union":           kwClause,
	"update":          kwUpdate,
	"user":            kwUser,
	"values":          kwClause,
	"where":           kwClause,
	"window":          kwClause,
})

// vocabulary is the keywords of a dialect.
type vocabulary struct {
	words map[string]keyword
	// for each letter a keyword may begin with, a bit for each length: it spares most words the map
	lengths [26]uint32
}

func newVocabulary(words map[string]keyword) vocabulary {
	v := vocabulary{words: words}
	for w := range words {
		v.lengths[w[0]-'a'] |= 1 << len(w)
	}
	return v
}

func (v *vocabulary) keyword(word string) keyword {
	first := (word[0] | 0x20) - 'a'
	if first >= 26 || len(word) >= 32 || v.lengths[first]&(1<<len(word)) == 0 {
		return notKeyword
	}
	var buf [32]byte
	return v.words[string(lower(buf[:0], word))]
}

// lower appends s to buf with its ASCII letters in lower case. With a buffer that is long enough nothing is
// allocated.
func lower(buf []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if c-'A' < 26 {
			c |= 0x20
		}
		buf = append(buf, c)
	}
	return buf
}

// equalFold reports whether s is word, which is in lower case, in any case. Unlike strings.EqualFold it knows
// nothing of Unicode, like the servers' keywords.
func equalFold(s, word string) bool {
	if len(s) != len(word) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c-'A' < 26 {
			c |= 0x20
		}
		if c != word[i] {
			return false
		}
	}
	return true
}

// hasPrefixFold reports whether s begins with prefix, which is in lower case, in any case.
func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && equalFold(s[:len(prefix)], prefix)
}

// lastName returns what follows the last dot of a qualified name, without quotes and in lower case.
func lastName(s string) string {
	s = s[strings.LastIndexByte(s, '.')+1:]
	return string(lower(nil, strings.Trim(s, " \t`\"")))
}
