package cluster

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

const (
	uuidM = "3e11fa47-71ca-11e1-9e33-c80aa9429562" // of a MySQL master
	uuidN = "44444444-71ca-11e1-9e33-c80aa9429562" // of another
	uuidS = "ed102faf-eb00-11eb-8f20-0c5415bfaa1d" // of a slave
)

// mySQL returns what a MySQL server says that has executed and itself written this.
func mySQL(t *testing.T, identity, executed, own string) position.Reading {
	t.Helper()
	parse := func(set string) position.Position {
		p, err := position.ParseMySQL(set)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	return position.Reading{Position: parse(executed), Identity: identity, Own: parse(own), Writable: true}
}

// mariaDB returns what a MariaDB server says that has logged and replayed this.
func mariaDB(t *testing.T, id uint32, identity, logged, replayed string) position.Reading {
	t.Helper()
	origins, err := position.ParseMariaDBOrigins(logged, replayed)
	if err != nil {
		t.Fatal(err)
	}
	return position.Reading{Identity: identity, Own: origins.By(id), Origins: origins, Writable: true}
}

// answering returns a server that has answered this.
func answering(id string, reading position.Reading) *master {
	return &master{watched: watched{server: &Server{ID: id}, asked: epoch, reading: reading}}
}

func TestDisowned(t *testing.T) {
	const (
		isMaster    = "is the master: the same server as master-1"
		hasDiverged = "has diverged: it takes writes, and has transactions of its own "
		ownS        = uuidS + ":1-3"
	)
	with := func(r position.Reading, change func(*position.Reading)) position.Reading {
		change(&r)
		return r
	}
	my := func(identity, executed, own string) position.Reading { return mySQL(t, identity, executed, own) }
	maria := func(id uint32, logged, replayed string) position.Reading {
		return mariaDB(t, id, "", logged, replayed)
	}
	also := func(r position.Reading) *position.Reading { return &r }
	well := my("m", uuidM+":1-9", uuidM+":1-9")
	astray := my("s", uuidM+":1-9,"+ownS, ownS)
	silent := func(w *master) { w.failed, w.err = missed, errors.New("connection refused") }
	tests := []struct {
		name   string
		master position.Reading
		slave  position.Reading
		change func(*master) // the master
		second *position.Reading
		before string
		want   string
	}{
		{name: "a slave that wrote nothing", master: well, slave: my("s", uuidM+":1-8", "")},
		{name: "somebody wrote to it", master: well, slave: astray, want: hasDiverged + "(" + ownS + ")"},
		{name: "somebody wrote to it, but it takes no writes", master: well,
			slave: with(astray, func(r *position.Reading) { r.Writable, r.ReadOnly = false, true })},
		{name: "somebody wrote to it, but whether it takes writes is not known", master: well,
			slave: with(astray, func(r *position.Reading) { r.Writable = false })},
		{name: "the old master, which lost nothing", master: my("m", uuidM+":1-9,"+uuidS+":1-3", uuidM+":1-9"),
			slave: astray},
		{name: "the old master, which had more", master: my("m", uuidM+":1-9,"+uuidS+":1-2", uuidM+":1-9"),
			slave: astray, want: hasDiverged + "(" + uuidS + ":3)"},
		{name: "the master has no position",
			master: with(well, func(r *position.Reading) { r.Position = position.Position{} }), slave: astray,
			before: hasDiverged + "(before)"},
		{name: "the master has a position of another kind",
			master: with(well, func(r *position.Reading) { r.Position = at(1) }), slave: astray},

		{name: "the master has not answered yet", master: well, slave: astray,
			change: func(w *master) { w.asked = time.Time{} }},
		{name: "the master does not answer", master: well, slave: astray, change: silent},
		{name: "the master does not answer, and it had diverged before", master: well, slave: astray,
			change: silent, before: hasDiverged + "(before)", want: hasDiverged + "(before)"},
		{name: "the master does not answer, and it was made to take no writes", master: well,
			slave: with(astray, func(r *position.Reading) { r.Writable = false }), change: silent,
			before: hasDiverged + "(before)"},
		{name: "the master does not answer, and it was made anew", master: well, slave: my("s", uuidM+":1-8", ""),
			change: silent,
			before: hasDiverged + "(before)"},
		{name: "the master's address did not answer, and led to it before", master: my("s", "", ""),
			slave: my("s", uuidM+":1-9", ""), change: silent, before: isMaster},
		{name: "the master missed a question", master: well, slave: astray,
			change: func(w *master) { w.failed = missed - 1 }, want: hasDiverged + "(" + ownS + ")"},
		{name: "the master answered with an error", master: well, slave: astray,
			change: func(w *master) { w.reading.Err = errors.New("no") },
			before: hasDiverged + "(before)", want: hasDiverged + "(before)"},
		{name: "the master is none", master: well, slave: astray,
			change: func(w *master) { w.reading.WrongRole = true }},
		{name: "the master was told wrong before", master: well, slave: my("s", uuidM+":1-8", ""),
			before: hasDiverged + "(before)"},

		{name: "it is the master", master: my("s", uuidM+":1-9,"+ownS, ownS), slave: astray, want: isMaster},
		{name: "it is the master, and takes no writes", master: my("s", uuidM+":1-9", ""),
			slave: with(my("s", uuidM+":1-9", ""), func(r *position.Reading) { r.Writable = false }), want: isMaster},
		{name: "it is the master, which missed a question", master: my("s", "", ""), slave: my("s", "", ""),
			change: func(w *master) { w.failed = missed - 1 }, want: isMaster},
		{name: "neither says who it is", master: my("", uuidM+":1-9", ""), slave: my("", uuidM+":1-8", "")},
		{name: "nobody says anything", master: position.Reading{}, slave: position.Reading{}},
		{name: "sequences", master: position.Reading{Position: at(5)},
			slave: position.Reading{Position: at(7), Own: at(7), Writable: true}},

		{name: "of two masters neither has it", master: well, second: also(my("n", uuidN+":1-5", "")),
			slave: astray, want: hasDiverged + "(" + ownS + ")"},
		{name: "of two masters one has it", master: well, second: also(my("n", uuidN+":1-5,"+ownS, "")),
			slave: astray},
		{name: "of two masters each has some", master: my("m", uuidM+":1-9,"+uuidS+":1", ""),
			second: also(my("n", uuidS+":2-3", "")), slave: astray},
		{name: "of two masters each has some, not all", master: my("m", uuidM+":1-9,"+uuidS+":1", ""),
			second: also(my("n", uuidS+":3", "")), slave: astray, want: hasDiverged + "(" + uuidS + ":2)"},
		{name: "of two masters one has no position", master: well, second: also(my("n", "", "")), slave: astray},
		{name: "of two masters one has not answered", master: well, change: silent,
			second: also(my("n", uuidN+":1-5", "")), slave: astray},
		{name: "the second of two masters", master: well, second: also(my("s", uuidN+":1-5", "")), slave: astray,
			want: "is the master: the same server as master-2"},
		{name: "the second of two masters, the first is silent", master: well, change: silent,
			second: also(my("s", uuidN+":1-5", "")), slave: astray,
			want: "is the master: the same server as master-2"},

		{name: "MariaDB, somebody wrote to it", master: maria(1, "0-1-9", ""),
			slave: maria(2, "0-1-8,0-2-9", "0-1-8"), want: hasDiverged + "(0-2-9)"},
		{name: "MariaDB, somebody wrote to it, long ago", master: maria(1, "0-1-900", ""),
			slave: maria(2, "0-2-9", "0-1-900"), want: hasDiverged + "(0-2-9)"},
		{name: "MariaDB, the old master", master: maria(1, "0-1-12,0-2-9", "0-2-9"),
			slave: maria(2, "0-1-12,0-2-9", "0-1-12")},
		{name: "MariaDB, the master does not know", master: maria(1, "", "0-2-9"),
			slave: maria(2, "0-2-9", "0-1-8")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := &picture{masters: []*master{answering("master-1", tt.master)}}
			if tt.change != nil {
				tt.change(p.masters[0])
			}
			if tt.second != nil {
				p.masters = append(p.masters, answering("master-2", *tt.second))
			}
			s := &slave{watched: answering("slave", tt.slave).watched}
			if got := p.disowned(s, tt.before); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// A set with gaps can be very long, and Status is for people.
func TestDisownedIsShort(t *testing.T) {
	gaps := uuidS + strings.Repeat(":1", 1)
	for i := range 1000 {
		gaps += ":" + strings.Repeat("9", 1+i%15) + "1"
	}
	p := &picture{masters: []*master{answering("master", mySQL(t, "m", uuidM+":1-9", ""))}}
	s := &slave{watched: answering("slave", mySQL(t, "s", gaps, gaps)).watched}
	if got := p.disowned(s, ""); len(got) > 200 || !strings.HasSuffix(got, "…)") {
		t.Errorf("%d bytes: %s", len(got), got)
	}
}
