package position

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
)

// What is asked here every account may ask, but for pg_stat_wal_receiver, of which it is shown nothing but
// NULLs then. Tried on 15.

const whichPostgreSQL = "SELECT current_setting('server_version'), current_setting('server_version_num'), " +
	"(SELECT system_identifier FROM pg_control_system())::text, " +
	"(SELECT bytes_per_wal_segment FROM pg_control_init()), current_setting('wal_block_size'), " +
	"to_regproc('aurora_version') IS NOT NULL"

// The functions are called in the order in which they are written. (PostgreSQL evaluates a subquery that
// depends on nothing when its value is first needed.)
const (
	// CASE keeps the functions from being called that fail on a standby. The name of a file of the log begins
	// with the timeline, and is right from the moment of a promotion on; pg_control_checkpoint's becomes right
	// with the first checkpoint, minutes later.
	//
	// What is flushed reaches the slaves at once. What is inserted beyond that may stay where it is for seconds,
	// which would make slaves look behind: it is taken only if commits do not wait for the flush.
	//
	// The snapshot is older than the LSN: it is that of the query.
	postgreSQLMaster = "SELECT pg_is_in_recovery(), " +
		"CASE WHEN NOT pg_is_in_recovery() THEN " +
		"CASE WHEN current_setting('synchronous_commit') = 'off' THEN pg_current_wal_insert_lsn() " +
		"ELSE pg_current_wal_flush_lsn() END END::text, " +
		"CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_flush_lsn()), 8) END, " +
		"current_setting('transaction_read_only'), " +
		"CASE WHEN NOT pg_is_in_recovery() THEN txid_current_snapshot() END::text"

	// The timeline after the LSN: if it changes in between, the LSN is on the way to the new one, too. In
	// hexadecimal, as in the name of a file of the log. See [postgreSQLServer] for what each of the three is
	// worth.
	postgreSQLSlave = "SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn()::text, " +
		"to_hex(greatest((SELECT timeline_id FROM pg_control_checkpoint()), " +
		"(SELECT min_recovery_end_timeline FROM pg_control_recovery()), " +
		"(SELECT max(received_tli) FROM pg_stat_wal_receiver))), " +
		"current_setting('transaction_read_only'), NULL::text"
)

// identifyPostgreSQL takes versions from 10 on, which call the log WAL. Others that speak PostgreSQL's
// language lack some of these functions, and answer with an error. Amazon RDS should be like any other; it
// was not tried.
func identifyPostgreSQL(ctx context.Context, conn *sql.Conn) (server, error) {
	var version, system sql.NullString
	var number, segment, block sql.NullInt64
	var aurora bool
	err := conn.QueryRowContext(ctx, whichPostgreSQL).Scan(&version, &number, &system, &segment, &block, &aurora)
	if err != nil {
		return nil, fmt.Errorf("which server it is: %w", err)
	}
	name := "PostgreSQL " + version.String
	switch {
	case number.Int64 < 10_00_00:
		return noServer{name, name + " cannot be asked for a position", "PostgreSQL 10 or later"}, nil
	case aurora:
		// Its readers share the writer's storage. What it answers here was not tried; what tells is
		// aurora_replica_status().
		name = "Aurora " + name
		return noServer{name, name + " replicates in its own way", takesSource}, nil
	}
	id, err := strconv.ParseInt(system.String, 10, 64) // signed only because there is no other type
	if err != nil {
		return nil, fmt.Errorf("the system identifier: %w", err)
	}
	return &postgreSQLServer{
		name: name, system: uint64(id), segment: uint64(segment.Int64), block: uint64(block.Int64),
	}, nil
}

// postgreSQLServer is a server from 10 on.
//
// The timeline of a standby is the largest of those seen, as it only goes forward. When its master has been
// replaced by one that was promoted, the new timeline shows
//
//   - in pg_stat_wal_receiver at once, but to members of pg_read_all_stats only, to which pg_monitor belongs;
//   - in pg_control_recovery when a flush has moved the point up to which it must recover, such as after DROP
//     TABLE;
//   - in pg_control_checkpoint after its next restartpoint, which follows the new master's first checkpoint:
//     minutes.
//
// Until then an ordinary account sees LSNs of the new timeline under the number of the old one. Compared with
// the new master that is safe, as it covers nothing of another timeline: until then reads go to the master.
// It is not safe compared with the old master, if that goes on writing although its standbys have left it:
// what it writes then, and they will never have, may look covered. So it is good to grant pg_read_all_stats
// to the account.
type postgreSQLServer struct {
	name           string
	system         uint64
	segment, block uint64 // bytes of a file and of a page of the log
	timeline       uint32 // the largest that was seen

	// Of a master, what it said last: see settled.
	snapshot string
	position Position
}

