package integration

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gorm-replicated/replicated"
)

// journal is what happened, in order: the routes that the Observer heard, and
// the statements that reached a server, as its connections saw them.
type journal struct {
	mu      sync.Mutex
	entries []entry
}

// entry is a route, or a statement.
type entry struct {
	server   string // that the route names; that ran the statement, by its own account
	intent   replicated.Intent
	reason   replicated.Reason
	sql      string // empty for a route
	prepares bool   // it was only prepared
	stranger bool   // its context is none of observed
}

type observedKey struct{}

// observed marks what a test does: anything else is the plugin's own, and may come at any time.
func observed(ctx context.Context) context.Context {
	return context.WithValue(ctx, observedKey{}, true)
}

func (e entry) String() string {
	switch {
	case e.sql == "":
		return fmt.Sprintf("    %v: %v, to %q", e.intent, e.reason, e.server)
	case e.prepares:
		return fmt.Sprintf("        %s prepared %s", e.server, e.sql)
	}
	return fmt.Sprintf("        %s ran %s", e.server, e.sql)
}

func (j *journal) add(e entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, e)
}

// take returns what was written since the last call.
func (j *journal) take() []entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	taken := j.entries
	j.entries = nil
	return taken
}

// Routed makes the journal a replicated.Observer.
func (j *journal) Routed(_ context.Context, r replicated.Route) {
	j.add(entry{server: r.Server, intent: r.Intent, reason: r.Reason})
}

// recorder connects to a server, and writes into the journal what runs there. No statement escapes it,
// whatever GORM and the plugin make of their pools: it stands between database/sql and the driver. Nor does
// it rely on anybody's word about the server: each connection is asked whose it is.
type recorder struct {
	driver.Connector
	journal  *journal
	whose    string            // SQL
	serverOf map[string]string // by its answer
}

func (r *recorder) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := r.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	server, err := r.identify(ctx, conn)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &recordedConn{conn.(driverConn), server, r.journal}, nil
}

func (r *recorder) identify(ctx context.Context, conn driver.Conn) (string, error) {
	rows, err := conn.(driver.QueryerContext).QueryContext(ctx, r.whose, nil)
	if err != nil {
		return "", err
	}
	answer := make([]driver.Value, 1)
	if err := errors.Join(rows.Next(answer), rows.Close()); err != nil {
		return "", err
	}
	text := fmt.Sprint(answer[0])
	if b, ok := answer[0].([]byte); ok {
		text = string(b)
	}
	server, ok := r.serverOf[text]
	if !ok {
		return "", fmt.Errorf("%s: unknown server %q", r.whose, text)
	}
	return server, nil
}

// driverConn is what the connections of both drivers can do.
type driverConn interface {
	driver.Conn
	driver.Pinger
	driver.ExecerContext
	driver.QueryerContext
	driver.ConnPrepareContext
	driver.ConnBeginTx
	driver.SessionResetter
	driver.NamedValueChecker
}

type recordedConn struct {
	driverConn
	server  string
	journal *journal
}

func (c *recordedConn) IsValid() bool {
	v, ok := c.driverConn.(driver.Validator)
	return !ok || v.IsValid()
}

// ran notes a statement, unless the driver says that it did not even try.
func (c *recordedConn) ran(ctx context.Context, sql string, err error) {
	if err != driver.ErrSkip && !errors.Is(err, driver.ErrBadConn) {
		c.journal.add(entry{server: c.server, sql: sql, stranger: ctx.Value(observedKey{}) == nil})
	}
}

func (c *recordedConn) ExecContext(ctx context.Context, query string,
	args []driver.NamedValue) (driver.Result, error) {
	result, err := c.driverConn.ExecContext(ctx, query, args)
	c.ran(ctx, query, err)
	return result, err
}

