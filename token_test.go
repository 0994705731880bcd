package replicated_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorm-replicated/replicated"
)

// TestCookiesOfOthers: a token counts under its own two names alone, whatever else the client sends.
func TestCookiesOfOthers(t *testing.T) {
	const many = "a=1; replicated.example=2; b=3; c=4; d=5; e=6; f=7; g=8; h=9; "
	for _, test := range []struct{ name, cookies, want string }{ // TOKEN stands for a token
		{"its own", "replicated=TOKEN", byToken},
		{"that of reads", "replicated-read=TOKEN", byToken},
		{"behind those of others", many + "replicated=TOKEN", byToken},
		{"before those of others", "replicated=TOKEN; " + many, byToken},
		{"in quotes", `replicated="TOKEN"`, byToken},
		{"a longer name", "replicated-other=TOKEN", bySlave},
		{"a longer name before", "my-replicated=TOKEN", bySlave},
		{"the end of a name", "-read=TOKEN", bySlave},
		{"another name, beside ours", "replicated=; other=TOKEN", bySlave},
		{"no name", "replicated; TOKEN", bySlave},
		{"those of others alone", many, bySlave},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, nil)
			token := s.newToken()
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Cookie", strings.ReplaceAll(test.cookies, "TOKEN", token))
			s.routes.take()
			s.handler.ServeHTTP(httptest.NewRecorder(), r)
			served(t, strings.Join(s.routes.take(), ", "), test.want)
			n := s.plugin.Status().Tokens
			if n.Forged+n.Unread > 0 || (n.Accepted > 0) != (test.want == byToken) {
				t.Errorf("counted %+v", n)
			}
		})
	}
}

// TestWithTokenInARequest: a token that came in by another way, such as a job's result, is the session's own.
// The client hears of it if that is possible.
func TestWithTokenInARequest(t *testing.T) {
	for _, test := range []struct {
		name  string
		late  bool
		token func(token string) string
		now   string // the route of what the request reads then
		next  string // that of the client's next request
		count uint64 // of what came too late
	}{
		{"in time", false, func(token string) string { return token }, byToken, byToken, 0},
		{"after the first byte", true, func(token string) string { return token }, byToken, bySlave, 1},
		{"forged", false, func(token string) string { return token + "x" }, bySlave, bySlave, 0},
		{"forged, after the first byte", true, func(token string) string { return token + "x" }, bySlave, bySlave, 0},
		{"none", true, func(string) string { return "" }, bySlave, bySlave, 0},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, nil)
			token := test.token(s.newToken())
			s.with(func(w http.ResponseWriter, r *http.Request) {
				if test.late {
					_, _ = io.WriteString(w, "a")
				}
				ctx := s.plugin.WithToken(r.Context(), token)
				served(t, s.read(ctx), test.now)
				served(t, s.read(r.Context()), test.now)
			})
			c := s.client()
			c.do("GET")
			if n := s.plugin.Status().Tokens.LateWrites; n != test.count {
				t.Errorf("%d came too late, want %d", n, test.count)
			}
			if n := s.plugin.Status().Tokens.Forged; (n > 0) != strings.HasSuffix(token, "x") {
				t.Errorf("%d counted as forged", n)
			}
			if _, ok := c.cookies["replicated"]; ok != (test.next == byToken) {
				t.Errorf("cookies %v", c.cookies)
			}
			s.with(s.serve)
			served(t, c.get(), test.next)
		})
	}
	bubble(t, "that of a job", func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) { c.DefaultIntent = replicated.Slave })
		job := s.plugin.WithToken(t.Context(), "")
		s.plugin.WithToken(job, s.newToken())
		served(t, s.read(job), byToken)
	})
}
