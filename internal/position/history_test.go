package position

import "testing"

const uuidC = "5e11fa47-71ca-11e1-9e33-c80aa9429562"

func TestRelated(t *testing.T) {
	mysql := func(text string) Position { return parse(t, MySQL, text) }
	mariaDB := func(text string) Position { return parse(t, MariaDB, text) }
	postgreSQL := func(text string) Position { return parse(t, PostgreSQL, text) }
	for _, test := range []struct {
		name                string
		p, q                Position
		related, comparable bool
	}{
		{"MySQL, a server in common", mysql(uuidA + ":1-5," + uuidB + ":7"),
			mysql(uuidB + ":1-3," + uuidC + ":1"), true, true},
		{"MySQL, a server in common with another tag", mysql(uuidA + ":1-5"), mysql(uuidA + ":tag:1"), true, true},
		{"MySQL, none", mysql(uuidA + ":1-5," + uuidC + ":1"), mysql(uuidB + ":1-5"), false, false},
		{"MariaDB, a domain in common", mariaDB("0-1-5,2-1-1"), mariaDB("1-1-1,2-9-9"), true, true},
		{"MariaDB, none", mariaDB("0-1-5,4294967295-1-1"), mariaDB("1-1-5"), false, false},
		{"MariaDB, the domains farthest apart", mariaDB("0-1-5"), mariaDB("4294967295-1-5"), false, false},
		{"PostgreSQL, one timeline", postgreSQL("7:1:0/10"), postgreSQL("7:1:0/20"), true, true},
		{"PostgreSQL, two timelines", postgreSQL("7:1:0/10"), postgreSQL("7:2:0/20"), true, false},
		{"PostgreSQL, two clusters", postgreSQL("7:1:0/10"), postgreSQL("8:1:0/20"), false, false},
		{"a sequence", Sequence("log", 1), Sequence("log", 2), true, true},
		{"two sequences", Sequence("log", 1), Sequence("other", 1), false, false},
		{"two kinds", Sequence("0", 1), mariaDB("0-1-5"), false, false},
		{"one unknown", Position{}, mariaDB("0-1-5"), false, false},
		{"both unknown", Position{}, Position{}, false, false},
	} {
		for range 2 {
			if got := Related(test.p, test.q); got != test.related {
				t.Errorf("%s: Related(%v, %v) is %v", test.name, test.p, test.q, got)
			}
			if got := Comparable(test.p, test.q); got != test.comparable {
				t.Errorf("%s: Comparable(%v, %v) is %v", test.name, test.p, test.q, got)
			}
			test.p, test.q = test.q, test.p
		}
	}
}

func TestHistory(t *testing.T) {
	mysql := func(text string) Position { return parse(t, MySQL, text) }
	mariaDB := func(text string) Position { return parse(t, MariaDB, text) }
	postgreSQL := func(text string) Position { return parse(t, PostgreSQL, text) }
	at := func(text string) Reading { return Reading{Position: postgreSQL(text)} }
	x := Reading{Position: mariaDB("0-1-5"), Identity: "1@db:3306"}
	for _, test := range []struct {
		name string
		a, b Reading
		same bool
	}{
		{"a server that has written more", x, Reading{Position: mariaDB("0-1-9"), Identity: "1@db:3306"}, true},
		{"two servers at one position", x, Reading{Position: mariaDB("0-1-5"), Identity: "2@db:3306"}, false},
		{"two kinds with one identity", x, Reading{Position: mysql(uuidA + ":1"), Identity: "1@db:3306"}, false},
		{"a PostgreSQL master that has written more", at("7:1:0/10"), at("7:1:0/20"), true},
		{"another timeline", at("7:1:0/10"), at("7:2:0/10"), false},
		{"another cluster", at("7:1:0/10"), at("8:1:0/10"), false},
		{"a sequence", Reading{Position: Sequence("log", 1)}, Reading{Position: Sequence("log", 2)}, true},
		{"another sequence", Reading{Position: Sequence("log", 1)}, Reading{Position: Sequence("logs", 1)}, false},
	} {
		a, b := test.a.History(), test.b.History()
		if len(a) != historySize || len(b) != historySize || (a == b) != test.same {
			t.Errorf("%s: %q and %q", test.name, a, b)
		}
	}
	for _, r := range []Reading{
		{}, {Identity: "1@db:3306"}, {Position: mariaDB("0-1-5")}, {Position: mysql(uuidA + ":1")},
	} {
		if got := r.History(); got != "" {
			t.Errorf("%+v: %q", r, got)
		}
	}
	// Instances of before and after a deploy must name a history alike.
	if got, want := x.History(), "\xc7\xcc\x28\x64\xb1\x40\x0f\x20"; got != want {
		t.Errorf("%x", got)
	}
}
