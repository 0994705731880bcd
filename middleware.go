package replicated

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gorm-replicated/replicated/internal/firstbyte"
	"github.com/gorm-replicated/replicated/internal/token"
)

// Middleware gives each request its session: the intent that follows from Config.Routes and the method, the
// memory of what the request wrote, and what it must not read behind according to the token that it brings.
// Handlers take part by using the request's context: db.WithContext(r.Context()).
//
// If the request has written, the response brings a token, in a cookie and a header. Before its first byte
// the master is asked for its position, once: what is committed by then the client's next request will see.
// The ResponseWriter that next gets has the optional interfaces of the real one. Handlers that answer in
// another's place, such as [http.TimeoutHandler], belong inside.
//
// It may be made before the plugin is given to db.Use: until then requests are served without a session.
// Several plugins may wrap one handler, in any order, each with a Token.Cookie and Token.Header of its own;
// wrapping twice with the same one does no harm. A nil handler panics.
func (p *Plugin) Middleware(next http.Handler) http.Handler {
	mustHandler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !p.initialized.Load() {
			next.ServeHTTP(w, r)
			return
		}
		ctx, session, first := p.newRequestSession(r)
		r = r.WithContext(ctx)
		if !first || p.sealer == nil && !p.givesCookies.Load() {
			next.ServeHTTP(w, r)
			return
		}
		writer, response := firstbyte.Before(w, func() { session.answer(w.Header(), r) })
		session.carried.response = response
		defer response.Finish()
		next.ServeHTTP(writer, r)
	})
}

// newRequestSession returns the session of a request with its context, and tells whether it is the first
// one of this plugin.
func (rt *router) newRequestSession(r *http.Request) (_ context.Context, _ *session, first bool) {
	outer := lookup(r.Context()).of(rt)
	ctx, session := rt.newSession(r.Context())
	ctx.done = r.Context().Done()
	session.request = true
	session.pattern, session.method = rt.routes.match(r), chooseMaster
	if slices.Contains(rt.config.ReadOnlyMethods, r.Method) {
		session.method = chooseSlave
	}
	if outer == nil || !outer.request {
		// What began the outer one, if any, has a longer life than this request and its response.
		session.carried = &session.ownCarried
		session.carried.clashes = rt.clashes(session)
		if first = !session.carried.clashes; first {
			session.receive(r)
		}
	}
	if session.carried.clashes {
		session.method = chooseMaster
	}
	return ctx, session, first
}

// clashes tells whether another plugin has the cookie or the header of rt's tokens. One of two tokens would
// be lost: then rt issues none and takes none, and its requests read the master, but for what code or
// patterns mark.
func (rt *router) clashes(s *session) bool {
	own := &rt.config.Token
	for other := s.next; other != nil; other = other.next {
		theirs := &other.router.config.Token
		sameCookie := isOurs(own.Cookie, theirs.Cookie) || isOurs(theirs.Cookie, own.Cookie)
		apart := !sameCookie && own.Header != theirs.Header
		if other.router == rt || rt.sealer == nil && other.router.sealer == nil || apart {
			continue
		}
		rt.tokens.saidClash.Do(func() {
			rt.config.Logger.Error("replicated: two plugins in one request have the same Token.Cookie or "+
				"Token.Header, so the requests of one of them read the master: give each its own",
				"cookie", own.Cookie, "header", own.Header)
		})
		return true
	}
	return false
}

// takeOver takes in the token of a service behind this one whose response a proxy passes on, perhaps without
// [Plugin.Transport]. The session's own token is about to replace it.
func (s *session) takeOver(h http.Header) {
	if s.carried.issued.Load() {
		return // it is our own
	}
	for text := range tokensIn(h[s.router.config.Token.Header]) {
		if s.accept(text) {
			s.carried.raised.Store(true)
		}
	}
}

// dropCookies takes the cookies of tokens out of a response: those of a service behind this one, whose token
// takeOver has taken in.
func dropCookies(h http.Header, name string) {
	h["Set-Cookie"] = slices.DeleteFunc(h["Set-Cookie"], func(line string) bool {
		key, _, _ := strings.Cut(line, "=")
		return isOurs(strings.TrimSpace(key), name)
	})
}

// answer puts the session's token into the header of the response to r, if the client has to hear of
// something.
func (s *session) answer(h http.Header, r *http.Request) {
	s.takeOver(h)
	wrote, read := s.catchUp(r.Context())
	if !wrote && !read {
		return
	}
	rt, cfg := s.router, &s.router.config.Token
	cookie := &http.Cookie{
		Name: cfg.Cookie, Domain: cfg.Domain, Path: cfg.Path,
		SameSite: cfg.SameSite, HttpOnly: true, Secure: r.TLS != nil,
	}
	if cfg.Secure != nil {
		cookie.Secure = *cfg.Secure
	}
	if !wrote {
		cookie.Name += ofReads
	}
	lifetime := cfg.TTL
	if rt.sealer == nil {
		cookie.Value, lifetime = token.Marker, cfg.Window
		rt.tokens.saidMarker.Do(func() {
			rt.config.Logger.Warn("replicated: Config.Secrets is not set: a client that wrote reads the master for "+
				"Token.Window, and after that perhaps not what it wrote", "window", cfg.Window)
		})
	} else {
		text, err := s.seal()
		if err != nil || text == "" {
			if err != nil {
				rt.config.Logger.Error("replicated: no token for a client that wrote", "error", err)
			}
			return
		}
		cookie.Value = text
		h.Set(cfg.Header, text)
	}
	cookie.MaxAge = int(lifetime / time.Second)
	if lifetime%time.Second != 0 {
		cookie.MaxAge++
	}
	dropCookies(h, cfg.Cookie)
	h.Add("Set-Cookie", cookie.String())
	if !s.carried.issued.Swap(true) {
		rt.tokens.issued.Add(1)
	}
}
