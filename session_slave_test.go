package replicated_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-sql-driver/mysql"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gorm-replicated/replicated"
)

// TestRemembered has requests in many states read, and holds where they read against what the rules allow a
// session that remembers nothing of the slave that it has read.
func TestRemembered(t *testing.T) {
	texts := []string{
		"SELECT * FROM users", "SELECT * FROM users WHERE id = ? LIMIT 1", "SELECT GET_LOCK('a', 1)",
		"SELECT * FROM users FOR UPDATE",
		"UPDATE users SET name = 'a'", "CALL something()", "SELECT LAST_INSERT_ID()", "SELECT * FROM orders",
	}
	history := newHistory()
	history.set("master", 1)
	history.replay("slave-1", "slave-2")
	token := func() string { // of a write that no slave has
		ahead := newHistory()
		ahead.set("master", 2)
		db := openFake(t, openPool(t, &fake{name: "master"}), gorm.Config{})
		p := replicated.New(replicated.Config{
			Slaves:  []gorm.Dialector{dialector(openPool(t, &fake{name: "slave-1"}))},
			Secrets: [][]byte{secret}, Probe: replicated.ProbeConfig{Source: ahead},
			Logger: slog.New(slog.DiscardHandler),
		})
		if err := db.Use(p); err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		ctx := p.WithToken(t.Context(), "")
		db.WithContext(ctx).Exec("UPDATE users SET name = 'a'")
		token, err := p.Token(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}()
	var taken, asked int
	for seed := range uint64(1000) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			maybe := func(n int) bool { return random.IntN(n) == 0 }
			open := func(name string) gorm.Dialector { return dialector(openPool(t, &fake{name: name})) }
			cfg := replicated.Config{
				Slaves:  []gorm.Dialector{open("slave-1"), open("slave-2")},
				Routes:  map[string]replicated.Intent{"/master": replicated.Master, "/slave": replicated.Slave},
				Secrets: [][]byte{secret}, Probe: replicated.ProbeConfig{Source: history},
				Logger: slog.New(slog.DiscardHandler),
			}
			auto := !maybe(12)
			cfg.AutoReadOnSlave = &auto
			cfg.Token.Monotonic = maybe(12)
			var observed *routes
			if maybe(4) {
				observed = new(routes)
				cfg.Observer = observed
			}
			db := openFake(t, openPool(t, &fake{name: "master"}), gorm.Config{PrepareStmt: maybe(2)})
			p := replicated.New(cfg)
			if maybe(12) {
				p.Register(replicated.Group{
					Slaves: []gorm.Dialector{open("other")}, Masters: []gorm.Dialector{open("others")},
				}, "orders")
			}
			if err := db.Use(p); err != nil {
				t.Fatal(err)
			}
			method := []string{"GET", "GET", "GET", "POST"}[random.IntN(4)]
			path := []string{"/", "/", "/", "/master", "/slave"}[random.IntN(5)]
			var h http.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				ctx := r.Context()
				var did []string
				for range 12 {
					switch random.IntN(40) {
					case 0:
						ctx = replicated.WithMaster(ctx)
						did = append(did, "WithMaster")
					case 1:
						ctx = replicated.WithSlave(ctx)
						did = append(did, "WithSlave")
					case 2:
						ctx = replicated.WithMaxStaleness(ctx, time.Duration(random.IntN(2))*time.Minute)
						did = append(did, "WithMaxStaleness")
					case 3:
						var cancel context.CancelFunc
						ctx, cancel = context.WithCancel(ctx)
						defer cancel()
					case 4:
						on := maybe(2)
						p.SetAutoReadOnSlave(on)
						did = append(did, fmt.Sprint("auto ", on))
					case 5:
						on := maybe(2)
						p.SetShadow(on)
						did = append(did, fmt.Sprint("shadow ", on))
					case 6:
						if maybe(2) {
							db.WithContext(ctx).Exec("UPDATE users SET name = 'a'")
							did = append(did, "wrote")
						}
					case 7:
						p.WithToken(ctx, token)
						did = append(did, "token")
					case 8:
						mark := replicated.UseMaster
						if maybe(2) {
							mark = replicated.UseSlave
						}
						mark(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { ctx = r.Context() })).
							ServeHTTP(nil, r.WithContext(ctx))
						did = append(did, "marked")
					case 9, 10:
						ctx = r.Context()
					case 11:
						if maybe(4) {
							p.Close()
							did = append(did, "closed")
						}
					}
					text := texts[random.IntN(len(texts))]
					if !maybe(8) {
						text = texts[0]
					}
					asked++
					if observed != nil {
						observed.take()
					}
					server, allowed := p.ByTheRules(ctx, text)
					if server != "master" {
						taken++
					}
					if observed != nil {
						if heard := observed.take(); len(slices.Compact(heard)) != 1 {
							t.Errorf("of one statement the Observer heard %q", heard)
						}
					}
					if !slices.Contains(allowed, server) {
						t.Errorf("%s %s, %v, %q: %s, but the rules allow %v", method, path, did, text, server, allowed)
					}
				}
			})
			if maybe(12) {
				h = replicated.UseMaster(h)
			}
			if maybe(12) {
				h = replicated.UseSlave(h)
			}
			r := httptest.NewRequest(method, path, nil)
			p.Middleware(h).ServeHTTP(httptest.NewRecorder(), r)
			p.Close()
		})
	}
	t.Logf("%d of %d statements read a slave", taken, asked)
	if taken < asked/20 {
		t.Error("hardly any: then this tests nothing")
	}
}

