package oracle

import (
	"bufio"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// generator makes statements from a grammar, and from statements that are there. It makes the same ones each
// time it is given the same seed.
type generator struct {
	rand   *rand.Rand
	rules  map[string][]string
	stings bool        // the rule called state was expanded
	calls  []statement // SELECT f(1): each of them an expression behind its SELECT
}

// newGenerator reads a grammar of testdata. A line that is not indented names a rule; the indented ones below
// it are its alternatives, of which the first is the one that ends a recursion. <name> stands for another
// rule, <call> for a call of a function. Lines that begin with # say nothing.
//
// A rule that several files name has the alternatives of all of them.
func newGenerator(t *testing.T, seed uint64, files ...string) *generator {
	t.Helper()
	g := &generator{rand: rand.New(rand.NewPCG(seed, 0)), rules: map[string][]string{}}
	for _, name := range files {
		g.read(t, name)
	}
	for rule, alternatives := range g.rules {
		for _, a := range alternatives {
			for _, m := range reference.FindAllStringSubmatch(a, -1) {
				if g.rules[m[1]] == nil && m[1] != "call" {
					t.Fatalf("%s: rule %s speaks of <%s>, which is not there", files, rule, m[1])
				}
			}
		}
	}
	return g
}

// read reads one file of testdata.
func (g *generator) read(t *testing.T, name string) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rule := ""
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case line == "" || line[0] == '#':
		case line[0] != '\t':
			rule = line
		default:
			g.rules[rule] = append(g.rules[rule], strings.ReplaceAll(line[1:], "ε", ""))
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

var reference = regexp.MustCompile(`<([a-z_0-9]+)>`)

// expand replaces every reference in text.
func (g *generator) expand(text string, depth int) string {
	return reference.ReplaceAllStringFunc(text, func(ref string) string {
		name := ref[1 : len(ref)-1]
		if name == "call" {
			return strings.TrimPrefix(g.calls[g.rand.IntN(len(g.calls))].sql, "SELECT ")
		}
		g.stings = g.stings || name == "state"
		alternatives := g.rules[name]
		const deepest = 9
		if depth > deepest {
			return g.expand(alternatives[0], depth+1)
		}
		return g.expand(alternatives[g.rand.IntN(len(alternatives))], depth+1)
	})
}

// statements makes n statements from the rule called statement. If one of them takes a number from a
// sequence, somewhere where that is never carried out, it is no false alarm to say so.
func (g *generator) statements(n int) []statement {
	all := make([]statement, n)
	for i := range all {
		g.stings = false
		q := strings.TrimSpace(g.expand("<statement>", 0))
		all[i] = statement{sql: q, from: "generated", probing: g.stings}
	}
	return all
}

// text is how an engine's SQL is cut, and what may be put into it.
type text struct {
	token   *regexp.Regexp // one token, or a run of blanks
	nothing *regexp.Regexp // a token that says nothing: blanks, a comment
	hidden  *regexp.Regexp // what no text shows: see statement
	blanks  []string       // what may stand between two tokens
	inserts []string       // what may change the meaning of a statement
	around  []string       // statements around a statement, %s
}

// mutated makes n statements out of those found. What is made from a write, or with a piece of one, is there
// to find holes: if the change has taken its sting, nobody would have written it, and it is no false alarm.
func (g *generator) mutated(x text, of []finding, n int) []statement {
	of = slices.DeleteFunc(slices.Clone(of), func(f finding) bool { return f.once })
	var all []statement
	for len(all) < n {
		f := of[g.rand.IntN(len(of))]
		m := mutant{generator: g, text: x, of: of, statement: f.statement, tokens: x.token.FindAllString(f.sql, -1)}
		m.probing = m.probing || f.truth == write
		for range 1 + g.rand.IntN(3) {
			if m.mutate(); len(m.tokens) == 0 {
				break
			}
		}
		q := strings.Join(m.tokens, "")
		says := func(token string) bool { return !x.nothing.MatchString(token) }
		if !slices.ContainsFunc(x.token.FindAllString(q, -1), says) {
			continue // a comment
		}
		all = append(all, statement{
			sql: q, from: "mutated from " + m.from, hidden: m.statement.hidden, probing: m.probing,
		})
	}
	return all
}

// mutant is a statement that is being changed.
type mutant struct {
	*generator
	text
	of []finding // what there is beside it
	statement
	tokens []string
}

// mutate changes one thing.
func (m *mutant) mutate() {
	switch m.rand.IntN(12) {
	case 0, 1, 2:
		m.otherBlank()
	case 3, 4:
		m.otherCase()
	case 5: // nothing between two tokens
		if j := m.blank(m.tokens); j >= 0 {
			m.tokens[j] = ""
		}
	case 6, 7: // something new
		what := m.something()
		m.tokens = insert(m.tokens, m.rand.IntN(len(m.tokens)+1), " "+what+" ")
	case 8: // something new, at the end
		m.tokens = append(m.tokens, " "+m.something())
	case 9: // one token less
		if len(m.tokens) > 1 {
			j := m.rand.IntN(len(m.tokens))
			m.tokens = append(m.tokens[:j:j], m.tokens[j+1:]...)
		}
	case 10:
		m.otherEnd()
	case 11: // a statement around it
		around := m.around[m.rand.IntN(len(m.around))]
		m.tokens = m.token.FindAllString(strings.ReplaceAll(around, "%s", strings.Join(m.tokens, "")), -1)
	}
}

// otherBlank puts something else between two tokens.
func (m *mutant) otherBlank() {
	blank := m.blanks[m.rand.IntN(len(m.blanks))]
	m.probing = m.probing || blank[0] >= 0x80 // a blank in few character sets
	if j := m.blank(m.tokens); j >= 0 {
		m.tokens[j] = blank
	} else {
		m.tokens = insert(m.tokens, m.rand.IntN(len(m.tokens)+1), blank)
	}
}

func (m *mutant) otherCase() {
	for j := range m.tokens {
		if m.rand.IntN(4) == 0 {
			m.tokens[j] = swapCase(m.tokens[j])
		}
	}
}

// something returns what may change the meaning.
func (m *mutant) something() string {
	what := m.inserts[m.rand.IntN(len(m.inserts))]
	m.statement.probing = true
	m.statement.hidden = m.statement.hidden || m.text.hidden.MatchString(what)
	return what
}

// otherEnd puts the end of another statement in place of this one's.
func (m *mutant) otherEnd() {
	o := m.of[m.rand.IntN(len(m.of))]
	other := m.token.FindAllString(o.sql, -1)
	m.statement.hidden = m.statement.hidden || o.hidden
	m.probing = m.probing || o.truth == write
	m.tokens = append(m.tokens[:m.rand.IntN(len(m.tokens)+1):len(m.tokens)], other[m.rand.IntN(len(other)):]...)
}

// blank returns the index of a token that is nothing but blanks, or -1.
func (g *generator) blank(tokens []string) int {
	var blanks []int
	for i, t := range tokens {
		if strings.TrimSpace(t) == "" {
			blanks = append(blanks, i)
		}
	}
	if len(blanks) == 0 {
		return -1
	}
	return blanks[g.rand.IntN(len(blanks))]
}

func insert(tokens []string, i int, what string) []string {
	return append(tokens[:i:i], append([]string{what}, tokens[i:]...)...)
}

func swapCase(s string) string {
	if s == "" || s[0] == '\'' || s[0] == '"' || s[0] == '`' {
		return s
	}
	if up := strings.ToUpper(s); up != s {
		return up
	}
	return strings.ToLower(s)
}
