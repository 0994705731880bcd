// Package oracle asks real servers whether what sqlkind takes for a read is one.
//
// Thousands of statements, hand-written in testdata and generated, are run on a server that is there for
// nothing else. What the server refuses in a read-only transaction, what its log and its tables look like
// afterwards, and what became of the connection is the truth; sqlkind sees the text alone, and its verdict is
// compared with the truth. See [truth] for what is asked, and binlog_test.go and postgres_test.go for how the
// engines answer.
//
// The same statements are run each time. ORACLE_SEED makes others, ORACLE_STATEMENTS more of them:
//
//	ORACLE_SEED=7 ORACLE_STATEMENTS=50000 go test -v -timeout 1h ./oracle
package oracle

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated/internal/sqlkind"
)

// truth is what running a statement showed. A larger one is worse.
type truth uint8

const (
	invalid  truth = iota // the server does not take it, and it left nothing behind: it proves nothing
	read                  // nothing of what follows
	locking               // other connections could not lock all rows while its transaction was open
	stateful              // it changed the connection, or answers differ from connection to connection
	write                 // refused by a server that is read-only, or it left something behind
	truths                // how many there are
)

func (t truth) String() string {
	switch t {
	case invalid:
		return "invalid"
	case read:
		return "read"
	case locking:
		return "locking read"
	case stateful:
		return "stateful"
	case write:
		return "write"
	default:
		return "truth(" + strconv.Itoa(int(t)) + ")"
	}
}

// statement is a text, and where it comes from.
type statement struct {
	sql  string
	from string

	// valid: somebody wrote it by hand, and meant it to be valid.
	valid bool

	// once: it is not to be mutated, because what is known to be taken for a write once would be a hundred
	// times.
	once bool

	// probing: it is there for the sake of what it might do: it calls a function that does nothing if its
	// argument is NULL, or it is a write with another token somewhere. If it turns out to be a read, a verdict
	// that it writes is no false alarm.
	probing bool

	// hidden: it calls a function, an operator or a view of the user's own that writes or uses the connection's
	// state, which no text shows. If it writes, a read-only server must refuse it, because that is how the
	// plugin learns.
	hidden bool
}

// original says whether there may be something in s that is in no other statement. What was made from others
// can do, for the most part, only what those do, so not everything is looked at again.
func (s statement) original() bool {
	return s.valid || s.from == "function" || s.from == "word" || s.from == "known"
}

// elsewhere says whether s is also to be run where the same tables are in another database or schema, to see
// whether its answer depends on that. Which rows LIMIT leaves may, without meaning anything; and some answers
// name the database of a table, or are made from the OID of a type, of which each schema has its own.
func (s statement) elsewhere() bool {
	return (s.original() || asksWhere.MatchString(s.sql)) && !namesPlace.MatchString(s.sql)
}

// measures says whether the answer to s may hold times, and counts of pages read, which are the same twice
// only by chance.
func (s statement) measures() bool { return measured.MatchString(s.sql) }

var (
	measured   = regexp.MustCompile(`(?i)analy[sz]e|buffers`)
	asksWhere  = regexp.MustCompile(`(?i)database|schema|catalog`)
	namesPlace = regexp.MustCompile(`(?i)explain|describe|desc|analy[sz]e|show|hashenum`)
)

// finding is the truth about a statement, and how it came to light.
type finding struct {
	statement
	truth   truth
	why     string
	refused bool // by a server that is read-only
}

// worsen makes f what o says of the same statement in another mode, if that is no better.
func (f *finding) worsen(o finding, mode string) {
	if o.truth >= f.truth {
		f.truth, f.why = o.truth, o.why
		if mode != "default" {
			f.why += ", " + mode
		}
	}
	f.refused = f.refused || o.refused
}

// judge is a server that is asked.
type judge interface {
	// find runs the statements and returns a finding for each, in their order.
	find(ctx context.Context, statements []statement) ([]finding, error)
}

// classifier is sqlkind.Classify for one dialect, or what a control puts in its place.
type classifier func(sql string) sqlkind.Kind

// comparison is what became of a classifier's verdicts.
type comparison struct {
	counts [truths][sqlkind.Write + 1]int // by truth and verdict, of distinct texts
	holes  []disagreement                 // verdicts that let a statement run where it must not
	alarms []disagreement                 // true reads that were taken for writes
	// true reads that go to the master and mark nothing: not wrong, but not free
	wary   []disagreement
	hidden int // statements that are no holes because no text could show it
}

type disagreement struct {
	finding
	verdict sqlkind.Kind
}

func (d disagreement) String() string {
	return fmt.Sprintf("%s, taken for %s: %s\n\t\t(%s; %s)", d.truth, d.verdict, strconv.Quote(d.sql), d.why,
		d.from)
}

// compare sets the verdicts of classify beside the truth.
func compare(classify classifier, findings []finding) comparison {
	var c comparison
	for _, f := range findings {
		k := classify(f.sql)
		c.counts[f.truth][k]++
		d := disagreement{f, k}
		isWrite := k == sqlkind.Write || k == sqlkind.Unknown
		switch {
		case f.truth == write && !isWrite, (f.truth == stateful || f.truth == locking) && k == sqlkind.Read:
			c.addHole(d)
		case f.truth != read || f.probing || k == sqlkind.Read:
		case isWrite:
			c.alarms = append(c.alarms, d)
		default:
			c.wary = append(c.wary, d)
		}
	}
	return c
}

