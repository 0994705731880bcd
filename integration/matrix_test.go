package integration

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// cell is one use of GORM: what has to happen, and what is done. It runs under every intent, in every mode;
// db has the context and the mode. A cell reads what library has, and writes to rows of its own.
type cell struct {
	name   string
	script script
	do     func(db *gorm.DB, r *run) error
}

// run is one run of a cell.
type run struct {
	ctx    context.Context
	db     *gorm.DB // as given to the cell
	direct *gorm.DB // the master, without the plugin and past the journal
	n      int64    // belongs to this run alone
	name   string   // so does this
}

var runs atomic.Int64

// author creates an author of this run's own on the master, with a publisher, a portrait, two books, a genre
// and a review. The slaves may not have it yet.
func (r *run) author() *Author {
	a := &Author{
		Name: r.name, Publisher: &Publisher{Name: r.name}, Portrait: &Portrait{File: r.name},
		Books:  []Book{{Title: r.name}, {Title: r.name}},
		Genres: []Genre{{Code: r.name, Name: "own"}}, Reviews: []Review{{Text: r.name}},
	}
	if err := r.direct.Create(a).Error; err != nil {
		panic(err)
	}
	return a
}

// alone returns a as it is in its own table.
func alone(a *Author) *Author {
	return &Author{ID: a.ID, Name: a.Name, PublisherID: a.PublisherID}
}

// engine is a kind of database server.
type engine struct {
	name      string // as servers.Wanted knows it
	start     func() (*servers.Cluster, error)
	dial      func(dsn string) gorm.Dialector
	connector func(dsn string) (driver.Connector, error)
	dialector func(*sql.DB) gorm.Dialector
	who       string   // an expression for the server that evaluates it
	views     []string // SQL that creates the views witnesses and witnessed_books, with that answer in each row
	silent    []string // SQL that creates the function sign_in_silence, which writes a note
	answer    func(*servers.Server) string
	cells     []cell // that work on this engine alone

	lock         string // the end of a SELECT that shares a lock
	hold, isHeld string // SQL that sets something for one connection, and asks whether it is set
	returning    bool   // it has INSERT … RETURNING
	refuses      bool   // a slave refuses writes by itself, and these count as gone astray

	// unprepared: it cannot prepare SAVEPOINT, which GORM does if it is to prepare twice: see
	// TestPreparedSavepoint.
	unprepared bool
}

var engines = slices.DeleteFunc([]*engine{
	mariaDB(),
	mySQL(),
	{
		name: "PostgreSQL", start: shared(servers.StartPostgreSQL), dial: postgres.Open,
		connector: func(dsn string) (driver.Connector, error) {
			cfg, err := pgx.ParseConfig(dsn)
			if err != nil {
				return nil, err
			}
			return stdlib.GetConnector(*cfg), nil
		},
		dialector: func(pool *sql.DB) gorm.Dialector { return postgres.New(postgres.Config{Conn: pool}) },
		who:       "inet_server_port()",
		answer:    func(s *servers.Server) string { return strconv.Itoa(s.Port()) },
		views: []string{
			"CREATE OR REPLACE VIEW witnesses AS SELECT id, name, inet_server_port() AS server FROM authors",
			"CREATE OR REPLACE VIEW witnessed_books AS SELECT id, author_id, inet_server_port() AS server FROM books",
		},
		cells:     slices.Concat(returningCells, postgreSQLCells),
		lock:      "FOR SHARE",
		hold:      "SET app.here = '42'",
		isHeld:    "SELECT current_setting('app.here') = '42'",
		returning: true,
		refuses:   true,
	},
}, func(e *engine) bool { return !servers.Wanted(e.name) })

func mariaDB() *engine {
	e := binlogEngine("MariaDB", servers.StartMariaDB)
	e.cells = slices.Concat(returningCells, binlogCells, mariaDBCells)
	e.returning = true
	return e
}

func mySQL() *engine {
	e := binlogEngine("MySQL", servers.StartMySQL)
	e.cells = binlogCells
	e.unprepared = true
	return e
}

