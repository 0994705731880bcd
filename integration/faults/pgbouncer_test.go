package faults_test

import (
	"context"
	"errors"
	"net/url"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gorm-replicated/replicated/integration/servers"
)

// newPgBouncer is PostgreSQL behind PgBouncer in transaction mode. Faults befall the server, and the network before PgBouncer;
// apart tells what becomes of PgBouncer then.
func newPgBouncer(name string, apart bool, settings ...string) *engine {
	return &engine{
		name: name,
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
