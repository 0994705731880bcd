package position

import "testing"

func TestAhead(t *testing.T) {
	mysql := func(text string) Position { return parse(t, MySQL, text) }
	mariaDB := func(text string) Position { return parse(t, MariaDB, text) }
	pg := func(text string) Position { return parse(t, PostgreSQL, text) }
	knows := func(at, logged, replayed string) Reading {
		o, err := ParseMariaDBOrigins(logged, replayed)
		if err != nil {
			t.Fatal(err)
		}
		return Reading{Position: mariaDB(at), Origins: o}
	}
	const a, b = uuidA, uuidB
	for _, test := range []struct {
		name    string
		slave   Reading
		masters []Reading
		want    string
	}{
		{"MySQL, the same", Reading{Position: mysql(a + ":1-5")}, []Reading{{Position: mysql(a + ":1-5")}}, "unknown"},
		{"MySQL, behind", Reading{Position: mysql(a + ":1-5")}, []Reading{{Position: mysql(a + ":1-9")}}, "unknown"},
		{"MySQL, the master was restored", Reading{Position: mysql(a + ":1-1000")},
			[]Reading{{Position: mysql(a + ":1-501")}}, a + ":502-1000"},
		{"MySQL, lost in a failover", Reading{Position: mysql(a + ":1-1000")},
			[]Reading{{Position: mysql(a + ":1-998," + b + ":1-7")}}, a + ":999-1000"},
		{"MySQL, ahead and behind", Reading{Position: mysql(a + ":1-5:7")}, []Reading{{Position: mysql(a + ":1-6")}}, a + ":7"},
		{"MySQL, written by the slave itself", Reading{Position: mysql(a + ":1-5," + b + ":1-3"), Own: mysql(b + ":1-3")},
			[]Reading{{Position: mysql(a + ":1-5," + b + ":1")}}, "unknown"},
		{"MySQL, of another source", Reading{Position: mysql(a + ":1-5," + b + ":1-3")},
			[]Reading{{Position: mysql(a + ":1-5")}}, "unknown"},
		{"MySQL, one of two masters has it", Reading{Position: mysql(a + ":1-5," + b + ":1-3")},
			[]Reading{{Position: mysql(a + ":1-4," + b + ":1-3")}, {Position: mysql(a + ":1-5," + b + ":1-2")}}, "unknown"},
		{"MySQL, none of two masters has it", Reading{Position: mysql(a + ":1-5," + b + ":1-3")},
			[]Reading{{Position: mysql(a + ":1-4," + b + ":1-2")}, {Position: mysql(a + ":1-5," + b + ":1-2")}}, b + ":3"},
		{"MySQL, a master without a position", Reading{Position: mysql(a + ":1-5")}, []Reading{{}}, "unknown"},

		{"MariaDB, the same", Reading{Position: mariaDB("0-1-5")}, []Reading{knows("0-1-5", "0-1-5", "")}, "unknown"},
		{"MariaDB, behind", Reading{Position: mariaDB("0-1-5")}, []Reading{knows("0-1-9", "0-1-9", "")}, "unknown"},
		{"MariaDB, lost in a failover", Reading{Position: mariaDB("0-1-1000")},
			[]Reading{knows("0-2-998", "0-1-997,0-2-998", "0-1-997")}, "0-1-1000"},
		{"MariaDB, the same when the master is further", Reading{Position: mariaDB("0-1-1000")},
			[]Reading{knows("0-2-5000", "0-1-997,0-2-5000", "0-1-997")}, "0-1-1000"},
		{"MariaDB, the same without log_slave_updates", Reading{Position: mariaDB("0-1-1000")},
			[]Reading{knows("0-2-5000", "0-2-5000", "0-1-997")}, "0-1-1000"},
		{"MariaDB, after a failover that lost nothing", Reading{Position: mariaDB("0-1-1000")},
			[]Reading{knows("0-2-1002", "0-2-1002", "0-1-1000")}, "unknown"},
		{"MariaDB, of another source", Reading{Position: mariaDB("0-1-5,7-3-9")}, []Reading{knows("0-1-5", "0-1-5", "")}, "unknown"},
		{"MariaDB, it is not known who has written what", Reading{Position: mariaDB("0-1-5")},
			[]Reading{{Position: mariaDB("0-2-4")}}, "0-1-5"},
		{"MariaDB, the same, and it may have it", Reading{Position: mariaDB("0-1-5")}, []Reading{{Position: mariaDB("0-2-5")}}, "unknown"},
		{"MariaDB, the same of another source", Reading{Position: mariaDB("0-1-5,7-3-9")}, []Reading{{Position: mariaDB("0-1-5")}}, "unknown"},
		{"MariaDB, one of two masters has it", Reading{Position: mariaDB("0-1-5,1-2-3")},
			[]Reading{knows("0-1-5,1-2-2", "0-1-5,1-2-2", ""), knows("0-1-4,1-2-3", "0-1-4,1-2-3", "")}, "unknown"},

		{"PostgreSQL, the same", Reading{Position: pg("7:1:0/50")}, []Reading{{Position: pg("7:1:0/50")}}, "unknown"},
		{"PostgreSQL, beyond a settled position", Reading{Position: pg("7:1:0/60")},
			[]Reading{{Position: pg("7:1:0/50"), Most: pg("7:1:0/80")}}, "unknown"},
		{"PostgreSQL, ahead", Reading{Position: pg("7:1:0/90")},
			[]Reading{{Position: pg("7:1:0/50"), Most: pg("7:1:0/80")}}, "7:1:0/90"},
		{"PostgreSQL, another timeline", Reading{Position: pg("7:1:0/90")}, []Reading{{Position: pg("7:2:0/50")}}, "unknown"},

		{"a sequence, behind", Reading{Position: Sequence("log", 4)}, []Reading{{Position: Sequence("log", 5)}}, "unknown"},
		{"a sequence, ahead", Reading{Position: Sequence("log", 6)}, []Reading{{Position: Sequence("log", 5)}}, "log:6"},
		{"another sequence", Reading{Position: Sequence("log", 6)}, []Reading{{Position: Sequence("other", 5)}}, "unknown"},
		{"another kind", Reading{Position: Sequence("log", 6)}, []Reading{{Position: mysql(a + ":1-5")}}, "unknown"},
		{"no position", Reading{}, []Reading{{Position: mysql(a + ":1-5")}}, "unknown"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Ahead(test.slave, test.masters...).String(); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
