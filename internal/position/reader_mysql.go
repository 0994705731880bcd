package position

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
)

// Every account may read global variables: in both manuals, showing them requires no privilege.

// SHOW, because SELECT fails where one of the variables does not exist: of the last five, others that speak
// MySQL's language may lack some. (gtid_binlog_state came with MariaDB 10.0.5, before the first 10.0 that was
// meant to be used; the others are in all versions that have GTIDs.)
const whichMySQL = "SHOW GLOBAL VARIABLES WHERE Variable_name IN (" +
	"'aurora_version', 'version', 'version_comment', " +
	"'server_uuid', 'server_id', 'hostname', 'port', 'gtid_binlog_state')"

// The remedies, in the words of a configuration file.
const (
	gtidModeRemedy = "gtid_mode=ON and enforce_gtid_consistency=ON on every server of the group"
	oldMySQLRemedy = "MySQL 5.7 or later, with " + gtidModeRemedy
	logBinRemedy   = "log_bin on the master"

	// A MySQL server that is promoted has all transactions in gtid_executed. A MariaDB server has those of
	// its former master in gtid_binlog_pos only if it has logged them.
	mariaDBLogBinRemedy = logBinRemedy + ", and log_slave_updates=ON on a slave that may be promoted"
	oldMariaDBRemedy    = "MariaDB 10.0 or later, with " + mariaDBLogBinRemedy
)

func identifyMySQL(ctx context.Context, conn *sql.Conn) (server, error) {
	variables, err := showVariables(ctx, conn, whichMySQL)
	if err != nil {
		return nil, fmt.Errorf("which server it is: %w", err)
	}
	version := variables["version"]
	names := strings.ToLower(version + " " + variables["version_comment"])
	// with adds the columns about the server itself to the query, or empty ones if these variables are not all
	// there.
	with := func(query, self string, needs ...string) string {
		for _, name := range append(needs, "hostname", "port") {
			if _, there := variables[name]; !there {
				return query + noSelf
			}
		}
		return query + self
	}
	switch {
	case strings.Contains(names, "mariadb"):
		name := "MariaDB " + version
		if !atLeast(version, 10, 0) {
			return noServer{name, name + " has no GTIDs", oldMariaDBRemedy}, nil
		}
		return &gtidServer{name: name, parse: ParseMariaDB, self: selfOfMariaDB,
			logRemedy: mariaDBLogBinRemedy,
			onMaster:  with(mariaDBMaster, mariaDBMasterSelf, "server_id", "gtid_binlog_state"),
			onSlave:   with(mariaDBSlave, mariaDBSlaveSelf, "server_id", "gtid_binlog_state")}, nil
	case strings.Contains(names, "tidb"):
		// It answers to gtid_mode, but that does nothing.
		return noServer{"TiDB " + version, "TiDB has no GTIDs", takesSource}, nil
	case variables["aurora_version"] != "":
		// Its readers share the writer's storage and replay no binary log, so GTIDs do not tell what they see.
		// (Aurora's user guide, "Using GTID-based replication".) Not tried.
		name := "Aurora MySQL " + variables["aurora_version"]
		return noServer{name, name + " replicates without GTIDs", takesSource}, nil
	}
	name := "MySQL " + version
	switch {
	case !atLeast(version, 5, 6):
		return noServer{name, name + " has no GTIDs", oldMySQLRemedy}, nil
	case !atLeast(version, 5, 7):
		reason := name + " publishes GTIDs before others see the transaction"
		return noServer{name, reason, oldMySQLRemedy}, nil
	}
	query := with(mySQLAny, mySQLSelf, "server_uuid")
	return &gtidServer{name: name, parse: ParseMySQL, self: selfOfMySQL, logRemedy: logBinRemedy,
		onMaster: query, onSlave: query}, nil
}

// showVariables returns the variables that a SHOW finds, by their names in lower case.
func showVariables(ctx context.Context, conn *sql.Conn, query string) (map[string]string, error) {
	rows, err := conn.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	variables := make(map[string]string)
	for rows.Next() {
		var name, value sql.NullString
		if err := rows.Scan(&name, &value); err != nil {
			return nil, err
		}
		variables[strings.ToLower(name.String)] = value.String
	}
	return variables, rows.Err()
}

// atLeast compares the first two numbers of a version such as "8.0.36-28" or "10.11.6-MariaDB".
func atLeast(version string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(version, "%d.%d", &a, &b); n < 2 {
		return false
	}
	return a > major || a == major && b >= minor
}

// The columns are position, gtid_mode, log_bin, read_only.
const (
	// On masters and slaves alike a transaction comes into the set when others can see it, and before its client
	// hears of the commit. (From 5.7 on; tried on none.) The set remains if GTIDs are switched off, while what
	// is written from then on does not come into it: so gtid_mode is read each time. Nor does what a master does
	// not write to a binary log. (Manual, "GTID Format and Storage".)
	//
	// The members of a group (Group Replication) are asked the same, and so is Amazon RDS. Not tried.
	mySQLAny = "SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_mode, @@GLOBAL.log_bin, @@GLOBAL.read_only"

	// Everything in the binary log; a transaction is there before its client hears of the commit.
	mariaDBMaster = "SELECT @@GLOBAL.gtid_binlog_pos, 'ON', @@GLOBAL.log_bin, @@GLOBAL.read_only"

	// Everything that replication has replayed, whether or not the slave writes a binary log itself. It is not
	// gtid_current_pos, which what was written on the slave itself would push ahead of what it has replayed.
	mariaDBSlave = "SELECT @@GLOBAL.gtid_slave_pos, 'ON', @@GLOBAL.log_bin, @@GLOBAL.read_only"
)