func (c *recordedConn) QueryContext(ctx context.Context, query string,
	args []driver.NamedValue) (driver.Rows, error) {
	rows, err := c.driverConn.QueryContext(ctx, query, args)
	c.ran(ctx, query, err)
	return rows, err
}

func (c *recordedConn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

func (c *recordedConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	stmt, err := c.driverConn.PrepareContext(ctx, query)
	if err != nil { // it got there, and no further
		c.ran(ctx, query, err)
		return nil, err
	}
	c.journal.add(entry{server: c.server, sql: query, prepares: true, stranger: ctx.Value(observedKey{}) == nil})
	return &recordedStmt{stmt.(driverStmt), c, query}, nil
}

func (c *recordedConn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

func (c *recordedConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := c.driverConn.BeginTx(ctx, opts)
	if opts.ReadOnly {
		c.ran(ctx, "BEGIN-RO", err)
	} else {
		c.ran(ctx, "BEGIN", err)
	}
	if err != nil {
		return nil, err
	}
	return recordedTx{tx, c, ctx}, nil
}

type recordedTx struct {
	driver.Tx
	conn *recordedConn
	ctx  context.Context // of BEGIN
}

func (t recordedTx) Commit() error {
	err := t.Tx.Commit()
	t.conn.ran(t.ctx, "COMMIT", err)
	return err
}

func (t recordedTx) Rollback() error {
	err := t.Tx.Rollback()
	t.conn.ran(t.ctx, "ROLLBACK", err)
	return err
}

type driverStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

type recordedStmt struct {
	driverStmt
	conn  *recordedConn
	query string
}

func (s *recordedStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	result, err := s.driverStmt.ExecContext(ctx, args)
	s.conn.ran(ctx, s.query, err)
	return result, err
}

func (s *recordedStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := s.driverStmt.QueryContext(ctx, args)
	s.conn.ran(ctx, s.query, err)
	return rows, err
}

// script says what has to happen, in order: in lower case what the Observer hears, in upper case what then
// reaches the server that it heard of. "write BEGIN INSERT COMMIT" is a Create, "read SELECT read SELECT" a
// Find with a Preload. Where the two intents differ in more than what "read" means, the script for Slave
// stands behind "||".
//
//	read        by the intent; on the master once the session has written
//	bound       where the transaction or the connection is that it is bound to
//	unheard     nobody is told; the statements behind it run on the master
//	master*     anything, all of it on the master and for reasons that do not look at the intent
//	the others  as in heard
type script string

const master = "master" // its name in routes and in the journal

// heard are the words for routes that do not depend on the intent.
var heard = map[string]struct {
	intent replicated.Intent
	reason replicated.Reason
}{
	"write":        {replicated.Master, replicated.ReasonWrite},
	"lock":         {replicated.Master, replicated.ReasonLocking},
	"state":        {replicated.Master, replicated.ReasonConnectionState},
	"catalog":      {replicated.Master, replicated.ReasonCatalog},
	"serializable": {replicated.Master, replicated.ReasonSerializable},
	"first-or":     {replicated.Master, replicated.ReasonFirstOr},
	"follows":      {replicated.Master, replicated.ReasonFollowsWrite},
	"unknown":      {replicated.Master, replicated.ReasonUnknownSQL},
	"begin":        {replicated.Master, replicated.ReasonTransaction},
	"clause-m":     {replicated.Master, replicated.ReasonClause},
	"clause-s":     {replicated.Slave, replicated.ReasonClause},
	"context-m":    {replicated.Master, replicated.ReasonContext},
	"context-s":    {replicated.Slave, replicated.ReasonContext},
}

// regardless are the reasons that do not look at the intent.
var regardless = []replicated.Reason{
	replicated.ReasonBound, replicated.ReasonWrite, replicated.ReasonCatalog, replicated.ReasonConnectionState,
	replicated.ReasonUnknownSQL, replicated.ReasonTransaction,
}

// harmless are the statements that may run on a slave. Others mark the session as having written.
var harmless = []string{
	"SELECT", "WITH", "SHOW", "BEGIN-RO", "COMMIT", "ROLLBACK", "SAVEPOINT", "ROLLBACK-TO",
}

// verb is how a script names a statement.
func verb(sql string) string {
	word, rest, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(strings.TrimLeft(sql, "( "))), " ")
	if word == "ROLLBACK" && strings.HasPrefix(rest, "TO") {
		return "ROLLBACK-TO"
	}
	return strings.TrimRight(word, ";")
}

