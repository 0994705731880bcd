package servers

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// groupReplication is the engine of MySQL's Group Replication with a single primary, which is the master: the
// members certify each other's transactions, and apply them, by the channel group_replication_applier. What
// is written to the group has the group's UUID in its GTID.
type groupReplication struct {
	mySQL
	group *group
}

var _ engine = groupReplication{}

func newGroupReplication(m mySQL) groupReplication {
	return groupReplication{mySQL: m, group: new(group)}
}

// group is what the members of one cluster have to know.
type group struct {
	name  string // a UUID
	peers peers
	locks readLocks
}

func (g groupReplication) install(ctx context.Context, c *Cluster, dir string) error {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // it never fails
	g.group.name = fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	if err := g.group.peers.choose(c, 1); err != nil {
		return err
	}
	return g.mySQL.install(ctx, c, dir)
}

func (g groupReplication) command(s *Server) (command, error) {
	cmd, err := g.mySQL.command(s)
	cmd.argv = append(cmd.argv,
		"--binlog-format=ROW",
		"--performance-schema=ON", // where members say what they are
		"--report-host=127.0.0.1", // a member that joins fetches what it lacks from there
		"--plugin-load-add=group_replication.so",
		"--loose-group-replication-start-on-boot=OFF", // answers sees to it
		"--loose-group-replication-group-name="+g.group.name,
		"--loose-group-replication-group-seeds="+strings.Join(g.group.peers.all(0), ","),
		"--loose-group-replication-recovery-get-public-key=ON",
		// Or a slave that is held would slow down the master.
		"--loose-group-replication-flow-control-mode=DISABLED",
		// A member that was killed has to be expelled before it may return. 5 s of silence are enough for
		// that.
		"--loose-group-replication-member-expel-timeout=0",
	)
	return cmd, err
}

// answers has a server join the group, and the master be the primary: so Start returns when it is.
func (g groupReplication) answers(ctx context.Context, s *Server, db *sql.DB) error {
	if err := g.mySQL.answers(ctx, s, db); err != nil {
		return err
	}
	state, role, err := g.member(ctx, db)
	if err != nil {
		return err
	}
	switch {
	case state == "ONLINE" && (s.master != nil || role == "PRIMARY"):
		return nil
	case state == "ONLINE":
		// Another one was elected while it was away.
		if stays, err := g.group.chosen(ctx, s, db); stays || err != nil {
			return err
		}
		_, err = db.ExecContext(ctx, "DO group_replication_set_as_primary(@@GLOBAL.server_uuid)")
		return cmp.Or(err, errors.New("it is not the primary yet"))
	case state == "RECOVERING":
		return errors.New("it has not yet got what it lacks from the group")
	default:
		return cmp.Or(g.join(ctx, s, db), errors.New("it has just joined the group"))
	}
}

// chosen says whether the primary is to stay the primary: its weight is above the default.
func (g *group) chosen(ctx context.Context, s *Server, db *sql.DB) (bool, error) {
	for _, other := range g.peers.others(s, db) {
		var chosen bool
		err := other.QueryRowContext(ctx, "SELECT @@GLOBAL.group_replication_member_weight > 50 FROM "+
			"performance_schema.replication_group_members "+
			"WHERE member_id = @@GLOBAL.server_uuid AND member_role = 'PRIMARY'").Scan(&chosen)
		if err == nil {
			return chosen, nil
		}
	}
	return false, errors.New("the primary does not answer")
}

// member returns the state and the role of the server in the group; "OFFLINE" and "" where it is not in any.
func (groupReplication) member(ctx context.Context, db *sql.DB) (state, role string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // it may be frozen
	defer cancel()
	err = db.QueryRowContext(ctx, "SELECT member_state, member_role "+
		"FROM performance_schema.replication_group_members "+
		"WHERE member_id = @@GLOBAL.server_uuid").Scan(&state, &role)
	if errors.Is(err, sql.ErrNoRows) {
		return "OFFLINE", "", nil
	}
	return state, role, err
}

// join has the server join the group, which the master founds, unless another server is in it. A server that
// was killed is not let in until the others have expelled it: they wait for its return. To try before that
// costs half a minute.
func (g groupReplication) join(ctx context.Context, s *Server, db *sql.DB) error {
	founds := s.master == nil
	for _, other := range g.group.peers.others(s, db) {
		state, _, err := g.member(ctx, other)
		if err != nil || state != "ONLINE" {
			continue
		}
		founds = false
		var listed bool
		err = other.QueryRowContext(ctx, "SELECT COUNT(*) > 0 "+
			"FROM performance_schema.replication_group_members WHERE member_port = ?", s.port).Scan(&listed)
		if err == nil && listed {
			return errors.New("it has not been expelled yet")
		}
	}
	address, err := g.group.peers.address(s, 0)
	if err != nil {
		return err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	statements := []string{"STOP GROUP_REPLICATION",
		fmt.Sprintf("SET GLOBAL group_replication_local_address='%s'", address),
		fmt.Sprintf("SET GLOBAL group_replication_bootstrap_group=%t", founds),
		fmt.Sprintf("START GROUP_REPLICATION USER='%s', PASSWORD='%s'", binlogAdmin, s.cluster.password),
		"SET GLOBAL group_replication_bootstrap_group=OFF"}
	var errs error
	for _, q := range statements {
		if _, err := conn.ExecContext(ctx, q); err != nil {
			verb, _, _ := strings.Cut(q, " USER=") // no password in an error
			errs = errors.Join(errs, fmt.Errorf("%s: %w", verb, err))
		}
	}
	return errs
}

// follow has nothing to do: the slave is a member of the group.
func (groupReplication) follow(context.Context, *Server) error { return nil }

// hold keeps the appliers from committing: a member does not let its applier be stopped. It goes on receiving
// and certifying.
func (g groupReplication) hold(ctx context.Context, s *Server) error {
	return g.group.locks.hold(ctx, s)
}

func (g groupReplication) release(_ context.Context, s *Server) error {
	return g.group.locks.release(s)
}

func (groupReplication) delay(context.Context, *Server, int) error {
	return fmt.Errorf("a group applies what it receives at once: %w", errors.ErrUnsupported)
}

// replayed does not wait for a server that is in no group.
func (g groupReplication) replayed(ctx context.Context, s *Server, position string) error {
	var broken error
	err := poll(ctx, func() error {
		var has bool
		const query = "SELECT GTID_SUBSET(?, @@GLOBAL.gtid_executed)"
		broken = s.db.QueryRowContext(ctx, query, position).Scan(&has)
		if has || broken != nil {
			return nil
		}
		var state string
		if state, _, broken = g.member(ctx, s.db); broken == nil && state == "OFFLINE" {
			broken = errors.New("it is not a member of the group")
		}
		if broken != nil {
			return nil
		}
		return errors.New("it is behind") // merely slow, or held, or it has to join the group again
	})
	if err := cmp.Or(err, broken); err != nil {
		return fmt.Errorf("waiting for %s: %w", position, err)
	}
	return nil
}

// ownTransactions finds what the server wrote under its own UUID, while it was in no group, and what it wrote
// as a member, which has the group's UUID and its server id.
func (g groupReplication) ownTransactions(ctx context.Context, s *Server) ([]string, error) {
	return g.ownInAll(ctx, s)
}
