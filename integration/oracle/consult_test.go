package oracle

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/gorm-replicated/replicated/internal/sqlkind"
)

// limits of one engine's run: what it must have come to, lest it proves nothing.
type limits struct {
	reads, writes int // how many of them have to turn out as such
	stateful      int
	locking       int
}

// consult compares, and fails for every hole and for too many false alarms. The controls are classifiers that
// must not get away with it. What is written by hand has to be valid if the server is of the version
// expected.
func consult(t *testing.T, name string, findings []finding, classify classifier, expected bool, least limits,
	controls map[string]classifier) {
	t.Helper()
	c := compare(classify, findings)
	t.Log(c.table(name))
	const most = 40
	for i, d := range c.holes {
		if i == most {
			t.Errorf("and %d more", len(c.holes)-most)
			break
		}
		t.Error(d)
	}
	if r := c.alarmRate(); r > maxAlarms {
		t.Errorf("%.2f%% of the true reads are taken for writes, more than %.1f%%", 100*r, 100*maxAlarms)
	}
	for _, q := range []struct {
		truth truth
		least int
	}{{read, least.reads}, {locking, least.locking}, {stateful, least.stateful}, {write, least.writes}} {
		if n := c.of(q.truth); n < q.least {
			t.Errorf("only %d statements are %v: too few to prove anything, want %d", n, q.truth, q.least)
		}
	}
	checkWritten(t, findings, expected)
	for _, name := range slices.Sorted(maps.Keys(controls)) {
		c := compare(controls[name], findings)
		by := map[truth]int{}
		for _, d := range c.holes {
			by[d.truth]++
		}
		t.Logf("control, %s: %d writes, %d locking and %d stateful statements let through; %.1f%% false alarms",
			name, by[write], by[locking], by[stateful], 100*c.alarmRate())
		if len(c.holes) < 10 && c.alarmRate() <= maxAlarms {
			t.Errorf("control, %s: nothing was noticed", name)
		}
	}
}

// checkWritten fails for what is written by hand and not valid: for each of it on a server that is expected
// to take all of it, and otherwise for more than a tenth.
func checkWritten(t *testing.T, findings []finding, expected bool) {
	t.Helper()
	written, lame := 0, 0
	for _, f := range findings {
		if f.valid {
			written++
		}
		if f.truth != invalid || !f.valid {
			continue
		}
		lame++
		if expected {
			t.Errorf("%s: not valid: %s\n\t\t%s", f.from, f.sql, f.why)
		}
	}
	if lame > written/10 {
		t.Errorf("%d of %d statements written by hand are not valid on this server", lame, written)
	}
}

// blind are classifiers that are wrong in ways of which each has to be noticed.
func blind(classify, foreign classifier) map[string]classifier {
	begins := func(sql string, words ...string) bool {
		fields := strings.Fields(strings.ToLower(sql) + " .")
		return slices.Contains(words, strings.Trim(fields[0], "("))
	}
	return map[string]classifier{
		"whatever begins with SELECT is a read": func(sql string) sqlkind.Kind {
			if begins(sql, "select", "with", "show", "explain", "values") {
				return sqlkind.Read
			}
			return sqlkind.Write
		},
		"everything is a read":  func(string) sqlkind.Kind { return sqlkind.Read },
		"everything is a write": func(string) sqlkind.Kind { return sqlkind.Write },
		"another dialect":       foreign,
		"locking reads are reads": func(sql string) sqlkind.Kind {
			if k := classify(sql); k != sqlkind.Locking {
				return k
			}
			return sqlkind.Read
		},
		"no connection has a state": func(sql string) sqlkind.Kind {
			if k := classify(sql); k != sqlkind.Stateful {
				return k
			}
			return sqlkind.Read
		},
		"what is unknown is a read": func(sql string) sqlkind.Kind {
			if k := classify(sql); k != sqlkind.Unknown {
				return k
			}
			return sqlkind.Read
		},
	}
}
