package replicated_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
)

// TestSharedPolicy has one policy pick for several groups, in many
// goroutines: for the race detector.
func TestSharedPolicy(t *testing.T) {
	policy := dbresolver.RoundRobinPolicy()
	slaves := func() []gorm.Dialector {
		return []gorm.Dialector{dialector(openPool(t, &fake{})), dialector(openPool(t, &fake{}))}
	}
	db := openFake(t, openPool(t, &fake{}), gorm.Config{})
	p := replicated.New(replicated.Config{Slaves: slaves(), Policy: policy, DefaultIntent: replicated.Slave}).
		Register(replicated.Group{Slaves: slaves(), Policy: policy}, "orders")
	if err := db.Use(p); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var wg sync.WaitGroup
	for _, find := range []any{&User{}, &Order{}} {
		wg.Go(func() {
			for range 100 {
				db.Model(find).Limit(1).Find(&[]map[string]any{})
			}
		})
	}
	wg.Wait()
}

func TestPolicies(t *testing.T) {
	foreign := openPool(t, &fake{name: "foreign"})
	for _, test := range []struct {
		name   string
		policy dbresolver.Policy
		want   []string // of 60 statements
	}{
		{"default", nil, []string{"slave-1", "slave-2", "slave-3"}},
		{"RandomPolicy", dbresolver.RandomPolicy{}, []string{"slave-1", "slave-2", "slave-3"}},
		{"the last", dbresolver.PolicyFunc(func(p []gorm.ConnPool) gorm.ConnPool { return p[len(p)-1] }),
			[]string{"slave-3"}},
		{"nil", dbresolver.PolicyFunc(func([]gorm.ConnPool) gorm.ConnPool { return nil }),
			[]string{"slave-1", "slave-2", "slave-3"}},
		{"foreign", dbresolver.PolicyFunc(func([]gorm.ConnPool) gorm.ConnPool { return foreign }),
			[]string{"slave-1", "slave-2", "slave-3"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSetup(t, 3, gorm.Config{}, func(c *replicated.Config) { c.Policy = test.policy })
			db := s.db.WithContext(replicated.WithSlave(t.Context()))
			for range 60 {
				if err := db.First(&User{}).Error; err != nil {
					t.Fatal(err)
				}
			}
			servers := s.log.servers()
			slices.Sort(servers)
			expect(t, servers, test.want...)
		})
	}
}

// TestPolicyOverPoolsThatCannotBeCompared gives any of them: none can be told from the others.
func TestPolicyOverPoolsThatCannotBeCompared(t *testing.T) {
	s := newSetup(t, 2, gorm.Config{}, func(c *replicated.Config) {
		c.Policy = dbresolver.StrictRoundRobinPolicy()
		for i := range c.Slaves {
			c.Slaves[i] = dialector(barePool{ConnPool: openPool(t, &fake{name: "slave"})})
		}
	})
	if err := s.db.WithContext(replicated.WithSlave(t.Context())).First(&User{}).Error; err != nil {
		t.Error(err)
	}
}

// TestPoliciesNeedNoLockOfTheirOwn uses one that races when called twice at once.
func TestPoliciesNeedNoLockOfTheirOwn(t *testing.T) {
	s := newSetup(t, 3, gorm.Config{}, func(c *replicated.Config) { c.Policy = dbresolver.RoundRobinPolicy() })
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				s.db.WithContext(replicated.WithSlave(t.Context())).First(&User{})
			}
		})
	}
	wg.Wait()
	count := map[string]int{}
	for _, r := range s.log.take() {
		count[r.server]++
	}
	for server, n := range count {
		if n < 66 || n > 67 {
			t.Errorf("%s served %d of 200: not in turn", server, n)
		}
	}
}

// TestPoliciesMayReorder has a policy change the list that it is given: the read runs on what it chose, and
// the next list is as before.
func TestPoliciesMayReorder(t *testing.T) {
	names := map[gorm.ConnPool]string{}
	log := &fakeLog{}
	var given []string
	var chosen string
	s := newFailover(t, 0, gorm.Config{}, false, func(c *replicated.Config) {
		for i := range 3 {
			f := &fake{name: fmt.Sprintf("slave-%d", i+1), log: log}
			pool := openPool(t, f)
			names[pool] = f.name
			c.Slaves = append(c.Slaves, dialector(pool))
		}
		c.Policy = dbresolver.PolicyFunc(func(pools []gorm.ConnPool) gorm.ConnPool {
			given = nil
			for _, p := range pools {
				given = append(given, names[p])
			}
			pools[0], pools[2] = pools[2], pools[0]
			chosen = names[pools[0]]
			return pools[0]
		})
	})
	for range 4 {
		if err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{}).Error; err != nil {
			t.Error(err)
		}
		expect(t, given, "slave-1", "slave-2", "slave-3")
		expect(t, log.servers(), chosen)
	}
}

