package position

import (
	"database/sql/driver"
	"slices"
	"testing"

	"github.com/DATA-DOG/go-sqlmock"
)

// TestReaderSelf asks servers that say who they are. It takes no further round trip.
func TestReaderSelf(t *testing.T) {
	type answer = []driver.Value
	const versionMySQL, versionMariaDB = "8.0.36", "10.11.6-MariaDB"
	mySQL, mariaDB := []string{"server_uuid", "server_id", "hostname", "port"},
		[]string{"server_id", "hostname", "port", "gtid_binlog_state"}
	set := uuidA + ":1-5," + uuidB + ":1-9:tag:3"
	tests := []struct {
		name     string
		version  string
		has      []string // variables
		slave    bool
		query    string
		answer   answer
		identity string
		own      string
	}{
		{name: "MySQL, master", version: versionMySQL, has: mySQL, query: mySQLAny + mySQLSelf,
			answer:   answer{text(set), "ON", "1", "0", uuidA, "db1", int64(3306), nil, nil},
			identity: uuidA + "@db1:3306", own: uuidA + ":1-5"},
		{name: "MySQL, a slave that wrote nothing", version: versionMySQL, has: mySQL, slave: true,
			query:    mySQLAny + mySQLSelf,
			answer:   answer{text(uuidA + ":1-5"), "ON", "1", "0", uuidB, "db2", "3306", nil, nil},
			identity: uuidB + "@db2:3306", own: "unknown"},
		{name: "MySQL, a slave that wrote, with a tag", version: versionMySQL, has: mySQL, slave: true,
			query:  mySQLAny + mySQLSelf,
			answer: answer{text(set), "ON", "1", "0", uuidB, "db2", "3306", nil, nil}, identity: uuidB + "@db2:3306",
			own: uuidB + ":1-9:tag:3"},
		{name: "MySQL, a UUID in capitals", version: versionMySQL, has: mySQL, slave: true,
			query: mySQLAny + mySQLSelf,
			answer: answer{text(set), "ON", "1", "0", "3E11FA47-71CA-11E1-9E33-C80AA9429562", "db2", "3306", nil,
				nil},
			identity: "3E11FA47-71CA-11E1-9E33-C80AA9429562@db2:3306", own: uuidA + ":1-5"},
		{name: "MySQL, a UUID that is none", version: versionMySQL, has: mySQL, slave: true,
			query:    mySQLAny + mySQLSelf,
			answer:   answer{text(set), "ON", "1", "0", uuidB + "x", "db2", "3306", nil, nil},
			identity: uuidB + "x@db2:3306", own: "unknown"},
		{name: "MySQL, GTIDs are off", version: versionMySQL, has: mySQL, slave: true, query: mySQLAny + mySQLSelf,
			answer: answer{text(set), "OFF", "1", "0", uuidB, "db2", "3306", nil, nil}, own: "unknown"},
		{name: "MySQL, no binary log", version: versionMySQL, has: mySQL, slave: true, query: mySQLAny + mySQLSelf,
			answer: answer{text(set), "ON", "0", "0", uuidB, "db2", "3306", nil, nil}, own: "unknown"},
		{name: "MySQL, NULLs", version: versionMySQL, has: mySQL, query: mySQLAny + mySQLSelf,
			answer: answer{text(set), "ON", "1", "0", nil, nil, nil, nil, nil}, own: "unknown"},
		{name: "MySQL, without server_uuid", version: versionMySQL, has: []string{"hostname", "port"},
			query:  mySQLAny + noSelf,
			answer: answer{text(set), "ON", "1", "0", nil, nil, nil, nil, nil}, own: "unknown"},
		{name: "MySQL, without port", version: versionMySQL, has: []string{"server_uuid", "hostname"},
			query:  mySQLAny + noSelf,
			answer: answer{text(set), "ON", "1", "0", nil, nil, nil, nil, nil}, own: "unknown"},

		{name: "MariaDB, master", version: versionMariaDB, has: mariaDB, query: mariaDBMaster + mariaDBMasterSelf,
			answer: answer{"0-1-9", "ON", "1", "0", "1", "db1", "3306", "", "0-2-3,0-1-9"}, identity: "1@db1:3306",
			own: "0-1-9"},
		{name: "MariaDB, a slave that wrote nothing", version: versionMariaDB, has: mariaDB, slave: true,
			query:  mariaDBSlave + mariaDBSlaveSelf,
			answer: answer{"0-1-9", "ON", "1", "0", "2", "db2", "3306", nil, "0-1-9"}, identity: "2@db2:3306",
			own: "unknown"},
		{name: "MariaDB, a slave that wrote, in two domains", version: versionMariaDB, has: mariaDB, slave: true,
			query:    mariaDBSlave + mariaDBSlaveSelf,
			answer:   answer{"0-1-9", "ON", "1", "0", "2", "db2", "3306", nil, "7-2-1,0-1-9,0-2-10,0-22-5,7-3-8"},
			identity: "2@db2:3306", own: "0-2-10,7-2-1"},
		{name: "MariaDB, nothing replayed yet", version: versionMariaDB, has: mariaDB, slave: true,
			query:  mariaDBSlave + mariaDBSlaveSelf,
			answer: answer{"", "ON", "1", "0", "2", "db2", "3306", nil, "0-2-10"}, identity: "2@db2:3306",
			own: "0-2-10"},
		{name: "MariaDB, no server id", version: versionMariaDB, has: mariaDB, slave: true,
			query:  mariaDBSlave + mariaDBSlaveSelf,
			answer: answer{"0-1-9", "ON", "1", "0", "0", "db2", "3306", nil, "0-1-9"}, own: "unknown"},
		{name: "MariaDB, no binary log", version: versionMariaDB, has: mariaDB, slave: true,
			query:  mariaDBSlave + mariaDBSlaveSelf,
			answer: answer{"0-1-9", "ON", "0", "0", "1", "db2", "3306", nil, ""}, own: "unknown"},
		{name: "MariaDB, garbage", version: versionMariaDB, has: mariaDB, slave: true,
			query:  mariaDBSlave + mariaDBSlaveSelf,
			answer: answer{"0-1-9", "ON", "1", "0", "2", "db2", "3306", nil, "0-1"}, identity: "2@db2:3306",
			own: "unknown"},
		{name: "MariaDB, without gtid_binlog_state", version: versionMariaDB, has: mariaDB[:3],
			query:  mariaDBMaster + noSelf,
			answer: answer{"0-1-9", "ON", "1", "0", nil, nil, nil, nil, nil}, own: "unknown"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, m := mock(t)
			which := sqlmock.NewRows([]string{"Variable_name", "Value"}).AddRow("version", tt.version)
			for _, name := range tt.has {
				which.AddRow(name, "")
			}
			m.ExpectQuery(whichMySQL).WillReturnRows(which)
			r := NewReader(conn, Config{Dialect: "mysql"})
			ask := r.Master
			if tt.slave {
				ask = r.Slave
			}
			for range 2 { // the second is remembered
				m.ExpectQuery(tt.query).WillReturnRows(row(tt.answer...))
				got, err := ask(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if got.Identity != tt.identity || got.Own.String() != tt.own {
					t.Errorf("it is %q and wrote %v, want %q and %q", got.Identity, got.Own, tt.identity, tt.own)
				}
			}
		})
	}
}

