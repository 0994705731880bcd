// Package integration tests the plugin on real servers.
package integration

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// starter is servers.StartMariaDB and the like.
type starter func(context.Context, servers.Config) (*servers.Cluster, error)

// started is what shared started.
var started []*servers.Cluster

// shared starts the servers that the tests of this package share when it is called for the first time, all
// with the same options.
func shared(start starter, options ...string) func() (*servers.Cluster, error) {
	return sync.OnceValues(func() (*servers.Cluster, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c, err := start(ctx, servers.Config{Slaves: 2, MasterOptions: options, SlaveOptions: options})
		if err == nil {
			started = append(started, c)
		}
		return c, err
	})
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, c := range started {
		if err := c.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// house is an engine's servers, with a table of notes.
type house struct {
	*engine
	*servers.Cluster
}

// eachHouse runs a test on each engine. It fails if a slave has been written to by the time the test ends.
func eachHouse(t *testing.T, test func(*testing.T, house)) {
	t.Helper()
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			c, err := e.start()
			servers.Check(t, err)
			h := house{e, c}
			t.Cleanup(func() { noWriteOnASlave(t, c) })
			h.stock(t)
			test(t, h)
		})
	}
}

// stock makes the table of notes with one in it, and the function that writes without looking like it.
func (h house) stock(t *testing.T) {
	t.Helper()
	db, err := gorm.Open(h.dial(h.Master.DSN()), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		t.Fatal(err)
	}
	defer closeDB(db)
	err = db.AutoMigrate(&Note{})
	for _, q := range h.silent {
		err = errors.Join(err, db.Exec(q).Error)
	}
	if err := errors.Join(err, db.Create(&Note{Text: "first"}).Error, h.CatchUp(t.Context())); err != nil {
		t.Fatal(err)
	}
}

func noWriteOnASlave(t *testing.T, c *servers.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, slave := range c.Slaves {
		own, err := slave.OwnTransactions(ctx)
		if err != nil {
			t.Error(err)
		}
		if len(own) > 0 {
			t.Errorf("writes went astray to %v:\n%s", slave, strings.Join(own, "\n"))
		}
	}
}

type Note struct {
	ID   int64
	Text string `gorm:"size:200"`
}

// modes are the ways to use prepared statements.
var modes = []struct {
	name    string
	config  gorm.Config
	session gorm.Session
}{
	{"plain", gorm.Config{}, gorm.Session{}},
	{"PrepareStmt", gorm.Config{PrepareStmt: true}, gorm.Session{}},
	{"PrepareStmt per session", gorm.Config{}, gorm.Session{PrepareStmt: true}},
	{"SkipDefaultTransaction", gorm.Config{SkipDefaultTransaction: true}, gorm.Session{}},
}

// open opens the servers with the plugin, as an application would.
func (h house) open(
	t *testing.T, gormConfig gorm.Config, change func(*replicated.Config),
) (*gorm.DB, *replicated.Plugin) {
	t.Helper()
	gormConfig.Logger = logger.Discard
	db, err := gorm.Open(h.dial(h.Master.DSN()), &gormConfig)
	if err != nil {
		t.Fatal(err)
	}
	var cfg replicated.Config
	for _, slave := range h.Slaves {
		cfg.Slaves = append(cfg.Slaves, h.dial(slave.DSN()))
	}
	if change != nil {
		change(&cfg)
	}
	p := replicated.New(cfg)
	if err := db.Use(p); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		closeDB(db)
	})
	awaitSlaves(t, p)
	return db, p
}

// awaitSlaves waits until all slaves are read. On a busy machine db.Use does not.
func awaitSlaves(t *testing.T, p *replicated.Plugin) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		waits := false
		for _, s := range p.Status().Groups[0].Servers {
			waits = waits || !s.Serving // masters always do
		}
		if !waits {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("slaves are not read: %+v", p.Status().Groups[0].Servers)
		}
	}
}

func closeDB(db *gorm.DB) {
	if sqlDB, err := db.DB(); err == nil {
		sqlDB.Close()
	}
}