// TestAPolicyThatPanics has its panic reach the caller, and the next read run.
func TestAPolicyThatPanics(t *testing.T) {
	var panics atomic.Bool
	s := newFailover(t, 2, gorm.Config{}, false, func(c *replicated.Config) {
		c.Policy = dbresolver.PolicyFunc(func(pools []gorm.ConnPool) gorm.ConnPool {
			if panics.Load() {
				panic("the policy's own")
			}
			return pools[0]
		})
	})
	db := s.in(replicated.WithSlave(t.Context()), nil)
	panics.Store(true)
	func() {
		defer func() {
			if v := recover(); v != "the policy's own" {
				t.Errorf("recovered %v", v)
			}
		}()
		db.Find(&[]User{})
	}()
	panics.Store(false)
	if err := db.Find(&[]User{}).Error; err != nil {
		t.Error(err)
	}
	expect(t, s.log.servers(), "slave-1")
}

// TestWeights has slaves get reads by their Weight.
func TestWeights(t *testing.T) {
	share := func(policy dbresolver.Policy, first, second int) float64 {
		s := newFailover(t, 0, gorm.Config{}, false, func(c *replicated.Config) {
			c.Policy = policy
			for i, weight := range []int{first, second} {
				f := &fake{name: fmt.Sprintf("slave-%d", i+1)}
				c.Slaves = append(c.Slaves,
					replicated.Server{Dialector: dialector(openPool(t, f)), ID: f.name, Weight: weight})
			}
		})
		const reads = 4000
		for range reads {
			s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{})
		}
		n := 0
		for _, r := range s.routes.take() {
			if strings.HasPrefix(r, "slave-1: ") {
				n++
			}
		}
		return float64(n) / reads
	}
	for _, test := range []struct {
		name          string
		policy        dbresolver.Policy
		first, second int
		want          float64
	}{
		{"3:1", dbresolver.RandomPolicy{}, 3, 1, 0.75},
		{"3:1, the default policy", nil, 3, 1, 0.75},
		{"none is 1", dbresolver.RandomPolicy{}, 3, 0, 0.75},
		{"the control: alike", dbresolver.RandomPolicy{}, 0, 0, 0.5},
		{"the control: a policy that does not see it", dbresolver.StrictRoundRobinPolicy(), 3, 1, 0.5},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := share(test.policy, test.first, test.second); got < test.want-0.05 || got > test.want+0.05 {
				t.Errorf("the first got %.2f, want %.2f", got, test.want)
			}
		})
	}
}

// TestPoliciesSeeWhoMayServe has a user's own policy be asked about servers that may be read, and no others.
func TestPoliciesSeeWhoMayServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory()
		h.set("master", 1)
		names := map[gorm.ConnPool]string{}
		all := map[string]*fake{}
		var given []string
		var dialectors []gorm.Dialector
		log := &fakeLog{}
		for i := range 5 {
			f := &fake{name: fmt.Sprintf("slave-%d", i+1), log: log}
			h.replay(f.name)
			pool := openPool(t, f)
			names[pool], all[f.name] = f.name, f
			dialectors = append(dialectors, dialector(pool))
		}
		s := newFailover(t, 0, gorm.Config{}, false, func(c *replicated.Config) {
			c.Slaves, c.DefaultIntent, c.MaxLag = dialectors, replicated.Slave, 10*time.Second
			c.Probe.Source = &asking{h, func(ctx context.Context, conn *sql.Conn) error {
				return conn.PingContext(ctx)
			}}
			c.Policy = dbresolver.PolicyFunc(func(pools []gorm.ConnPool) gorm.ConnPool {
				given = nil
				for _, p := range pools {
					given = append(given, names[p])
				}
				return pools[0]
			})
		})
		read := func(want ...string) {
			t.Helper()
			given = nil
			if err := s.db.WithContext(endless(t)).Find(&[]User{}).Error; err != nil {
				t.Error(err)
			}
			expect(t, given, want...)
		}
		read("slave-1", "slave-2", "slave-3", "slave-4", "slave-5")
		all["slave-1"].dying(mysqlError(1053), "").Store(true)
		read("slave-2", "slave-3", "slave-4", "slave-5") // asked twice: the first time for all
		read("slave-2", "slave-3", "slave-4", "slave-5")
		h.commit()
		h.replay("slave-3", "slave-4", "slave-5") // slave-2 does not
		for range 30 {
			time.Sleep(time.Second)
			h.commit()
			h.replay("slave-3", "slave-4", "slave-5")
			_ = s.db.WithContext(endless(t)).Find(&[]User{}).Error
		}
		read("slave-3", "slave-4", "slave-5")
		if err := s.plugin.SetSlaves(append(slices.Clone(dialectors[:2]), dialectors[3:]...)...); err != nil {
			t.Fatal(err)
		}
		read("slave-4", "slave-5")
	})
}