// Behind one connection to a proxy the server may change.
func TestReaderSelfChanges(t *testing.T) {
	conn, m := mock(t)
	r := NewReader(conn, Config{Dialect: "mysql"})
	m.ExpectQuery(whichMySQL).WillReturnRows(sqlmock.NewRows([]string{"Variable_name", "Value"}).
		AddRow("version", "8.0.36").AddRow("server_uuid", uuidA).AddRow("hostname", "db1").AddRow("port", "3306"))
	set := uuidA + ":1-5," + uuidB + ":1-9"
	for _, step := range []struct{ set, uuid, host, identity, own string }{
		{set, uuidA, "db1", uuidA + "@db1:3306", uuidA + ":1-5"},
		{set, uuidB, "db2", uuidB + "@db2:3306", uuidB + ":1-9"},
		{uuidA + ":1-5", uuidB, "db2", uuidB + "@db2:3306", "unknown"},
		{"?", uuidA, "db1", uuidA + "@db1:3306", "unknown"},
		{set, uuidA, "db1", uuidA + "@db1:3306", uuidA + ":1-5"},
	} {
		m.ExpectQuery(mySQLAny + mySQLSelf).WillReturnRows(row(step.set, "ON", "1", "0", step.uuid, step.host,
			"3306", nil, nil))
		got, err := r.Slave(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got.Identity != step.identity || got.Own.String() != step.own {
			t.Errorf("%+v: it is %q and wrote %v", step, got.Identity, got.Own)
		}
	}
}

// TestErrantMySQL has masters at positions.
func TestErrantMySQL(t *testing.T) {
	const uuidC = "44444444-71ca-11e1-9e33-c80aa9429562"
	for _, tt := range []struct {
		name    string
		own     string
		masters []string
		want    string
	}{
		{"nobody to compare with", uuidB + ":1", nil, "unknown"},
		{"nothing of its own", "", []string{uuidA + ":1-9"}, "unknown"},
		{"all of it", uuidB + ":1", []string{uuidA + ":1-9"}, uuidB + ":1"},
		{"none of it", uuidB + ":1-3", []string{uuidA + ":1-9," + uuidB + ":1-5"}, "unknown"},
		{"the end of it", uuidB + ":1-7", []string{uuidA + ":1-9," + uuidB + ":1-5"}, uuidB + ":6-7"},
		{"the beginning of it", uuidB + ":1-7", []string{uuidB + ":3-9"}, uuidB + ":1-2"},
		{"the middle of it", uuidB + ":1-7", []string{uuidB + ":1-2:6-9"}, uuidB + ":3-5"},
		{"both ends of it", uuidB + ":1-7", []string{uuidB + ":3-5"}, uuidB + ":1-2:6-7"},
		{"gaps in both", uuidB + ":2-4:6-8:11:20-30", []string{uuidB + ":1:3:5-6:9-11:22-23:25:40"},
			uuidB + ":2:4:7-8:20-21:24:26-30"},
		{"a tag", uuidB + ":1-3:tag:1-2", []string{uuidB + ":1-3:tag:1"}, uuidB + ":tag:2"},
		{"a tag that only it has", uuidB + ":1-3:tag:1-2", []string{uuidB + ":1-3"}, uuidB + ":tag:1-2"},
		{"each of two has some", uuidB + ":1-3", []string{uuidB + ":1", uuidC + ":1," + uuidB + ":2-3"}, "unknown"},
		{"neither of two has all", uuidB + ":1-4", []string{uuidB + ":1", uuidB + ":2-3"}, uuidB + ":4"},
		{"one of two is not known", uuidB + ":1-4", []string{uuidA + ":1", ""}, "unknown"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			parsed := func(set string) Position {
				p, err := ParseMySQL(set)
				if err != nil {
					t.Fatal(err)
				}
				return p
			}
			var masters []Reading
			for _, set := range tt.masters {
				masters = append(masters, Reading{Position: parsed(set)})
			}
			for range 2 { // whatever their order
				if got := Errant(parsed(tt.own), masters...); got.String() != tt.want {
					t.Errorf("got %v, want %s", got, tt.want)
				}
				slices.Reverse(masters)
			}
		})
	}
	own := parse(t, MySQL, uuidB+":1")
	if got := Errant(own, Reading{Position: parse(t, MariaDB, "0-1-5")}); got.Known() {
		t.Errorf("a MariaDB master: %v", got)
	}
}