// whoAnswers asks the server itself: "master", "slave 2" or "slave 3".
func (h house) whoAnswers(db *gorm.DB) (string, error) {
	var answer string
	err := db.Raw("SELECT " + h.who).Scan(&answer).Error
	return h.serverOf(h.Cluster)[answer], err
}

// role returns what kind of server answers.
func (h house) role(db *gorm.DB) (string, error) {
	who, err := h.whoAnswers(db)
	return roleOf(who), err
}

func roleOf(server string) string {
	role, _, _ := strings.Cut(server, " ")
	return role
}

// TestRequests runs a real net/http server over real servers, and asks them
// who answered.
func TestRequests(t *testing.T) { eachHouse(t, testRequests) }

func testRequests(t *testing.T, h house) {
	off := false
	// selects reads the server that answers by the table of notes.
	selects := func(db *gorm.DB) (string, error) {
		var answer string
		err := db.Model(&Note{}).Select(h.who).Limit(1).Scan(&answer).Error
		return roleOf(h.serverOf(h.Cluster)[answer]), err
	}
	steps := map[string]func(*gorm.DB) (string, error){
		"read":  h.role,
		"model": selects,
		"write, then read": func(db *gorm.DB) (string, error) {
			note := Note{Text: "hello"}
			if err := db.Create(&note).Error; err != nil {
				return "", err
			}
			if err := db.First(&Note{}, note.ID).Error; err != nil { // read your own write
				return "", err
			}
			return h.role(db)
		},
		"write with RETURNING, then read": func(db *gorm.DB) (string, error) {
			var note Note
			err := db.Raw("INSERT INTO notes (text) VALUES ('raw') RETURNING id, text").Scan(&note).Error
			if err != nil || note.ID == 0 {
				return "", fmt.Errorf("%+v, %w", note, err)
			}
			if err := db.First(&Note{}, note.ID).Error; err != nil {
				return "", err
			}
			return h.role(db)
		},
		"lock": func(db *gorm.DB) (string, error) {
			return selects(db.Clauses(clause.Locking{Strength: "UPDATE"}))
		},
		"raw lock": func(db *gorm.DB) (string, error) {
			var answer string
			err := db.Raw("SELECT " + h.who + " FROM notes LIMIT 1 " + h.lock).Scan(&answer).Error
			return roleOf(h.serverOf(h.Cluster)[answer]), err
		},
		"clause Master":    func(db *gorm.DB) (string, error) { return h.role(db.Clauses(replicated.Master)) },
		"clause Slave":     func(db *gorm.DB) (string, error) { return h.role(db.Clauses(replicated.Slave)) },
		"dbresolver.Write": func(db *gorm.DB) (string, error) { return h.role(db.Clauses(dbresolver.Write)) },
		"dbresolver.Read":  func(db *gorm.DB) (string, error) { return h.role(db.Clauses(dbresolver.Read)) },
		"WithMaster": func(db *gorm.DB) (string, error) {
			return h.role(db.WithContext(replicated.WithMaster(db.Statement.Context)))
		},
		"WithSlave": func(db *gorm.DB) (string, error) {
			return h.role(db.WithContext(replicated.WithSlave(db.Statement.Context)))
		},
		"without the request's context": func(db *gorm.DB) (string, error) {
			return h.role(db.WithContext(context.Background()))
		},
		"transaction":           h.inTransaction(nil),
		"read-only transaction": h.inTransaction(&sql.TxOptions{ReadOnly: true}),
		"clause Slave, transaction": func(db *gorm.DB) (string, error) {
			return h.inTransaction(nil)(db.Clauses(replicated.Slave))
		},
		"clause Master, read-only transaction": func(db *gorm.DB) (string, error) {
			return h.inTransaction(&sql.TxOptions{ReadOnly: true})(db.Clauses(replicated.Master))
		},
		"serializable transaction": h.inTransaction(
			&sql.TxOptions{ReadOnly: true, Isolation: sql.LevelSerializable}),
		"write in a transaction, then read": func(db *gorm.DB) (string, error) {
			note := Note{Text: "in a transaction"}
			err := db.Transaction(func(tx *gorm.DB) error {
				return tx.Transaction(func(tx *gorm.DB) error { return tx.Create(&note).Error })
			})
			if err != nil {
				return "", err
			}
			if err := db.First(&Note{}, note.ID).Error; err != nil {
				return "", err
			}
			return h.role(db)
		},
		"connection": func(db *gorm.DB) (who string, err error) {
			err = db.Connection(func(tx *gorm.DB) error {
				var same bool
				if err := tx.Session(&gorm.Session{}).Exec(h.hold).Error; err != nil {
					return err
				}
				if err := tx.Session(&gorm.Session{}).Create(&Note{Text: "on a connection"}).Error; err != nil {
					return err
				}
				if err := tx.Session(&gorm.Session{}).Raw(h.isHeld).Scan(&same).Error; err != nil || !same {
					return fmt.Errorf("left the connection: %w", err)
				}
				who, err = h.role(tx.Session(&gorm.Session{}))
				return err
			})
			return who, err
		},
	}
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			for _, test := range []struct {
				name, method, path string
				step               string
				off                bool
				want               string
			}{
				{"GET", "GET", "/", "read", false, "slave"},
				{"GET of a model", "GET", "/", "model", false, "slave"},
				{"HEAD", "HEAD", "/", "read", false, "slave"},
				{"POST", "POST", "/", "read", false, "master"},
				{"PUT", "PUT", "/", "read", false, "master"},
				{"DELETE", "DELETE", "/", "read", false, "master"},
				{"switched off", "GET", "/", "read", true, "master"},
				{"switched off, UseSlave", "GET", "/slave", "read", true, "slave"},
				{"UseMaster", "GET", "/master", "read", false, "master"},
				{"UseSlave", "POST", "/slave", "read", false, "slave"},
				{"both marks", "GET", "/both", "read", false, "master"},
				{"Routes", "POST", "/search", "read", false, "slave"},
				{"POST that writes", "POST", "/", "write, then read", false, "master"},
				{"GET that writes", "GET", "/", "write, then read", false, "master"},
				{"UseSlave that writes", "POST", "/slave", "write, then read", false, "master"},
				{"GET that writes with RETURNING", "GET", "/", "write with RETURNING, then read", false, "master"},
				{"GET that locks", "GET", "/", "lock", false, "master"},
				{"GET that locks in raw SQL", "GET", "/", "raw lock", false, "master"},
				{"clause Master", "GET", "/", "clause Master", false, "master"},
				{"clause Slave", "POST", "/", "clause Slave", false, "slave"},
				{"dbresolver.Write", "GET", "/", "dbresolver.Write", false, "master"},
				{"dbresolver.Read", "POST", "/", "dbresolver.Read", false, "slave"},
				{"WithMaster", "GET", "/", "WithMaster", false, "master"},
				{"WithSlave", "POST", "/", "WithSlave", false, "slave"},
				{"without the request's context", "GET", "/", "without the request's context", false, "master"},
				{"GET, transaction", "GET", "/", "transaction", false, "master"},
				{"GET, read-only transaction", "GET", "/", "read-only transaction", false, "slave"},
				{"POST, transaction", "POST", "/", "transaction", false, "master"},
				{"POST, read-only transaction", "POST", "/", "read-only transaction", false, "master"},
				{"clause Slave, transaction", "POST", "/", "clause Slave, transaction", false, "slave"},
				{"clause Master, read-only transaction", "GET", "/", "clause Master, read-only transaction",
					false, "master"},
				{"serializable transaction", "GET", "/", "serializable transaction", false, "master"},
				{"GET that writes in a transaction", "GET", "/", "write in a transaction, then read", false, "master"},
				{"GET on a connection", "GET", "/", "connection", false, "master"},
			} {
				if strings.Contains(test.step, "RETURNING") && !h.returning {
					continue
				}
				t.Run(test.name, func(t *testing.T) {
					db, p := h.open(t, mode.config, func(cfg *replicated.Config) {
						cfg.Routes = map[string]replicated.Intent{"POST /search": replicated.Slave}
						if test.off {
							cfg.AutoReadOnSlave = &off
						}
					})
					handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						who, err := steps[test.step](db.WithContext(r.Context()).Session(&mode.session))
						if err != nil {
							http.Error(w, err.Error(), http.StatusInternalServerError)
						}
						w.Header().Set("Answered-By", who)
					})
					mux := http.NewServeMux()
					mux.Handle("/", handler)
					mux.Handle("/master", replicated.UseMaster(handler))
					mux.Handle("/slave", replicated.UseSlave(handler))
					mux.Handle("/both", replicated.UseSlave(replicated.UseMaster(handler)))
					server := httptest.NewServer(p.Middleware(mux))
					defer server.Close()

					request, err := http.NewRequestWithContext(t.Context(), test.method, server.URL+test.path, nil)
					if err != nil {
						t.Fatal(err)
					}
					response, err := server.Client().Do(request)
					if err != nil {
						t.Fatal(err)
					}
					defer response.Body.Close()
					body, _ := io.ReadAll(response.Body)
					if got := response.Header.Get("Answered-By"); response.StatusCode != http.StatusOK || got != test.want {
						t.Errorf("answered by %q, want %q; %s %s", got, test.want, response.Status, body)
					}
				})
			}
		})
	}
}