// TestRememberedToken has tokens come in while requests run, and slaves be behind them: the slave that a
// request has read is not read when it must not be.
func TestRememberedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory()
		h.set("master", 1)
		s := newSetup(t, 2, gorm.Config{}, func(c *replicated.Config) {
			c.Secrets, c.Probe.Source, c.Logger = [][]byte{secret}, h, slog.New(slog.DiscardHandler)
			c.Probe.Interval, c.Probe.MinInterval = 100*time.Millisecond, 10*time.Millisecond
			c.Token.Window = 500 * time.Millisecond
		})
		written := func(random *rand.Rand) string {
			h.commit()
			if random.IntN(4) == 0 { // then the token has a time
				h.fail("master", errors.New("broken"))
				defer h.fail("master", nil)
			}
			ctx := s.plugin.WithToken(t.Context(), "")
			s.db.WithContext(ctx).Exec("UPDATE users SET name = 'a'")
			token, err := s.plugin.Token(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return token
		}
		counts := map[string]int{}
		for seed := range uint64(200) {
			random := rand.New(rand.NewPCG(seed, 1))
			h.replay("slave-1", "slave-2")
			h.fail("slave-1", nil)
			time.Sleep(2 * time.Second)
			inGet(s.plugin, func(ctx context.Context) {
				for range 20 {
					switch random.IntN(8) {
					case 0:
						s.plugin.WithToken(ctx, written(random))
					case 1:
						h.replay(fmt.Sprintf("slave-%d", random.IntN(2)+1))
					case 2:
						time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
					case 3: // perhaps on a slave that is behind the token: that is the request's then
						s.db.WithContext(replicated.WithSlave(ctx)).Find(&[]User{})
					case 4:
						h.fail("slave-1", []error{nil, errors.New("broken")}[random.IntN(2)])
						time.Sleep(150 * time.Millisecond)
					}
					server, allowed := s.plugin.ByTheRules(ctx, "SELECT * FROM users")
					if !slices.Contains(allowed, server) {
						t.Errorf("seed %d: %s, but the rules allow %v", seed, server, allowed)
					}
					counts[server]++
				}
			})
		}
		t.Log(counts)
		for _, what := range []string{"slave-1", "slave-2", "master"} {
			if counts[what] < 100 {
				t.Errorf("%s: %d times: then this tests nothing", what, counts[what])
			}
		}
	})
}

// inGet runs f in a GET.
func inGet(p *replicated.Plugin, f func(ctx context.Context)) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	p.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { f(r.Context()) })).
		ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	return w
}

// unobserved is without an Observer, and with this SlaveTimeout: where it is negative there is nothing
// around a read.
func unobserved(timeout time.Duration) func(*replicated.Config) {
	return func(c *replicated.Config) { c.Observer = nil; c.Failover.SlaveTimeout = timeout }
}

