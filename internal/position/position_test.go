package position

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

const (
	uuidA = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	uuidB = "ed102faf-eb00-11eb-8f20-0c5415bfaa1d"
)

// parse reads what String returns.
func parse(t testing.TB, k Kind, text string) Position {
	t.Helper()
	var p Position
	var err error
	switch k {
	case Unknown:
	case MySQL:
		p, err = ParseMySQL(text)
	case MariaDB:
		p, err = ParseMariaDB(text)
	case PostgreSQL:
		p, err = ParsePostgreSQL(text)
	case Custom:
		var n uint64
		name, number, _ := strings.Cut(text, ":")
		_, err = fmt.Sscan(number, &n)
		p = Sequence(name, n)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// same reports whether p and q are the same position, by their forms.
func same(p, q Position) bool { return bytes.Equal(p.Append(nil), q.Append(nil)) }

func TestCovers(t *testing.T) {
	tests := []struct {
		name            string
		kind            Kind
		p, q            string
		covers, covered bool // p covers q; q covers p
	}{
		{"the same set", MySQL, uuidA + ":1-5", uuidA + ":1-5", true, true},
		{"a longer interval", MySQL, uuidA + ":1-6", uuidA + ":1-5", true, false},
		{"another server", MySQL, uuidA + ":1-5", uuidB + ":1-5", false, false},
		{"one server more", MySQL, uuidA + ":1-5," + uuidB + ":1", uuidA + ":1-5", true, false},
		{"a server more on each side", MySQL, uuidA + ":1-6", uuidA + ":1-5," + uuidB + ":1", false, false},
		{"a gap", MySQL, uuidA + ":1-3:5-9", uuidA + ":1-4", false, false},
		{"around a gap", MySQL, uuidA + ":1-3:5-9", uuidA + ":2:6-7", true, false},
		{"a gap that both have", MySQL, uuidA + ":1-3:5-9", uuidA + ":1-3:5-7", true, false},
		{"across a gap", MySQL, uuidA + ":1-3:5-9", uuidA + ":3-5", false, false},
		{"blocks of a group", MySQL, uuidA + ":1-70:1000001-1000009", uuidA + ":1-70:1000001-1000003", true, false},
		{"blocks of a group, one behind", MySQL, uuidA + ":1-60:1000001-1000009", uuidA + ":1-61:1000001", false,
			false},
		{"a tag is another origin", MySQL, uuidA + ":1-9", uuidA + ":tag:1", false, false},
		{"a tag more", MySQL, uuidA + ":1-9:tag:1", uuidA + ":1-9", true, false},
		{"of two tags", MySQL, uuidA + ":a:1-5:b:1-5", uuidA + ":b:1-5", true, false},
		{"only the tag", MySQL, uuidA + ":tag:1-9", uuidA + ":1", false, false},

		{"the same list", MariaDB, "0-1-5", "0-1-5", true, true},
		{"a larger number", MariaDB, "0-1-6", "0-1-5", true, false},
		{"a larger number after a change of master", MariaDB, "0-2-6", "0-1-5", true, false},
		{"the same number of another server", MariaDB, "0-2-5", "0-1-5", true, true},
		{"another domain", MariaDB, "0-1-5", "1-1-5", false, false},
		{"one domain more", MariaDB, "0-1-5,1-1-1", "0-1-5", true, false},
		{"one domain ahead, one behind", MariaDB, "0-1-6,1-1-1", "0-1-5,1-1-2", false, false},
		{"in between", MariaDB, "0-1-6,1-1-1,2-1-7", "1-1-1", true, false},

		{"the same LSN", PostgreSQL, "7:1:16/B374D848", "7:1:16/B374D848", true, true},
		{"a larger LSN", PostgreSQL, "7:1:17/0", "7:1:16/B374D848", true, false},
		{"a later timeline", PostgreSQL, "7:2:17/0", "7:1:16/B374D848", false, false},
		{"a later timeline, the same LSN", PostgreSQL, "7:2:17/0", "7:1:17/0", false, false},
		{"another cluster", PostgreSQL, "8:1:17/0", "7:1:16/0", false, false},

		{"the same number", Custom, "log:5", "log:5", true, true},
		{"a larger number of a sequence", Custom, "log:6", "log:5", true, false},
		{"another sequence", Custom, "log:6", "tso:5", false, false},
	}
	for _, tt := range tests {
		t.Run(tt.kind.String()+", "+tt.name, func(t *testing.T) {
			p, q := parse(t, tt.kind, tt.p), parse(t, tt.kind, tt.q)
			if got := p.Covers(q); got != tt.covers {
				t.Errorf("%v covers %v: %t", p, q, got)
			}
			if got := q.Covers(p); got != tt.covered {
				t.Errorf("%v covers %v: %t", q, p, got)
			}
		})
	}
}

func TestUnknown(t *testing.T) {
	var unknown Position
	if unknown.Known() || unknown.Kind() != Unknown || unknown.String() != "unknown" {
		t.Errorf("the zero value is %v, of kind %v, known %t", unknown, unknown.Kind(), unknown.Known())
	}
	if unknown.Covers(unknown) {
		t.Error("the unknown position covers itself")
	}
	positions := []Position{
		parse(t, MySQL, uuidA+":1-5"), parse(t, MariaDB, "0-1-5"), parse(t, PostgreSQL, "7:1:0/1"),
		Sequence("log", 1),
	}
	for i, p := range positions {
		if p.Covers(unknown) || unknown.Covers(p) {
			t.Errorf("%v and the unknown position: one covers the other", p)
		}
		for _, merged := range []Position{Merge(p, unknown), Merge(unknown, p)} {
			if merged.Known() {
				t.Errorf("%v and the unknown position merge into %v", p, merged)
			}
		}
		for j, q := range positions {
			if i != j && (p.Covers(q) || Merge(p, q).Known()) {
				t.Errorf("%v of kind %v and %v of kind %v are comparable", p, p.Kind(), q, q.Kind())
			}
		}
	}
}

// Nothing that a server without a history answers may be a position: everything would cover it.
func TestEmptyIsUnknown(t *testing.T) {
	empty := map[string]Position{
		"GTID set":           parse(t, MySQL, ""),
		"GTID set of blanks": parse(t, MySQL, " \n"),
		"GTID list":          parse(t, MariaDB, " "),
		"LSN":                parse(t, PostgreSQL, "7:1:0/0"),
		"sequence":           Sequence("log", 0),
		"binary form":        mustParse(t, nil),
	}
	for what, p := range empty {
		if p.Known() || p.Kind() != Unknown {
			t.Errorf("an empty %s is %v", what, p)
		}
	}
}

func mustParse(t testing.TB, b []byte) Position {
	t.Helper()
	p, err := Parse(b)
	if err != nil {
		t.Fatalf("Parse(%x): %v", b, err)
	}
	return p
}

func TestMerge(t *testing.T) {
	tests := []struct {
		name       string
		kind       Kind
		p, q, want string // want "unknown" if there is none
	}{
		{"the larger one", MySQL, uuidA + ":1-5", uuidA + ":1-6", uuidA + ":1-6"},
		{"two servers", MySQL, uuidB + ":1-5", uuidA + ":1-6", uuidA + ":1-6," + uuidB + ":1-5"},
		{"adjacent", MySQL, uuidA + ":1-5:20", uuidA + ":6-9", uuidA + ":1-9:20"},
		{"tags", MySQL, uuidA + ":1-5:b:1", uuidA + ":a:6-9:b:3", uuidA + ":1-5:a:6-9:b:1:3"},

		{"one domain each", MariaDB, "1-1-5", "0-1-6", "0-1-6,1-1-5"},
		{"the larger number", MariaDB, "0-1-5,1-1-9", "0-2-6,1-1-8", "0-2-6,1-1-9"},
		{"equal numbers", MariaDB, "0-1-5", "0-2-5", "0-2-5"},

		{"the larger LSN", PostgreSQL, "7:1:1/0", "7:1:0/FFFFFFFF", "7:1:1/0"},
		{"two timelines", PostgreSQL, "7:1:1/0", "7:2:2/0", "unknown"},
		{"two clusters", PostgreSQL, "7:1:1/0", "8:1:2/0", "unknown"},

		{"the larger number of a sequence", Custom, "log:5", "log:7", "log:7"},
		{"two sequences", Custom, "log:5", "tso:7", "unknown"},
	}
	for _, tt := range tests {
		t.Run(tt.kind.String()+", "+tt.name, func(t *testing.T) {
			p, q := parse(t, tt.kind, tt.p), parse(t, tt.kind, tt.q)
			for _, merged := range []Position{Merge(p, q), Merge(q, p)} {
				if got := merged.String(); got != tt.want {
					t.Errorf("got %v, want %v", got, tt.want)
				}
			}
		})
	}
}

// random returns a position of a small world, so that many are comparable. A few are unknown.
func random(t testing.TB, r *rand.Rand) Position {
	switch r.IntN(9) {
	case 0:
		return Position{}
	case 1, 2, 3, 4:
		return parse(t, MySQL, randomModel(r).text(r))
	case 5, 6:
		var domains []string
		for domain := range 3 {
			if r.IntN(2) == 0 {
				domains = append(domains, fmt.Sprintf("%d-%d-%d", domain, 1+r.IntN(2), r.IntN(4)))
			}
		}
		return parse(t, MariaDB, strings.Join(domains, ","))
	case 7:
		return parse(t, PostgreSQL, fmt.Sprintf("%d:%d:0/%d", 7+r.IntN(2), 1+r.IntN(2), r.IntN(4)))
	default:
		return Sequence([]string{"log", "tso"}[r.IntN(2)], r.Uint64N(4))
	}
}

func TestAlgebra(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	var positions []Position
	for range 60 {
		positions = append(positions, random(t, r))
	}
	equivalent := func(p, q Position) bool { return p.Covers(q) && q.Covers(p) }
	chains, bounds, none := 0, 0, 0
	for _, p := range positions {
		if p.Covers(p) != p.Known() {
			t.Errorf("%v covers itself: %t", p, p.Covers(p))
		}
		if !same(Merge(p, p), p) {
			t.Errorf("%v merged with itself is %v", p, Merge(p, p))
		}
		for _, q := range positions {
			pq := Merge(p, q)
			if !same(pq, Merge(q, p)) {
				t.Errorf("merging %v and %v is not commutative", p, q)
			}
			if pq.Known() && (!pq.Covers(p) || !pq.Covers(q)) {
				t.Errorf("%v and %v merge into %v", p, q, pq)
			}
			if equivalent(p, q) && !same(p, q) && p.Kind() != MariaDB {
				t.Errorf("%v and %v cover each other", p, q)
			}
			for _, u := range positions {
				if !same(Merge(pq, u), Merge(p, Merge(q, u))) {
					t.Errorf("merging %v, %v and %v is not associative", p, q, u)
				}
				if u.Covers(p) && p.Covers(q) {
					chains++
					if !u.Covers(q) {
						t.Errorf("%v covers %v covers %v, but not the first the last", u, p, q)
					}
				}
				switch above := u.Covers(p) && u.Covers(q); {
				case above && pq.Known():
					bounds++
					if !u.Covers(pq) {
						t.Errorf("%v covers %v and %v, but not their merge %v", u, p, q, pq)
					}
				case above:
					t.Errorf("%v and %v do not merge, but %v covers both", p, q, u)
				case !pq.Known():
					none++
				}
			}
		}
	}
	if chains == 0 || bounds == 0 || none == 0 {
		t.Errorf("nothing was proved: %d chains, %d bounds, %d without one", chains, bounds, none)
	}
	if t.Failed() {
		t.Logf("seed %d", seed)
	}
}

func TestKindString(t *testing.T) {
	for k, want := range map[Kind]string{
		Unknown: "unknown", MySQL: "mysql", MariaDB: "mariadb", PostgreSQL: "postgresql", Custom: "custom",
		9: "Kind(9)",
	} {
		if got := k.String(); got != want {
			t.Errorf("%d is %q, want %q", k, got, want)
		}
	}
}