func (s *postgreSQLServer) String() string { return s.name }

func (s *postgreSQLServer) master(ctx context.Context, conn *sql.Conn) (Reading, error) {
	return s.read(ctx, conn, postgreSQLMaster, false, Reading{
		Reason: "in recovery: a standby, not a master",
		Remedy: "an address of the master that leads to the primary",
	})
}

func (s *postgreSQLServer) slave(ctx context.Context, conn *sql.Conn) (Reading, error) {
	return s.read(ctx, conn, postgreSQLSlave, true, Reading{
		Reason: "not in recovery: promoted, or never a standby",
		Remedy: "slaves that are standbys",
	})
}

// read asks a server that should be in recovery, or not; otherwise it says wrong.
func (s *postgreSQLServer) read(
	ctx context.Context, conn *sql.Conn, query string, standby bool, wrong Reading,
) (Reading, error) {
	var recovering bool
	var lsn, timeline, readOnly, snapshot sql.NullString
	err := conn.QueryRowContext(ctx, query).Scan(&recovering, &lsn, &timeline, &readOnly, &snapshot)
	if err != nil {
		return Reading{}, err
	}
	if recovering != standby {
		wrong.ReadOnly, wrong.Writable, wrong.WrongRole = isOn(readOnly), !isOn(readOnly), true
		return wrong, nil
	}
	if !standby && isOn(readOnly) {
		return noWrites("transaction_read_only"), nil
	}
	p, err := s.parse(lsn, timeline)
	var most Position
	if err == nil && !standby {
		p, most = s.settled(snapshot.String, p), p
	}
	reading := readingAt(p, err, "nothing has been replayed yet")
	reading.Most = most
	reading.ReadOnly, reading.Writable = isOn(readOnly), !isOn(readOnly)
	return reading, nil
}

// settled returns the position of a master whose log is flushed up to p, after a snapshot was taken there.
//
// While a transaction writes and nobody commits, the log is flushed up to the end of a page, in the middle of
// a record, and no standby gets there until the server happens to flush more: up to 15 s, tried on 15. But if
// the snapshot is the one of an earlier question, nothing has been committed since, and the position of that
// time has it all.
func (s *postgreSQLServer) settled(snapshot string, p Position) Position {
	now, ok := p.value.(lsn)
	before, known := s.position.value.(lsn)
	atBlock := s.block > 0 && now.lsn%s.block == 0
	if ok && known && snapshot == s.snapshot && now.timeline == before.timeline && atBlock {
		return s.position
	}
	s.snapshot, s.position = snapshot, p
	return p
}

// parse returns the position that two columns tell, unknown if they are NULL.
func (s *postgreSQLServer) parse(text, timeline sql.NullString) (Position, error) {
	if !text.Valid || !timeline.Valid {
		return Position{}, nil
	}
	t, err := strconv.ParseUint(timeline.String, 16, 32)
	if err != nil {
		return Position{}, fmt.Errorf("the timeline: %w", err)
	}
	at, err := parseLSN(text.String)
	if err != nil {
		return Position{}, err
	}
	s.timeline = max(s.timeline, uint32(t))
	at = s.end(at)
	if s.timeline == 0 || at == 0 {
		return Position{}, nil
	}
	return Position{value: lsn{s.system, s.timeline, at}}, nil
}

// Each page of the log begins with a header, and each file with a longer one.
const (
	pageHeader = 24
	fileHeader = 40
)

// end turns the LSN at which the next record will begin into the one at which the last one ended. That is the
// same, unless a page ends there: then there is the header of the next page in between. An idle master may
// stand behind it for good, and a standby, which replays up to the end of the last record, would never get
// there.
func (s *postgreSQLServer) end(lsn uint64) uint64 {
	switch {
	case s.segment > 0 && lsn%s.segment == fileHeader:
		return lsn - fileHeader
	case s.segment > 0 && s.block > 0 && lsn%s.segment > fileHeader && lsn%s.block == pageHeader:
		return lsn - pageHeader
	default:
		return lsn
	}
}
