package sqlkind

import "strings"

// classifyOther says of a text in an unknown dialect the little that is certain: that it begins with the word
// of a statement that writes, or that it may lock rows. The latter is a guess where the words stand in a
// string; it is no verdict on what else the text does. Everything else is Unknown.
func classifyOther(sql string) Kind {
	rest := skipComments(sql)
	word := rest[:max(0, strings.IndexFunc(rest+" ", notInWord))]
	switch strings.ToLower(word) {
	case "insert", "update", "delete", "replace", "merge", "upsert", "truncate", "copy",
		"create", "alter", "drop", "grant", "revoke", "comment", "reindex", "vacuum", "refresh":
		return Write
	case "select", "with":
		if locksRows(rest) {
			return Locking
		}
	}
	return Unknown
}

func notInWord(r rune) bool {
	return r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r < 0x80
}

// skipComments returns what follows the blanks and comments that sql begins with.
func skipComments(sql string) string {
	for {
		sql = strings.TrimLeft(sql, " \t\n\v\f\r(")
		switch {
		case strings.HasPrefix(sql, "--"):
			_, sql, _ = strings.Cut(sql, "\n")
		case strings.HasPrefix(sql, "/*"):
			_, sql, _ = strings.Cut(sql[2:], "*/")
		default:
			return sql
		}
	}
}

// locksRows looks for FOR UPDATE, FOR SHARE, and PostgreSQL's FOR NO KEY UPDATE and FOR KEY SHARE.
func locksRows(sql string) bool {
	after := false // FOR, and then nothing but NO or KEY
	for word := range strings.FieldsFuncSeq(sql, notInWord) {
		switch strings.ToLower(word) {
		case "for":
			after = true
		case "no", "key":
		case "update", "share":
			if after {
				return true
			}
		default:
			after = false
		}
	}
	return false
}
