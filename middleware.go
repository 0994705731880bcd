package replicated

import (
	"net/http"
	"slices"
)

// Middleware gives each request its session: the intent that follows from
// Config.Routes and the method, and the memory of what the request wrote. Handlers take part by
// using the request's context: db.WithContext(r.Context()).
//
// It may be made before the plugin is given to db.Use: until then requests are
// served without a session. Several plugins may wrap one handler, in any order; wrapping twice
// with the same one does no harm. A nil handler panics.
func (p *Plugin) Middleware(next http.Handler) http.Handler {
	mustHandler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if router := p.router.Load(); router != nil {
			r = router.begin(r)
		}
		next.ServeHTTP(w, r)
	})
}

// begin returns r with a session in its context.
func (r *router) begin(req *http.Request) *http.Request {
	s := scopeOf(req.Context())
	session := &session{
		plugin:  r.plugin,
		pattern: r.routes.match(req),
		method:  chooseMaster,
		next:    s.sessions,
	}
	if slices.Contains(r.config.ReadOnlyMethods, req.Method) {
		session.method = chooseSlave
	}
	if outer := s.of(r.plugin); outer != nil {
		session.memory = outer.memory // what one part of a request writes, all of it must see
	} else {
		session.memory = new(memory)
	}
	s.sessions = session
	return req.WithContext(s.in(req.Context()))
}
