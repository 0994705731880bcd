package faults_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gorm-replicated/replicated/integration/servers"
)

// newPgBouncer is PostgreSQL behind PgBouncer in transaction mode. Faults befall the server, and the network
// before PgBouncer. If PgBouncer is apart, it goes on when its server does not.
func newPgBouncer(name string, apart bool, settings ...string) *engine {
	return &engine{
		name:   name,
		silent: apart,
		dial:   postgreSQL.dial,
		start: func(ctx context.Context, cfg servers.Config) (*servers.Cluster, error) {
			cfg.PgBouncer = servers.PgBouncer{Apart: apart, Settings: append([]string{
				"max_client_conn = 70", // so few that they are soon taken
				"auth_type = md5",      // for the same reason for which prepare has one round of hashing
			}, settings...)}
			return servers.StartPgBouncer(ctx, cfg)
		},
		options: postgreSQL.options,
		prepare: postgreSQL.prepare,
		through: postgreSQL.through,
		slow:    postgreSQL.slow,
		active:  postgreSQL.active,
		data:    postgreSQL.data,
		killAll: postgreSQL.killAll,
		kill:    postgreSQL.kill,
		creates: postgreSQL.creates,
		raises:  postgreSQL.raises,
		dies:    postgreSQL.dies,
		clients: pgBouncerClients,
		crowd:   postgreSQL.crowd, // of PgBouncer's clients
		lockOut: postgreSQL.lockOut,

		lockAccount: postgreSQL.lockAccount, // which PgBouncer meets when it needs another connection
		readOnly:    postgreSQL.readOnly,
		sever:       postgreSQL.sever,
		lose:        postgreSQL.lose,
		promote:     postgreSQL.promote,
		retire:      postgreSQL.retire,
		attach:      postgreSQL.attach,
	}
}

func init() {
	if servers.Wanted("PgBouncer") {
		engines = append(engines, newPgBouncer("PgBouncer", false), newPgBouncer("PgBouncer apart", true,
			"query_wait_timeout = 1", // or a write waits for a server that is gone, two minutes by default
		))
	}
}

// TestPgBouncerWithoutServer kills a slave whose PgBouncer goes on, for longer than a read may wait. By its
// defaults PgBouncer has clients that wait for a connection go on waiting, for two minutes, and tells others
// at once that it cannot reach the server.
func TestPgBouncerWithoutServer(t *testing.T) {
	servers.Want(t, "PgBouncer")
	e := newPgBouncer("", true)
	c := e.own(t, 2)
	a := open(t, e, c, nil)
	l := a.read(t, 200)
	l.served(t, 20, "slave 2", "slave 3")
	victim := a.slaves[0]

	// The control: clients that ask past the plugin, more than PgBouncer has connections for.
	plain, err := gorm.Open(e.dial(victim.DSN()), &gorm.Config{Logger: logger.Discard})
	must(t, err)
	pool, err := plain.DB()
	must(t, err)
	defer pool.Close()
	var tasks sync.WaitGroup
	var asked, waited atomic.Int64
	const (
		clients  = 30              // default_pool_size is 20
		patience = 5 * time.Second // of these, less than query_wait_timeout
	)
	for range clients {
		tasks.Go(func() {
			for err := error(nil); err == nil; asked.Add(1) {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				err = plain.WithContext(ctx).Exec(e.slow(50*time.Millisecond, "plain")).Error
				if ctx.Err() != nil {
					waited.Add(1)
				}
				cancel()
			}
		})
	}
	eventually(t, "clients ask", func() error {
		if asked.Load() < 2*clients {
			return errNotYet
		}
		return nil
	})
	healed(t, ensure(victim.Server))
	must(t, victim.Kill())
	tasks.Wait()
	l.ended(t)
	l.more(t, 100)
	must(t, victim.Start(t.Context()))
	again := l.served(t, 1, victim.String())
	l.stop()
	t.Logf("%v; it served again after %v; past the plugin %d of %d waited for more than %v", l.so(),
		again.Round(time.Millisecond), waited.Load(), clients, patience)
	l.noneFailed(t)
	if waited.Load() == 0 {
		t.Error("the control: nobody waited for the server")
	}
}

