package main

import (
	"cmp"
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

// edit puts text into a file, for one mutant.
type edit struct {
	mutant int
	at     int // offset
	length int // of what it replaces
	text   string
	line   int // of what follows
	order  int // at one offset: negative if the text ends something, which goes before what begins there
}

// rewrite returns a text with the edits of those mutants that are left. What follows an edit stays on its
// line, by a comment for the compiler, so that the compiler's messages tell of which mutants they are.
func rewrite(text []byte, edits []edit, left func(mutant int) bool) []byte {
	edits = slices.Clone(edits)
	slices.SortFunc(edits, func(a, b edit) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.order, b.order))
	})
	var out []byte
	from := 0
	for _, e := range edits {
		if !left(e.mutant) {
			continue
		}
		out = append(out, text[from:e.at]...)
		out = append(out, e.text...)
		if strings.Contains(e.text, "\n") {
			out = fmt.Appendf(out, "/*line :%d:1*/", e.line)
		}
		from = e.at + e.length
	}
	return append(out, text[from:]...)
}

// The names of the variables by which a test's process is told what to do.
const (
	envMutant = "MUTATE_MUTANT" // which mutant it is
	envReach  = "MUTATE_REACH"  // the file into which the numbers of those go that it reaches
)

//go:embed prelude.txt
var preludeText string

// prelude is a file for the package that is mutated. It has what the edits call.
func prelude(name string, mutants int) []byte {
	return fmt.Appendf(nil, preludeText, name, mutants+1, envMutant, envReach)
}
