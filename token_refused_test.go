package replicated_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/internal/position"
	"github.com/gorm-replicated/replicated/internal/token"
)

// TestTokensThatAreNone: what nobody of us has sealed says nothing.
func TestTokensThatAreNone(t *testing.T) {
	forged := func(s replicated.TokenStatus) uint64 { return s.Forged }
	theirCookie := func(c *replicated.Config) { c.Token.Cookie = "theirs" }
	others := func(c *replicated.Config) { c.Secrets = [][]byte{bytes.Repeat([]byte("0123456789"), 4)} }
	for _, test := range []struct {
		name   string
		sealed func(*replicated.Config) // how the instance is configured that sealed it
		spoil  func(string) string
		age    time.Duration
		count  func(replicated.TokenStatus) uint64
	}{
		{name: "of another secret", sealed: others, count: forged},
		{name: "of another cookie", sealed: theirCookie, count: forged},
		{name: "changed", spoil: func(s string) string { return s[:30] + "AAAA" + s[34:] }, count: forged},
		{name: "rubbish", spoil: func(string) string { return "rubbish" }, count: forged},
		{name: "expired", age: 5 * time.Minute, count: func(s replicated.TokenStatus) uint64 { return s.Expired }},
	} {
		bubble(t, test.name, func(t *testing.T) {
			sealer := newSite(t, test.sealed)
			from := sealer.client()
			from.do("POST")
			token := from.token
			if test.spoil != nil {
				token = test.spoil(token)
			}
			if test.age > 0 { // a control: it counts until then
				time.Sleep(test.age - time.Millisecond)
				served(t, sealer.carrier(token).get(), byLag)
				sealer.replay("slave-1", "slave-2")
				time.Sleep(time.Millisecond)
			}
			s := newSite(t, nil)
			served(t, s.carrier(token).get(), bySlave)
			if n := test.count(s.plugin.Status().Tokens); n != 1 {
				t.Errorf("counted %d: %+v", n, s.plugin.Status().Tokens)
			}
		})
	}
}

// TestTokensThatCannotBeRead: what one of us may have sealed, and this instance cannot read or compare, the
// master is read for. The next token says so, too, which takes the place of the first; and it ends some time.
func TestTokensThatCannotBeRead(t *testing.T) {
	ttl := 5 * time.Minute
	unread := func(s replicated.TokenStatus) uint64 { return s.Unread }
	ours := func(t *testing.T) string { return newSite(t, nil).newToken() }
	for _, test := range []struct {
		name  string
		text  func(*testing.T) string
		lasts time.Duration
		count func(replicated.TokenStatus) uint64
	}{
		{"of another history", func(t *testing.T) string { return newSite(t, onHistory("other")).newToken() }, ttl,
			func(s replicated.TokenStatus) uint64 { return s.OtherHistory }},
		{"of a kind of position to come", func(t *testing.T) string {
			return sealed(t, token.Entry{Position: []byte{99, 1}, Since: time.Now()}, time.Now())
		}, ttl, func(s replicated.TokenStatus) uint64 { return s.Accepted }},
		{"of a version to come", func(t *testing.T) string { return "v2." + ours(t) }, ttl, unread},
		{"too large", func(t *testing.T) string { return strings.Repeat(ours(t), 100) }, ttl, unread},
		{"from the future", func(t *testing.T) string {
			return sealed(t, token.Entry{Position: position.Sequence("log", 1).Append(nil)}, time.Now().Add(time.Hour))
		}, ttl, func(s replicated.TokenStatus) uint64 { return s.Future }},
		{"a cookie of an instance without secrets", func(*testing.T) string { return token.Marker },
			5 * time.Second,
			func(s replicated.TokenStatus) uint64 { return 1 - s.Forged }},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, nil)
			served(t, s.client().get(), bySlave) // the control
			text := test.text(t)
			c := s.carrier(text)
			served(t, c.get(), byToken)
			if n := test.count(s.plugin.Status().Tokens); n != 1 {
				t.Errorf("counted %d: %+v", n, s.plugin.Status().Tokens)
			}
			before := c.token
			c.do("POST")
			s.replay("slave-1", "slave-2")
			time.Sleep(test.lasts - time.Second)
			if c.token == before {
				t.Fatal("no new token")
			}
			served(t, c.get(), byToken)
			time.Sleep(time.Second)
			served(t, c.get(), bySlave)
		})
		bubble(t, test.name+", to a request that runs: its client hears of it", func(t *testing.T) {
			s := newSite(t, nil)
			text := test.text(t)
			s.with(func(_ http.ResponseWriter, r *http.Request) { s.plugin.WithToken(r.Context(), text) })
			c := s.client()
			c.do("GET")
			s.with(s.serve)
			served(t, c.get(), byToken)
		})
	}
}