// More columns: server_uuid or server_id, hostname, port, and, of MariaDB, gtid_slave_pos and
// gtid_binlog_state, of which the slave's query has the former already.
//
// Servers that replicate from one another differ in server_uuid and in server_id, or the slave refuses to.
// Host and port are for those that do not, and may have the same: the nodes of a Galera cluster are told to,
// and images of a machine are copied with both.
const (
	mySQLSelf         = ", @@GLOBAL.server_uuid, @@GLOBAL.hostname, @@GLOBAL.port, NULL, NULL"
	mariaDBMasterSelf = ", @@GLOBAL.server_id, @@GLOBAL.hostname, @@GLOBAL.port, " +
		"@@GLOBAL.gtid_slave_pos, @@GLOBAL.gtid_binlog_state"
	mariaDBSlaveSelf = ", @@GLOBAL.server_id, @@GLOBAL.hostname, @@GLOBAL.port, " +
		"NULL, @@GLOBAL.gtid_binlog_state"
	noSelf = ", NULL, NULL, NULL, NULL, NULL"
)

// gtidServer is a server with GTIDs.
type gtidServer struct {
	name              string
	parse             func(string) (Position, error)
	onMaster, onSlave string                        // queries
	self              func(selfText, Position) self // nil if they do not ask for it
	logRemedy         string                        // of a master without a binary log

	// What was read last. Often nothing has happened since, and a set can be long.
	text     string
	position Position
	selfText selfText
	selfRead self
}

// selfText is what a server says of itself; self is what that means.
type (
	selfText struct{ position, id, host, port, replayed, logged string }
	self     struct {
		identity string
		own      Position
		origins  Origins
	}
)

func (t *selfText) identity() string {
	if t.id == "" || t.id == "0" || t.host == "" || t.port == "" {
		return ""
	}
	return t.id + "@" + t.host + ":" + t.port
}

func selfOfMySQL(t selfText, executed Position) self {
	s := self{identity: t.identity()}
	c := cursor{text: t.id}
	uuid, err := c.uuid()
	if set, ok := executed.value.(gtidSet); ok && err == nil && c.atEnd() {
		if own := set.of(uuid); len(own) > 0 {
			s.own = Position{value: own}
		}
	}
	return s
}

func selfOfMariaDB(t selfText, _ Position) self {
	s := self{identity: t.identity()}
	origins, err := ParseMariaDBOrigins(t.logged, t.replayed)
	if err != nil {
		return s // what it has written is not known, then
	}
	s.origins = origins
	if id, err := strconv.ParseUint(t.id, 10, 32); err == nil {
		s.own = origins.By(uint32(id))
	}
	return s
}

func (s *gtidServer) String() string { return s.name }

func (s *gtidServer) master(ctx context.Context, conn *sql.Conn) (Reading, error) {
	return s.read(ctx, conn, s.onMaster, true)
}

func (s *gtidServer) slave(ctx context.Context, conn *sql.Conn) (Reading, error) {
	return s.read(ctx, conn, s.onSlave, false)
}

func (s *gtidServer) read(ctx context.Context, conn *sql.Conn, query string, master bool) (Reading, error) {
	var text, mode, log, readOnly, id, host, port, replayed, logged sql.NullString
	row := conn.QueryRowContext(ctx, query)
	err := row.Scan(&text, &mode, &log, &readOnly, &id, &host, &port, &replayed, &logged)
	if err != nil {
		return Reading{}, err
	}
	reading := Reading{ReadOnly: isOn(readOnly), Writable: readOnly.Valid && !isOn(readOnly)}
	switch {
	case mode.String != "ON":
		reading.Reason, reading.Remedy = fmt.Sprintf("gtid_mode is %s", mode.String), gtidModeRemedy
	case master && !isOn(log):
		reading.Reason, reading.Remedy = "log_bin is OFF", s.logRemedy
	case text.String == "":
		reading.Reason = "nothing with a GTID has happened yet"
	case text.String == s.text:
		reading.Position = s.position
	default:
		p, err := s.parse(text.String)
		if err != nil {
			reading.Reason, reading.Remedy = err.Error(), takesSource
			break
		}
		s.text, s.position = text.String, p
		reading.Position = p
	}
	if master && reading.ReadOnly && reading.Position.Known() {
		return noWrites("read_only"), nil // and what it has is not what the master has
	}
	if mode.String != "ON" || !isOn(log) {
		return reading, nil // without them it writes nothing with a GTID, and need not have an id of its own
	}
	of := selfText{text.String, id.String, host.String, port.String, replayed.String, logged.String}
	if of != s.selfText {
		s.selfText, s.selfRead = of, s.self(of, reading.Position)
	}
	reading.Identity, reading.Own, reading.Origins = s.selfRead.identity, s.selfRead.own, s.selfRead.origins
	return reading, nil
}

// isOn reads a switch: 1 and 0, or, as MariaDB's read_only from 12.1 on, ON, NO_LOCK, NO_LOCK_NO_ADMIN and
// OFF.
func isOn(s sql.NullString) bool {
	return s.String != "" && s.String != "0" && !strings.EqualFold(s.String, "OFF")
}
