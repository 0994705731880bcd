package replicated_test

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

// TestTokensHoldForAllGroupsOfAMaster: it is not known which group's tables a client has written to.
func TestTokensHoldForAllGroupsOfAMaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory()
		h.set("master", 1)
		h.replay("slave-1", "orders-slave")
		log, observed := &fakeLog{}, &routes{}
		p := replicated.New(replicated.Config{
			Slaves: []gorm.Dialector{
				dialector(openPool(t, &fake{name: "slave-1", log: log})),
			}, Secrets: [][]byte{secret},
			Probe: replicated.ProbeConfig{Source: h}, Observer: observed,
		})
		p.Register(replicated.Group{Slaves: []gorm.Dialector{replicated.Server{
			Dialector: dialector(openPool(t, &fake{name: "orders-slave", log: log})), ID: "orders-slave",
		}}}, "orders")
		db := openFake(t, openPool(t, &fake{name: "master", log: log}), gorm.Config{})
		if err := db.Use(p); err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		ctx := p.WithToken(t.Context(), "")
		db.WithContext(ctx).Exec("UPDATE orders SET a = 1")
		h.commit()
		token, err := p.Token(ctx)
		if err != nil {
			t.Fatal(err)
		}
		observed.take()
		next := func(ctx context.Context) *gorm.DB { return db.WithContext(ctx) }
		serveWith := func(token string) []string {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Replicated-Token", token)
			p.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				next(r.Context()).Find(&[]User{})
				next(r.Context()).Table("orders").Find(&[]map[string]any{})
			})).ServeHTTP(httptest.NewRecorder(), r)
			return observed.take()
		}
		expect(t, serveWith(token), byToken, byToken)
		expect(t, serveWith(""), "slave-1: method", "orders-slave: method")
	})
}

// TestTokensOfAGroupThatIsNotKnownAreMerged: an application without orders passes on what it got from two
// others.
func TestTokensOfAGroupThatIsNotKnownAreMerged(t *testing.T) {
	for _, newerFirst := range []bool{false, true} {
		bubble(t, fmt.Sprintf("newer first: %v", newerFirst), func(t *testing.T) {
			shop, s := onOneMaster(t), newSite(t, nil)
			first, second := shop.wrote(t, update("orders")), shop.wrote(t, update("orders"))
			shop.set("orders-slave", 2)
			time.Sleep(time.Second)
			served(t, shop.read(first, find("orders")), ofOther) // the control
			if newerFirst {
				first, second = second, first
			}
			both, err := s.plugin.Token(s.plugin.WithToken(s.plugin.WithToken(context.Background(), first), second))
			if err != nil {
				t.Fatal(err)
			}
			served(t, shop.read(both, find("orders")), byToken)
			shop.replay("orders-slave")
			time.Sleep(time.Second)
			served(t, shop.read(both, find("orders")), ofOther)
		})
	}
}

// TestALargePositionLeavesOtherGroupsTheirs: a position of one's own that does not fit must not cost another
// application's.
func TestALargePositionLeavesOtherGroupsTheirs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop, s := onOneMaster(t), newSite(t, nil)
		s.history.mu.Lock()
		s.name = strings.Repeat("x", 4000)
		s.history.mu.Unlock()
		c := s.client()
		c.header = true
		c.token = shop.wrote(t, update("orders"))
		before := c.token
		c.do("POST")
		if c.token == before || s.plugin.Status().Tokens.TimeOnly != 1 {
			t.Fatal("its own position fits")
		}
		time.Sleep(6 * time.Second) // the time in place of its own position is over
		served(t, shop.read(c.token, find("orders")), byToken)
		served(t, shop.read("", find("orders")), ofOther) // the control
	})
}

// hangs is a Source of which one server hangs from some time on.
type hangs struct {
	*history
	server string
	on     *atomic.Bool
}

func (h hangs) MasterPosition(ctx context.Context, conn *sql.Conn) (replicated.Position, error) {
	var name string
	if err := conn.Raw(func(c any) error { name = c.(*fakeConn).name; return nil }); err != nil {
		return replicated.Position{}, err
	}
	if name == h.server && h.on.Load() {
		<-ctx.Done()
		return replicated.Position{}, ctx.Err()
	}
	return h.history.MasterPosition(ctx, conn)
}

// TestAMasterThatHangsCostsNoOtherItsPosition has a request write to two masters, of which one does not
// answer.
func TestAMasterThatHangsCostsNoOtherItsPosition(t *testing.T) {
	for _, test := range []struct{ hangs, users, orders string }{
		{"master", byToken, ofOther},
		{"orders-master", ofUsers, "orders-master: no slave covers the token"},
		{"", ofUsers, ofOther},
	} {
		bubble(t, cmp.Or(test.hangs, "none"), func(t *testing.T) {
			var on atomic.Bool
			s := onTwoMasters(t, func(h *history) replicated.PositionSource { return hangs{h, test.hangs, &on} })
			on.Store(true)
			start := time.Now()
			_, token := s.request("", func(db *gorm.DB) { update("users")(db); update("orders")(db) })
			if took := time.Since(start); took > 250*time.Millisecond {
				t.Errorf("took %v", took)
			}
			if n := s.plugin.Status().Tokens.TimeOnly; (n > 0) != (test.hangs != "") || n > 1 {
				t.Errorf("%d times instead of positions: %s", n, &s.logs)
			}
			served(t, s.read(token, find("users")), test.users)
			served(t, s.read(token, find("orders")), test.orders)
		})
	}
}