// TestKeptSlaveFails has the slave fail that a request has read.
func TestKeptSlaveFails(t *testing.T) {
	for _, timeout := range []time.Duration{-1, 0} {
		for mode := range modes[:4] {
			for _, way := range waysToRead {
				for _, pg := range []bool{false, true} {
					faults := faultsOfMySQL
					if pg {
						faults = faultsOfPostgreSQL
					}
					if mode > 0 {
						faults = faults[:3]
					}
					for _, f := range faults {
						t.Run(fmt.Sprint(timeout, modes[mode].name, way.name, f.name), func(t *testing.T) {
							s := newFailover(t, 2, modes[mode].config, pg, unobserved(timeout))
							dead := s.slaves[0].dying(f.err, way.from)
							inGet(s.plugin, func(ctx context.Context) {
								db := s.in(ctx, modes[mode].session)
								if err := way.run(db); err != nil {
									t.Errorf("before: %v", err)
								}
								s.log.take()
								dead.Store(true)
								if err := way.run(db); err != nil {
									t.Error(err)
								}
								got := s.log.servers()
								want := "slave-2"
								if way.before {
									want = "slave-1 slave-2"
								}
								if strings.Join(got, " ") != want {
									t.Errorf("asked %v, want %s", got, want)
								}
								if s.state("slave-1").Serving != f.stays {
									t.Errorf("serving: %v", !f.stays)
								}
							})
						})
					}
				}
			}
		}
	}
}

// TestKeptSlaveRefuses has the slave that a request has read refuse a statement as a write.
func TestKeptSlaveRefuses(t *testing.T) {
	for _, mode := range modes[:4] {
		for _, stale := range []bool{false, true} {
			s := newSetup(t, 1, mode.config, unobserved(-1))
			attempts := 0
			s.slaves[0].fail = func(q string) error {
				if !strings.Contains(q, "next_number") {
					return nil
				}
				if attempts++; stale && attempts == 1 {
					return mysqlError(1615)
				}
				return &mysql.MySQLError{Number: 1290, Message: "The MySQL server is running with the --read-only option"}
			}
			inGet(s.plugin, func(ctx context.Context) {
				db := s.in(ctx, mode.session)
				db.First(&User{})
				s.log.take()
				for range 2 {
					if err := db.Raw("SELECT next_number()").Scan(&[]User{}).Error; err != nil {
						t.Error(err)
					}
					expect(t, s.log.servers(), "master")
				}
				db.First(&User{})
				expect(t, s.log.servers(), "master") // marked
			})
		}
	}
}

// TestTwoPluginsInARequest has two databases in one request.
func TestTwoPluginsInARequest(t *testing.T) {
	for _, timeout := range []time.Duration{0, -1} {
		a := newSetup(t, 1, gorm.Config{}, unobserved(timeout))
		b := newSetup(t, 1, gorm.Config{}, func(c *replicated.Config) {
			unobserved(timeout)(c)
			c.Token.Cookie, c.Token.Header = "other", "Other"
		})
		h := func(_ http.ResponseWriter, r *http.Request) {
			for range 2 {
				for _, s := range []*setup{a, b} {
					if err := s.db.WithContext(r.Context()).First(&User{}).Error; err != nil {
						t.Error(err)
					}
					expect(t, s.log.servers(), "slave-1")
				}
			}
			// its own write marks its own session
			a.db.WithContext(r.Context()).Exec("UPDATE users SET name = ''")
			a.log.take()
			a.db.WithContext(r.Context()).First(&User{})
			expect(t, a.log.servers(), "master")
			b.db.WithContext(r.Context()).First(&User{})
			expect(t, b.log.servers(), "slave-1")
		}
		for _, both := range []http.Handler{
			a.plugin.Middleware(b.plugin.Middleware(http.HandlerFunc(h))),
			b.plugin.Middleware(a.plugin.Middleware(http.HandlerFunc(h))),
		} {
			both.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		}
	}
}