// binlogEngine returns what MariaDB and MySQL have in common.
func binlogEngine(name string, start starter) *engine {
	return &engine{
		name: name, start: shared(start, "--log-bin-trust-function-creators=ON"), dial: mysql.Open,
		connector: func(dsn string) (driver.Connector, error) {
			cfg, err := mysqldriver.ParseDSN(dsn)
			if err != nil {
				return nil, err
			}
			return mysqldriver.NewConnector(cfg)
		},
		dialector: func(pool *sql.DB) gorm.Dialector { return mysql.New(mysql.Config{Conn: pool}) },
		who:       "@@server_id",
		answer:    func(s *servers.Server) string { return strconv.Itoa(s.ID()) },
		views: []string{
			"DROP FUNCTION IF EXISTS answering",
			"CREATE FUNCTION answering() RETURNS INT NO SQL RETURN @@server_id",
			"CREATE OR REPLACE VIEW witnesses AS SELECT id, name, answering() AS server FROM authors",
			"CREATE OR REPLACE VIEW witnessed_books AS SELECT id, author_id, answering() AS server FROM books",
		},
		silent: []string{
			"DROP FUNCTION IF EXISTS sign_in_silence",
			"CREATE FUNCTION sign_in_silence() RETURNS INT MODIFIES SQL DATA " +
				"BEGIN INSERT INTO notes (text) VALUES ('function'); RETURN 1; END",
		},
		lock:   "LOCK IN SHARE MODE",
		hold:   "SET @here = 42",
		isHeld: "SELECT @here = 42",
	}
}

// serverOf returns the names of the servers by what they answer when asked who they are.
func (e *engine) serverOf(c *servers.Cluster) map[string]string {
	names := map[string]string{e.answer(c.Master): c.Master.String()}
	for _, s := range c.Slaves {
		names[e.answer(s)] = s.String()
	}
	return names
}

// pool returns connections to a server that write into the journal.
func (e *engine) pool(t *testing.T, c *servers.Cluster, s *servers.Server, j *journal) *sql.DB {
	t.Helper()
	connector, err := e.connector(s.DSN())
	if err != nil {
		t.Fatal(err)
	}
	pool := sql.OpenDB(&recorder{connector, j, "SELECT " + e.who, e.serverOf(c)})
	pool.SetMaxIdleConns(8)
	t.Cleanup(func() { pool.Close() })
	return pool
}

// open opens the cluster with the plugin, which tells the journal.
func (e *engine) open(
	t *testing.T, c *servers.Cluster, j *journal, config gorm.Config,
) (*gorm.DB, *replicated.Plugin) {
	t.Helper()
	return e.openOn(t, c, j, config, func(slave *servers.Server) *servers.Server { return slave })
}

// openOn is open with other servers in the place of the slaves.
func (e *engine) openOn(
	t *testing.T, c *servers.Cluster, j *journal, config gorm.Config,
	instead func(*servers.Server) *servers.Server,
) (*gorm.DB, *replicated.Plugin) {
	t.Helper()
	config.Logger = logger.Discard
	db, err := gorm.Open(e.dialector(e.pool(t, c, c.Master, j)), &config)
	if err != nil {
		t.Fatal(err)
	}
	cfg := replicated.Config{Observer: j, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	for _, s := range c.Slaves {
		pool := e.pool(t, c, instead(s), j)
		cfg.Slaves = append(cfg.Slaves, replicated.Server{Dialector: e.dialector(pool), ID: s.String()})
	}
	p := replicated.New(cfg)
	if err := db.Use(p); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return db, p
}

// openDirect opens the master alone, without the plugin.
func (e *engine) openDirect(c *servers.Cluster) (*gorm.DB, error) {
	connector, err := e.connector(c.Master.DSN())
	if err != nil {
		return nil, err
	}
	return gorm.Open(e.dialector(sql.OpenDB(connector)), &gorm.Config{
		Logger: logger.Discard, DisableForeignKeyConstraintWhenMigrating: true,
	})
}

// intent is a way to say whether a piece of code writes or reads.
type intent struct {
	name    string
	read    replicated.Intent // what it makes of a read
	reason  replicated.Reason
	session bool // it comes from a request, which remembers that it wrote
	with    func(*replicated.Plugin, func(context.Context))
}

func request(method string) func(*replicated.Plugin, func(context.Context)) {
	return func(p *replicated.Plugin, f func(context.Context)) {
		handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { f(observed(r.Context())) })
		p.Middleware(handler).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, "/", nil))
	}
}

var intents = []intent{
	{"WithMaster", replicated.Master, replicated.ReasonContext, false,
		func(_ *replicated.Plugin, f func(context.Context)) {
			f(replicated.WithMaster(observed(context.Background())))
		}},
	{"WithSlave", replicated.Slave, replicated.ReasonContext, false,
		func(_ *replicated.Plugin, f func(context.Context)) {
			f(replicated.WithSlave(observed(context.Background())))
		}},
	{"POST", replicated.Master, replicated.ReasonMethod, true, request("POST")},
	{"GET", replicated.Slave, replicated.ReasonMethod, true, request("GET")},
}

// preparing are the ways to use prepared statements.
var preparing = []struct {
	name    string
	config  gorm.Config
	session gorm.Session
}{
	{"unprepared", gorm.Config{}, gorm.Session{}},
	{"PrepareStmt", gorm.Config{PrepareStmt: true}, gorm.Session{}},
	{"PrepareStmt per session", gorm.Config{}, gorm.Session{PrepareStmt: true}},
	{preparingTwice, gorm.Config{PrepareStmt: true}, gorm.Session{PrepareStmt: true}},
}

