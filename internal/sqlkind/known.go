package sqlkind

import (
	_ "embed"
	"iter"
	"strings"
	"sync"
)

// The lists in known are made from what servers say of themselves; integration/oracle asks them whether a
// name is missing.
var (
	//go:embed known/mysql.txt
	knownMySQL string
	//go:embed known/mysql_sys.txt
	knownMySQLSys string
	//go:embed known/mysql_words.txt
	wordsMySQL string

	//go:embed known/postgresql.txt
	knownPostgreSQL string
	//go:embed known/postgresql_extensions.txt
	knownPostgreSQLExtensions string
	//go:embed known/postgresql_words.txt
	wordsPostgreSQL string

	//go:embed known/sqlite.txt
	knownSQLite string
	//go:embed known/sqlite_words.txt
	wordsSQLite string
)

// knownNames are the names in front of a parenthesis that are not those of functions which nobody knows.
type knownNames struct {
	functions map[string]bool // of the server's own
	schema    string          // where these are, too
	elsewhere map[string]bool // functions in other schemas, which need not be named
	words     map[string]bool // no functions, unless they are quoted or have a schema
}

// known holds the names of each dialect. They are read when they are needed: a program needs one dialect.
var known = [...]func() *knownNames{
	MySQL: sync.OnceValue(func() *knownNames {
		return &knownNames{
			functions: nameSet(knownMySQL), elsewhere: nameSet(knownMySQLSys), words: nameSet(wordsMySQL),
		}
	}),
	SQLite: sync.OnceValue(func() *knownNames {
		return &knownNames{functions: nameSet(knownSQLite), words: nameSet(wordsSQLite)}
	}),
	PostgreSQL: sync.OnceValue(func() *knownNames {
		return &knownNames{
			functions: nameSet(knownPostgreSQL), schema: "pg_catalog",
			elsewhere: nameSet(knownPostgreSQLExtensions), words: nameSet(wordsPostgreSQL),
		}
	}),
}

func nameSet(list string) map[string]bool {
	m := map[string]bool{}
	for name := range names(list) {
		m[name] = true
	}
	return m
}

// names reads a list: names between white space, in the order of the alphabet, and comments in lines that
// begin with #.
func names(list string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for line := range strings.Lines(list) {
			if strings.HasPrefix(line, "#") {
				continue
			}
			for name := range strings.FieldsSeq(line) {
				if !yield(name) {
					return
				}
			}
		}
	}
}

// callKnown remembers a call of a function that is in no list of known ones: name is that before the current
// parenthesis, in lower case.
func (s *scan) callKnown(name []byte) {
	if s.strange || s.naming {
		return
	}
	k := known[s.lex.dialect]()
	switch {
	case s.tok.gap || s.prev.gap: // the name has other letters than those of ASCII, too
		s.strange = true
	case s.prev2.is('.'):
		schema := s.textOf(s.qualifier)
		inOwn := k.schema != "" && equalFold(schema, k.schema) && k.functions[string(name)]
		s.strange = !inOwn && !k.elsewhere[string(name)]
	case s.prev.kind == tokWord && k.words[string(name)]:
	case s.prev2.kind == tokWord && equalFold(s.textOf(s.prev2), "as"): // AS t (a, b), AS DECIMAL(10, 2)
	case s.prev2.is(')') && !s.distinctOn: // (SELECT …) t (a, b)
	default:
		s.strange = !k.functions[string(name)] && !k.elsewhere[string(name)]
	}
}
