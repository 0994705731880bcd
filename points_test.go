package replicated

import (
	"fmt"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
	"github.com/gorm-replicated/replicated/internal/token"
)

// TestPointsOfOneHistory: two of them become one that demands as much as both.
func TestPointsOfOneHistory(t *testing.T) {
	const ttl = 5 * time.Minute
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) time.Time { return noon.Add(d) }
	log := func(n uint64) position.Position { return position.Sequence("log", n) }
	for _, test := range []struct {
		name       string
		p, q, both point
	}{
		{"positions that compare", point{position: log(2), since: at(1)}, point{position: log(3), since: at(2)},
			point{position: log(3), since: at(2)}},
		{"the larger one is older", point{position: log(3), since: at(1)}, point{position: log(2), since: at(2)},
			point{position: log(3), since: at(2)}},
		{"a time and a position", point{until: at(9), since: at(1)}, point{position: log(2), since: at(2)},
			point{position: log(2), until: at(9), since: at(2)}},
		{"a newer time and a position", point{position: log(2), since: at(1)}, point{until: at(9), since: at(2)},
			point{position: log(2), until: at(9), since: at(2)}},
		{"two times", point{until: at(9), since: at(1)}, point{until: at(8), since: at(2)},
			point{until: at(9), since: at(2)}},
		{"positions that do not compare: the older one's master",
			point{position: position.Sequence("old", 9), since: at(1)}, point{position: log(2), since: at(2)},
			point{position: log(2), until: at(1).Add(ttl), since: at(2)}},
	} {
		for range 2 {
			got := test.p.and(test.q, ttl)
			if got.position.String() != test.both.position.String() || !got.until.Equal(test.both.until) ||
				!got.since.Equal(test.both.since) {
				t.Errorf("%s: %+v, want %+v", test.name, got, test.both)
			}
			test.p, test.q = test.q, test.p
		}
	}
}

// TestShorten has tokens that are too large become small enough, whatever is in them, and demand no less than
// the master for the time that it is given.
func TestShorten(t *testing.T) {
	until := time.Date(2026, 1, 1, 12, 0, 5, 0, time.UTC)
	const all = "the rest until 12:00:05"
	for _, test := range []struct {
		name string
		t    token.Token
		want []string // after each step
	}{
		{"the longest first",
			token.Token{{History: "a", Position: make([]byte, 2)}, {History: "b", Position: make([]byte, 3)}},
			[]string{"[a " + all + "]", "[" + all + "]"}},
		{"then those without a position",
			token.Token{{History: "a", Until: until.Add(time.Second)}, {History: "b", Position: make([]byte, 1)}},
			[]string{"[a until 12:00:06 " + all + "]", "[the rest until 12:00:06]"}},
		{"one whose history is not known", token.Token{{Position: make([]byte, 1), Until: until.Add(-time.Second)}},
			[]string{"[" + all + "]"}},
		{"nothing to leave out", token.Token{{Until: until}}, nil},
	} {
		for _, want := range append(test.want, "") {
			short, shortened := shorten(test.t, until)
			var got []string
			for _, e := range short {
				name := e.History
				if name == "" {
					name = "the rest"
				}
				if !e.Until.IsZero() {
					name += " until " + e.Until.Format(time.TimeOnly)
				}
				got = append(got, name)
			}
			if shortened != (want != "") || shortened && fmt.Sprint(got) != want {
				t.Errorf("%s: %v, %v; want %v", test.name, got, shortened, want)
			}
			test.t = short
		}
	}
}