// TestLateRegisterInARequest has a table be registered too late, while a request reads it.
func TestLateRegisterInARequest(t *testing.T) {
	for _, timeout := range []time.Duration{0, -1} {
		s := newSetup(t, 1, gorm.Config{}, unobserved(timeout))
		inGet(s.plugin, func(ctx context.Context) {
			db := s.db.WithContext(ctx)
			if err := db.Raw("SELECT * FROM orders").Scan(&[]User{}).Error; err != nil {
				t.Error(err)
			}
			s.plugin.Register(replicated.Group{}, "orders")
			if err := db.Raw("SELECT * FROM orders").Scan(&[]User{}).Error; err == nil {
				t.Error("no error")
			}
			if err := db.Raw("SELECT * FROM users").Scan(&[]User{}).Error; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestKeptSlaveIsAskedAbout: reads of the slave that a request has read count for how often servers are
// asked.
func TestKeptSlaveIsAskedAbout(t *testing.T) {
	for _, timeout := range []time.Duration{0, -1} {
		bubble(t, timeout.String(), func(t *testing.T) {
			h := newHistory()
			h.set("master", 1)
			h.replay("slave-1")
			s := newSetup(t, 1, gorm.Config{}, func(c *replicated.Config) {
				unobserved(timeout)(c)
				c.Probe.Source = h
			})
			inGet(s.plugin, func(ctx context.Context) {
				for range 300 {
					if err := s.db.WithContext(ctx).First(&User{}).Error; err != nil {
						t.Error(err)
					}
					time.Sleep(100 * time.Millisecond)
				}
			})
			h.mu.Lock()
			defer h.mu.Unlock()
			if n := h.asked["slave-1"]; n < 28 || n > 36 {
				t.Errorf("%d rounds in 30 s", n)
			}
		})
	}
}

// TestKeptSlaveFreezes has the slave of a request freeze.
func TestKeptSlaveFreezes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFailover(t, 2, gorm.Config{}, false, unobserved(0))
		frozen := false
		s.slaves[0].freeze(func() bool { return frozen })
		inGet(s.plugin, func(ctx context.Context) {
			s.db.WithContext(ctx).First(&User{})
			expect(t, s.log.servers(), "slave-1")
			frozen = true
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			if err := s.db.WithContext(ctx).First(&User{}).Error; err != nil {
				t.Error(err)
			}
			expect(t, s.log.servers(), "slave-2")
		})
	})
}

// TestHooksOfADriver has a driver run statements of its own with the context that it is given, as one with
// hooks does: they are of the request.
func TestHooksOfADriver(t *testing.T) {
	for _, timeout := range []time.Duration{0, -1} {
		s := newSetup(t, 1, gorm.Config{}, func(c *replicated.Config) {
			unobserved(timeout)(c)
			c.Secrets = [][]byte{secret}
		})
		s.slaves[0].run = func(ctx context.Context, query string) error {
			if strings.Contains(query, "salaries") {
				return s.db.WithContext(ctx).Exec("INSERT INTO audit VALUES (1)").Error
			}
			return nil
		}
		w := inGet(s.plugin, func(ctx context.Context) {
			db := s.db.WithContext(ctx)
			db.Raw("SELECT * FROM users").Scan(&[]User{})
			if err := db.Raw("SELECT * FROM salaries").Scan(&[]User{}).Error; err != nil {
				t.Error(err)
			}
			s.log.take()
			db.Raw("SELECT * FROM audit").Scan(&[]User{})
			expect(t, s.log.servers(), "master")
		})
		if w.Header().Get("Replicated-Token") == "" {
			t.Errorf("SlaveTimeout %v: it wrote, and has no token", timeout)
		}
	}
}

// TestHiddenLocksInARequest has requests lock rows where the SQL does not show it, or cannot be judged.
func TestHiddenLocksInARequest(t *testing.T) {
	for _, dialect := range []string{"mysql", "sqlite", "sqlserver"} {
		for _, mode := range modes {
			log := &fakeLog{}
			open := func(name string) gorm.Dialector {
				return named{dialector(openPool(t, &fake{name: name, log: log})), dialect}
			}
			db := openDialector(t, open("master"), mode.config)
			if dialect == "sqlite" {
				db.ClauseBuilders["FOR"] = func(clause.Clause, clause.Builder) {}
			}
			p := replicated.New(replicated.Config{
				Slaves: []gorm.Dialector{open("slave")}, Failover: replicated.FailoverConfig{SlaveTimeout: -1},
			})
			if err := db.Use(p); err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			log.take() // the first look at the servers
			inGet(p, func(ctx context.Context) {
				db := db.WithContext(ctx)
				if mode.session != nil {
					db = db.Session(mode.session)
				}
				db.First(&User{})
				expect(t, log.servers(), "slave")
				db.Clauses(clause.Locking{Strength: "UPDATE"}).First(&User{})
				expect(t, log.servers(), "master")
				db.First(&User{})
				expect(t, log.servers(), "slave")
			})
		}
	}
}

// TestErrorsThatCannotBeCompared: an error of a driver may be of any type, such as a slice.
func TestErrorsThatCannotBeCompared(t *testing.T) {
	for _, way := range waysToRead {
		if way.name == "Begin" || way.name == "Transaction" {
			continue // the driver does not fail it by its text
		}
		for _, mode := range modes[:2] {
			s := newFailover(t, 1, mode.config, false, nil)
			for _, on := range append(s.slaves, s.master) {
				on.fail = func(query string) error {
					if strings.Contains(query, way.from) {
						return many{io.ErrUnexpectedEOF, io.ErrNoProgress}
					}
					return nil
				}
			}
			err := way.run(s.in(replicated.WithSlave(t.Context()), mode.session))
			if !errors.Is(err, io.ErrNoProgress) {
				t.Errorf("%s, %s: got %v", way.name, mode.name, err)
			}
		}
	}
}

type many []error

func (m many) Error() string { return "many" }

func (m many) Unwrap() []error { return m }

// TestFallenBackPreparesNothing: statements that many reads prepare at once on a busy master, because they
// fell back to it, could lock up GORM's cache of them.
func TestFallenBackPreparesNothing(t *testing.T) {
	for _, mode := range modes[1:4] {
		s := newFailover(t, 1, mode.config, false, nil)
		s.master.prepared = new(atomic.Int64)
		dead := s.slaves[0].dying(faultsOfMySQL[0].err, "")
		dead.Store(true)
		if err := s.in(replicated.WithSlave(t.Context()), mode.session).Find(&[]User{}).Error; err != nil {
			t.Error(err)
		}
		expect(t, s.log.servers(), "master")
		if n := s.master.prepared.Load(); n > 0 {
			t.Errorf("%s: it prepared %d statements", mode.name, n)
		}
		if err := s.in(replicated.WithMaster(t.Context()), mode.session).Find(&[]User{}).Error; err != nil {
			t.Error(err)
		}
		if n := s.master.prepared.Load(); n == 0 {
			t.Errorf("%s, the control: what belongs on the master is not prepared", mode.name)
		}
	}
}

// TestNothingStaysInFlight: whatever becomes of a read, LeastLatency does not go on counting it.
func TestNothingStaysInFlight(t *testing.T) {
	for _, way := range waysToRead {
		for _, fault := range faultsOfMySQL {
			s := newFailover(t, 2, gorm.Config{}, false, func(c *replicated.Config) {
				c.Policy = replicated.LeastLatency()
			})
			during := int64(-1)
			for _, slave := range s.slaves {
				slave.run = func(context.Context, string) error {
					during = max(during, s.plugin.InFlight())
					return nil
				}
			}
			db := s.in(replicated.WithSlave(t.Context()), nil)
			if err := way.run(db); err != nil {
				t.Errorf("%s: %v", way.name, err)
			}
			if n := s.plugin.InFlight(); n != 0 || during < 1 {
				t.Errorf("%s: %d in flight, and during it %d", way.name, n, during)
			}
			for _, slave := range s.slaves {
				slave.dying(fault.err, way.from).Store(true)
			}
			_ = way.run(db)
			if n := s.plugin.InFlight(); n != 0 {
				t.Errorf("%s, %s: %d in flight", way.name, fault.name, n)
			}
		}
	}
}
