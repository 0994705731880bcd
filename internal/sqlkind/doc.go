// Package sqlkind tells from the text of an SQL statement whether it is provably read-only, and which tables
// it names.
//
//	sqlkind.Classify(sqlkind.MySQL, "SELECT * FROM users WHERE id = ?")            // Read
//	sqlkind.Classify(sqlkind.MySQL, "SELECT * FROM users WHERE id = ? FOR UPDATE") // Locking
//	sqlkind.Classify(sqlkind.MySQL, "WITH x AS (SELECT 1) DELETE FROM users")      // Write
//
// Programs want a [Cache] in front:
//
//	Cache ─► looker ─► scan ─► lexer ─► tokens        looker: once for each meaning that backslashes may have
//	  │                 │ ├──► functions, known       scan:   the kind; what does a call do?
//	  │                 │ └──► tableFinder            Tables: from the same tokens
//	  └─► shape ─► lexer                              what a server refused once is a Write from then on
//
// The package looks at nothing but the text. So a verdict holds under every setting that changes what a text
// means: every sql_mode, standard_conforming_strings on and off, every version of the servers, every
// character set of the connection that is a superset of ASCII. Where settings disagree, the worst meaning
// counts. A text that cannot be read with certainty is [Unknown].
//
// The package does not know what the names in a text stand for. It takes a view for harmless, and a function
// that is in none of its lists. But it tells whether a text calls such a function ([CallsUnknown]), and a
// [Cache] can be told of functions that write.
//
// It assumes that text which is valid UTF-8 was not meant to be GBK, Big5, Shift-JIS, GB18030, UHC or Johab,
// in which a backslash or a backtick can be the second half of a character.
//
// Time is linear in the length of the text, memory constant. No text panics.
package sqlkind
