package replicated

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated/internal/cluster"
	"github.com/gorm-replicated/replicated/internal/position"
)

// TestResolve has the rules of routing, in their order, as one table. Every
// row starts from a GET with slaves, which reads a slave; what it changes is all it says.
func TestResolve(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*facts)
		intent Intent
		reason Reason
	}{
		{"a GET reads a slave", func(q *facts) {}, Slave, ReasonMethod},

		{"1: bound", func(q *facts) { q.bound = true }, Master, ReasonBound},
		{"1 before 2", func(q *facts) { q.bound, q.hasSlaves = true, false }, Master, ReasonBound},
		{"2: no slaves", func(q *facts) { q.hasSlaves = false }, Master, ReasonNoSlaves},
		{"2 before 3", func(q *facts) { q.hasSlaves, q.nature = false, writes }, Master, ReasonNoSlaves},
		{"2 before 4", func(q *facts) { q.hasSlaves, q.clause = false, chooseSlave }, Master, ReasonNoSlaves},

		{"3: a write", func(q *facts) { q.nature = writes }, Master, ReasonWrite},
		{"3: a locking read", func(q *facts) { q.nature = locks }, Master, ReasonLocking},
		{"3: connection state", func(q *facts) { q.nature = stateful }, Master, ReasonConnectionState},
		{"3: the catalog", func(q *facts) { q.nature = catalog }, Master, ReasonCatalog},
		{"3: a serializable transaction", func(q *facts) { q.nature = serializable }, Master,
			ReasonSerializable},
		{"3: FirstOrCreate", func(q *facts) { q.nature = firstOr }, Master, ReasonFirstOr},
		{"3: in a hook of a write", func(q *facts) { q.nature = followsWrite }, Master, ReasonFollowsWrite},
		{"3 before 4", func(q *facts) { q.nature, q.clause = writes, chooseSlave }, Master, ReasonWrite},
		{"3 before 6", func(q *facts) { q.nature, q.explicit = locks, chooseSlave }, Master, ReasonLocking},

		{"4: clause Master", func(q *facts) { q.clause = chooseMaster }, Master, ReasonClause},
		{"4: clause Slave", func(q *facts) { q.clause, q.method = chooseSlave, chooseMaster }, Slave,
			ReasonClause},
		{"4 before 5", func(q *facts) { q.clause, q.nature = chooseSlave, unknown }, Slave, ReasonClause},
		{"4 before 5, BEGIN", func(q *facts) { q.clause, q.nature = chooseSlave, begins }, Slave, ReasonClause},
		{"4 before 6", func(q *facts) { q.clause, q.explicit = chooseSlave, chooseMaster }, Slave, ReasonClause},
		{"4 before 7", func(q *facts) { q.clause, q.wrote = chooseSlave, true }, Slave, ReasonClause},

		{"5: unknown SQL", func(q *facts) { q.nature = unknown }, Master, ReasonUnknownSQL},
		{"5: a transaction that may write", func(q *facts) { q.nature = begins }, Master, ReasonTransaction},
		{"5 before 6", func(q *facts) { q.nature, q.explicit = unknown, chooseSlave }, Master, ReasonUnknownSQL},

		{"6: WithMaster", func(q *facts) { q.explicit = chooseMaster }, Master, ReasonContext},
		{"6: WithSlave", func(q *facts) { q.explicit, q.method = chooseSlave, chooseMaster }, Slave,
			ReasonContext},
		{"6 before 7", func(q *facts) { q.explicit, q.wrote = chooseSlave, true }, Slave, ReasonContext},
		{"6 before 8", func(q *facts) { q.explicit, q.handler = chooseSlave, chooseMaster }, Slave,
			ReasonContext},

		{"7: the session has written", func(q *facts) { q.wrote = true }, Master, ReasonWrote},
		{"7 before 8", func(q *facts) { q.wrote, q.handler = true, chooseSlave }, Master, ReasonWrote},
		{"7 before 9", func(q *facts) { q.wrote, q.pattern = true, chooseSlave }, Master, ReasonWrote},

		{"8: UseMaster", func(q *facts) { q.handler = chooseMaster }, Master, ReasonHandler},
		{"8: UseSlave", func(q *facts) { q.handler, q.method = chooseSlave, chooseMaster }, Slave,
			ReasonHandler},
		{"8, switched off", func(q *facts) { q.handler, q.auto = chooseSlave, false }, Slave, ReasonHandler},
		{"8 before 9", func(q *facts) { q.handler, q.pattern = chooseSlave, chooseMaster }, Slave,
			ReasonHandler},

		{"9: pattern Slave", func(q *facts) { q.pattern, q.method = chooseSlave, chooseMaster }, Slave,
			ReasonPattern},
		{"9: pattern Master", func(q *facts) { q.pattern = chooseMaster }, Master, ReasonPattern},
		{"9: pattern, switched off", func(q *facts) { q.pattern, q.auto = chooseSlave, false }, Slave,
			ReasonPattern},
		{"9: method", func(q *facts) { q.method = chooseMaster }, Master, ReasonMethod},
		{"9: method, switched off", func(q *facts) { q.auto = false }, Master, ReasonSwitchedOff},
		{"9 before 10", func(q *facts) { q.method, q.byDefault = chooseMaster, Slave }, Master, ReasonMethod},

		{"10: no request", func(q *facts) { q.inRequest = false }, Master, ReasonDefault},
		{"10: no request, DefaultIntent", func(q *facts) { q.inRequest, q.byDefault = false, Slave }, Slave,
			ReasonDefault},
		{"10: no request, switched off",
			func(q *facts) { q.inRequest, q.byDefault, q.auto = false, Slave, false }, Master, ReasonSwitchedOff},
	} {
		t.Run(test.name, func(t *testing.T) {
			q := facts{hasSlaves: true, nature: reads, inRequest: true, method: chooseSlave, auto: true}
			test.change(&q)
			if intent, reason := resolve(&q); intent != test.intent || reason != test.reason {
				t.Errorf("got %v, %q; want %v, %q", intent, reason, test.intent, test.reason)
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*facts)
		want   bool
	}{
		{"a write in a GET", func(q *facts) {}, true},
		{"unknown SQL in a GET", func(q *facts) { q.nature = unknown }, true},
		{"a read", func(q *facts) { q.nature = reads }, false},
		{"a locking read", func(q *facts) { q.nature = locks }, false},
		{"a write in a POST", func(q *facts) { q.method = chooseMaster }, false},
		{"WithMaster", func(q *facts) { q.explicit = chooseMaster }, false},
		{"WithSlave in a POST", func(q *facts) { q.explicit, q.method = chooseSlave, chooseMaster }, true},
		{"clause Master", func(q *facts) { q.clause = chooseMaster }, false},
		{"clause Slave, a write", func(q *facts) { q.clause = chooseSlave }, true},
		{"clause Slave, unknown SQL", func(q *facts) { q.clause, q.nature = chooseSlave, unknown }, false},
		{"switched off", func(q *facts) { q.auto = false }, false},
		{"no slaves", func(q *facts) { q.hasSlaves = false }, true},
		{"after a write", func(q *facts) { q.wrote = true }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			q := facts{hasSlaves: true, nature: writes, inRequest: true, method: chooseSlave, auto: true}
			test.change(&q)
			if got := q.writesAgainstIntent(); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// TestEveryReasonHasAName also finds a reason that was added without one.
func TestEveryReasonHasAName(t *testing.T) {
	seen := map[string]bool{}
	for r := range Reason(len(reasons)) {
		if s := r.String(); s == "" || seen[s] {
			t.Errorf("reason %d: %q", r, s)
		} else {
			seen[s] = true
		}
	}
	if got, want := Reason(len(reasons)).String(), fmt.Sprintf("Reason(%d)", len(reasons)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestCandidates has the demands that a slave has to meet, and which of them are dropped where the code asks
// for one.
func TestCandidates(t *testing.T) {
	now := time.Now()
	at := func(n uint64) position.Position { return position.Sequence("log", n) }
	var all []cluster.State
	add := func(id string, up bool, p position.Position, lag time.Duration) {
		all = append(all, cluster.State{
			Server: &cluster.Server{ID: id, Slave: true}, Up: up, Position: p, FreshAsOf: now.Add(-lag),
		})
	}
	add("fresh", true, at(10), time.Second)
	add("behind", true, at(8), 20*time.Second)
	add("far", true, at(5), 2*time.Minute)
	add("dead", false, at(10), time.Second)
	all = append(all, cluster.State{Server: &cluster.Server{ID: "unknown", Slave: true}, Up: true})
	add("late", true, at(10), time.Second)
	all[len(all)-1].Until = now // what is known of it has just ended
	// with these slaves, of which fresh, behind and late are within MaxLag
	view := func(ids string) *cluster.View {
		v := &cluster.View{}
		for _, s := range all {
			if !slices.Contains(strings.Fields(ids), s.Server.ID) {
				continue
			}
			s.Readable = strings.Contains("fresh behind late", s.Server.ID)
			v.All = append(v.All, s)
			if s.Readable {
				v.Slaves, v.Pools = append(v.Slaves, s.Server), append(v.Pools, gorm.ConnPool(nil))
			}
		}
		return v
	}
	const everything = "fresh behind far dead unknown"
	token := func(n uint64) *minPosition { return &minPosition{position: at(n)} }
	until := func(d time.Duration) *minPosition { return &minPosition{until: now.Add(d)} }
	for _, test := range []struct {
		name    string
		slaves  string
		demand  *minPosition
		within  time.Duration // WithMaxStaleness, if positive
		asks    bool
		want    string
		missing Reason
	}{
		{name: "up and within MaxLag", slaves: everything, want: "fresh behind"},
		{name: "what the token demands", slaves: everything, demand: token(9), want: "fresh"},
		{name: "a demand that all meet", slaves: everything, demand: token(3), want: "fresh behind"},
		{name: "a demand that nobody meets", slaves: everything, demand: token(11), missing: ReasonToken},
		{name: "of another history", slaves: everything,
			demand:  &minPosition{position: position.Sequence("other", 1)},
			missing: ReasonToken},
		{name: "until", slaves: everything, demand: until(1), missing: ReasonToken},
		{name: "until is over", slaves: everything, demand: until(0), want: "fresh behind"},
		{name: "both have to be met", slaves: everything,
			demand:  &minPosition{position: at(1), until: now.Add(1)},
			missing: ReasonToken},
		{name: "staleness", slaves: everything, within: 2 * time.Second, want: "fresh"},
		{name: "staleness that nobody has", slaves: everything, within: time.Millisecond, missing: ReasonStaleness},
		{name: "a token and a staleness", slaves: "fresh behind", demand: token(9), within: 30 * time.Second,
			want: "fresh"},
		{name: "fresh enough, but behind the token", slaves: "behind", demand: token(9), within: 30 * time.Second,
			missing: ReasonToken},
		{name: "nobody within MaxLag", slaves: "far unknown", missing: ReasonLag},
		{name: "nobody up", slaves: "dead", missing: ReasonLag},
		{name: "known too long ago", slaves: "late behind", want: "behind"},
		{name: "all known too long ago", slaves: "late", demand: token(9), missing: ReasonLag},
		{name: "asked: known too long ago", slaves: "late", asks: true, want: "late"},

		{name: "asked: nothing to drop", slaves: everything, demand: token(9), asks: true, want: "fresh"},
		{name: "asked: the token's demand first", slaves: everything, demand: token(11), asks: true,
			want: "fresh behind"},
		{name: "asked: then MaxLag", slaves: "far dead unknown", demand: token(11), asks: true,
			want: "far unknown"},
		{name: "asked: never the staleness", slaves: "behind far unknown", within: time.Second, asks: true,
			missing: ReasonStaleness},
		{name: "asked: the staleness, but not MaxLag", slaves: "far", within: time.Hour, asks: true, want: "far"},
		{name: "asked: never who is down", slaves: "dead", asks: true, missing: ReasonLag},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := demands{test.demand, test.within > 0, test.within, now, nil}
			servers, pools, missing := candidates(view(test.slaves), &d, test.asks)
			var got []string
			for _, s := range servers {
				got = append(got, s.ID)
			}
			if strings.Join(got, " ") != test.want || len(pools) != len(servers) {
				t.Errorf("got %v and %d pools, want %q", got, len(pools), test.want)
			}
			if missing != test.missing {
				t.Errorf("missing: %v, want %v", missing, test.missing)
			}
		})
	}
}

// TestDemandsAdd has what two tokens demand together.
func TestDemandsAdd(t *testing.T) {
	now := time.Now()
	at := func(name string, n uint64) *minPosition { return &minPosition{position: position.Sequence(name, n)} }
	until := func(d time.Duration) *minPosition { return &minPosition{until: now.Add(d)} }
	const window = 5 * time.Second
	for _, test := range []struct {
		name       string
		old, newer *minPosition
		want       string
		until      time.Duration // 0: none
	}{
		{"the first", nil, at("a", 1), "a:1", 0},
		{"a later position", at("a", 1), at("a", 2), "a:2", 0},
		{"an earlier one", at("a", 2), at("a", 1), "a:2", 0},
		{"a time keeps the position", at("a", 2), until(time.Second), "a:2", time.Second},
		{"a position keeps the time", until(time.Second), at("a", 2), "a:2", time.Second},
		{"the later time", until(2 * time.Second), until(time.Second), "unknown", 2 * time.Second},
		{"another history: the newer, and the master for a while", at("a", 9), at("b", 1), "b:1", window},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := test.old.and(test.newer, now, window)
			if got.position.String() != test.want || !got.until.IsZero() && got.until != now.Add(test.until) ||
				got.until.IsZero() && test.until != 0 {
				t.Errorf("got %v until %v", got.position, got.until.Sub(now))
			}
		})
	}
}
