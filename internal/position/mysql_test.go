package position

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestParseMySQL(t *testing.T) {
	upper := strings.ToUpper(uuidA)
	tests := []struct{ name, text, want string }{
		{"one transaction", uuidA + ":23", uuidA + ":23"},
		{"an interval", uuidA + ":1-5", uuidA + ":1-5"},
		{"intervals", uuidA + ":1-3:11:47-49", uuidA + ":1-3:11:47-49"},
		{"upper case", upper + ":1-5", uuidA + ":1-5"},
		{"two servers, as they are written", uuidA + ":1-3,\n" + uuidB + ":1-19",
			uuidA + ":1-3," + uuidB + ":1-19"},
		{"in the wrong order", uuidB + ":1-19, " + uuidA + ":1-3", uuidA + ":1-3," + uuidB + ":1-19"},
		{"a server twice", uuidA + ":7," + uuidA + ":1-3", uuidA + ":1-3:7"},
		{"intervals in the wrong order", uuidA + ":7:1-3", uuidA + ":1-3:7"},
		{"intervals that overlap", uuidA + ":1-5:3-9:4", uuidA + ":1-9"},
		{"adjacent intervals", uuidA + ":1-5:6-9:10", uuidA + ":1-10"},
		{"an interval of one", uuidA + ":5-5", uuidA + ":5"},
		{"blanks", " \t" + uuidA + " : 1 - 5 : 7\v,\f\r\n" + uuidB + ":1 ", uuidA + ":1-5:7," + uuidB + ":1"},
		{"a tag", uuidA + ":Domain_1:117", uuidA + ":domain_1:117"},
		{"as 9.1 writes tags", uuidA + ":1-2:domain_1:1-3:15-21:domain_2:8-52",
			uuidA + ":1-2:domain_1:1-3:15-21:domain_2:8-52"},
		{"as the manual writes tags", uuidA + ":Domain_2:8-52, " + upper + ":Domain_1:1-3:15-21," + uuidA + ":1",
			uuidA + ":1:domain_1:1-3:15-21:domain_2:8-52"},
		{"a tag twice", uuidA + ":b:1-3:a:7:B:4", uuidA + ":a:7:b:1-4"},
		{"tags of letters that are digits too", uuidA + ":abc:1:_:2:e1:3", uuidA + ":_:2:abc:1:e1:3"},
		{"the longest tag", uuidA + ":" + strings.Repeat("a", 32) + ":1",
			uuidA + ":" + strings.Repeat("a", 32) + ":1"},
		{"the last transaction", uuidA + ":1-9223372036854775806", uuidA + ":1-9223372036854775806"},
		{"up to the last one", uuidA + ":1-9223372036854775805:9223372036854775806",
			uuidA + ":1-9223372036854775806"},
		{"nothing", "", "unknown"},
		{"blanks only", " \n", "unknown"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := ParseMySQL(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.String(); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if !same(mustParse(t, p.Append(nil)), p) {
				t.Errorf("%v does not survive its binary form", p)
			}
		})
	}
}

