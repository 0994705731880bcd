package positions

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/gorm-replicated/replicated/integration/servers"
	"github.com/gorm-replicated/replicated/internal/position"
)

// kind is a kind of server that the tests run on.
type kind struct {
	name, variant string
	start         func(context.Context, servers.Config) (*servers.Cluster, error)
	driver        string // of database/sql
	config        position.Config
	arg           string // of a prepared statement
	set           string // SQL for the connection that reads rows; "": none

	commits uint64 // how many TestWhatIsCoveredIsVisible makes, unless POSITIONS_COMMITS says otherwise

	// received reads what a slave has been sent, whether or not it has replayed it.
	received func(*servers.Server) slaveSource

	slaves []slave

	// group: the servers are members of a group, which itself says who is its primary. Nobody promotes a
	// slave, attaches a former master or has a slave replicate in another way; a slave refuses writes.
	group bool
}

// slave is one of the slaves of a kind.
type slave struct {
	name  string
	setUp []string // SQL
}

var (
	oneThread   = []string{"STOP SLAVE", "SET GLOBAL slave_parallel_threads = 1", "START SLAVE"}
	fourThreads = []string{"STOP SLAVE", "SET GLOBAL slave_parallel_threads = 4", "START SLAVE"}
	noOrder     = []string{"STOP SLAVE", "SET GLOBAL slave_parallel_threads = 4",
		"SET GLOBAL slave_preserve_commit_order = OFF", "START SLAVE"}
)

var mySQL = kind{
	name: "MySQL", start: servers.StartMySQL, driver: "mysql", config: position.Config{Dialect: "mysql"},
	arg: "?", received: status("Retrieved_Gtid_Set", position.ParseMySQL),
	commits: 5_000, // in each of eleven ways; make engines makes ten times as many
	slaves: []slave{
		{name: "four threads", setUp: fourThreads},
		{name: "four threads, in no order", setUp: noOrder},
	},
}

var kinds = wanted([]kind{
	{
		name: "MariaDB", start: servers.StartMariaDB, driver: "mysql", config: position.Config{Dialect: "mysql"},
		arg: "?", received: status("Gtid_IO_Pos", position.ParseMariaDB),
		commits: 50_000,
		slaves: []slave{
			{name: "one thread"},
			{name: "four threads", setUp: fourThreads},
		},
	},
	{
		name: "PostgreSQL", start: servers.StartPostgreSQL, driver: "pgx",
		config: position.Config{Dialect: "postgres"},
		arg:    "$1", set: "SET enable_seqscan = off", // before it knows the table it would read all of it
		received: receivedLSN, commits: 50_000,
		slaves: []slave{{name: "first"}, {name: "second"}},
	},
	mySQL,
	{
		name: "Group Replication", start: servers.StartGroupReplication, driver: "mysql",
		config: position.Config{Dialect: "mysql"}, arg: "?", received: receivedByGroup, commits: 20_000,
		slaves: []slave{{name: "first"}, {name: "second"}}, // each with four threads, which have to keep the order
		group:  true,
	},
	{
		name: "PgBouncer", start: startPgBouncer, driver: "pgx", config: position.Config{Dialect: "postgres"},
		arg: "$1", received: receivedLSN, commits: 50_000,
		slaves: []slave{{name: "first"}, {name: "second"}},
	},
})

// startPgBouncer has the slaves' options say what no SET can: behind PgBouncer the next statement may run
// elsewhere.
func startPgBouncer(ctx context.Context, cfg servers.Config) (*servers.Cluster, error) {
	cfg.SlaveOptions = append(cfg.SlaveOptions, "--enable_seqscan=off") // for the same reason as on PostgreSQL
	return servers.StartPgBouncer(ctx, cfg)
}

// variants are the ways to run MySQL in which a commit, its place in the log and its GTID come about one by
// one. What writes a slave's GTIDs is another part of the server where the slave has no log, or none of what
// it replays.
var variants = wanted([]kind{
	mySQL.with("slaves that do not log what they replay", nil, []string{"--log-slave-updates=OFF"}),
	mySQL.with("slaves without a log", nil, []string{"--skip-log-bin"}),
	mySQL.with("commits in another order than in the log", []string{"--binlog-order-commits=OFF"},
		[]string{"--binlog-order-commits=OFF"}),
})

