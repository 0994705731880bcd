package tokens

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// Whatever the order in which the responses to a user's requests are kept, none of their writes is forgotten.
func TestUsersKeepAllTokens(t *testing.T) {
	pair := open()
	t.Cleanup(func() { pair.Close() })
	shop := pair.Plugin.Middleware(create(pair.DB))
	_, first := post(shop, "/", "item", "teapot")
	_, second := post(shop, "/", "item", "cup")

	users := &Users{Plugin: pair.Plugin}
	users.keep("ann", second)
	users.keep("ann", first)
	pair.Replayed.Store(1) // of two
	reads := func(token string) []string {
		pair.Routes()
		get(pair.Plugin.Middleware(list(pair.DB)), "/", token)
		return pair.Routes()
	}
	for end := time.Now().Add(10 * time.Second); !slices.Equal(reads(first), []string{"slave-1: method"}); {
		if time.Now().After(end) {
			t.Fatal("the slave is not read although it has the first order")
		}
	}
	want := []string{"master: no slave covers the token"}
	if got := reads(users.token("ann")); !slices.Equal(got, want) {
		t.Errorf("ann's orders come from %q, want %q", got, want)
	}
}

// eager is a client that makes its next request as soon as the response begins.
type eager struct {
	http.ResponseWriter
	next func()
}

func (e eager) WriteHeader(status int) { e.ResponseWriter.WriteHeader(status); e.next() }

func TestUsersKeepTokensBeforeTheResponseBegins(t *testing.T) {
	pair := open()
	t.Cleanup(func() { pair.Close() })
	users := &Users{Plugin: pair.Plugin, Name: func(*http.Request) string { return "ann" }}
	r := httptest.NewRequest(http.MethodPost, "/orders",
		strings.NewReader(url.Values{"item": {"teapot"}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var body string
	users.Middleware(create(pair.DB)).ServeHTTP(eager{httptest.NewRecorder(), func() {
		body = get(users.Middleware(list(pair.DB)), "/orders", "")
	}}, r)
	if body != `["teapot"]` {
		t.Errorf("ann reads %s, want what she wrote", body)
	}
}