// inTransaction asks twice in one transaction: the second time the statement
// may be prepared already.
func (h house) inTransaction(opts *sql.TxOptions) func(*gorm.DB) (string, error) {
	return func(db *gorm.DB) (role string, err error) {
		err = db.Transaction(func(tx *gorm.DB) error {
			var seen []string
			for range 2 {
				who, err := h.whoAnswers(tx)
				if err != nil {
					return err
				}
				seen = append(seen, who)
			}
			if seen[0] != seen[1] {
				return fmt.Errorf("one transaction on two servers: %v", seen)
			}
			role = roleOf(seen[0])
			return nil
		}, opts)
		return role, err
	}
}

// TestBothSlavesServe has the requests spread over the slaves, and each
// request stay on one.
func TestBothSlavesServe(t *testing.T) { eachHouse(t, testBothSlavesServe) }

func testBothSlavesServe(t *testing.T, h house) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			db, p := h.open(t, mode.config, nil)
			server := httptest.NewServer(p.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var seen []string
				for range 3 {
					who, err := h.whoAnswers(db.WithContext(r.Context()).Session(&mode.session))
					if err != nil {
						http.Error(w, err.Error(), http.StatusInternalServerError)
						return
					}
					if !slices.Contains(seen, who) {
						seen = append(seen, who)
					}
				}
				fmt.Fprint(w, seen)
			})))
			defer server.Close()
			var answered []string
			for range 40 { // that one slave gets them all by chance: once in 2^39
				response, err := server.Client().Get(server.URL)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(response.Body)
				response.Body.Close()
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Contains(answered, string(body)) {
					answered = append(answered, string(body))
				}
			}
			slices.Sort(answered)
			if want := []string{"[slave 2]", "[slave 3]"}; !slices.Equal(answered, want) {
				t.Errorf("answered by %v, want %v", answered, want)
			}
		})
	}
}

