package conventions

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"
)

// The widest that a line may be, in characters (a tab is one), and the most lines of a file of the root.
const (
	goColumns       = 110
	documentColumns = 120
	rootLines       = 400
)

// TestTooLong has lines and files that are one too long found, and those that may be long left alone.
func TestTooLong(t *testing.T) {
	wide := func(n int) string { return strings.Repeat("ü", n) }
	link := "https://" + wide(documentColumns)
	for _, test := range []struct{ name, content, want string }{
		{"a.go", "\t" + wide(goColumns-1) + "\n", ""},
		{"a.go", "\n\t" + wide(goColumns) + "\n", "a.go:2: 111 columns, of 110 at most"},
		{"internal/b/b_test.go", wide(goColumns + 1), "internal/b/b_test.go:1: 111 columns, of 110 at most"},
		{"c.md", wide(documentColumns), ""},
		{"docs/c.md", wide(documentColumns+1) + "\n", "docs/c.md:1: 121 columns, of 120 at most"},
		{"c.md", "| " + wide(documentColumns), ""},
		{"c.md", "```\n" + wide(documentColumns+1) + "\n```", ""},
		{"c.md", "```\n```\n" + wide(documentColumns+1), "c.md:3: 121 columns, of 120 at most"},
		{"c.md", link + "\n- <" + link + ">\n[x]: " + link, ""},
		{"c.md", "see " + link, "c.md:1: 132 columns, of 120 at most"},
		{"d.go", strings.Repeat("\n", rootLines), ""},
		{"d.go", strings.Repeat("\n", rootLines+1), "d.go: 401 lines, of 400 at most"},
		{"d_test.go", strings.Repeat("\n", rootLines+1), ""},
		{"internal/b/b.go", strings.Repeat("\n", rootLines+1), ""},
	} {
		got := strings.Join(tooLong(t, fstest.MapFS{test.name: source(test.content)}), "; ")
		if got != test.want {
			t.Errorf("%s, %.20q: %q, want %q", test.name, test.content, got, test.want)
		}
	}
}

// bareLink is a line of a document that cannot be broken.
var bareLink = regexp.MustCompile(`^\s*(- |\[[^\]]+\]: )?<?https?://\S+$`)

// tooLong returns the lines of Go and of documents that are too wide, and the files of the root that are too
// long. In documents tables, fenced code and links that stand alone may be wide.
func tooLong(t *testing.T, tree fs.FS) (found []string) {
	t.Helper()
	eachFile(t, tree, ".", ".go", func(name, content string) error {
		for i, line := range strings.Split(content, "\n") {
			found = append(found, tooWide(name, i+1, line, goColumns)...)
		}
		n := strings.Count(content, "\n")
		if path.Dir(name) == "." && !strings.HasSuffix(name, "_test.go") && n > rootLines {
			found = append(found, fmt.Sprintf("%s: %d lines, of %d at most", name, n, rootLines))
		}
		return nil
	})
	eachFile(t, tree, ".", ".md", func(name, content string) error {
		fenced := false
		for i, line := range strings.Split(content, "\n") {
			if strings.HasPrefix(line, "```") {
				fenced = !fenced
			}
			if !fenced && !strings.HasPrefix(line, "|") && !bareLink.MatchString(line) {
				found = append(found, tooWide(name, i+1, line, documentColumns)...)
			}
		}
		return nil
	})
	return found
}

func tooWide(name string, number int, line string, most int) []string {
	if n := utf8.RuneCountInString(line); n > most {
		return []string{fmt.Sprintf("%s:%d: %d columns, of %d at most", name, number, n, most)}
	}
	return nil
}
