package conventions

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// word is a word of a document that has to name something.
type word struct {
	line int
	kind kind
	text string
}

// kind is what a word has to name.
type kind uint8

const (
	identifier kind = iota // one, or several joined by dots
	file                   // a path, or the name of a file
	inside                 // a path, if the folder that it begins with is there
	target                 // of the Makefile: "make test"
	variable               // of the environment or the Makefile
	testFunc               // a test, a benchmark or a fuzz target
)

var (
	heading = regexp.MustCompile(`^#{1,6} `)
	span    = regexp.MustCompile("`([^`]+)`")

	testName   = regexp.MustCompile(`\b(Test|Benchmark|Fuzz)[A-Z]\w*`)
	makeTarget = regexp.MustCompile(`\bmake ([a-z]+)`)
	methodOf   = regexp.MustCompile(`\(\*(\w+)\)\.`) // (*pool).BeginTx
	anyWord    = regexp.MustCompile(`[\w.*/-]+`)
	plain      = regexp.MustCompile(`^[A-Za-z_]\w*$`)
	dotted     = regexp.MustCompile(`^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$`)
	likeThis   = regexp.MustCompile(`^[a-zA-Z_]*[a-z][A-Z]\w*$`)
	capitals   = regexp.MustCompile(`^[A-Z][A-Z0-9_]+$`)
)

// sections returns the words of a document by section. A section begins with a heading.
func sections(document string) (all [][]word) {
	var section []word
	var paragraph []string // its lines
	fenced := false
	for i, text := range strings.Split(document+"\n", "\n") {
		fence := strings.HasPrefix(text, "```")
		block := fenced && !fence || strings.HasPrefix(text, "    ")
		title := !block && heading.MatchString(text)
		if fence || block || title || text == "" {
			section = append(section, wordsOfProse(i+1-len(paragraph), strings.Join(paragraph, "\n"))...)
			paragraph = nil
		}
		if title {
			all, section = append(all, section), nil
		}
		for _, name := range testName.FindAllString(text, -1) {
			section = append(section, word{i + 1, testFunc, name})
		}
		switch {
		case fence:
			fenced = !fenced
		case block:
			section = append(section, wordsOfCode(i+1, text, false)...)
		default:
			paragraph = append(paragraph, text)
		}
	}
	return append(all, section)
}

// wordsOfProse returns the words in the spans of a paragraph.
func wordsOfProse(line int, text string) (words []word) {
	for _, at := range span.FindAllStringSubmatchIndex(text, -1) {
		words = append(words, wordsOfCode(line+strings.Count(text[:at[0]], "\n"), text[at[2]:at[3]], true)...)
	}
	return words
}

// wordsOfCode returns the words of a span, or of a line of a block.
func wordsOfCode(line int, text string, isSpan bool) (words []word) {
	for _, found := range makeTarget.FindAllStringSubmatch(text, -1) {
		words = append(words, word{line, target, found[1]})
	}
	text = methodOf.ReplaceAllString(text, "$1.")
	for _, at := range anyWord.FindAllStringIndex(text, -1) {
		w := strings.TrimRight(text[at[0]:at[1]], ".-")
		if !strings.Contains(w, "/") {
			w = strings.TrimLeft(w, "*")
		}
		alone := isSpan && strings.Trim(text, "*()") == w
		if k, ok := kindOf(w, (text + " ")[at[1]], alone); ok {
			words = append(words, word{line, k, w})
		}
	}
	return words
}

// kindOf returns what a word has to name, if it has to name anything, by the character behind it, and whether
// it is the only one of a span.
func kindOf(w string, next byte, alone bool) (kind, bool) {
	isFile := slices.Contains([]string{".go", ".md", ".mod", ".work"}, path.Ext(w))
	switch {
	case strings.HasPrefix(w, "/"): // outside of the repository
		return 0, false
	case testName.MatchString(w): // found in prose, too
		return 0, false
	case isFile, alone && strings.Contains(w, "/"):
		return file, true
	case strings.Contains(w, "/"):
		return inside, true
	case capitals.MatchString(w):
		return variable, alone || next == '='
	case dotted.MatchString(w), likeThis.MatchString(w):
		return identifier, true
	case plain.MatchString(w):
		return identifier, alone || next == '('
	}
	return 0, false
}