// check returns nil if under the intent exactly that happened what the script says, and every statement ran
// where the route before it sent it.
func (s script) check(as intent, happened []entry) error {
	text, forSlave, differs := strings.Cut(string(s), "||")
	if differs && as.read == replicated.Slave {
		text = forSlave
	}
	p := play{as: as, words: strings.Fields(text)}
	err := p.compare(happened)
	if err == nil {
		return nil
	}
	lines := []string{fmt.Sprintf("want %q under %s: %v; happened:", s, as.name, err)}
	for _, e := range happened {
		lines = append(lines, e.String())
	}
	return errors.New(strings.Join(lines, "\n"))
}

// play is a script while it is compared with what happened.
type play struct {
	as    intent
	words []string // of the script
	step  int      // the word that is next
	rule  entry    // the route that the statements follow
	bound string   // the server that the last transaction was begun on
	kept  string   // the session's slave
	wrote bool
}

// word returns the word that is next.
func (p *play) word() string {
	if p.step < len(p.words) {
		return p.words[p.step]
	}
	return "nothing"
}

func (p *play) compare(happened []entry) error {
	for _, e := range happened {
		if e.stranger && slices.Contains(harmless, verb(e.sql)) {
			continue
		}
		for p.word() == "unheard" {
			p.rule = entry{server: master}
			p.step++
		}
		next := p.route
		if e.sql != "" {
			next = p.statement
		}
		if err := next(e); err != nil {
			return err
		}
	}
	isStatement := func(e entry) bool { return e.sql != "" }
	if p.word() == "master*" && slices.ContainsFunc(happened, isStatement) {
		p.step++
	}
	if p.step < len(p.words) {
		return fmt.Errorf("step %d: want %s, nothing more happened", p.step+1, p.word())
	}
	return nil
}

// statement compares a statement that a server ran.
func (p *play) statement(e entry) error {
	ran := verb(e.sql)
	writes := !slices.Contains(harmless, ran)
	if e.server != p.rule.server {
		return fmt.Errorf("%s ran %q, which the rule %q sent to %q", e.server, e.sql, p.rule.reason, p.rule.server)
	}
	if e.server != master && p.rule.reason != replicated.ReasonClause && !e.prepares && writes {
		return fmt.Errorf("%s ran %q, by the rule %q", e.server, e.sql, p.rule.reason)
	}
	if e.prepares || p.word() == "master*" {
		return nil
	}
	if ran != p.word() {
		return fmt.Errorf("step %d: want %s, %s ran %q", p.step+1, p.word(), e.server, e.sql)
	}
	if strings.HasPrefix(ran, "BEGIN") {
		p.bound = e.server
	} else if writes {
		p.wrote = true
	}
	p.step++
	return nil
}

// route compares a route that the Observer heard of. The statements behind it follow it.
func (p *play) route(e entry) error {
	p.rule = e
	if e.intent == replicated.Slave {
		if p.as.session && p.kept != "" && p.kept != e.server {
			return fmt.Errorf("one session on two slaves: %s and %s", p.kept, e.server)
		}
		p.kept = e.server
	}
	word := p.word()
	if (e.server == master) != (e.intent == replicated.Master) && word != "bound" {
		return fmt.Errorf("the intent %v to %q", e.intent, e.server)
	}
	if word == "master*" {
		if e.server != master || !slices.Contains(regardless, e.reason) {
			return fmt.Errorf("%q to %q, in what has to run on the master whatever the intent", e.reason, e.server)
		}
		return nil
	}
	intent, reason, err := p.expected(e)
	if err != nil {
		return err
	}
	if e.intent != intent || e.reason != reason {
		return fmt.Errorf("step %d: want %v: %v, the Observer heard %v: %v", p.step+1, intent, reason,
			e.intent, e.reason)
	}
	p.wrote = p.wrote || word == "write" || word == "unknown"
	p.step++
	return nil
}

