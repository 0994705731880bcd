package sqlkind

import (
	"maps"
	"slices"
)

// Tables says which of the tables that a [Cache] watches a text names.
type Tables struct {
	// Main is the table that the statement is about: the first one of its FROM, INTO, UPDATE or TABLE, at the
	// outermost level, or of the derived table there. It is "" if that one is not watched.
	Main string
	// All is every watched table whose name is in the text, each once. A name counts also where it looks like
	// that of a column, of an alias or of a common table expression, since such a name may hide a table.
	All []string
	// Others tells whether there are tables that are not watched, or names that look like them.
	Others bool
}

// watched maps the names of tables in lower case to how they were given. A name without a schema stands for
// itself in every schema.
type watched map[string]string

// everything is what a text may name that cannot be read.
func (w watched) everything() *Tables {
	return &Tables{All: slices.Compact(slices.Sorted(maps.Values(w))), Others: true}
}

// and returns what a text names that means both, in two readings. t may be nil.
func (t *Tables) and(other *Tables) *Tables {
	if t == nil {
		return other
	}
	for _, name := range other.All {
		t.add(name)
	}
	t.Others = t.Others || other.Others
	return t
}

func (t *Tables) add(name string) {
	if !slices.Contains(t.All, name) {
		t.All = append(t.All, name)
	}
}
