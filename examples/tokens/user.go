package tokens

import (
	"context"
	"net/http"
	"sync"

	"github.com/gorm-replicated/replicated"
)

// Users keeps tokens on the server, by user, for clients that keep nothing themselves, neither cookies nor
// headers. A real one is shared by all instances of the application, such as in Redis, and forgets what is
// older than Token.TTL.
type Users struct {
	Plugin *replicated.Plugin
	Name   func(*http.Request) string // of the user who makes a request, "" for nobody; must be authentic

	mu     sync.Mutex
	tokens map[string]string
}

const tokenHeader = "Replicated-Token" // the default of Config.Token

// Middleware goes around handlers in place of the plugin's own, which it has inside.
func (u *Users) Middleware(next http.Handler) http.Handler {
	next = u.Plugin.Middleware(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := u.Name(r)
		if name == "" {
			next.ServeHTTP(w, r)
			return
		}
		r = r.Clone(r.Context())
		r.Header.Set(tokenHeader, u.token(name))
		begun := &firstByte{ResponseWriter: w,
			do: sync.OnceFunc(func() { u.keep(name, w.Header().Get(tokenHeader)) })}
		next.ServeHTTP(begun, r)
		begun.do()
	})
}

func (u *Users) token(name string) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.tokens[name]
}

// keep adds a token to the one that is kept: two requests of one user may end in any order, and neither token
// tells of all that both have written.
func (u *Users) keep(name, token string) {
	if token == "" {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	ctx := u.Plugin.WithToken(context.Background(), u.tokens[name])
	both, err := u.Plugin.Token(u.Plugin.WithToken(ctx, token))
	if err != nil {
		both = token
	}
	if u.tokens == nil {
		u.tokens = map[string]string{}
	}
	u.tokens[name] = both
}

// firstByte calls do before the first byte of a response, when the plugin has put the token into the header.
// Later is too late: who has the response may already make the next request.
type firstByte struct {
	http.ResponseWriter
	do func()
}

func (w *firstByte) WriteHeader(status int) {
	if status >= http.StatusOK { // not a hint in advance
		w.do()
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *firstByte) Write(b []byte) (int, error) { w.do(); return w.ResponseWriter.Write(b) }
func (w *firstByte) Flush() {
	w.do()
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}
func (w *firstByte) Unwrap() http.ResponseWriter { return w.ResponseWriter }