// addHole counts d as a hole, unless no text could show it, and a server that is read-only would refuse it.
func (c *comparison) addHole(d disagreement) {
	if d.finding.hidden {
		c.hidden++
		if d.truth != write || d.refused {
			return
		}
		d.why += "; and no server would refuse it"
	}
	c.holes = append(c.holes, d)
}

// of returns the number of statements of which t is the truth.
func (c comparison) of(t truth) (n int) {
	for _, m := range c.counts[t] {
		n += m
	}
	return n
}

// maxAlarms is how many of the true reads may be taken for writes.
const maxAlarms = 0.005

func (c comparison) alarmRate() float64 { return float64(len(c.alarms)) / float64(max(1, c.of(read))) }

// table is the comparison for people, in Markdown.
func (c comparison) table(title string) string {
	kinds := []sqlkind.Kind{sqlkind.Read, sqlkind.Catalog, sqlkind.Locking, sqlkind.Stateful, sqlkind.Unknown,
		sqlkind.Write}
	var b strings.Builder
	all := 0
	for t := range truths {
		all += c.of(t)
	}
	fmt.Fprintf(&b, "%s: %d distinct statements, %d of them valid\n\n| truth |", title, all, all-c.of(invalid))
	for _, k := range kinds {
		fmt.Fprintf(&b, " %v |", k)
	}
	b.WriteString(" all |\n|---" + strings.Repeat("|---", len(kinds)+1) + "|\n")
	for t := range truths {
		fmt.Fprintf(&b, "| %v |", t)
		for _, k := range kinds {
			fmt.Fprintf(&b, " %d |", c.counts[t][k])
		}
		fmt.Fprintf(&b, " %d |\n", c.of(t))
	}
	fmt.Fprintf(&b, "\nholes: %d; hidden in functions and views of the user's own: %d\n", len(c.holes), c.hidden)
	fmt.Fprintf(&b, "true reads taken for writes: %d of %d, %.2f%% (at most %.1f%%)\n",
		len(c.alarms), c.of(read), 100*c.alarmRate(), 100*maxAlarms)
	list(&b, c.alarms)
	fmt.Fprintf(&b, "true reads that go to the master and mark nothing: %d\n", len(c.wary))
	if testing.Verbose() {
		list(&b, c.wary)
	}
	return b.String()
}

func list(b *strings.Builder, ds []disagreement) {
	if len(ds) == 0 {
		return
	}
	b.WriteString("\n| verdict | statement | from |\n|---|---|---|\n")
	for _, d := range ds {
		fmt.Fprintf(b, "| %v | %s | %s |\n", d.verdict, strings.ReplaceAll(strconv.Quote(d.sql), "|", `\|`), d.from)
	}
	b.WriteString("\n")
}

// distinct drops texts that are there already. A text that anybody calls hidden is.
func distinct(statements []statement) []statement {
	at := make(map[string]int, len(statements))
	var kept []statement
	for _, s := range statements {
		if i, ok := at[s.sql]; ok {
			kept[i].hidden = kept[i].hidden || s.hidden
			kept[i].valid = kept[i].valid || s.valid
			kept[i].probing = kept[i].probing && s.probing
			continue
		}
		at[s.sql] = len(kept)
		kept = append(kept, s)
	}
	return kept
}

// setting returns the number that an environment variable holds.
func setting(t *testing.T, name string, byDefault int) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv(name), strconv.Itoa(byDefault)))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// known fails the test where the oracle does not find the truth that is known. It is asked before anything
// else, because an oracle that sees no write finds no hole.
func known(t *testing.T, j judge, want map[truth][]string) {
	t.Helper()
	var statements []statement
	var truthOf []truth
	for tr, texts := range want {
		for _, q := range texts {
			statements = append(statements, statement{sql: q, from: "known"})
			truthOf = append(truthOf, tr)
		}
	}
	findings, err := j.find(t.Context(), statements)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range findings {
		if f.truth != truthOf[i] {
			t.Errorf("the oracle calls this %v, want %v: %s (%s)", f.truth, truthOf[i], f.sql, f.why)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// all finds the truth about what is written by hand, and then about what more makes of that.
func all(t *testing.T, j judge, written []statement, more func(written []finding) []statement) []finding {
	t.Helper()
	findings, err := j.find(t.Context(), distinct(written))
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]bool)
	for _, f := range findings {
		known[f.sql] = true
	}
	rest := slices.DeleteFunc(distinct(more(findings)), func(s statement) bool { return known[s.sql] })
	made, err := j.find(t.Context(), rest)
	if err != nil {
		t.Fatal(err)
	}
	return append(findings, made...)
}

// digest is short, and differs if anything in lines does.
func digest(lines []string) string {
	h := sha256.New()
	for _, l := range lines {
		fmt.Fprintf(h, "%d %s\n", len(l), l)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// timeLimit bounds one statement. It is far above what any of them takes: the servers give up before.
const timeLimit = 15 * time.Second