func TestParseMySQLErrors(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"no interval", uuidA, "expected a colon and an interval at byte 36, which is the end"},
		{"no interval behind the colon", uuidA + ":", "expected the number of a transaction at byte 37"},
		{"no interval behind a tag", uuidA + ":tag", "expected a colon and an interval at byte 40"},
		{"a tag behind a tag", uuidA + ":tag:tag:1",
			`expected the number of a transaction at byte 41, found "tag:1"`},
		{"a tag that is too long", uuidA + ":" + strings.Repeat("a", 33) + ":1",
			"expected a tag of at most 32 characters"},
		{"a tag with a digit in front", uuidA + ":1a:1", `expected ',' at byte 38, found "a:1"`},
		{"a tag with a hyphen", uuidA + ":a-b:1", `found "-b:1"`},
		{"zero", uuidA + ":0", "numbered from 1 on"},
		{"from zero", uuidA + ":0-5", "numbered from 1 on"},
		{"octal", uuidA + ":010", `expected the number of a transaction at byte 37, found "010"`},
		{"hexadecimal", uuidA + ":0x10", "numbered from 1 on"},
		{"too large", uuidA + ":9223372036854775807", "at most 9223372036854775806"},
		{"far too large", uuidA + ":1-99999999999999999999", "at most 9223372036854775806"},
		{"negative", uuidA + ":-1", `found "-1"`},
		{"backwards", uuidA + ":5-3", "5-3 ends before it begins"},
		{"half an interval", uuidA + ":5-", "at byte 39, which is the end"},
		{"three ends", uuidA + ":1-2-3", `found "-3"`},
		{"empty part", uuidA + ":1,," + uuidB + ":1", `expected a UUID at byte 39`},
		{"comma behind", uuidA + ":1,", "expected a UUID at byte 39"},
		{"comma only", ",", "expected a UUID at byte 0"},
		{"no comma", uuidA + ":1 " + uuidB + ":1", `expected ','`},
		{"a UUID without hyphens", strings.ReplaceAll(uuidA, "-", "") + ":1", "expected a UUID at byte 0"},
		{"a UUID with a wrong digit", "g" + uuidA[1:] + ":1", "expected a UUID at byte 0"},
		{"a UUID with a wrong hyphen", uuidA[:35] + "-:1", "expected a UUID at byte 0"},
		{"a short UUID", uuidA[:35] + ":1", "expected a UUID at byte 0"},
		{"a long UUID", uuidA + "0:1", `expected a colon and an interval at byte 36, found "0:1"`},
		{"braces", "{" + uuidA + "}:1", "expected a UUID at byte 0"},
		{"an incremental set", "+" + uuidA + ":1", "expected a UUID at byte 0"},
		{"MariaDB's", "0-1-5", "expected a UUID at byte 0"},
		{"a zero byte", uuidA + ":1\x00", `found "\x00"`},
		{"a blank that is none", uuidA + ":1\u00a0", `found "\u00a0"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := ParseMySQL(tt.text)
			if err == nil {
				t.Fatalf("it is taken for %v", p)
			}
			if p.Known() {
				t.Errorf("beside the error there is %v", p)
			}
			if !strings.HasPrefix(err.Error(), "position: MySQL's GTID set: ") ||
				!strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %q, want %q in it", err, tt.want)
			}
		})
	}
}

// gtid is one transaction: what GTIDs mean, without intervals.
type gtid struct {
	uuid, tag string
	n         int
}

// model is a set of transactions, the simplest there is.
type model map[gtid]bool

// randomModel is of a small world: two servers, three tags, twelve numbers, with runs of them.
func randomModel(r *rand.Rand) model {
	m := make(model)
	for range 1 + r.IntN(5) {
		g := gtid{[]string{uuidA, uuidB}[r.IntN(2)], []string{"", "", "a", "b_2"}[r.IntN(4)], 1 + r.IntN(12)}
		for range 1 + r.IntN(6) {
			m[g] = true
			g.n++
		}
	}
	return m
}

// text writes m as no server would: one transaction or interval after the other in any order, some of them
// several times, in either case, with blanks.
func (m model) text(r *rand.Rand) string {
	var parts []string
	for g := range m {
		first, last := g.n, g.n
		for r.IntN(4) > 0 && m[gtid{g.uuid, g.tag, last + 1}] {
			last++
		}
		part := g.uuid
		if g.tag != "" {
			part += ":" + g.tag
		}
		part += fmt.Sprintf(":%d", first)
		if last > first {
			part += fmt.Sprintf("-%d", last)
		}
		if r.IntN(2) == 0 {
			part = strings.ToUpper(part)
		}
		if r.IntN(3) == 0 {
			part = strings.ReplaceAll(part, ":", []string{" : ", ":\n"}[r.IntN(2)])
		}
		parts = append(parts, part)
	}
	r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	return strings.Join(parts, []string{",", ",\n"}[r.IntN(2)])
}

// String writes m as a server does.
func (m model) String() string {
	var all []gtid
	for g := range m {
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b gtid) int {
		return strings.Compare(fmt.Sprintf("%s %s %09d", a.uuid, a.tag, a.n),
			fmt.Sprintf("%s %s %09d", b.uuid, b.tag, b.n))
	})
	s, uuid, tag := "", "", ""
	for i := 0; i < len(all); {
		g := all[i]
		last := g.n
		for m[gtid{g.uuid, g.tag, last + 1}] {
			last++
		}
		i += last - g.n + 1
		if g.uuid != uuid {
			if s != "" {
				s += ","
			}
			s += g.uuid
			uuid, tag = g.uuid, ""
		}
		if g.tag != tag {
			s += ":" + g.tag
			tag = g.tag
		}
		s += fmt.Sprintf(":%d", g.n)
		if last > g.n {
			s += fmt.Sprintf("-%d", last)
		}
	}
	return s
}

func (m model) subsetOf(other model) bool {
	for g := range m {
		if !other[g] {
			return false
		}
	}
	return true
}

func (m model) union(other model) model {
	u := make(model)
	for g := range m {
		u[g] = true
	}
	for g := range other {
		u[g] = true
	}
	return u
}

func TestMySQLAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	covered, naive := 0, 0
	for range 3000 {
		m := randomModel(r)
		n := randomModel(r)
		if r.IntN(2) == 0 { // a part of the other one, mostly
			n = make(model)
			for g := range m {
				if r.IntN(4) > 0 {
					n[g] = true
				}
			}
			if len(n) == 0 {
				continue
			}
		}
		p, q := parse(t, MySQL, m.text(r)), parse(t, MySQL, n.text(r))
		if p.String() != m.String() {
			t.Errorf("got %v, want %v", p, m)
		}
		if got, want := p.Covers(q), n.subsetOf(m); got != want {
			t.Errorf("%v covers %v: %t", p, q, got)
		} else if got {
			covered++
		}
		if got, want := Merge(p, q).String(), m.union(n).String(); got != want {
			t.Errorf("%v and %v merge into %v, want %v", p, q, got, want)
		}
		if b := p.Append(nil); mustParse(t, b).String() != m.String() {
			t.Errorf("%v becomes %v in binary", p, mustParse(t, b))
		}
		if lastOnly(p, q) != n.subsetOf(m) {
			naive++
		}
	}
	// Comparing the last numbers alone must be wrong somewhere, or the sets have no gaps worth the name.
	if covered == 0 || naive == 0 {
		t.Errorf("nothing was proved: %d covered, %d in which gaps matter", covered, naive)
	}
	if t.Failed() {
		t.Logf("seed %d", seed)
	}
}

// lastOnly compares as if sets had no gaps.
func lastOnly(p, q Position) bool {
	last := make(map[origin]uint64)
	for _, g := range p.value.(gtidSet) {
		last[g.origin] = g.intervals[len(g.intervals)-1].last
	}
	for _, g := range q.value.(gtidSet) {
		if last[g.origin] < g.intervals[len(g.intervals)-1].last {
			return false
		}
	}
	return true
}

func TestMySQLLimits(t *testing.T) {
	intervals := func(n int) string {
		var b strings.Builder
		b.WriteString(uuidA)
		for i := range n {
			fmt.Fprintf(&b, ":%d", 2*i+1)
		}
		return b.String()
	}
	origins := func(from, to int) string {
		var parts []string
		for i := from; i < to; i++ {
			parts = append(parts, fmt.Sprintf("%08x%s:1", i, uuidA[8:]))
		}
		return strings.Join(parts, ",")
	}
	for _, text := range []string{intervals(maxIntervals), origins(0, maxOrigins)} {
		if p := parse(t, MySQL, text); !same(mustParse(t, p.Append(nil)), p) {
			t.Errorf("%.60s… does not survive its binary form", text)
		}
	}
	for _, text := range []string{intervals(maxIntervals + 1), origins(0, maxOrigins+1)} {
		if _, err := ParseMySQL(text); err == nil || !strings.Contains(err.Error(), "more than") {
			t.Errorf("%.60s…: %v", text, err)
		}
	}
	p, q := parse(t, MySQL, origins(0, maxOrigins)), parse(t, MySQL, origins(1, maxOrigins+1))
	if merged := Merge(p, q); merged.Known() {
		t.Error("a merged set has more than the limit")
	}

	// The same, in binary.
	over := append(p.Append(nil), Position{value: gtidSet{{origin{uuid: [16]byte{0xff}},
		[]interval{{1, 1}}}}}.Append(nil)[1:]...)
	if _, err := Parse(over); err == nil {
		t.Error("a binary form with too many origins is taken")
	}
	var many gtidSet
	for i := range 2 {
		g := gtids{origin: origin{uuid: [16]byte{byte(i)}}}
		for n := range uint64(maxIntervals/2 + 1) {
			g.intervals = append(g.intervals, interval{2*n + 1, 2*n + 1})
		}
		many = append(many, g)
	}
	if _, err := Parse(Position{value: many}.Append(nil)); err == nil {
		t.Error("a binary form with too many intervals is taken")
	}
}
