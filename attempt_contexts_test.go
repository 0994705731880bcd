package replicated_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

// pooledContext is a context that a framework uses again for another request, as gin does with its own.
type pooledContext struct {
	mu      sync.Mutex
	request context.Context
}

func (p *pooledContext) serve(request context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.request = request
}

func (p *pooledContext) current() context.Context {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.request
}

func (p *pooledContext) Deadline() (time.Time, bool) { return p.current().Deadline() }
func (p *pooledContext) Done() <-chan struct{}       { return p.current().Done() }
func (p *pooledContext) Err() error                  { return p.current().Err() }
func (p *pooledContext) Value(key any) any           { return p.current().Value(key) }

// TestContextsThatAreUsedAgain has a framework give one context to two requests in turn: the end of the first
// does not cut the rows of the second.
func TestContextsThatAreUsedAgain(t *testing.T) {
	for name, mark := range map[string]func(context.Context) context.Context{
		"itself": func(ctx context.Context) context.Context { return ctx },
		"with an intent": func(ctx context.Context) context.Context {
			return replicated.WithSlave(replicated.WithMaster(ctx))
		},
	} {
		for _, timeout := range []time.Duration{0, -1} {
			t.Run(fmt.Sprint(name, ", SlaveTimeout ", timeout), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newFailover(t, 1, gorm.Config{}, false, func(c *replicated.Config) {
						c.DefaultIntent, c.Failover.SlaveTimeout = replicated.Slave, timeout
					})
					s.slaves[0].answer = func(string) driver.Rows { return &brokenRows{err: io.EOF, rows: 10} }
					first, endFirst := context.WithCancel(endless(t))
					second, endSecond := context.WithCancel(endless(t))
					defer endSecond()
					framework := &pooledContext{request: first}
					ctx := mark(framework)
					if err := s.db.WithContext(ctx).Find(&[]User{}).Error; err != nil {
						t.Fatal(err)
					}
					framework.serve(second)
					rows, err := s.db.WithContext(ctx).Model(&User{}).Rows()
					if err != nil {
						t.Fatal(err)
					}
					defer rows.Close()
					endFirst() // net/http ends it when the handler has returned
					synctest.Wait()
					for n := range 5 {
						if !rows.Next() {
							t.Fatalf("%d rows, then %v", n, rows.Err())
						}
					}
					if err := s.db.WithContext(ctx).Find(&[]User{}).Error; err != nil {
						t.Error(err)
					}
					endSecond()
					synctest.Wait()
					if rows.Next() || !errors.Is(rows.Err(), context.Canceled) {
						t.Errorf("the control, the second has ended: %v", rows.Err())
					}
				})
			})
		}
	}
}

// These are contexts as programs have them: any type may be one, of which no address may be taken and which
// may not even be compared.
type (
	valueContext struct{ context.Context }
	uncomparable struct {
		context.Context
		_ []int
	}
	functionContext  func() context.Context
	mapContext       map[string]context.Context
	pointedToContext struct{ context.Context }
)

func (f functionContext) Deadline() (time.Time, bool) { return f().Deadline() }
func (f functionContext) Done() <-chan struct{}       { return f().Done() }
func (f functionContext) Err() error                  { return f().Err() }
func (f functionContext) Value(key any) any           { return f().Value(key) }
func (m mapContext) Deadline() (time.Time, bool)      { return m["parent"].Deadline() }
func (m mapContext) Done() <-chan struct{}            { return m["parent"].Done() }
func (m mapContext) Err() error                       { return m["parent"].Err() }
func (m mapContext) Value(key any) any                { return m["parent"].Value(key) }