// expected returns the route that the next word stands for. The Observer heard e.
func (p *play) expected(e entry) (replicated.Intent, replicated.Reason, error) {
	word := p.word()
	want, ok := heard[word]
	switch {
	case word == "bound":
		if p.bound = cmp.Or(p.bound, master); e.server != p.bound {
			return 0, 0, fmt.Errorf("step %d: bound to %q, reported as %q", p.step+1, p.bound, e.server)
		}
		return e.intent, replicated.ReasonBound, nil
	case word == "read" && p.wrote && p.as.session:
		return replicated.Master, replicated.ReasonWrote, nil
	case word == "read":
		return p.as.read, p.as.reason, nil
	case !ok:
		return 0, 0, fmt.Errorf("step %d: want %s, the Observer heard %v: %v", p.step+1, word, e.intent, e.reason)
	}
	return want.intent, want.reason, nil
}

// TestScript is the control of the matrix: the check that all its cells rely on does find what is wrong.
func TestScript(t *testing.T) {
	ran := func(server, sql string) entry { return entry{server: server, sql: sql} }
	route := func(i replicated.Intent, r replicated.Reason, server string) entry {
		return entry{server: server, intent: i, reason: r}
	}
	read := route(replicated.Slave, replicated.ReasonMethod, "slave 2")
	write := route(replicated.Master, replicated.ReasonWrite, master)
	begin := route(replicated.Master, replicated.ReasonTransaction, master)
	bound := route(replicated.Master, replicated.ReasonBound, master)
	wrote := route(replicated.Master, replicated.ReasonWrote, master)
	catalog := route(replicated.Master, replicated.ReasonCatalog, master)
	get := intent{name: "GET", read: replicated.Slave, reason: replicated.ReasonMethod, session: true}
	post := intent{name: "POST", read: replicated.Master, reason: replicated.ReasonMethod, session: true}
	for _, test := range []struct {
		name     string
		script   script
		as       intent
		happened []entry
		problem  string
	}{
		{"nothing", "", get, nil, ""},
		{"a read", "read SELECT", get, []entry{read, ran("slave 2", "SELECT 1")}, ""},
		{"a write and a read", "write BEGIN INSERT COMMIT read SELECT", get,
			[]entry{write, ran(master, "BEGIN"), ran(master, "INSERT x"), ran(master, "COMMIT"), wrote,
				ran(master, "SELECT 1")}, ""},
		{"a transaction", "begin BEGIN bound INSERT COMMIT", get,
			[]entry{begin, ran(master, "BEGIN"), bound, ran(master, "INSERT x"), ran(master, "COMMIT")}, ""},
		{"a prepared read", "read SELECT", get,
			[]entry{read, {server: "slave 2", sql: "SELECT 1", prepares: true}, ran("slave 2", "SELECT 1")}, ""},
		{"a difference between the intents, Slave", "write INSERT || read SELECT", get,
			[]entry{read, ran("slave 2", "SELECT 1")}, ""},
		{"a difference between the intents, Master", "write INSERT || read SELECT", post,
			[]entry{write, ran(master, "INSERT x")}, ""},
		{"the master alone", "master*", get,
			[]entry{catalog, ran(master, "SELECT 1"), write, ran(master, "ALTER x")}, ""},
		{"the plugin's own", "read SELECT", get,
			[]entry{read, {server: "slave 3", sql: "SHOW x", stranger: true}, ran("slave 2", "SELECT 1")}, ""},
		{"unheard", "unheard SELECT", get, []entry{ran(master, "SELECT 1")}, ""},

		{"a write on a slave", "read INSERT", get, []entry{read, ran("slave 2", "INSERT x")},
			`slave 2 ran "INSERT x", by the rule "method"`},
		{"a write by the plugin", "", get, []entry{{server: "slave 3", sql: "INSERT x", stranger: true}},
			`slave 3 ran "INSERT x"`},
		{"a write on the wrong server", "write INSERT", get, []entry{write, ran("slave 2", "INSERT x")},
			`slave 2 ran "INSERT x", which the rule "write" sent to "master"`},
		{"a read on the wrong slave", "read SELECT", get, []entry{read, ran("slave 3", "SELECT 1")},
			`which the rule "method" sent to "slave 2"`},
		{"prepared on the wrong server", "read SELECT", get,
			[]entry{read, {server: master, sql: "SELECT 1", prepares: true}, ran("slave 2", "SELECT 1")},
			`master ran "SELECT 1", which`},
		{"out of its transaction", "begin BEGIN bound SELECT COMMIT", get,
			[]entry{begin, ran(master, "BEGIN"), bound, ran("slave 2", "SELECT 1")},
			`which the rule "bound" sent to "master"`},
		{"bound to another server", "begin BEGIN bound SELECT COMMIT", get, []entry{begin, ran(master, "BEGIN"),
			route(replicated.Slave, replicated.ReasonBound, "slave 2"), ran("slave 2", "SELECT 1")},
			`bound to "master", reported as "slave 2"`},
		{"a statement that nobody heard of", "read SELECT", get, []entry{ran("slave 2", "SELECT 1")}, `sent to ""`},
		{"one statement too many", "read SELECT", get,
			[]entry{read, ran("slave 2", "SELECT 1"), ran("slave 2", "SELECT 2")}, "want nothing"},
		{"one statement too few", "read SELECT read SELECT", get, []entry{read, ran("slave 2", "SELECT 1")},
			"nothing more happened"},
		{"another statement", "write INSERT", get, []entry{write, ran(master, "UPDATE x")},
			`step 2: want INSERT, master ran "UPDATE x"`},
		{"another reason", "read SELECT", get, []entry{catalog, ran(master, "SELECT 1")},
			"step 1: want slave: method"},
		{"the other intent", "read SELECT", post, []entry{read, ran("slave 2", "SELECT 1")},
			"step 1: want master: method"},
		{"a session that forgets its write", "write INSERT read SELECT", get,
			[]entry{write, ran(master, "INSERT x"), read, ran("slave 2", "SELECT 1")}, "want master: session wrote"},
		{"a session on two slaves", "read SELECT read SELECT", get, []entry{read, ran("slave 2", "SELECT 1"),
			route(replicated.Slave, replicated.ReasonMethod, "slave 3"), ran("slave 3", "SELECT 1")},
			"one session on two slaves"},
		{"a migration that asks a slave", "master*", get, []entry{read, ran("slave 2", "SELECT 1")},
			"whatever the intent"},
		{"a migration by the intent", "master*", post,
			[]entry{route(replicated.Master, replicated.ReasonMethod, master)}, "whatever the intent"},
		{"a migration that does nothing", "master*", get, nil, "nothing more happened"},
		{"no route for a migration", "master*", get, []entry{ran(master, "ALTER x")}, `sent to ""`},
		{"a route that names the wrong role", "read SELECT", get,
			[]entry{route(replicated.Slave, replicated.ReasonMethod, master)}, "the intent slave to"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.script.check(test.as, test.happened)
			switch {
			case test.problem == "" && err != nil:
				t.Error(err)
			case test.problem != "" && (err == nil || !strings.Contains(err.Error(), test.problem)):
				t.Errorf("%v\nwant %q in it", err, test.problem)
			}
		})
	}
}