// TestMatrix runs all that GORM can do, under every intent and in every mode, and compares which server was
// to run each statement, and why, with the statements that reached each server.
func TestMatrix(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			c, direct := library(t, e)
			for i, mode := range preparing {
				t.Run(mode.name, func(t *testing.T) {
					j := &journal{}
					db, p := e.open(t, c, j, mode.config)
					for _, as := range intents {
						t.Run(as.name, func(t *testing.T) {
							cells := slices.Concat(queryCells(), e.cells)
							// That a migration runs on the master under Master says little.
							if i == 0 || as.read == replicated.Slave {
								cells = append(cells, migratorCells...)
							}
							for _, cell := range cells {
								if e.lacks(mode.name, cell) {
									continue
								}
								t.Run(cell.name, func(t *testing.T) {
									r := &run{direct: direct, n: runs.Add(1)}
									r.name = "run " + strconv.FormatInt(r.n, 10)
									var err error
									j.take()
									as.with(p, func(ctx context.Context) {
										r.ctx, r.db = ctx, db.WithContext(ctx).Session(&mode.session)
										err = cell.do(r.db, r)
									})
									if err != nil {
										t.Error(err)
									}
									if err := cell.script.check(as, j.take()); err != nil {
										t.Error(err)
									}
								})
							}
						})
					}
				})
			}
		})
	}
}

// preparingTwice is the name of a way to use prepared statements.
const preparingTwice = "PrepareStmt both ways"

// lacks says whether plain GORM cannot do on the engine what the cell does.
func (e *engine) lacks(mode string, c cell) bool {
	return e.unprepared && mode == preparingTwice && strings.Contains(string(c.script), "SAVEPOINT")
}

// TestPreparedSavepoint shows why the matrix leaves out savepoints where GORM prepares twice, on an engine
// that cannot prepare them: plain GORM fails with the same error as with the plugin, and does not where it
// prepares once.
func TestPreparedSavepoint(t *testing.T) {
	for _, e := range engines {
		if !e.unprepared {
			continue
		}
		t.Run(e.name, func(t *testing.T) {
			c, _ := library(t, e)
			for _, mode := range preparing {
				t.Run(mode.name, func(t *testing.T) {
					savepoint := func(db *gorm.DB) error {
						return db.Session(&mode.session).Transaction(func(tx *gorm.DB) error {
							return tx.SavePoint("here").Error
						})
					}
					config := mode.config
					config.Logger = logger.Discard
					plain, err := gorm.Open(e.dial(c.Master.DSN()), &config)
					if err != nil {
						t.Fatal(err)
					}
					defer closeDB(plain)
					with, _ := e.open(t, c, &journal{}, mode.config)
					withPlugin, without := savepoint(with), savepoint(plain)
					if fmt.Sprint(withPlugin) != fmt.Sprint(without) || (without != nil) != (mode.name == preparingTwice) {
						t.Errorf("%v, and without the plugin %v", withPlugin, without)
					}
				})
			}
		})
	}
}

// queryCells are the cells that work on every engine, but those of migrations, which take their time.
func queryCells() []cell {
	return slices.Concat(finisherCells, writeCells, relationCells, hookCells, transactionCells, clauseCells,
		genericCells)
}

// all are all cells of the engine.
func (e *engine) all() []cell { return slices.Concat(queryCells(), e.cells, migratorCells) }

// stocked are the clusters that have the library.
var stocked sync.Map // *servers.Cluster to the *gorm.DB of openDirect

