package sqlkind

import (
	_ "embed"
	"iter"
	"slices"
	"strings"
	"sync"
)

// The lists in functions tell what a call does, for each function that is no plain read. Their first lines
// say how they are to be read.
var (
	//go:embed functions/mysql.txt
	functionsMySQL string
	//go:embed functions/postgresql.txt
	functionsPostgreSQL string
	//go:embed functions/sqlite.txt
	functionsSQLite string
)

// functions is the list of a dialect. Names are in lower case.
type functions struct {
	kinds    map[string]Kind // by the function's name
	families []family        // the longest beginning first
	schemas  map[string]Kind // by the schema with which a function is called
}

// family judges all functions whose names begin alike.
type family struct {
	beginning string
	kind      Kind
}

// functionsOf holds the list of each dialect. A list is parsed when it is needed: a program needs one
// dialect.
var functionsOf = [...]func() *functions{
	MySQL:      sync.OnceValue(func() *functions { return newFunctions(functionsMySQL) }),
	SQLite:     sync.OnceValue(func() *functions { return newFunctions(functionsSQLite) }),
	PostgreSQL: sync.OnceValue(func() *functions { return newFunctions(functionsPostgreSQL) }),
}

func newFunctions(list string) *functions {
	f := &functions{kinds: map[string]Kind{}, schemas: map[string]Kind{}}
	for row := range rows(list) {
		if schema, ok := strings.CutSuffix(row.name, ".*"); ok {
			f.schemas[schema] = row.kind
		} else if beginning, ok := strings.CutSuffix(row.name, "*"); ok {
			f.families = append(f.families, family{beginning, row.kind})
		} else {
			f.kinds[row.name] = row.kind
		}
	}
	slices.SortFunc(f.families, func(a, b family) int { return len(b.beginning) - len(a.beginning) })
	return f
}

// ofFamily judges a function by the beginning of its name, if that tells.
func (f *functions) ofFamily(name []byte) (k Kind, ok bool) {
	for _, family := range f.families {
		if n := len(family.beginning); len(name) >= n && string(name[:n]) == family.beginning {
			return family.kind, true
		}
	}
	return Read, false
}

// row is one name of a list, with the heading and the address that it stands below.
type row struct {
	name    string // of a function, or name*, or schema.*
	kind    Kind
	heading string
	source  string // where it is documented
}

// rows reads a list. What is not indented is a heading, and what is indented once an address; names are
// indented twice.
func rows(list string) iter.Seq[row] {
	return func(yield func(row) bool) {
		var r row
		for line := range strings.Lines(list) {
			text := strings.TrimSpace(line)
			switch {
			case text == "" || text[0] == '#':
			case strings.HasPrefix(line, "\t\t"):
				for r.name = range strings.FieldsSeq(text) {
					if !yield(r) {
						return
					}
				}
			case line[0] == '\t':
				r.source = text
			default:
				verdict, _, _ := strings.Cut(text, ":")
				r = row{kind: kindNamed(verdict), heading: text}
			}
		}
	}
}

// kindNamed returns the Kind of this name. That of a name which is misspelled is Unknown, the careful one.
func kindNamed(name string) Kind {
	for k := Unknown; k <= Write; k++ {
		if k.String() == name {
			return k
		}
	}
	return Unknown
}
