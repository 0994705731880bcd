package positions

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/gorm-replicated/replicated/integration/servers"
	"github.com/gorm-replicated/replicated/internal/position"
)

// calculus is how sets are compared: as internal/position does it, or as a control puts in its place.
type calculus struct {
	covers func(p, q position.Position) bool
	merge  func(p, q position.Position) position.Position
}

var ours = calculus{position.Position.Covers, position.Merge}

func TestGTIDSetsAsMySQLComparesThem(t *testing.T) {
	servers.Want(t, mySQL.name)
	seed, n := setting(t, "POSITIONS_SEED", 1), setting(t, "POSITIONS_PAIRS", 20_000)
	t.Logf("%d pairs, seed %d", n, seed)
	c := servers.MySQL(t, servers.Config{})
	g := generator{rand.New(rand.NewPCG(seed, 0)), tagsOf(t, c.Master)}
	var pairs []*pair
	for range n {
		pairs = append(pairs, g.pair())
	}
	for some := range slices.Chunk(pairs, 100) {
		ok(t, ask(t.Context(), c.Master.DB(), some))
	}

	t.Run("as ours", func(t *testing.T) {
		var covered, covering, both, neither, empty, oddly int
		for _, p := range pairs {
			if wrong := p.wrong(ours); wrong != "" {
				t.Errorf("%s\n%s", wrong, p)
			}
			switch {
			case p.aText == "" || p.bText == "":
				empty++
			case p.aInB && p.bInA:
				both++
			case p.aInB:
				covered++
			case p.bInA:
				covering++
			default:
				neither++
			}
			if p.a != p.aText {
				oddly++
			}
		}
		t.Logf("a covered by b %d, b by a %d, the same %d, neither %d, one empty %d; %d not as servers write them",
			covered, covering, both, neither, empty, oddly)
		if min(covered, covering, both, neither, empty, oddly) < len(pairs)/50 {
			t.Error("too few of one sort")
		}
	})
	for _, control := range []struct {
		name string
		calculus
	}{
		{"what covers looks at the last number alone", calculus{lastCovers, position.Merge}},
		{"the unknown position is covered", calculus{unknownIsCovered, position.Merge}},
		{"nothing is covered but what is the same", calculus{same, position.Merge}},
		{"merging keeps the one with more", calculus{position.Position.Covers, longer}},
	} {
		t.Run("control: "+control.name, func(t *testing.T) {
			wrong := 0
			for _, p := range pairs {
				if p.wrong(control.calculus) != "" {
					wrong++
				}
			}
			t.Logf("wrong about %d", wrong)
			if wrong == 0 {
				t.Error("nobody noticed")
			}
		})
	}
}

// lastCovers compares the last number of each UUID, as if sets had no gaps.
func lastCovers(p, q position.Position) bool {
	last := func(p position.Position) map[string]int {
		all := map[string]int{}
		for of := range strings.SplitSeq(p.String(), ",") {
			uuid, intervals, _ := strings.Cut(of, ":")
			var n int
			_, _ = fmt.Sscan(intervals[strings.LastIndexAny(intervals, ":-")+1:], &n)
			all[uuid] = n
		}
		return all
	}
	if !p.Known() || !q.Known() {
		return false
	}
	has := last(p)
	for uuid, n := range last(q) {
		if has[uuid] < n {
			return false
		}
	}
	return true
}

func unknownIsCovered(p, q position.Position) bool { return !q.Known() || p.Covers(q) }

func same(p, q position.Position) bool { return p.Covers(q) && q.Covers(p) }

func longer(p, q position.Position) position.Position {
	switch {
	case !p.Known() || !q.Known():
		return position.Position{}
	case len(p.String()) < len(q.String()):
		return q
	default:
		return p
	}
}

// pair is two sets, and what the server says of them.
type pair struct {
	a, b string

	aInB, bInA   bool
	aText, bText string // as the server writes them
	union        string
	onlyA        string // what is in a but not in b
}

func (p *pair) String() string {
	return fmt.Sprintf("\ta %q\n\tb %q\nthe server:\n\ta in b %v, b in a %v\n"+
		"\ta %q\n\tb %q\n\tboth %q\n\ta without b %q",
		p.a, p.b, p.aInB, p.bInA, p.aText, p.bText, p.union, p.onlyA)
}

// ask asks the server about some pairs at once.
func ask(ctx context.Context, db *sql.DB, pairs []*pair) error {
	var columns []string
	var into []any
	for _, p := range pairs {
		both := p.a + "," + p.b
		columns = append(columns, fmt.Sprintf("GTID_SUBSET('%[1]s', '%[2]s'), GTID_SUBSET('%[2]s', '%[1]s'), "+
			"GTID_SUBTRACT('%[1]s', ''), GTID_SUBTRACT('%[2]s', ''), GTID_SUBTRACT('%[3]s', ''), "+
			"GTID_SUBTRACT('%[1]s', '%[2]s')", p.a, p.b, both))
		into = append(into, &p.aInB, &p.bInA, &p.aText, &p.bText, &p.union, &p.onlyA)
	}
	if err := db.QueryRowContext(ctx, "SELECT "+strings.Join(columns, ", ")).Scan(into...); err != nil {
		return fmt.Errorf("%w; one of\n%s", err, strings.Join(columns, "\n"))
	}
	for _, p := range pairs {
		for _, text := range []*string{&p.aText, &p.bText, &p.union, &p.onlyA} {
			*text = strings.ReplaceAll(*text, "\n", "")
		}
	}
	return nil
}

