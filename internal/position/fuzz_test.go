package position

import (
	"bytes"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Each kind is described once more here, by a regular expression, so that what is accepted can be compared.
const (
	blanks = `[ \t\n\v\f\r]*`
	digits = `(?:0|[1-9][0-9]*)`
	hexs   = `[0-9A-Fa-f]`
)

var (
	uuidSet = hexs + `{8}(?:-` + hexs + `{4}){3}-` + hexs + `{12}` +
		`(?:` + blanks + `:` + blanks + `(?:[A-Za-z_][A-Za-z0-9_]{0,31}` + blanks + `:` + blanks + `)?` +
		digits + `(?:` + blanks + `-` + blanks + digits + `)?)+`
	mysqlGrammar = regexp.MustCompile(`^` + blanks + `(?:` + uuidSet + blanks + `(?:,` + blanks + uuidSet +
		blanks + `)*)?$`)

	gtidOfDomain   = digits + `-` + digits + `-` + digits
	mariadbGrammar = regexp.MustCompile(`^` + blanks + `(?:` + gtidOfDomain + blanks + `(?:,` + blanks +
		gtidOfDomain + blanks + `)*)?$`)

	postgresGrammar = regexp.MustCompile(`^` + digits + `:` + digits + `:` + hexs + `{1,8}/` + hexs + `{1,8}$`)
)

// within reports whether a decimal number is from low to high.
func within(text string, low, high uint64) bool {
	n, ok := new(big.Int).SetString(text, 10)
	return ok && n.Cmp(new(big.Int).SetUint64(low)) >= 0 && n.Cmp(new(big.Int).SetUint64(high)) <= 0
}

// squeeze removes all blanks.
func squeeze(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\n\v\f\r", r) {
			return -1
		}
		return r
	}, s)
}

// known checks what must be true of every position.
func known(t *testing.T, p Position) {
	t.Helper()
	if p.Covers(p) != p.Known() {
		t.Errorf("%v covers itself: %t", p, p.Covers(p))
	}
	if !same(Merge(p, p), p) {
		t.Errorf("%v merged with itself is %v", p, Merge(p, p))
	}
	if p.Known() && p.Kind() != Custom && !same(parse(t, p.Kind(), p.String()), p) {
		t.Errorf("%v does not survive being written", p)
	}
	form := p.Append(nil)
	q, err := Parse(form)
	if err != nil || !same(p, q) || p.String() != q.String() {
		t.Errorf("%v does not survive its form %x: %v, %v", p, form, q, err)
	}
}

func FuzzMySQL(f *testing.F) {
	f.Add("", uuidA+":1")
	f.Add(uuidA+":1-5:tag:7,\n"+uuidB+":1-9223372036854775806", uuidA+":1-3:Tag:7:b:1")
	f.Add(strings.ToUpper(uuidA)+" : 7 : 1 - 3", uuidA+":010")
	f.Fuzz(func(t *testing.T, text, other string) {
		p, err := ParseMySQL(text)
		want := mysqlGrammar.MatchString(text)
		if want {
			// The grammar leaves the numbers. A part that is a number or two, and no tag, begins with a digit.
			for part := range strings.FieldsFuncSeq(squeeze(text), func(r rune) bool { return r == ',' || r == ':' }) {
				first, last, two := strings.Cut(part, "-")
				if len(part) >= 36 && strings.Count(part, "-") == 4 || part[0] > '9' {
					continue // a UUID, a tag
				}
				want = want && within(first, 1, maxNumber)
				if two {
					n, _ := strconv.ParseUint(first, 10, 64)
					want = want && within(last, n, maxNumber)
				}
			}
		}
		if got := err == nil; got != want {
			t.Fatalf("%q: error %v, but as the grammar goes: %t", text, err, want)
		}
		known(t, p)
		q, err := ParseMySQL(other)
		if err != nil {
			return
		}
		m, small1 := expand(p)
		n, small2 := expand(q)
		if !small1 || !small2 || !p.Known() || !q.Known() {
			return
		}
		if got, want := p.Covers(q), n.subsetOf(m); got != want {
			t.Errorf("%v covers %v: %t", p, q, got)
		}
		if got, want := Merge(p, q).String(), m.union(n).String(); got != want {
			t.Errorf("%v and %v merge into %v, want %v", p, q, got, want)
		}
	})
}

// expand returns the model of p, read from its text, if it has few transactions with small numbers.
func expand(p Position) (m model, small bool) {
	m = make(model)
	if !p.Known() {
		return m, true
	}
	for set := range strings.SplitSeq(p.String(), ",") {
		uuid, rest, _ := strings.Cut(set, ":")
		tag := ""
		for part := range strings.SplitSeq(rest, ":") {
			if part[0] > '9' {
				tag = part
				continue
			}
			first, last, two := strings.Cut(part, "-")
			if !two {
				last = first
			}
			if !within(last, 0, 300) || len(m) > 1000 {
				return nil, false
			}
			from, _ := strconv.Atoi(first)
			to, _ := strconv.Atoi(last)
			for n := from; n <= to; n++ {
				m[gtid{uuid, tag, n}] = true
			}
		}
	}
	return m, true
}

