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
		if p.initialized.Load() {
			r = p.begin(r)
		}
		next.ServeHTTP(w, r)
	})
}

// begin returns r with a session in its context.
func (p *Plugin) begin(r *http.Request) *http.Request {
	both := &struct { // in one piece: a statement looks at both
		scope   scope
		session session
	}{scope: scopeOf(r.Context())}
	scope, session := &both.scope, &both.session
	session.plugin, session.next = p, scope.sessions
	session.pattern, session.method = p.routes.match(r), chooseMaster
	if slices.Contains(p.config.ReadOnlyMethods, r.Method) {
		session.method = chooseSlave
	}
	if outer := scope.of(p); outer != nil {
		session.memory, session.others = outer.memory, outer.others // what one part of a request writes, all of it must see
	} else {
		session.memory = &session.own
		if others := len(p.groups) - 1; others > 0 {
			session.others = make([]memory, others)
		}
	}
	scope.sessions = session
	return r.WithContext(scope.in(r.Context()))
}