// wrong says where c and the server differ about p, if they do.
func (p *pair) wrong(c calculus) string {
	a, errA := position.ParseMySQL(p.a)
	b, errB := position.ParseMySQL(p.b)
	only, errOnly := position.ParseMySQL(p.onlyA)
	if errA != nil || errB != nil || errOnly != nil {
		return fmt.Sprint("not taken: ", errA, errB, errOnly)
	}
	// The empty set is in every set. As a position it is none, which covers nothing and is not covered.
	known := p.aText != "" && p.bText != ""
	union := p.union
	if !known {
		union = ""
	}
	merged := c.merge(a, b)
	switch {
	case text(a) != p.aText || text(b) != p.bText:
		return fmt.Sprintf("read as %q and %q", text(a), text(b))
	case c.covers(b, a) != (known && p.aInB):
		return fmt.Sprintf("b covers a: %v", c.covers(b, a))
	case c.covers(a, b) != (known && p.bInA):
		return fmt.Sprintf("a covers b: %v", c.covers(a, b))
	case text(merged) != union || text(c.merge(b, a)) != union:
		return fmt.Sprintf("merged to %q, and to %q", text(merged), text(c.merge(b, a)))
	// From here on by two functions of the server's that do not share their code with GTID_SUBSET.
	case p.aInB != (p.onlyA == ""):
		return "the server differs from itself"
	case known && p.onlyA != "" && (!c.covers(a, only) || c.covers(b, only) || text(c.merge(only, b)) != union):
		return "a without b"
	default:
		return ""
	}
}

// text is p as the server writes it.
func text(p position.Position) string {
	if !p.Known() {
		return ""
	}
	return p.String()
}

// generator makes sets. Numbers are few, so that intervals meet.
type generator struct {
	*rand.Rand
	tags []string // "" is none
}

// span is one interval of one UUID, and of one tag of it.
type span struct {
	uuid, tag   string
	first, last int
}

// uuids differ at the beginning, and at the end.
var uuids = []string{
	"00000000-0000-0000-0000-000000000001",
	"3e11fa47-71ca-11e1-9e33-c80aa9429562",
	"3e11fa47-71ca-11e1-9e33-c80aa9429563",
	"ffffffff-ffff-ffff-ffff-ffffffffffff",
}

// tagsOf returns the tags of GTIDs that the server knows: it does from 8.3 on.
func tagsOf(t *testing.T, s *servers.Server) []string {
	t.Helper()
	var version string
	ok(t, s.DB().QueryRowContext(t.Context(), "SELECT VERSION()").Scan(&version))
	var major, minor int
	_, err := fmt.Sscanf(version, "%d.%d", &major, &minor)
	ok(t, err)
	if slices.Compare([]int{major, minor}, []int{8, 3}) < 0 {
		return []string{""}
	}
	return []string{"", "", "", "", "", "a", "ab", "_", "a_tag_that_is_as_long_as_possibl", "b1"}
}

const largest = 1<<63 - 2

func (g generator) pair() *pair {
	a := g.set()
	b := g.set()
	switch g.IntN(4) {
	case 0: // the same, or some of it
		b = slices.Clone(a)
		if g.IntN(2) == 0 {
			b = b[:g.IntN(len(b)+1)]
		}
		for i := range b {
			if g.IntN(4) == 0 {
				b[i].first = b[i].last
			}
		}
	case 1: // more
		b = append(b, a...)
	}
	if g.IntN(2) == 0 {
		a, b = b, a
	}
	return &pair{a: g.spell(a), b: g.spell(b)}
}

func (g generator) set() []span {
	var set []span
	if g.IntN(20) == 0 {
		return nil
	}
	for range 1 + g.IntN(6) {
		s := span{uuid: uuids[g.IntN(len(uuids))], tag: g.tags[g.IntN(len(g.tags))]}
		s.first = 1 + g.IntN(12)
		s.last = s.first + g.IntN(4)
		switch g.IntN(20) {
		case 0:
			s.last = largest - g.IntN(3)
		case 1:
			s.first, s.last = largest-s.last, largest-s.first+1
		}
		set = append(set, s)
	}
	return set
}

// spell writes a set in one of the ways that there are.
func (g generator) spell(set []span) string {
	set = slices.Clone(set)
	odd := g.IntN(2) == 0
	if odd {
		g.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
	}
	blank := func() string {
		if !odd || g.IntN(4) > 0 {
			return ""
		}
		return []string{" ", "\n", "\t", "\r\n", "  "}[g.IntN(5)]
	}
	var b strings.Builder
	b.WriteString(blank())
	for i, s := range set {
		// What has no tag cannot follow what has one.
		anew := i == 0 || set[i-1].uuid != s.uuid || set[i-1].tag != "" && s.tag == "" || g.IntN(2) == 0
		if anew {
			if i > 0 {
				b.WriteString("," + blank())
			}
			b.WriteString(g.letters(s.uuid, odd) + blank())
		}
		if s.tag != "" && (anew || set[i-1].tag != s.tag || g.IntN(2) == 0) {
			b.WriteString(":" + blank() + g.letters(s.tag, odd) + blank())
		}
		fmt.Fprintf(&b, ":%s%d%s", blank(), s.first, blank())
		if s.last > s.first || odd && g.IntN(2) == 0 {
			fmt.Fprintf(&b, "-%s%d%s", blank(), s.last, blank())
		}
	}
	return b.String()
}

// letters writes a UUID or a tag in letters of either case.
func (g generator) letters(uuid string, odd bool) string {
	switch {
	case !odd || g.IntN(2) == 0:
		return uuid
	case g.IntN(2) == 0:
		return strings.ToUpper(uuid)
	default:
		return strings.Map(func(r rune) rune {
			if g.IntN(2) == 0 {
				return unicode.ToUpper(r)
			}
			return r
		}, uuid)
	}
}