// TestContextsOfAnyType has a slave be read with each of them, in a request and outside, and a slave that
// freezes be left.
func TestContextsOfAnyType(t *testing.T) {
	for _, test := range []struct {
		name string
		wrap func(context.Context) context.Context
	}{
		{"context.Background", func(context.Context) context.Context { return context.Background() }},
		{"context.TODO", func(context.Context) context.Context { return context.TODO() }},
		{"a struct", func(ctx context.Context) context.Context { return valueContext{ctx} }},
		{"a struct that cannot be compared",
			func(ctx context.Context) context.Context { return uncomparable{Context: ctx} }},
		{"a function", func(ctx context.Context) context.Context {
			return functionContext(func() context.Context { return ctx })
		}},
		{"a map", func(ctx context.Context) context.Context { return mapContext{"parent": ctx} }},
		{"a pointer", func(ctx context.Context) context.Context { return &pointedToContext{ctx} }},
	} {
		for _, ends := range []bool{false, true} {
			for _, request := range []bool{false, true} {
				bubble(t, fmt.Sprintf("%s, ends: %v, in a request: %v", test.name, ends, request), func(t *testing.T) {
					s := newFailover(t, 2, gorm.Config{}, false, func(c *replicated.Config) {
						c.DefaultIntent = replicated.Slave
					})
					handler := func(_ http.ResponseWriter, r *http.Request) {
						ctx := test.wrap(r.Context())
						for _, want := range []string{"slave-1", "slave-1", "slave-2", "slave-2"} {
							if want == "slave-2" {
								s.slaves[0].freeze(always)
							}
							for range 2 {
								for _, way := range []wayToRead{waysToRead[0], waysToRead[7], waysToRead[9], waysToRead[13]} {
									if err := way.run(s.db.WithContext(ctx)); err != nil {
										t.Errorf("%s: %v", way.name, err)
									}
								}
							}
							expect(t, s.log.servers(), want)
						}
					}
					ctx, cancel := endless(t), func() {}
					if ends {
						ctx, cancel = context.WithCancel(ctx)
					}
					defer cancel()
					r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
					if request {
						s.plugin.Middleware(http.HandlerFunc(handler)).ServeHTTP(httptest.NewRecorder(), r)
					} else {
						handler(nil, r)
					}
				})
			}
		}
	}
}

// counting is a context that counts who waits for its end.
type counting struct {
	done    chan struct{}
	mu      sync.Mutex
	waiting map[*func()]bool
}

// byValue is the same context, of a type of which no address can be taken: nothing can be kept for it.
type byValue struct{ *counting }

func newCounting() *counting {
	return &counting{done: make(chan struct{}), waiting: map[*func()]bool{}}
}

func (c *counting) Deadline() (time.Time, bool) { return time.Time{}, false }
func (c *counting) Done() <-chan struct{}       { return c.done }
func (c *counting) Err() error                  { return nil }
func (c *counting) Value(any) any               { return nil }

// AfterFunc is what package context calls for each context that is derived from this one.
func (c *counting) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting[&f] = true
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		waits := c.waiting[&f]
		delete(c.waiting, &f)
		return waits
	}
}

func (c *counting) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting)
}

// TestNothingWaitsForAnEndThatDoesNotCome has reads end in every way, with a context that goes on, such as a
// program's own. What waits for its end would do so for good.
func TestNothingWaitsForAnEndThatDoesNotCome(t *testing.T) {
	broken := func(err error) func(*setup) {
		return func(s *setup) { s.slaves[0].fail = func(string) error { return err } }
	}
	for _, test := range []struct {
		name   string
		set    func(*setup)
		failed bool
	}{
		{"well", func(*setup) {}, false},
		{"with the statement's error", broken(mysqlError(1064)), true},
		{"on the next slave, after a conflict", broken(sqlState("40001")), false},
		{"on the next slave, as the first is dead",
			func(s *setup) { s.slaves[0].dying(errRefused, "").Store(true) }, false},
		{"on the next slave, as the first is frozen", func(s *setup) { s.slaves[0].freeze(always) }, false},
		{"on the master, as the slaves are frozen", func(s *setup) {
			s.slaves[0].freeze(always)
			s.slaves[1].freeze(always)
		}, false},
	} {
		for _, way := range waysToRead {
			for _, value := range []bool{false, true} {
				bubble(t, fmt.Sprintf("%s/%s, by value: %v", test.name, way.name, value), func(t *testing.T) {
					s := newFailover(t, 2, gorm.Config{}, false, func(c *replicated.Config) {
						c.DefaultIntent = replicated.Slave
					})
					test.set(s)
					parent := newCounting()
					var ctx context.Context = parent
					most := 1 // one for each slave is kept for the next read
					if value {
						ctx, most = byValue{parent}, 0
					}
					for range 5 {
						err := way.run(s.db.WithContext(ctx))
						if (err != nil) != test.failed && way.after == "" { // in a transaction nothing is run again
							t.Fatalf("got %v", err)
						}
					}
					synctest.Wait()
					if n := parent.count(); n > most*len(s.slaves) {
						t.Errorf("%d wait for the end of the context", n)
					}
				})
			}
		}
	}
}
