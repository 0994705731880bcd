package position

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestParseMariaDB(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"one domain", "0-1-5", "0-1-5"},
		{"domains", "0-1-5,1-2-7,10-3-1", "0-1-5,1-2-7,10-3-1"},
		{"in another order", "10-3-1,0-1-5,1-2-7", "0-1-5,1-2-7,10-3-1"},
		{"blanks", " 1-2-7 ,\n0-1-5\t", "0-1-5,1-2-7"},
		{"the largest", "4294967295-4294967295-18446744073709551615", "4294967295-4294967295-18446744073709551615"},
		{"the largest two domains", "4294967294-1-1,4294967295-1-1", "4294967294-1-1,4294967295-1-1"},
		{"nothing happened in a domain", "0-1-0", "0-1-0"},
		{"nothing", "", "unknown"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := ParseMariaDB(tt.text)
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

func TestParseMariaDBErrors(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"a domain twice", "0-1-5,1-1-1,0-2-6", "domain 0 is there twice"}, // gtid_binlog_state
		{"two parts", "0-1", "expected '-' at byte 3, which is the end"},
		{"four parts", "0-1-5-7", `expected ',' at byte 5, found "-7"`},
		{"no domain", "-1-5", "expected a domain at byte 0"},
		{"no server", "0--5", "expected a server id at byte 2"},
		{"no number", "0-1-", "expected a sequence number at byte 4"},
		{"the domain is too large", "4294967296-1-5", "a domain of at most 4294967295"},
		{"the server is too large", "0-4294967296-5", "a server id of at most 4294967295"},
		{"the number is too large", "0-1-18446744073709551616", "at most 18446744073709551615"},
		{"a zero in front", "0-1-05", "expected a sequence number at byte 4"},
		{"a blank inside", "0-1 -5", "expected '-' at byte 3"},
		{"empty part", "0-1-5,,1-1-1", "expected a domain at byte 6"},
		{"comma behind", "0-1-5,", "expected a domain at byte 6"},
		{"MySQL's", uuidA + ":1", "expected '-' at byte 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := ParseMariaDB(tt.text)
			if err == nil {
				t.Fatalf("it is taken for %v", p)
			}
			if !strings.HasPrefix(err.Error(), "position: MariaDB's GTID list: ") ||
				!strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %q, want %q in it", err, tt.want)
			}
		})
	}
}

func TestMariaDBAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	list := func() (map[int]int, Position) {
		m := make(map[int]int)
		var parts []string
		for range 1 + r.IntN(4) {
			domain := r.IntN(5)
			if _, ok := m[domain]; !ok {
				m[domain] = r.IntN(6)
				parts = append(parts, fmt.Sprintf("%d-%d-%d", domain, r.IntN(3), m[domain]))
			}
		}
		return m, parse(t, MariaDB, strings.Join(parts, ","))
	}
	covered := 0
	for range 3000 {
		m, p := list()
		n, q := list()
		want := true
		for domain, sequence := range n {
			if got, ok := m[domain]; !ok || got < sequence {
				want = false
			}
		}
		if got := p.Covers(q); got != want {
			t.Errorf("%v covers %v: %t", p, q, got)
		}
		if want {
			covered++
		}
		merged := Merge(p, q).value.(gtidList)
		for domain, sequence := range n {
			m[domain] = max(m[domain], sequence)
		}
		if len(merged) != len(m) {
			t.Errorf("%v and %v merge into %v", p, q, merged)
		}
		for _, d := range merged {
			if got, ok := m[int(d.id)]; !ok || uint64(got) != d.sequence {
				t.Errorf("%v and %v merge into %v", p, q, merged)
			}
		}
	}
	if covered == 0 {
		t.Error("nothing was proved")
	}
	if t.Failed() {
		t.Logf("seed %d", seed)
	}
}

func TestMariaDBLimits(t *testing.T) {
	list := func(from, to int) string {
		var parts []string
		for i := from; i < to; i++ {
			parts = append(parts, fmt.Sprintf("%d-1-1", i))
		}
		return strings.Join(parts, ",")
	}
	p := parse(t, MariaDB, list(0, maxDomains))
	if !same(mustParse(t, p.Append(nil)), p) {
		t.Error("the longest list does not survive its binary form")
	}
	if _, err := ParseMariaDB(list(0, maxDomains+1)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("one domain more: %v", err)
	}
	if _, err := Parse(append(p.Append(nil), 0, 1, 1)); err == nil {
		t.Error("a binary form with too many domains is taken")
	}
	if merged := Merge(p, parse(t, MariaDB, list(1, maxDomains+1))); merged.Known() {
		t.Error("a merged list has more than the limit")
	}
}