// TestNoWriteThroughASlavesTransaction has what nobody sees in the SQL, a
// stored function that writes, be refused by the server: the transaction is read-only there.
func TestNoWriteThroughASlavesTransaction(t *testing.T) {
	eachHouse(t, func(t *testing.T, h house) {
		if !h.refuses { // what a standby refuses counts as gone astray; see TestRefusedByAStandby
			testNoWriteThroughASlavesTransaction(t, h)
		}
	})
}

func testNoWriteThroughASlavesTransaction(t *testing.T, h house) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			db, _ := h.open(t, mode.config, nil)
			db = db.WithContext(t.Context()).Session(&mode.session)
			var n int
			err := db.Clauses(replicated.Slave).Transaction(func(tx *gorm.DB) error {
				if err := tx.Create(&Note{Text: "astray"}).Error; !errors.Is(err, replicated.ErrWriteOnSlave) {
					t.Errorf("Create: %v", err)
				}
				return tx.Raw("SELECT sign_in_silence()").Scan(&n).Error
			})
			if err == nil || !strings.Contains(err.Error(), "READ ONLY transaction") {
				t.Errorf("a function that writes: %v", err)
			}
			// The control: the function does write where it may.
			if err := db.Clauses(replicated.Master).Raw("SELECT sign_in_silence()").Scan(&n).
				Error; err != nil || n != 1 {
				t.Errorf("on the master: %d, %v", n, err)
			}
		})
	}
}