func FuzzMariaDB(f *testing.F) {
	f.Add("", "0-1-5")
	f.Add("0-1-5,4294967295-4294967295-18446744073709551615", " 7-2-1 ,\n0-1-5")
	f.Add("0-1-5,0-2-6", "0-1-05")
	f.Fuzz(func(t *testing.T, text, other string) {
		p, err := ParseMariaDB(text)
		m, want := mariadbModel(text)
		if got := err == nil; got != want {
			t.Fatalf("%q: error %v, but as the grammar goes: %t", text, err, want)
		}
		known(t, p)
		q, err := ParseMariaDB(other)
		if err != nil || !p.Known() || !q.Known() {
			return
		}
		n, _ := mariadbModel(other)
		covers := true
		for domain, sequence := range n {
			if got, ok := m[domain]; !ok || got < sequence {
				covers = false
			}
		}
		if got := p.Covers(q); got != covers {
			t.Errorf("%v covers %v: %t", p, q, got)
		}
	})
}

// mariadbModel reads a list into a map of domains, unless it is none.
func mariadbModel(text string) (m map[uint64]uint64, ok bool) {
	if !mariadbGrammar.MatchString(text) {
		return nil, false
	}
	m = make(map[uint64]uint64)
	for part := range strings.FieldsFuncSeq(squeeze(text), func(r rune) bool { return r == ',' }) {
		fields := strings.Split(part, "-")
		if !within(fields[0], 0, 1<<32-1) || !within(fields[1], 0, 1<<32-1) || !within(fields[2], 0, 1<<64-1) {
			return nil, false
		}
		domain, _ := strconv.ParseUint(fields[0], 10, 64)
		if _, again := m[domain]; again {
			return nil, false
		}
		m[domain], _ = strconv.ParseUint(fields[2], 10, 64)
	}
	return m, len(m) <= maxDomains
}

func FuzzPostgreSQL(f *testing.F) {
	f.Add("7711070308038412141:2:16/B374D848", "7711070308038412141:2:16/B374D849")
	f.Add("0:1:0/0", "7:0:0/1")
	f.Fuzz(func(t *testing.T, text, other string) {
		p, err := ParsePostgreSQL(text)
		want := postgresGrammar.MatchString(text)
		if want {
			fields := strings.Split(text, ":")
			want = within(fields[0], 0, 1<<64-1) && within(fields[1], 1, 1<<32-1)
		}
		if got := err == nil; got != want {
			t.Fatalf("%q: error %v, but as the grammar goes: %t", text, err, want)
		}
		known(t, p)
		if q, err := ParsePostgreSQL(other); err == nil && p.Known() && q.Known() {
			a, b := strings.LastIndexByte(text, ':'), strings.LastIndexByte(other, ':')
			covers := text[:a] == other[:b] && compareLSN(text[a+1:], other[b+1:]) >= 0
			if got := p.Covers(q); got != covers {
				t.Errorf("%v covers %v: %t", p, q, got)
			}
		}
	})
}

// compareLSN compares as one does by eye: digit by digit, once they have the same number of digits.
func compareLSN(a, b string) int {
	pad := func(s string) string {
		high, low, _ := strings.Cut(strings.ToUpper(s), "/")
		return strings.Repeat("0", 8-len(high)) + high + strings.Repeat("0", 8-len(low)) + low
	}
	return strings.Compare(pad(a), pad(b))
}

func FuzzBinary(f *testing.F) {
	for _, p := range []Position{
		{}, Sequence("log", 1000),
	} {
		f.Add(p.Append(nil), []byte{})
	}
	for k, text := range map[Kind]string{
		MySQL: uuidA + ":1-5:tag:7-9:12," + uuidB + ":1-9223372036854775806", MariaDB: "0-1-5,7-2-19",
		PostgreSQL: "7711070308038412141:2:16/B374D848",
	} {
		f.Add(parse(f, k, text).Append(nil), parse(f, k, text).Append(nil))
	}
	f.Fuzz(func(t *testing.T, form, other []byte) {
		p, err := Parse(form)
		if err != nil {
			if p.Known() {
				t.Errorf("%x: %v, and beside it %v", form, err, p)
			}
			return
		}
		if got := p.Append(nil); !bytes.Equal(got, form) {
			t.Errorf("%x is %v, which is written %x", form, p, got)
		}
		known(t, p)
		q, err := Parse(other)
		if err != nil {
			return
		}
		merged := Merge(p, q)
		known(t, merged)
		if merged.Known() != (merged.Covers(p) && merged.Covers(q)) || !same(merged, Merge(q, p)) {
			t.Errorf("%v and %v merge into %v", p, q, merged)
		}
		if p.Covers(q) && q.Covers(p) && !same(p, q) && p.Kind() != MariaDB {
			t.Errorf("%v and %v cover each other", p, q)
		}
	})
}