// with is the kind with other options of its servers.
func (k kind) with(variant string, master, slaves []string) kind {
	start := k.start
	k.variant = variant
	k.start = func(ctx context.Context, cfg servers.Config) (*servers.Cluster, error) {
		cfg.MasterOptions, cfg.SlaveOptions = master, slaves
		return start(ctx, cfg)
	}
	k.slaves = append(slices.Clone(k.slaves), slave{name: "one thread", setUp: oneThread})
	return k
}

// wanted leaves out the kinds that tests are not to run on.
func wanted(kinds []kind) []kind {
	return slices.DeleteFunc(kinds, func(k kind) bool { return !servers.Wanted(k.name) })
}

// TestWhatIsCoveredIsVisible commits rows on a master as fast as it can. Of every row it reads the master's
// position after the commit. Meanwhile it reads the position of each slave, over and over, and after it, on
// another connection, the rows that there are: those that the slave's position covers have to be among them.
func TestWhatIsCoveredIsVisible(t *testing.T) {
	for _, k := range slices.Concat(kinds, variants) {
		t.Run(strings.TrimRight(k.name+", "+k.variant, ", "), func(t *testing.T) { testVisible(t, k) })
	}
}

func testVisible(t *testing.T, k kind) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // so that nothing hangs
	defer cancel()
	c, err := k.start(ctx, servers.Config{Slaves: len(k.slaves)})
	servers.Check(t, err)
	defer func() { ok(t, c.Close()) }()
	for i, s := range k.slaves {
		exec(ctx, t, c.Slaves[i], s.setUp...)
	}

	noticed := t.Run("control: what a slave has received is no proof", func(t *testing.T) {
		const n = 100
		held := c.Slaves[0]
		l := newLedger(ctx, t, k, c, "received")
		ok(t, held.Hold(ctx))
		ok(t, l.write(ctx, k, c.Master, n))
		replayed := l.checker(ctx, t, k, held)
		received := l.checker(ctx, t, k, held)
		conn, err := held.DB().Conn(ctx) // an ordinary account may not ask
		ok(t, err)
		defer conn.Close()
		received.reader = position.NewReader(conn, position.Config{Source: k.received(held)})
		for received.checked < n {
			ok(t, received.step(ctx))
		}
		if len(received.invisible) != n {
			t.Errorf("of %d rows that it has received, and not replayed, %d are invisible", n, len(received.invisible))
		}
		ok(t, replayed.step(ctx))
		if replayed.checked > 0 {
			t.Errorf("the position that it has replayed covers %d rows", replayed.checked)
		}
		ok(t, held.Release(ctx))
		ok(t, received.run(ctx))
		ok(t, replayed.run(ctx))
		t.Logf("received: %v; replayed: %v", received, replayed)
	})

	if !noticed {
		return // and the slave may still be held
	}
	t.Run("what it has replayed is", func(t *testing.T) {
		n := int(setting(t, "POSITIONS_COMMITS", k.commits))
		l := newLedger(ctx, t, k, c, "replayed")
		checkers := make([]*checker, len(k.slaves))
		errs := make([]error, len(k.slaves))
		var done sync.WaitGroup
		for i := range k.slaves {
			checkers[i] = l.checker(ctx, t, k, c.Slaves[i])
			done.Go(func() { errs[i] = checkers[i].run(ctx) })
		}
		began := time.Now()
		err := l.write(ctx, k, c.Master, n)
		t.Logf("%d commits in %v", n, time.Since(began).Round(time.Millisecond))
		done.Wait()
		ok(t, errors.Join(append(errs, err)...))
		for i, s := range k.slaves {
			t.Logf("%s, %s: %v", checkers[i].reader.Server(), s.name, checkers[i])
			if checkers[i].checked != n {
				t.Errorf("%s: %d of %d were checked", s.name, checkers[i].checked, n)
			}
			if checkers[i].late > 0 {
				t.Errorf("%s: %d rows were not visible", s.name, checkers[i].late)
			}
		}
	})
}

// ledger is a table, and what has been committed to it: ids from 1 on.
type ledger struct {
	table string

	mu      sync.Mutex
	commits []commit
	ended   bool // nothing more is committed
}

// commit is a row that was committed, and the position that was read on the master after that.
type commit struct {
	id       int
	position position.Position
}

func newLedger(ctx context.Context, t *testing.T, k kind, c *servers.Cluster, table string) *ledger {
	t.Helper()
	db, err := sql.Open(k.driver, c.Master.DSN())
	ok(t, err)
	defer db.Close()
	_, err = db.ExecContext(ctx, fmt.Sprintf("CREATE TABLE %s (id INT PRIMARY KEY)", table))
	ok(t, err)
	ok(t, c.CatchUp(ctx))
	return &ledger{table: table}
}

