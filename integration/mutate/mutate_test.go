package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// code has something for each kind of mutant, and a test that notices some of them.
var code = map[string]string{
	"go.mod": "module example.com/code\n\ngo 1.25.0\n",
	"code.go": `package code

import "errors"

const most = 10 // not mutated

type span struct{ from, to int }

func (s *span) length() int { return min(s.to-s.from, most) }

func grade(n int) (string, error) {
	switch {
	case n < 0 || n > 100:
		return "", errors.New("out of range")
	case n >= 50:
		return "good", nil
	}
	return "bad", nil
}

func count(list []bool) (n int) {
	for _, b := range list {
		if b {
			n++
		}
	}
	return n
}

func both(a, b bool) bool { return a && !b }

func untested(x uint8) uint8 {
	return x <<
		3
}
`,
	"code_test.go": `package code

import "testing"

func TestGrade(t *testing.T) {
	for n, want := range map[int]string{-1: "", 0: "bad", 49: "bad", 50: "good", 100: "good", 101: ""} {
		if got, err := grade(n); got != want || (err == nil) == (want == "") {
			t.Errorf("%d: %s, %v", n, got, err)
		}
	}
}

func TestCount(t *testing.T) {
	if count([]bool{true, false, true}) != 2 {
		t.Error("not 2")
	}
}

func TestOthers(t *testing.T) {
	_ = (&span{1, 20}).length() + len(os(both(true, false)))
}

func os(bool) string { return "" } // a name that the mutants' code uses, too
`,
	"explained.txt": "# why\n\ncode.go: untested: x << 3 → x >> 3 // nobody calls it\n" +
		"code.go: count: n++ // there is no such mutant\n" +
		"gone.go: count: n++ // there is no such file\n" +
		"other/gone.go: count: n++ // of a package that is not mutated\n",
}

// want are the mutants of the code: + those that its test catches, - those that survive, and = the explained
// one.
const want = `
- span.length: return min(s.to-s.from, most) → return 0
- span.length: min(s.to-s.from, most) → max(s.to-s.from, most)
- span.length: s.to-s.from → s.to + s.from
+ grade: n < 0 || n > 100 → true
+ grade: n < 0 || n > 100 → false
+ grade: n >= 50 → true
+ grade: n >= 50 → false
+ grade: n < 0 || n > 100 → n < 0 && n > 100
+ grade: n < 0 → false
+ grade: n > 100 → false
+ grade: n < 0 → n <= 0
+ grade: 0 → 0 + 1
+ grade: n > 100 → n >= 100
+ grade: 100 → 100 + 1
+ grade: return "", errors.New("out of range") → return "", nil
+ grade: n >= 50 → n > 50
+ grade: 50 → 50 + 1
+ count: without for _, b := range list { …
+ count: b → true
+ count: b → false
+ count: without n++
+ count: return n → return 0
- both: a && !b → a || !b
- both: a → true
- both: !b → true
- untested: return x << 3 → return 0
= untested: x << 3 → x >> 3
`

func writeCode(t *testing.T) (root string) {
	t.Helper()
	root = t.TempDir()
	for name, text := range code {
		write(t, root, name, text)
	}
	return root
}

func write(t *testing.T, root, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func parseWant() (changes, survivors []string) {
	for line := range strings.Lines(strings.TrimSpace(want)) {
		kind, change, _ := strings.Cut(strings.TrimSpace(line), " ")
		changes = append(changes, change)
		if kind == "-" {
			survivors = append(survivors, change)
		}
	}
	return changes, survivors
}

func TestMutate(t *testing.T) {
	root := writeCode(t)
	list, err := readExplained(filepath.Join(root, "explained.txt"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := load(root, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	changes, survivors := parseWant()
	var all []string
	n := 0
	for _, m := range find(s, &s.files[0], func() int { n++; return n }).mutants {
		all = append(all, m.change)
	}
	if !slices.Equal(all, changes) {
		t.Errorf("the mutants are\n%s", strings.Join(all, "\n"))
	}
	o := options{root: root, list: list, parallel: 2}
	r, err := o.mutate(t.Context(), ".", []string{"code.go"})
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, s := range r.survivors {
		_, s, _ = strings.Cut(s, ": ")
		left = append(left, s[:strings.LastIndex(s, ": ")])
	}
	if !slices.Equal(left, survivors) {
		t.Errorf("there survive\n%s", strings.Join(r.survivors, "\n"))
	}
	const untested = "code.go:33: untested: return x << 3 → return 0: no test comes here"
	if last := r.survivors[len(r.survivors)-1]; last != untested {
		t.Error(last)
	}
	if r.explained != 1 || r.invalid != 0 || len(r.needless) != 0 || len(r.leftOut) != 0 {
		t.Errorf("%+v", r)
	}
	if outdated := []string{"code.go: count: n++", "gone.go: count: n++"}; !slices.Equal(r.outdated, outdated) {
		t.Errorf("outdated: %q", r.outdated)
	}
	if want := 100 * float64(r.caught) / float64(len(all)-1); r.score() != want {
		t.Errorf("the score is %v, want %v", r.score(), want)
	}
}

func TestMutantsThatDoNotCompile(t *testing.T) {
	root := writeCode(t)
	// A value of a named type of truth values is no bool, which is what the mutants' code takes it for.
	write(t, root, "truth.go", `package code

type truth bool

func is(t truth) (truth, int) {
	if t {
		return t, 1
	}
	return t, 0
}
`)
	o := options{root: root, parallel: 2}
	r, err := o.mutate(t.Context(), ".", []string{"truth.go"})
	if err != nil {
		t.Fatal(err)
	}
	if r.invalid == 0 || len(r.survivors) == 0 {
		t.Errorf("%+v", r)
	}
	// The control: code that does not compile by itself is an error.
	write(t, root, "code_test.go", "package code\n\nvar x int = \"\"\n")
	_, err = o.mutate(t.Context(), ".", nil)
	if err == nil || !strings.Contains(err.Error(), "do not compile") {
		t.Errorf("the error is %v", err)
	}
}

func TestWhatIsWrong(t *testing.T) {
	root := writeCode(t)
	o := options{root: root, parallel: 2}
	_, err := o.mutate(t.Context(), ".", []string{"cod.go"})
	if err == nil || err.Error() != ". has no file cod.go" {
		t.Errorf("a file that is not there: %v", err)
	}
	for _, text := range []string{"code.go: count: n++\n", "code.go: a // b\ncode.go: a // c\n"} {
		write(t, root, "wrong.txt", text)
		if _, err := readExplained(filepath.Join(root, "wrong.txt")); err == nil {
			t.Errorf("taken for a list: %q", text)
		}
	}
}

func TestSample(t *testing.T) {
	all := make([]mutant, 100)
	for i := range all {
		all[i].id = i
	}
	o := options{mutants: 10, seed: 7}
	sample := o.sample(all)
	if len(sample) != 10 || !slices.IsSortedFunc(sample, func(a, b mutant) int { return a.id - b.id }) {
		t.Errorf("%v", sample)
	}
	if !slices.Equal(sample, o.sample(all)) {
		t.Error("the same seed chooses others")
	}
	if o.seed++; slices.Equal(sample, o.sample(all)) {
		t.Error("another seed chooses the same")
	}
	if o.mutants = 0; len(o.sample(all)) != len(all) {
		t.Error("not all")
	}
}