// TestTokensOfOtherHistoriesTravelOn: another application of the same secrets may need them, but not for
// longer than if they had stayed a token of their own.
func TestTokensOfOtherHistoriesTravelOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		theirs, s := newSite(t, onHistory("theirs")), newSite(t, nil)
		text := theirs.newToken()
		time.Sleep(time.Minute)
		c := s.carrier(text)
		c.do("POST") // adds its own
		s.replay("slave-1", "slave-2")
		if c.token == text {
			t.Fatal("no new token")
		}
		theirs.get(t, c.token, byToken)
		theirs.get(t, "", bySlave) // the control
		time.Sleep(4*time.Minute - time.Millisecond)
		s.get(t, c.token, byToken) // nobody here knows that history
		time.Sleep(time.Millisecond)
		s.get(t, c.token, bySlave)
	})
}

// TestJunkBeforeTheToken has cookies of the same name, as other applications on the host or an attacker leave
// them. Work is bounded: 8 tokens of a request are looked at. If there are more, the client's own may be
// among those that are not.
func TestJunkBeforeTheToken(t *testing.T) {
	for _, test := range []struct {
		name           string
		junk           int
		header         bool
		want           string
		forged, unread uint64
	}{
		{"the cookie, alone", 0, false, byToken, 0, 0},
		{"the cookie behind 7", 7, false, byToken, 7, 0},
		{"the cookie behind 8", 8, false, byToken, 0, 9},
		{"the cookie behind 20", 20, false, byToken, 0, 21},
		{"the cookie behind more than net/http reads", 4000, false, byToken, 0, 4001},
		{"the header and 7", 7, true, byToken, 7, 0},
		{"the header and 20", 20, true, byToken, 0, 21},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, nil)
			token := s.newToken()
			junk := strings.TrimSuffix(strings.Repeat("replicated=junk; ", test.junk), "; ")
			serve := func(cookies, header string) string {
				r := httptest.NewRequest("GET", "/", nil)
				r.Header.Set("Cookie", cookies)
				r.Header.Set("Replicated-Token", header)
				s.routes.take()
				s.handler.ServeHTTP(httptest.NewRecorder(), r)
				return strings.Join(s.routes.take(), ", ")
			}
			if test.header {
				served(t, serve(junk, token), test.want)
			} else {
				served(t, serve(strings.TrimPrefix(junk+"; replicated="+token, "; "), ""), test.want)
			}
			n := s.plugin.Status().Tokens
			if n.Forged != test.forged || n.Unread != test.unread {
				t.Errorf("counted %d as forged and %d as unread, want %d and %d",
					n.Forged, n.Unread, test.forged, test.unread)
			}
			if test.junk == 7 { // the control: junk that was looked at says nothing
				served(t, serve(junk, ""), bySlave)
			}
		})
	}
}

// TestTokensInTheHeader: a client sends one, but several may arrive.
func TestTokensInTheHeader(t *testing.T) {
	for _, test := range []struct {
		name  string
		lines func(token string) []string
		want  string
	}{
		{"one", func(token string) []string { return []string{token} }, byToken},
		{"behind another", func(token string) []string { return []string{"junk", token} }, byToken},
		{"in one line with another", func(token string) []string { return []string{"junk, " + token} }, byToken},
		{"in one line, in front", func(token string) []string { return []string{token + ",junk"} }, byToken},
		{"behind empty ones", func(token string) []string {
			return []string{strings.Repeat(",", 100) + token}
		}, byToken},
		{"behind 8 others in one line", func(token string) []string {
			return []string{strings.Repeat("junk,", 8) + token}
		}, byToken},
		{"junk alone", func(string) []string { return []string{"junk, junk", "junk"} }, bySlave}, // the control
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, nil)
			r := httptest.NewRequest("GET", "/", nil)
			r.Header["Replicated-Token"] = test.lines(s.newToken())
			s.routes.take()
			s.handler.ServeHTTP(httptest.NewRecorder(), r)
			served(t, strings.Join(s.routes.take(), ", "), test.want)
		})
	}
}

// TestTokensOfAnInstanceWhoseClockIsAhead: by a minute at most they count.
func TestTokensOfAnInstanceWhoseClockIsAhead(t *testing.T) {
	for _, test := range []struct {
		ahead  time.Duration
		want   string
		future uint64
	}{
		{time.Minute, byToken, 0},
		{2 * time.Minute, byToken, 1}, // by the master, as it cannot be said how old it is
	} {
		bubble(t, test.ahead.String(), func(t *testing.T) {
			entry := token.Entry{History: "default", Position: position.Sequence("log", 2).Append(nil)}
			text := sealed(t, entry, time.Now().Add(test.ahead))
			s := newSite(t, nil)
			served(t, s.carrier(text).get(), test.want)
			served(t, s.client().get(), bySlave) // the control
			if n := s.plugin.Status().Tokens; n.Future != test.future || n.Accepted != 1-test.future {
				t.Errorf("%+v", n)
			}
		})
	}
}