// TestMigratorUsesTheMaster has AutoMigrate run under a Slave intent while the
// slaves are behind: what it asks before each change has to be answered by the master.
func TestMigratorUsesTheMaster(t *testing.T) { eachHouse(t, testMigratorUsesTheMaster) }

func testMigratorUsesTheMaster(t *testing.T, h house) {
	type v1 struct {
		ID   int64
		Name string `gorm:"size:50;index"`
	}
	type v2 struct {
		ID    int64
		Name  string `gorm:"size:100;index"`
		Email string `gorm:"size:100;uniqueIndex"`
	}
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			seen := &servedBy{}
			db, _ := h.open(t, mode.config, func(cfg *replicated.Config) { cfg.Observer = seen })
			holdAll(t, h.Cluster)
			db = db.WithContext(replicated.WithSlave(t.Context())).Session(&mode.session)
			table := db.Table("migrated").Session(&gorm.Session{})
			for _, model := range []any{&v1{}, &v1{}, &v2{}, &v2{}} {
				if err := table.AutoMigrate(model); err != nil {
					t.Fatalf("%T: %v", model, err)
				}
			}
			m := table.Migrator()
			if !m.HasTable("migrated") || !m.HasColumn("migrated", "email") || !m.HasIndex(&v2{}, "Email") {
				t.Error("what was migrated is not there")
			}
			if types, err := m.ColumnTypes("migrated"); err != nil || len(types) != 3 {
				t.Errorf("%d columns, %v; want 3", len(types), err)
			}
			if err := m.DropTable("migrated"); err != nil {
				t.Error(err)
			}
			for _, r := range seen.take() {
				if r.Intent != replicated.Master && r.Server != "" {
					t.Errorf("%+v", r)
				}
			}
			// The control: an ordinary query in the same session is answered by a slave.
			if role, err := h.role(db); err != nil || role != "slave" {
				t.Errorf("answered by %s, %v", role, err)
			}
		})
	}
}

// servedBy remembers routes.
type servedBy struct {
	mu     sync.Mutex
	routes []replicated.Route
}

func (o *servedBy) Routed(_ context.Context, r replicated.Route) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.routes = append(o.routes, r)
}

func (o *servedBy) take() []replicated.Route {
	o.mu.Lock()
	defer o.mu.Unlock()
	taken := o.routes
	o.routes = nil
	return taken
}

// reasons returns the reasons of the routes since the last call.
func (o *servedBy) reasons() (reasons []replicated.Reason) {
	for _, r := range o.take() {
		reasons = append(reasons, r.Reason)
	}
	return reasons
}

// TestReadOnlySlaves has slaves as they should be run: what one refuses runs
// on the master, in the same call.
func TestReadOnlySlaves(t *testing.T) {
	functions := "--log-bin-trust-function-creators=ON"
	cfg := servers.Config{Slaves: 1, MasterOptions: []string{functions},
		SlaveOptions: []string{functions, "--read-only=ON"}}
	eachBinlog(t, cfg, testReadOnlySlaves)
}

// eachBinlog runs a test on MariaDB and MySQL, with servers of its own.
func eachBinlog(t *testing.T, cfg servers.Config, test func(*testing.T, house)) {
	t.Helper()
	starts := map[string]func(testing.TB, servers.Config) *servers.Cluster{
		"MariaDB": servers.MariaDB, "MySQL": servers.MySQL,
	}
	for _, e := range engines {
		if start, ok := starts[e.name]; ok {
			t.Run(e.name, func(t *testing.T) { test(t, house{e, start(t, cfg)}) })
		}
	}
}