// crowds are how many write at once, one number after the other. Where many do, commits come in groups; where
// few do, a slave has time to follow each of them closely.
var crowds = []int{12, 2}

// write commits n rows over several connections at once. Another connection of each writer reads the
// positions.
func (l *ledger) write(ctx context.Context, k kind, master *servers.Server, n int) error {
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.ended = true
	}()
	db, err := sql.Open(k.driver, master.DSN())
	if err != nil {
		return err
	}
	defer db.Close()
	for i, crowd := range crowds {
		var last atomic.Int64
		last.Store(int64(n * i / len(crowds)))
		errs := make([]error, crowd)
		var done sync.WaitGroup
		for j := range crowd {
			done.Go(func() { errs[j] = l.writeAlone(ctx, k, db, &last, n*(i+1)/len(crowds)) })
		}
		done.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}

// writeAlone commits rows over one connection, each the one after the last, up to the nth.
func (l *ledger) writeAlone(ctx context.Context, k kind, db *sql.DB, last *atomic.Int64, n int) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	insert, err := conn.PrepareContext(ctx, fmt.Sprintf("INSERT INTO %s (id) VALUES (%s)", l.table, k.arg))
	if err != nil {
		return err
	}
	defer insert.Close()
	another, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer another.Close()
	reader := position.NewReader(another, k.config)
	for {
		id := int(last.Add(1))
		if id > n {
			return nil
		}
		if _, err := insert.ExecContext(ctx, id); err != nil {
			return err
		}
		at, err := reader.Master(ctx)
		if err != nil {
			return err
		}
		if !at.Position.Known() {
			return fmt.Errorf("the master has no position: %s", at.Reason)
		}
		l.mu.Lock()
		l.commits = append(l.commits, commit{id, at.Position})
		l.mu.Unlock()
	}
}

// from returns the commits from the nth on, and whether no more will come.
func (l *ledger) from(n int) ([]commit, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.commits[n:len(l.commits):len(l.commits)], l.ended
}

// checker looks on one slave for what is in a ledger.
type checker struct {
	ledger *ledger
	reader *position.Reader // on a connection of its own
	rows   *sql.Stmt        // on another one: the ids above a certain one

	taken   int      // of the ledger's commits
	pending []commit // those taken that no position has covered yet
	ended   bool

	seen map[int]bool // ids above low
	low  int          // up to which all have been seen

	steps, checked int
	gaps           int               // positions of more than one interval
	edge           int               // checked rows that were not there a step before
	invisible      map[int]time.Time // by id: covered when that position had been read, and not there
	late           int               // rows that were invisible
	longest        time.Duration     // that a row was
	reason         string            // why there was no position
}

func (c *checker) String() string {
	return fmt.Sprintf("%d rows checked with %d positions (%d with gaps), %d of them at the edge; "+
		"%d not visible at first, for up to %v",
		c.checked, c.steps, c.gaps, c.edge, c.late, c.longest.Round(10*time.Microsecond))
}

func (l *ledger) checker(ctx context.Context, t *testing.T, k kind, on *servers.Server) *checker {
	t.Helper()
	db, err := sql.Open(k.driver, on.DSN())
	ok(t, err)
	t.Cleanup(func() { db.Close() })
	conn, err := db.Conn(ctx)
	ok(t, err)
	another, err := db.Conn(ctx)
	ok(t, err)
	if k.set != "" {
		_, err = another.ExecContext(ctx, k.set)
		ok(t, err)
	}
	rows, err := another.PrepareContext(ctx, fmt.Sprintf("SELECT id FROM %s WHERE id > %s", l.table, k.arg))
	ok(t, err)
	return &checker{ledger: l, reader: position.NewReader(conn, k.config), rows: rows,
		seen: map[int]bool{}, invisible: map[int]time.Time{}}
}

// run checks until all is checked, and all has been seen.
func (c *checker) run(ctx context.Context) error {
	for !c.ended || len(c.pending) > 0 || len(c.invisible) > 0 {
		if err := c.step(ctx); err != nil {
			return fmt.Errorf("%w; %d were checked, %d remain, %d are invisible; %s",
				err, c.checked, len(c.pending), len(c.invisible), c.reason)
		}
	}
	return nil
}

