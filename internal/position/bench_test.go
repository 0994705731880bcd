package position

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// typical are positions as servers have them, each with one that is a little behind.
func typical(t testing.TB) map[string][2]Position {
	gaps := uuidA + ":1-4999999"
	for i := range 100 {
		gaps += fmt.Sprintf(":%d-%d", 5_000_001+20*i, 5_000_001+20*i+7)
	}
	group := uuidA + ":1-70000:1000001-1000700:2000001-2012345"
	pairs := map[string][2]Position{
		"MySQL, one server": {parse(t, MySQL, uuidA+":1-1000001"), parse(t, MySQL, uuidA+":1-1000000")},
		"MySQL, three servers": {
			parse(t, MySQL, uuidA+":1-1000001,"+uuidB+":1-77,"+uuidB[:35]+"e:1-12345678"),
			parse(t, MySQL, uuidA+":1-1000000,"+uuidB+":1-77,"+uuidB[:35]+"e:1-12345678"),
		},
		"MySQL, a group with tags": {
			parse(t, MySQL, group+":9000001:batch:1-500,"+uuidB+":1-5"),
			parse(t, MySQL, group+":batch:1-499,"+uuidB+":1-5"),
		},
		"MySQL, a hundred gaps": {parse(t, MySQL, gaps+":9000001"), parse(t, MySQL, gaps)},
		"MariaDB, one domain":   {parse(t, MariaDB, "0-1-1000001"), parse(t, MariaDB, "0-1-1000000")},
		"MariaDB, three domains": {
			parse(t, MariaDB, "0-1-1000001,1-2-5,20-3-7"), parse(t, MariaDB, "0-1-1000000,1-2-5,20-3-7"),
		},
		"PostgreSQL": {parse(t, PostgreSQL, "7:1:16/B374D848"), parse(t, PostgreSQL, "7:1:16/B374D840")},
		"sequence":   {Sequence("log", 1001), Sequence("log", 1000)},
	}
	for name, pair := range pairs {
		if !pair[0].Covers(pair[1]) || pair[1].Covers(pair[0]) {
			t.Fatalf("%s: %v and %v", name, pair[0], pair[1])
		}
	}
	return pairs
}

func TestCoversDoesNotAllocate(t *testing.T) {
	for name, pair := range typical(t) {
		if n := testing.AllocsPerRun(100, func() { pair[0].Covers(pair[1]); pair[1].Covers(pair[0]) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// What a hostile form makes Parse allocate must be in proportion to its length, whatever it says of itself.
func TestParseAllocatesLittle(t *testing.T) {
	forms := map[string]string{
		"very many intervals are announced": "\x01\xfc\xff\xff\xff\xff\xff\xff\xff\xff\x01" +
			strings.Repeat("A", 16) + "\x00\x00",
		"as many intervals as there may be": "\x01" +
			string(binary.AppendUvarint(nil, (maxIntervals-1)<<countFrom)) + strings.Repeat("A", 16) + "\x00\x00",
		"a thousand origins, then nothing": "\x01" + func() (s string) {
			for i := range 1000 {
				s += fmt.Sprintf("\x00%016d\x00\x00", i)
			}
			return s
		}() + "\x00",
		"zeros": "\x01" + strings.Repeat("\x00", 4000),
		"ones":  "\x02" + strings.Repeat("\x01", 4000),
	}
	for name, form := range forms {
		b := []byte(form)
		const runs = 100
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			_, _ = Parse(b)
		}
		runtime.ReadMemStats(&after)
		if n := (after.TotalAlloc - before.TotalAlloc) / runs; n > uint64(40*len(b)+200) {
			t.Errorf("%s: %d bytes for %d", name, n, len(b))
		}
	}
}

func BenchmarkCovers(b *testing.B) {
	for name, pair := range typical(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				pair[0].Covers(pair[1])
			}
		})
	}
}

func BenchmarkMerge(b *testing.B) {
	for name, pair := range typical(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Merge(pair[0], pair[1])
			}
		})
	}
}

func BenchmarkParseText(b *testing.B) {
	for name, pair := range typical(b) {
		text := pair[0].String()
		var read func(string) (Position, error)
		switch pair[0].Kind() {
		case MySQL:
			read = ParseMySQL
		case MariaDB:
			read = ParseMariaDB
		case PostgreSQL:
			read = ParsePostgreSQL
		default:
			continue
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := read(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkBinary(b *testing.B) {
	for name, pair := range typical(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			form := make([]byte, 0, 4096)
			for b.Loop() {
				form = pair[0].Append(form[:0])
				if _, err := Parse(form); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(form)), "length")
		})
	}
}
