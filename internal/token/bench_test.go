package token

import (
	"strings"
	"testing"
)

// usual is a token as most are: one history, a GTID set of one server or two.
var usual = Token{{History: "default", Position: of(32)}}

func BenchmarkSeal(b *testing.B) {
	s := newSealer(b, "app", secretA)
	for _, bb := range []struct {
		name string
		t    Token
	}{
		{"usual", usual},
		{"4 histories", manyHistories(4)},
		{"longest", Token{{Position: of(longestPosition)}}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = s.Seal(bb.t, issued)
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	one := newSealer(b, "app", secretA)
	var secrets [][]byte
	for i := range MaxSecrets {
		secrets = append(secrets, of(MinSecret+i))
	}
	most := newSealer(b, "app", secrets...)
	for _, bb := range []struct {
		name string
		s    *Sealer
		text string
	}{
		{"usual", one, seal(b, one, usual)},
		{"second secret", newSealer(b, "app", secretB, secretA), seal(b, one, usual)},
		{"4 histories", one, seal(b, one, manyHistories(4))},
		{"longest", one, seal(b, one, Token{{Position: of(longestPosition)}})},
		{"forged", one, seal(b, most, usual)},
		{"forged, as costly as can be", most, seal(b, one, Token{{Position: of(longestPosition)}})},
		{"the marker", one, Marker},
		{"too large", one, version + strings.Repeat("A", 1<<20)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = bb.s.Open(bb.text, issued, ttl)
			}
		})
	}
}

// What is no token costs nothing, however long it is; what looks like one, no more than its length is worth.
func TestAllocations(t *testing.T) {
	s := newSealer(t, "app", secretA)
	text := seal(t, s, usual)
	open := func(text string) func() { return func() { _, _ = s.Open(text, issued, ttl) } }
	for _, tt := range []struct {
		name string
		most float64
		f    func()
	}{
		{"Seal", 9, func() { _, _ = s.Seal(usual, issued) }},
		{"Open", 9, open(text)},
		{"Open of a forged text", 7, open(text[:len(text)-1] + "-")},
		{"Open of the marker", 0, open(Marker)},
		{"Open of a large text", 0, open(version + strings.Repeat("A", 1<<20))},
		{"Open of a large text that is no token", 0, open(strings.Repeat("x", 1<<20))},
	} {
		if n := testing.AllocsPerRun(1000, tt.f); n > tt.most {
			t.Errorf("%s: %v allocations, %v at most", tt.name, n, tt.most)
		}
	}
}
