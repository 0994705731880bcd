package replicated

import (
	"fmt"
	"testing"
)

// TestResolve has the rules of routing, in their order, as one table. Every
// row starts from a GET with slaves, which reads a slave; what it changes is all it says.
func TestResolve(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*question)
		intent Intent
		reason Reason
	}{
		{"a GET reads a slave", func(q *question) {}, Slave, ReasonMethod},

		{"1: bound", func(q *question) { q.bound = true }, Master, ReasonBound},
		{"1 before 2", func(q *question) { q.bound, q.hasSlaves = true, false }, Master, ReasonBound},
		{"2: no slaves", func(q *question) { q.hasSlaves = false }, Master, ReasonNoSlaves},
		{"2 before 3", func(q *question) { q.hasSlaves, q.nature = false, writes }, Master, ReasonNoSlaves},
		{"2 before 4", func(q *question) { q.hasSlaves, q.clause = false, chooseSlave }, Master, ReasonNoSlaves},

		{"3: a write", func(q *question) { q.nature = writes }, Master, ReasonWrite},
		{"3: a locking read", func(q *question) { q.nature = locks }, Master, ReasonLocking},
		{"3: connection state", func(q *question) { q.nature = stateful }, Master, ReasonConnectionState},
		{"3: the catalog", func(q *question) { q.nature = catalog }, Master, ReasonCatalog},
		{"3: a serializable transaction", func(q *question) { q.nature = serializable }, Master, ReasonSerializable},
		{"3: FirstOrCreate", func(q *question) { q.nature = firstOr }, Master, ReasonFirstOr},
		{"3: in a hook of a write", func(q *question) { q.nature = followsWrite }, Master, ReasonFollowsWrite},
		{"3 before 4", func(q *question) { q.nature, q.clause = writes, chooseSlave }, Master, ReasonWrite},
		{"3 before 6", func(q *question) { q.nature, q.explicit = locks, chooseSlave }, Master, ReasonLocking},

		{"4: clause Master", func(q *question) { q.clause = chooseMaster }, Master, ReasonClause},
		{"4: clause Slave", func(q *question) { q.clause, q.method = chooseSlave, chooseMaster }, Slave, ReasonClause},
		{"4 before 5", func(q *question) { q.clause, q.nature = chooseSlave, unknown }, Slave, ReasonClause},
		{"4 before 5, BEGIN", func(q *question) { q.clause, q.nature = chooseSlave, begins }, Slave, ReasonClause},
		{"4 before 6", func(q *question) { q.clause, q.explicit = chooseSlave, chooseMaster }, Slave, ReasonClause},
		{"4 before 7", func(q *question) { q.clause, q.wrote = chooseSlave, true }, Slave, ReasonClause},

		{"5: unknown SQL", func(q *question) { q.nature = unknown }, Master, ReasonUnknownSQL},
		{"5: a transaction that may write", func(q *question) { q.nature = begins }, Master, ReasonTransaction},
		{"5 before 6", func(q *question) { q.nature, q.explicit = unknown, chooseSlave }, Master, ReasonUnknownSQL},

		{"6: WithMaster", func(q *question) { q.explicit = chooseMaster }, Master, ReasonContext},
		{"6: WithSlave", func(q *question) { q.explicit, q.method = chooseSlave, chooseMaster }, Slave, ReasonContext},
		{"6 before 7", func(q *question) { q.explicit, q.wrote = chooseSlave, true }, Slave, ReasonContext},
		{"6 before 8", func(q *question) { q.explicit, q.handler = chooseSlave, chooseMaster }, Slave, ReasonContext},

		{"7: the session has written", func(q *question) { q.wrote = true }, Master, ReasonWrote},
		{"7 before 8", func(q *question) { q.wrote, q.handler = true, chooseSlave }, Master, ReasonWrote},
		{"7 before 9", func(q *question) { q.wrote, q.pattern = true, chooseSlave }, Master, ReasonWrote},

		{"8: UseMaster", func(q *question) { q.handler = chooseMaster }, Master, ReasonHandler},
		{"8: UseSlave", func(q *question) { q.handler, q.method = chooseSlave, chooseMaster }, Slave, ReasonHandler},
		{"8, switched off", func(q *question) { q.handler, q.auto = chooseSlave, false }, Slave, ReasonHandler},
		{"8 before 9", func(q *question) { q.handler, q.pattern = chooseSlave, chooseMaster }, Slave, ReasonHandler},

		{"9: pattern Slave", func(q *question) { q.pattern, q.method = chooseSlave, chooseMaster }, Slave, ReasonPattern},
		{"9: pattern Master", func(q *question) { q.pattern = chooseMaster }, Master, ReasonPattern},
		{"9: pattern, switched off", func(q *question) { q.pattern, q.auto = chooseSlave, false }, Slave, ReasonPattern},
		{"9: method", func(q *question) { q.method = chooseMaster }, Master, ReasonMethod},
		{"9: method, switched off", func(q *question) { q.auto = false }, Master, ReasonSwitchedOff},
		{"9 before 10", func(q *question) { q.method, q.fallback = chooseMaster, Slave }, Master, ReasonMethod},

		{"10: no request", func(q *question) { q.inRequest = false }, Master, ReasonDefault},
		{"10: no request, DefaultIntent", func(q *question) { q.inRequest, q.fallback = false, Slave }, Slave, ReasonDefault},
		{"10: no request, switched off", func(q *question) { q.inRequest, q.fallback, q.auto = false, Slave, false }, Master, ReasonSwitchedOff},
	} {
		t.Run(test.name, func(t *testing.T) {
			q := question{hasSlaves: true, nature: reads, inRequest: true, method: chooseSlave, auto: true}
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
		change func(*question)
		want   bool
	}{
		{"a write in a GET", func(q *question) {}, true},
		{"unknown SQL in a GET", func(q *question) { q.nature = unknown }, true},
		{"a read", func(q *question) { q.nature = reads }, false},
		{"a locking read", func(q *question) { q.nature = locks }, false},
		{"a write in a POST", func(q *question) { q.method = chooseMaster }, false},
		{"WithMaster", func(q *question) { q.explicit = chooseMaster }, false},
		{"WithSlave in a POST", func(q *question) { q.explicit, q.method = chooseSlave, chooseMaster }, true},
		{"clause Master", func(q *question) { q.clause = chooseMaster }, false},
		{"clause Slave, a write", func(q *question) { q.clause = chooseSlave }, true},
		{"clause Slave, unknown SQL", func(q *question) { q.clause, q.nature = chooseSlave, unknown }, false},
		{"switched off", func(q *question) { q.auto = false }, false},
		{"no slaves", func(q *question) { q.hasSlaves = false }, true},
		{"after a write", func(q *question) { q.wrote = true }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			q := question{hasSlaves: true, nature: writes, inRequest: true, method: chooseSlave, auto: true}
			test.change(&q)
			if got := refuses(&q); got != test.want {
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
