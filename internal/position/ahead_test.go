package position

import "testing"

func TestAhead(t *testing.T) {
	my := func(text string) Reading { return Reading{Position: parse(t, MySQL, text)} }
	maria := func(text string) Reading { return Reading{Position: parse(t, MariaDB, text)} }
	pg := func(text string) Reading { return Reading{Position: parse(t, PostgreSQL, text)} }
	seq := func(name string, n uint64) Reading { return Reading{Position: Sequence(name, n)} }
	wrote := func(r, own Reading) Reading { r.Own = own.Position; return r }
	most := func(r, most Reading) Reading { r.Most = most.Position; return r }
	type masters = []Reading
	knows := func(at, logged, replayed string) Reading {
		o, err := ParseMariaDBOrigins(logged, replayed)
		if err != nil {
			t.Fatal(err)
		}
		return Reading{Position: maria(at).Position, Origins: o}
	}
	const a, b = uuidA, uuidB
	for _, test := range []struct {
		name    string
		slave   Reading
		masters masters
		want    string
	}{
		{"MySQL, the same", my(a + ":1-5"), masters{my(a + ":1-5")}, "unknown"},
		{"MySQL, behind", my(a + ":1-5"), masters{my(a + ":1-9")}, "unknown"},
		{"MySQL, the master was restored", my(a + ":1-1000"),
			masters{my(a + ":1-501")}, a + ":502-1000"},
		{"MySQL, lost in a failover", my(a + ":1-1000"),
			masters{my(a + ":1-998," + b + ":1-7")}, a + ":999-1000"},
		{"MySQL, ahead and behind", my(a + ":1-5:7"), masters{my(a + ":1-6")}, a + ":7"},
		{"MySQL, written by the slave itself", wrote(my(a+":1-5,"+b+":1-3"), my(b+":1-3")),
			masters{my(a + ":1-5," + b + ":1")}, "unknown"},
		{"MySQL, of another source", my(a + ":1-5," + b + ":1-3"),
			masters{my(a + ":1-5")}, "unknown"},
		{"MySQL, one of two masters has it", my(a + ":1-5," + b + ":1-3"),
			masters{my(a + ":1-4," + b + ":1-3"), my(a + ":1-5," + b + ":1-2")}, "unknown"},
		{"MySQL, none of two masters has it", my(a + ":1-5," + b + ":1-3"),
			masters{my(a + ":1-4," + b + ":1-2"), my(a + ":1-5," + b + ":1-2")}, b + ":3"},
		{"MySQL, a master without a position", my(a + ":1-5"), masters{{}}, "unknown"},

		{"MariaDB, the same", maria("0-1-5"), masters{knows("0-1-5", "0-1-5", "")}, "unknown"},
		{"MariaDB, behind", maria("0-1-5"), masters{knows("0-1-9", "0-1-9", "")}, "unknown"},
		{"MariaDB, lost in a failover", maria("0-1-1000"),
			masters{knows("0-2-998", "0-1-997,0-2-998", "0-1-997")}, "0-1-1000"},
		{"MariaDB, the same when the master is further", maria("0-1-1000"),
			masters{knows("0-2-5000", "0-1-997,0-2-5000", "0-1-997")}, "0-1-1000"},
		{"MariaDB, the same without log_slave_updates", maria("0-1-1000"),
			masters{knows("0-2-5000", "0-2-5000", "0-1-997")}, "0-1-1000"},
		{"MariaDB, after a failover that lost nothing", maria("0-1-1000"),
			masters{knows("0-2-1002", "0-2-1002", "0-1-1000")}, "unknown"},
		{"MariaDB, of another source", maria("0-1-5,7-3-9"), masters{knows("0-1-5", "0-1-5", "")}, "unknown"},
		{"MariaDB, it is not known who has written what", maria("0-1-5"),
			masters{maria("0-2-4")}, "0-1-5"},
		{"MariaDB, the same, and it may have it", maria("0-1-5"), masters{maria("0-2-5")}, "unknown"},
		{"MariaDB, the same of another source", maria("0-1-5,7-3-9"), masters{maria("0-1-5")}, "unknown"},
		{"MariaDB, one of two masters has it", maria("0-1-5,1-2-3"),
			masters{knows("0-1-5,1-2-2", "0-1-5,1-2-2", ""), knows("0-1-4,1-2-3", "0-1-4,1-2-3", "")}, "unknown"},

		{"PostgreSQL, the same", pg("7:1:0/50"), masters{pg("7:1:0/50")}, "unknown"},
		{"PostgreSQL, beyond a settled position", pg("7:1:0/60"),
			masters{most(pg("7:1:0/50"), pg("7:1:0/80"))}, "unknown"},
		{"PostgreSQL, ahead", pg("7:1:0/90"),
			masters{most(pg("7:1:0/50"), pg("7:1:0/80"))}, "7:1:0/90"},
		{"PostgreSQL, another timeline", pg("7:1:0/90"), masters{pg("7:2:0/50")}, "unknown"},

		{"a sequence, behind", seq("log", 4), masters{seq("log", 5)}, "unknown"},
		{"a sequence, ahead", seq("log", 6), masters{seq("log", 5)}, "log:6"},
		{"another sequence", seq("log", 6), masters{seq("other", 5)}, "unknown"},
		{"another kind", seq("log", 6), masters{my(a + ":1-5")}, "unknown"},
		{"no position", Reading{}, masters{my(a + ":1-5")}, "unknown"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Ahead(test.slave, test.masters...).String(); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