// TestRoundRobinStillWorks has dbresolver's policies go round, while a slave fails and after that.
func TestRoundRobinStillWorks(t *testing.T) {
	for _, test := range []struct {
		name   string
		policy dbresolver.Policy
	}{
		{"RoundRobinPolicy", dbresolver.RoundRobinPolicy()},
		{"StrictRoundRobinPolicy", dbresolver.StrictRoundRobinPolicy()},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newFailover(t, 3, gorm.Config{}, false, func(c *replicated.Config) { c.Policy = test.policy })
			count := func() map[string]int {
				t.Helper()
				for range 30 {
					if err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{}).Error; err != nil {
						t.Error(err)
					}
				}
				n := map[string]int{}
				for _, r := range s.log.take() {
					n[r.server]++
				}
				return n
			}
			if n := count(); n["slave-1"] != 10 || n["slave-2"] != 10 || n["slave-3"] != 10 {
				t.Errorf("%v", n)
			}
			s.slaves[1].dying(driver.ErrBadConn, "").Store(true)
			if n := count(); n["slave-1"]+n["slave-3"] != 30 || n["slave-1"] < 12 || n["slave-3"] < 12 {
				t.Errorf("one is dead: %v", n)
			}
		})
	}
}

// TestLeastLatency has one of three slaves be ten times slower. With LeastLatency hardly a read notices, with
// RandomPolicy many do.
func TestLeastLatency(t *testing.T) {
	p99 := func(t *testing.T, policy dbresolver.Policy, slow int) (late time.Duration,
		latencies []time.Duration) {
		s := newFailover(t, 3, gorm.Config{}, false, func(c *replicated.Config) { c.Policy = policy })
		for i, f := range s.slaves {
			f.log = nil
			takes := time.Millisecond
			if i == slow {
				takes = 10 * time.Millisecond
			}
			f.run = func(ctx context.Context, _ string) error { return pause(ctx, takes) }
		}
		ctx := replicated.WithSlave(endless(t))
		var mu sync.Mutex
		var took []time.Duration
		begin := time.Now()
		var callers sync.WaitGroup
		for n := range 8 {
			callers.Go(func() {
				time.Sleep(time.Duration(n) * 100 * time.Microsecond)
				for range 1000 {
					start := time.Now()
					if err := s.db.WithContext(ctx).Find(&[]User{}).Error; err != nil {
						t.Error(err)
					}
					if start.Sub(begin) > 100*time.Millisecond { // the warm-up
						mu.Lock()
						took = append(took, time.Since(start))
						mu.Unlock()
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
		callers.Wait()
		slices.Sort(took)
		for i := range s.slaves {
			latencies = append(latencies, s.state(fmt.Sprintf("slave-%d", i+1)).Latency)
		}
		return took[len(took)*99/100], latencies
	}
	synctest.Test(t, func(t *testing.T) {
		for slow := range 3 {
			random, _ := p99(t, dbresolver.RandomPolicy{}, slow)
			least, latencies := p99(t, replicated.LeastLatency(), slow)
			if random < 5*least {
				t.Errorf("slave-%d is slow: the 99th percentile is %v with LeastLatency, %v with RandomPolicy", slow+1,
					least, random)
			}
			for i, l := range latencies {
				if i != slow && (l < time.Millisecond/2 || l > 2*time.Millisecond) || i == slow &&
					l < 5*time.Millisecond {
					t.Errorf("Status: the latency of slave-%d is %v", i+1, l)
				}
			}
		}
	})
	t.Run("for masters it chooses at random", func(t *testing.T) {
		log := &fakeLog{}
		db := openFake(t, openPool(t, &fake{name: "own", log: log}), gorm.Config{})
		p := replicated.New(replicated.Config{
			Masters: []gorm.Dialector{dialector(openPool(t, &fake{name: "master-1", log: log})),
				dialector(openPool(t, &fake{name: "master-2", log: log}))},
			Policy: replicated.LeastLatency(),
		})
		if err := db.Use(p); err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		n := map[string]int{}
		for range 200 {
			db.Exec("UPDATE users SET name = 'a'")
		}
		for _, r := range log.take() {
			n[r.server]++
		}
		if n["master-1"] < 50 || n["master-2"] < 50 {
			t.Errorf("%v", n)
		}
	})
}
