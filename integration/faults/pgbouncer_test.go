package faults_test

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gorm-replicated/replicated/integration/servers"
)

// newPgBouncer is PostgreSQL behind PgBouncer in transaction mode. Faults befall the server, and the network before PgBouncer;
// apart tells what becomes of PgBouncer then.
func newPgBouncer(name string, apart bool, settings ...string) *engine {
	return &engine{
		name: name, apart: apart,
		dial: postgreSQL.dial,
		start: func(ctx context.Context, cfg servers.Config) (*servers.Cluster, error) {
			cfg.PgBouncer = servers.PgBouncer{Apart: apart, Settings: append([]string{
				"max_client_conn = 70", // so few that they are soon taken
				"auth_type = md5",      // for the same reason for which prepare has one round of hashing
			}, settings...)}
			return servers.StartPgBouncer(ctx, cfg)
		},
		options:  postgreSQL.options,
		prepare:  postgreSQL.prepare,
		through:  postgreSQL.through,
		slow:     postgreSQL.slow,
		active:   postgreSQL.active,
		data:     postgreSQL.data,
		killAll:  postgreSQL.killAll,
		clients:  pgBouncerClients,
		crowd:    postgreSQL.crowd, // of PgBouncer's clients
		lockOut:  postgreSQL.lockOut,
		readOnly: postgreSQL.readOnly,
		sever:    postgreSQL.sever,
		lose:     postgreSQL.lose,
		promote:  postgreSQL.promote,
		attach:   postgreSQL.attach,
	}
}

func init() { // these refer to that of PostgreSQL
	if servers.Wanted("PgBouncer") {
		engines = append(engines, newPgBouncer("PgBouncer", false), newPgBouncer("PgBouncer apart", true))
	}
}

// TestPgBouncerWithoutServer kills a slave whose PgBouncer goes on, for longer than a read may wait. PgBouncer has clients wait
// for the server, two minutes by its default, and tells others at once that it cannot reach it.
func TestPgBouncerWithoutServer(t *testing.T) {
	servers.Want(t, "PgBouncer")
	e := engines[slices.IndexFunc(engines, func(e *engine) bool { return e.apart })]
	c := e.cluster(t)
	a := open(t, e, c, nil)
	l := a.read(t, 200)
	l.served(t, 5*time.Second, 20, "slave 2", "slave 3")
	victim := a.slaves[0]
	healed(t, ensure(victim.Server))
	must(t, victim.Kill())
	for down := time.Now(); time.Since(down) < 2*bound; {
		l.more(t, 50)
	}
	must(t, victim.Start(t.Context()))
	again := l.served(t, back+allowance, 1, victim.String())
	l.stop()
	t.Logf("%v; it served again after %v", l.so(), again.Round(time.Millisecond))
	l.noneFailed(t)
	l.noneHung(t, bound)
}

// pgBouncerClients asks the PgBouncer before a server how many clients it has. The server itself tells who is connected to it:
// PgBouncer, which keeps its connections when clients go.
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