// What is subtracted is compared with what the sets say of each number.
func FuzzErrantMySQL(f *testing.F) {
	f.Add(uint64(0b1011), uint64(0b0110))
	f.Add(^uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, p, q uint64) {
		set := func(bits uint64) (s gtidSet) {
			var spans []span
			for i := range uint64(64) {
				if bits>>i&1 == 1 {
					spans = append(spans, span{interval: interval{i + 1, i + 1}})
				}
			}
			s, err := newGTIDSet(spans)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		before, after := set(p).String(), set(q).String()
		left, right := set(p), set(q)
		if got, want := left.without(right), set(p&^q); got.String() != want.String() {
			t.Errorf("%v without %v is %v, want %v", left, right, got, want)
		}
		if left.String() != before || right.String() != after {
			t.Error("it changed its arguments")
		}
	})
}

// TestErrantMariaDB has the masters' gtid_binlog_state and gtid_slave_pos. The slave is server 2.
func TestErrantMariaDB(t *testing.T) {
	type master [2]string
	for _, tt := range []struct {
		name    string
		own     string
		masters []master
		want    string
	}{
		{"nobody to compare with", "0-2-10", nil, "unknown"},
		{"nothing of its own", "", []master{{"0-1-9", ""}}, "unknown"},
		{"somebody wrote to it", "0-2-10", []master{{"0-1-9", ""}}, "0-2-10"},
		{"the master went on since", "0-2-10", []master{{"0-1-90", ""}}, "0-2-10"},
		{"the old master", "0-2-10", []master{{"0-1-90,0-2-10", "0-2-10"}}, "unknown"},
		{"the old master, of which the new one lost track elsewhere", "0-2-10", []master{{"0-1-90,0-2-10", ""}},
			"unknown"},
		{"the old master, which lost a commit", "0-2-11", []master{{"0-1-90,0-2-10", "0-2-10"}}, "0-2-11"},
		{"the old master, and somebody wrote to it since", "0-2-95", []master{{"0-1-94,0-2-10", "0-2-10"}},
			"0-2-95"},
		{"the old master, the new one was a slave without log_slave_updates", "0-2-10",
			[]master{{"0-1-90", "0-2-10"}}, "unknown"},
		{"the same, it had not yet written anything itself", "0-2-10", []master{{"", "0-2-10"}}, "unknown"},
		{"the same, and the old one lost a commit", "0-2-11", []master{{"0-1-90", "0-2-10"}}, "0-2-11"},
		{"the master before the old one, without log_slave_updates", "0-2-10", []master{{"0-1-90", "0-3-50"}},
			"unknown"},
		{"the master before the old one", "0-2-10", []master{{"0-1-90,0-2-10,0-3-50", "0-3-50"}}, "unknown"},
		{"somebody wrote to it, and the master was a slave", "0-2-60", []master{{"0-1-90,0-3-50", "0-3-50"}},
			"0-2-60"},
		{"the master set its own position", "0-2-60", []master{{"0-1-90", "0-1-50"}}, "0-2-60"},
		{"the master has no binary log", "0-2-10", []master{{"", ""}}, "unknown"},
		{"a domain of its own", "5-2-10", []master{{"0-1-9", ""}}, "unknown"},
		{"a domain of its own, and one that is not", "0-2-10,5-2-3", []master{{"0-1-9", ""}}, "0-2-10"},
		{"a domain that the master only replicates", "5-2-10", []master{{"0-1-9", "5-3-9"}}, "unknown"},
		{"two masters with a domain each, written to both", "1-2-10,2-2-10", []master{{"1-1-9", ""}, {"2-3-9", ""}},
			"1-2-10,2-2-10"},
		{"two masters of one domain, one knows", "0-2-10", []master{{"0-1-9", ""}, {"0-3-20,0-2-10", ""}},
			"unknown"},
		{"two masters of one domain, one may know", "0-2-10", []master{{"0-1-9", ""}, {"0-3-20", "0-4-15"}},
			"unknown"},
		{"two masters of one domain, neither knows", "0-2-10", []master{{"0-1-9", ""}, {"0-3-20,0-2-9", ""}},
			"0-2-10"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var masters []Reading
			for _, m := range tt.masters {
				o, err := ParseMariaDBOrigins(m[0], m[1])
				if err != nil {
					t.Fatal(err)
				}
				masters = append(masters, Reading{Origins: o})
			}
			var own Position
			if tt.own != "" {
				own = parse(t, MariaDB, tt.own)
			}
			for range 2 { // whatever their order
				if got := Errant(own, masters...); got.String() != tt.want {
					t.Errorf("got %v, want %s", got, tt.want)
				}
				slices.Reverse(masters)
			}
		})
	}
	if got := Errant(parse(t, MariaDB, "0-2-10"), Reading{Position: parse(t, MySQL, uuidA+":1")}); got.Known() {
		t.Errorf("a MySQL master: %v", got)
	}
}

func TestErrantOfOthers(t *testing.T) {
	for _, own := range []Position{{}, parse(t, PostgreSQL, "7:1:0/5"), Sequence("log", 7)} {
		if got := Errant(own, Reading{Position: Sequence("log", 5)}); got.Known() {
			t.Errorf("%v: %v", own, got)
		}
	}
}

func TestParseMariaDBOrigins(t *testing.T) {
	for _, tt := range []struct{ state, replayed string }{
		{"0-1", ""}, {"0-1-5,", ""}, {"0-1-5", "x"}, {"0-1-5", "0-1-5,0-2-5"}, {"0-1-5 0-2-5", ""},
	} {
		if o, err := ParseMariaDBOrigins(tt.state, tt.replayed); err == nil {
			t.Errorf("%+v: %+v", tt, o)
		}
	}
	o, err := ParseMariaDBOrigins(" 7-2-1, 0-1-9,0-2-10\n", "")
	if err != nil || o.By(2).String() != "0-2-10,7-2-1" || o.By(3).Known() {
		t.Errorf("%+v, %v", o, err)
	}
}
