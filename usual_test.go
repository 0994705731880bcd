package replicated_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

// TestUsualWay asks the short way to a slave about requests in many states, and holds its answer against that of the rules.
func TestUsualWay(t *testing.T) {
	texts := []string{
		"SELECT * FROM users", "SELECT * FROM users WHERE id = ? LIMIT 1", "SELECT GET_LOCK('a', 1)", "SELECT * FROM users FOR UPDATE",
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
			Secrets: [][]byte{secret}, Probe: replicated.ProbeConfig{Source: ahead}, Logger: slog.New(slog.DiscardHandler),
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
		random := rand.New(rand.NewPCG(seed, 0))
		maybe := func(n int) bool { return random.IntN(n) == 0 }
		cfg := replicated.Config{
			Slaves:  []gorm.Dialector{dialector(openPool(t, &fake{name: "slave-1"})), dialector(openPool(t, &fake{name: "slave-2"}))},
			Routes:  map[string]replicated.Intent{"/master": replicated.Master, "/slave": replicated.Slave},
			Secrets: [][]byte{secret}, Probe: replicated.ProbeConfig{Source: history}, Logger: slog.New(slog.DiscardHandler),
		}
		auto := !maybe(12)
		cfg.AutoReadOnSlave = &auto
		cfg.Token.Monotonic = maybe(12)
		if maybe(12) {
			cfg.Observer = new(routes)
		}
		db := openFake(t, openPool(t, &fake{name: "master"}), gorm.Config{PrepareStmt: maybe(2)})
		p := replicated.New(cfg)
		if maybe(12) {
			p.Register(replicated.Group{Slaves: []gorm.Dialector{dialector(openPool(t, &fake{name: "other"}))}, Masters: []gorm.Dialector{dialector(openPool(t, &fake{name: "others"}))}}, "orders")
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
					mark(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { ctx = r.Context() })).ServeHTTP(nil, r.WithContext(ctx))
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
				if usual, rules := p.BothWays(ctx, text); usual != "" {
					taken++
					if cfg.Observer != nil || cfg.Token.Monotonic {
						t.Errorf("seed %d: the short way, which tells nobody, was taken with %v, Monotonic %v", seed, cfg.Observer, cfg.Token.Monotonic)
					}
					if usual != rules {
						t.Errorf("seed %d: %s %s, %v, %q: %s by the short way, %s by the rules", seed, method, path, did, text, usual, rules)
					}
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
	}
	t.Logf("the short way was taken for %d of %d statements", taken, asked)
	if taken < asked/20 {
		t.Error("it is hardly ever taken: then this tests nothing")
	}
}
