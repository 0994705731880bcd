package oracle

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// corpus reads a file of testdata. Statements end at an empty line; lines that begin with --# are about them:
//
//	--# anything     is a heading
//	--# hidden       the next statement calls something of the user's own that no text shows: see statement
//	--# once         the next statement is not mutated
func corpus(t *testing.T, name string) []statement {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []statement
	var next statement
	end := func() {
		if next.sql != "" {
			next.sql = strings.TrimSuffix(next.sql, "\n")
			all = append(all, next)
			next = statement{}
		}
	}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		switch {
		case line == "--# hidden":
			next.hidden = true
		case line == "--# once":
			next.once = true
		case strings.HasPrefix(line, "--#"):
		case line == "":
			end()
		default:
			if next.sql == "" {
				next.valid = true
				next.from = fmt.Sprintf("%s:%d", name, n)
			}
			next.sql += line + "\n"
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	end()
	return all
}

// inBytes returns statements that only a few character sets can hold. What is no hole in them is of no
// interest.
func inBytes(texts []string) []statement {
	all := make([]statement, len(texts))
	for i, q := range texts {
		all[i] = statement{sql: q, from: "bytes", once: true, probing: true}
	}
	return all
}