// TestFullPgBouncer has another application take all connections that PgBouncer may have to a slave. For the
// plugin, whose questions wait with all others, that is a slave that does not answer.
func TestFullPgBouncer(t *testing.T) {
	servers.Want(t, "PgBouncer")
	for _, e := range engines {
		if e.clients == nil {
			continue
		}
		t.Run(e.name, func(t *testing.T) {
			c := e.cluster(t)
			a := open(t, e, c, nil)
			l := a.read(t, 100)
			l.served(t, 10, "slave 2", "slave 3")
			victim := a.slaves[0]

			const most = 20 // default_pool_size
			ctx, cancel := context.WithCancel(t.Context())
			var others sync.WaitGroup
			free := sync.OnceFunc(func() { cancel(); others.Wait() })
			defer free()
			for range most {
				others.Go(func() {
					for ctx.Err() == nil { // the pool may not be full yet, and time out; it is taken all the same
						conn, err := pgconn.Connect(ctx, victim.DSN())
						if err != nil {
							continue
						}
						_, _ = conn.Exec(ctx, e.slow(time.Minute, "other")).ReadAll()
						_ = conn.Close(context.WithoutCancel(ctx))
					}
				})
			}
			left := eventually(t, "it leaves", func() error { return a.notServing(victim) })
			reason := a.status(victim).Reason
			l.ended(t)
			during := l.more(t, 60)
			free()
			again := l.served(t, 5, victim.String())
			l.stop()
			t.Logf("it left after %v: %s; during it: %v; served again after %v; in all %v",
				left.Round(time.Millisecond), reason, during, again.Round(time.Millisecond), l.so())
			if n := during.served[victim.String()]; n > 0 {
				t.Errorf("%d reads by a server for which PgBouncer has no connection left", n)
			}
			l.noneFailed(t)
		})
	}
}

// TestStalePlanBehindPgBouncer changes what a statement returns that PgBouncer has prepared. It goes on using
// its plan for whoever prepares the same text.
func TestStalePlanBehindPgBouncer(t *testing.T) {
	servers.Want(t, "PgBouncer")
	e := newPgBouncer("", false)
	c := e.own(t, 1)
	for _, prepare := range []bool{false, true} {
		t.Run(fmt.Sprintf("PrepareStmt %v", prepare), func(t *testing.T) {
			a := openWith(t, e, c, &gorm.Config{PrepareStmt: prepare}, nil)
			plain, err := gorm.Open(e.dial(a.slaves[0].DSN()), &gorm.Config{Logger: logger.Discard})
			must(t, err)
			pool, err := plain.DB()
			must(t, err)
			defer pool.Close()
			column := fmt.Sprintf("added_%v", prepare)
			query := "SELECT * FROM entries WHERE n = ? -- until there is " + column
			read := func(db *gorm.DB) error {
				var all []map[string]any
				return db.Raw(query, 0).Scan(&all).Error
			}
			for range 5 {
				must(t, read(a.db))
				must(t, read(plain))
			}
			must(t, exec(t.Context(), c.Master, "ALTER TABLE entries ADD "+column+" INT"))
			must(t, c.CatchUp(t.Context()))
			failed := 0
			const reads = 20
			for range reads {
				must(t, read(a.db))
				if read(plain) != nil {
					failed++
				}
			}
			t.Logf("past the plugin %d of %d reads failed", failed, reads)
			if failed == 0 {
				t.Error("the control: no read failed")
			}
			must(t, a.serving(a.slaves[0]))
		})
	}
}

// pgBouncerClients asks the PgBouncer before a server how many clients it has. The server knows of PgBouncer
// alone, which keeps its connections when clients go.
func pgBouncerClients(ctx context.Context, s *servers.Server) (int, error) {
	u, err := url.Parse(s.DSN())
	if err != nil {
		return 0, errors.New("a DSN of package servers does not parse")
	}
	u.Path = "pgbouncer"
	conn, err := pgconn.Connect(ctx, u.String())
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	results, err := conn.Exec(ctx, "SHOW CLIENTS").ReadAll()
	if err != nil {
		return 0, err
	}
	n := 0
	for _, r := range results {
		for _, row := range r.Rows {
			for i, column := range r.FieldDescriptions {
				if column.Name == "database" && string(row[i]) == "test" {
					n++
				}
			}
		}
	}
	return n, nil
}