// library starts the engine's shared servers with the rows that cells read, and returns them with a *gorm.DB
// of the master alone. A slave that has been written to by the end of the test fails it.
func library(t *testing.T, e *engine) (*servers.Cluster, *gorm.DB) {
	t.Helper()
	c, err := e.start()
	servers.Check(t, err)
	t.Cleanup(func() { noWriteOnASlave(t, c) })
	if direct, ok := stocked.Load(c); ok {
		return c, direct.(*gorm.DB)
	}
	direct, err := e.openDirect(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := direct.AutoMigrate(models...); err != nil {
		t.Fatal(err)
	}
	publisher := Publisher{ID: known, Name: "known"}
	for id := known; id < known+3; id++ {
		err := direct.Create(&Author{
			ID: id, Name: "known", Age: int(id), Publisher: &publisher, Portrait: &Portrait{File: "known"},
			Books:  []Book{{Title: "known", Reviews: []Review{{Text: "known"}}}, {Title: "known"}},
			Genres: []Genre{{Code: fmt.Sprint("known ", id), Name: "known"}}, Reviews: []Review{{Text: "known"}},
		}).Error
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, q := range e.views {
		if err := direct.Exec(q).Error; err != nil {
			t.Fatal(err)
		}
	}
	err = errors.Join(
		direct.Create(&[]Draft{{ID: known, Title: "known"},
			{ID: known + 1, Title: "known", DeletedAt: gorm.DeletedAt{Time: time.Unix(1, 0), Valid: true}}}).Error,
		direct.Session(&gorm.Session{SkipHooks: true}).
			Create(&[]Watched{{ID: known, Name: "known"}, {ID: known + 1, Name: "known"}}).Error,
		direct.Session(&gorm.Session{SkipHooks: true}).Create(&Diary{ID: known, Text: "known"}).Error,
		c.CatchUp(t.Context()),
	)
	if err != nil {
		t.Fatal(err)
	}
	stocked.Store(c, direct)
	return c, direct
}

// known is the first of three authors that all servers have, each with two books, of which one has a review,
// and one of everything else. It is also a draft, a deleted draft being next to it, and the first of two
// watched.
const known int64 = 1_000_000

var models = []any{
	&Note{}, &Publisher{}, &Author{}, &Portrait{}, &Book{}, &Genre{}, &Review{}, &Draft{}, &Watched{}, &Diary{},
}

type (
	Author struct {
		ID          int64
		Name        string `gorm:"size:50"`
		Age         int
		PublisherID *int64
		Publisher   *Publisher
		Portrait    *Portrait
		Books       []Book
		Genres      []Genre  `gorm:"many2many:author_genres"`
		Reviews     []Review `gorm:"polymorphic:Subject"`
	}
	Publisher struct {
		ID   int64
		Name string `gorm:"size:50"`
	}
	Portrait struct {
		ID       int64
		AuthorID *int64
		File     string `gorm:"size:50"`
	}
	Book struct {
		ID       int64
		AuthorID *int64
		Author   *Author
		Title    string `gorm:"size:50"`
		Pages    int
		Reviews  []Review `gorm:"polymorphic:Subject"`
	}
	Genre struct {
		Code string `gorm:"primaryKey;size:50"`
		Name string `gorm:"size:50"`
	}
	Review struct {
		ID          int64
		SubjectID   *int64
		SubjectType string `gorm:"size:50"`
		Text        string `gorm:"size:50"`
	}
	// Draft is deleted softly.
	Draft struct {
		ID        int64
		Title     string `gorm:"size:50"`
		DeletedAt gorm.DeletedAt
	}
)

// expect returns an error unless err is target.
func expect(target, err error) error {
	if !errors.Is(err, target) {
		return fmt.Errorf("error %v, want %w", err, target)
	}
	return nil
}

// count returns an error unless there are as many as wanted.
func count[N int | int64](want, got N, err error) error {
	if err == nil && got != want {
		return fmt.Errorf("%d, want %d", got, want)
	}
	return err
}

// TestMatrixIsComplete has a cell for every method that GORM exports: the cells are named after them.
func TestMatrixIsComplete(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			var names []string
			for _, c := range e.all() {
				name, _, _ := strings.Cut(c.name, ":")
				names = append(names, strings.Fields(name)...)
			}
			complete(t, names)
		})
	}
}

func complete(t *testing.T, names []string) {
	t.Helper()
	inherited := methods[*gorm.Config]() // of gorm.DB, from its configuration: they run nothing
	nothing := []string{
		"AddError", "Callback", "Get", "InstanceGet", "Use", // of gorm.DB
	}
	for prefix, all := range map[string][]string{
		"": slices.DeleteFunc(methods[*gorm.DB](),
			func(m string) bool { return slices.Contains(inherited, m) }),
		"Association.": methods[*gorm.Association](),
		"Migrator.":    methods[gorm.Migrator](),
		"G.": slices.Concat(
			methods[gorm.Interface[Author]](), methods[gorm.ChainInterface[Author]](),
			methods[gorm.CreateInterface[Author]](), methods[gorm.ExecInterface[Author]](),
			methods[gorm.SetCreateOrUpdateInterface[Author]](), methods[gorm.SetUpdateOnlyInterface[Author]]()),
	} {
		if len(all) == 0 {
			t.Errorf("%q: no methods", prefix)
		}
		for _, m := range all {
			if !slices.Contains(names, prefix+m) && !slices.Contains(nothing, m) {
				t.Errorf("no cell for %s%s", prefix, m)
			}
		}
	}
}

func methods[T any]() (names []string) {
	for t, i := reflect.TypeFor[T](), 0; i < t.NumMethod(); i++ {
		names = append(names, t.Method(i).Name)
	}
	return names
}
