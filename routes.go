package replicated

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
)

// matcher finds the pattern of Config.Routes that a request matches.
type matcher struct {
	mux    *http.ServeMux
	routes map[string]choice
}

func compileRoutes(routes map[string]Intent, found *mistakes) *matcher {
	m := &matcher{mux: http.NewServeMux(), routes: make(map[string]choice, len(routes))}
	for _, pattern := range slices.Sorted(maps.Keys(routes)) {
		if !routes[pattern].valid() {
			found.add("Routes[%q]: unknown intent %v", pattern, routes[pattern])
		}
		if err := register(m.mux, pattern); err != nil {
			found.add("Routes[%q]: %w", pattern, err)
		}
		m.routes[pattern] = choose(routes[pattern])
	}
	return m
}

// register turns the panic with which a ServeMux refuses a pattern into an error.
func register(mux *http.ServeMux, pattern string) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%v", v)
		}
	}()
	mux.Handle(pattern, http.NotFoundHandler())
	return nil
}

// match returns what Config.Routes says about r. A request that a ServeMux would redirect, such as one for
// //search, counts as the one it leads to: the application's own router may serve it without a redirect.
func (m *matcher) match(r *http.Request) choice {
	if len(m.routes) == 0 {
		return undecided
	}
	_, pattern := m.mux.Handler(r)
	return m.routes[pattern]
}
