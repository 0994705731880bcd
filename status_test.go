package replicated_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

func TestStatusHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.client().do("POST")
		w := httptest.NewRecorder()
		s.plugin.StatusHandler().ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		for _, want := range []string{`"ID":"slave-1","Role":"slave"`, `"Serving":true`, `"LagKnown":true`,
			`"Position":"log:1"`, `"Issued":1`} {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("no %s in %s", want, w.Body)
			}
		}
	})
}

func TestStatusOfGroups(t *testing.T) {
	s := newGroups(t, gorm.Config{})
	var got []string
	for _, g := range s.plugin.Status().Groups {
		for _, server := range g.Servers {
			got = append(got, fmt.Sprintf("%s: %s %v", g.Name, server.ID, server.Role))
		}
	}
	expect(t, got, "default: master master", "default: slave slave", "orders: orders-master master",
		"orders: orders-slave slave",
		"products: products-1 master", "products: products-2 master", "products: products-slave slave",
		"customers: master master", "customers: customers-slave slave", "on_the_master: master master")
	if err := s.plugin.Close(); err != nil {
		t.Fatal(err)
	}
	// Closed, every group is on its masters.
	for _, find := range []any{&[]Order{}, &[]Product{}, &[]Customer{}, &[]User{}} {
		if err := s.db.WithContext(replicated.WithSlave(t.Context())).Find(find).Error; err != nil {
			t.Error(err)
		}
	}
	for _, server := range s.log.servers() {
		if strings.Contains(server, "slave") {
			t.Errorf("on %q after Close", server)
		}
	}
}

func TestWithoutIntentIsCounted(t *testing.T) {
	s := newSetup(t, 1, gorm.Config{}, nil)
	s.plugin.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s.db.WithContext(r.Context()).First(&User{})
		if n := s.plugin.Status().WithoutIntent; n != 0 {
			t.Errorf("with the request's context: counted %d", n)
		}
		s.db.First(&User{})
		s.db.Create(&User{Name: "a"})
	})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	if n := s.plugin.Status().WithoutIntent; n != 2 {
		t.Errorf("without it: counted %d, want 2", n)
	}
	expect(t, s.routes.take(), "slave-1: method", "master: default intent", "master: write")
}

func TestStatus(t *testing.T) {
	if got := replicated.New(replicated.Config{}).Status(); !got.AutoReadOnSlave || got.Groups != nil {
		t.Errorf("before Initialize: %+v", got)
	}
	s := newSetup(t, 2, gorm.Config{}, nil)
	status := s.plugin.Status()
	if len(status.Groups) != 1 {
		t.Fatalf("%+v", status)
	}
	var servers []string
	for _, server := range status.Groups[0].Servers {
		servers = append(servers, fmt.Sprintf("%s %v", server.ID, server.Role))
	}
	expect(t, servers, "master master", "slave-1 slave", "slave-2 slave")
}