func testReadOnlySlaves(t *testing.T, h house) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			h.stock(t)
			var logged bytes.Buffer
			routes := &servedBy{}
			db, _ := h.open(t, mode.config, func(cfg *replicated.Config) {
				cfg.Observer, cfg.Logger = routes, slog.New(slog.NewTextHandler(&logged, nil))
			})
			routes.take()
			db = db.WithContext(replicated.WithSlave(t.Context())).Session(&mode.session)
			for i := range 3 {
				var n int
				if err := db.Raw("SELECT sign_in_silence()").Scan(&n).Error; err != nil || n != 1 {
					t.Errorf("call %d: %d, %v", i, n, err)
				}
			}
			want := []replicated.Reason{replicated.ReasonContext, replicated.ReasonRefused, replicated.ReasonWrite,
				replicated.ReasonWrite}
			if got := routes.reasons(); !slices.Equal(got, want) {
				t.Errorf("routes %v, want %v", got, want)
			}
			if n := strings.Count(logged.String(), "sign_in_silence"); n != 1 {
				t.Errorf("logged %d times:\n%s", n, &logged)
			}
			var n int64
			if err := db.Clauses(replicated.Master).Model(&Note{}).Count(&n).Error; err != nil || n != 4 {
				t.Errorf("%d notes, want the first and three; %v", n, err)
			}
			if err := db.Exec("DROP TABLE notes").Error; err != nil {
				t.Error(err)
			}
		})
	}
	noWriteOnASlave(t, h.Cluster)
}

// TestStrayWritesAreSeen is the control of all the tests above: on servers of
// its own, a write that does go to a slave succeeds and is found.
func TestStrayWritesAreSeen(t *testing.T) {
	eachBinlog(t, servers.Config{Slaves: 1}, testStrayWritesAreSeen)
}

func testStrayWritesAreSeen(t *testing.T, h house) {
	slave, err := gorm.Open(h.dial(h.Slaves[0].DSN()), &gorm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeDB(slave)
	if err := slave.Exec("CREATE TABLE astray (id INT)").Error; err != nil {
		t.Fatal(err)
	}
	own, err := h.Slaves[0].OwnTransactions(t.Context())
	if err != nil || len(own) != 1 {
		t.Errorf("found %q, %v; want one transaction", own, err)
	}
}

// holdAll stops the replay on all slaves until the test ends.
func holdAll(t *testing.T, c *servers.Cluster) {
	t.Helper()
	for _, slave := range c.Slaves {
		if err := slave.Hold(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for _, slave := range c.Slaves {
			if err := slave.Release(ctx); err != nil {
				t.Error(err)
			}
		}
		if err := c.CatchUp(ctx); err != nil {
			t.Error(err)
		}
	})
}

// TestSlavesAreBehind shows on a held slave that reads do come from it, and
// that a request which wrote does not.
func TestSlavesAreBehind(t *testing.T) { eachHouse(t, testSlavesAreBehind) }

func testSlavesAreBehind(t *testing.T, h house) {
	db, p := h.open(t, gorm.Config{}, nil)
	holdAll(t, h.Cluster)
	text := fmt.Sprintf("held at %d", time.Now().UnixNano())
	count := func(db *gorm.DB) (n int64) {
		if err := db.Model(&Note{}).Where("text = ?", text).Count(&n).Error; err != nil {
			t.Error(err)
		}
		return n
	}
	request := func(method string, f func(db *gorm.DB)) {
		p.Middleware(http.HandlerFunc(func(_ http.ResponseWriter,
			r *http.Request) {
			f(db.WithContext(r.Context()))
		})).
			ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, "/", nil))
	}
	request("POST", func(db *gorm.DB) {
		if err := db.Create(&Note{Text: text}).Error; err != nil {
			t.Error(err)
		}
		if n := count(db); n != 1 {
			t.Errorf("the request that wrote finds %d of its own", n)
		}
	})
	request("GET", func(db *gorm.DB) {
		if n := count(db); n != 0 {
			t.Errorf("the next request finds %d: it was not served by a held slave", n)
		}
		if n := count(db.Clauses(replicated.Master)); n != 1 {
			t.Errorf("on the master there are %d", n)
		}
	})
}