// step reads a position, then the rows, and checks all that the position covers. It is the same whether a
// commit came into the ledger before or after that: if the position covers it, the slave had replayed it.
func (c *checker) step(ctx context.Context) error {
	at, err := c.reader.Slave(ctx)
	if err != nil {
		return err
	}
	read := time.Now()
	fresh, err := c.look(ctx)
	if err != nil {
		return err
	}
	c.steps++
	if at.Position.Kind() == position.MySQL && strings.Count(at.Position.String(), ":") > 1 {
		c.gaps++
	}
	c.reason = at.Reason
	more, ended := c.ledger.from(c.taken)
	c.taken += len(more)
	c.pending = append(c.pending, more...)
	c.ended = ended

	remain := c.pending[:0]
	uncovered := 0
	for i, commit := range c.pending {
		// Writers are in the ledger in another order than in the master's history, but not by more than they are.
		if uncovered == 64 {
			remain = append(remain, c.pending[i:]...)
			break
		}
		if !at.Position.Covers(commit.position) {
			uncovered++
			remain = append(remain, commit)
			continue
		}
		c.checked++
		switch {
		case fresh[commit.id]:
			c.edge++
		case commit.id > c.low && !c.seen[commit.id]:
			c.invisible[commit.id] = read
			c.late++
		}
	}
	c.pending = remain
	return nil
}

// look reads which rows there are, and returns those that have not been seen before.
func (c *checker) look(ctx context.Context) (fresh map[int]bool, err error) {
	rows, err := c.rows.QueryContext(ctx, c.low)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	fresh = map[int]bool{}
	for rows.Next() {
		var id int
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		if c.seen[id] {
			continue
		}
		c.seen[id], fresh[id] = true, true
		if since, ok := c.invisible[id]; ok {
			c.longest = max(c.longest, time.Since(since))
			delete(c.invisible, id)
		}
	}
	for c.seen[c.low+1] {
		c.low++
		delete(c.seen, c.low)
	}
	return fresh, rows.Err()
}

// slaveSource is a control's way to read a slave's position.
type slaveSource func(context.Context, *sql.Conn) (position.Position, error)

func (slaveSource) MasterPosition(context.Context, *sql.Conn) (position.Position, error) {
	return position.Position{}, errors.ErrUnsupported
}

func (s slaveSource) SlavePosition(ctx context.Context, conn *sql.Conn) (position.Position, error) {
	return s(ctx, conn)
}

// status reads a position from a column of SHOW SLAVE STATUS.
func status(column string, parse func(string) (position.Position, error)) func(*servers.Server) slaveSource {
	return func(s *servers.Server) slaveSource { return statusOf(s.Words("SHOW SLAVE STATUS"), column, parse) }
}

func statusOf(query, column string, parse func(string) (position.Position, error)) slaveSource {
	return func(ctx context.Context, conn *sql.Conn) (position.Position, error) {
		rows, err := conn.QueryContext(ctx, query)
		if err != nil {
			return position.Position{}, err
		}
		defer rows.Close()
		names, err := rows.Columns()
		if err != nil {
			return position.Position{}, err
		}
		var text sql.NullString
		into := make([]any, len(names))
		for i, name := range names {
			if into[i] = new(any); name == column {
				into[i] = &text
			}
		}
		for rows.Next() {
			if err := rows.Scan(into...); err != nil {
				return position.Position{}, err
			}
		}
		if err := rows.Err(); err != nil {
			return position.Position{}, err
		}
		return parse(text.String)
	}
}

// receivedByGroup reads what a member has received from its group.
func receivedByGroup(*servers.Server) slaveSource {
	return statusOf("SELECT received_transaction_set FROM performance_schema.replication_connection_status "+
		"WHERE channel_name = 'group_replication_applier'", "received_transaction_set", position.ParseMySQL)
}

func receivedLSN(*servers.Server) slaveSource { return readReceivedLSN }

func readReceivedLSN(ctx context.Context, conn *sql.Conn) (position.Position, error) {
	var text string
	err := conn.QueryRowContext(ctx,
		"SELECT concat_ws(':', (SELECT system_identifier FROM pg_control_system()), "+
			"(SELECT timeline_id FROM pg_control_checkpoint()), pg_last_wal_receive_lsn())").Scan(&text)
	if err != nil {
		return position.Position{}, err
	}
	return position.ParsePostgreSQL(text)
}
