package main

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gorm-replicated/replicated"
)

// answer says who answered one query, and why.
type answer struct {
	Server string
	Role   string // "master" or "slave"
	Reason string
}

// answers collects what the queries of one request were answered by. It travels in the request's context.
type answers struct {
	mu  sync.Mutex
	all []answer
}

type answersKey struct{}

// observer is what the plugin tells of every query. The guestbook knows nothing else about routing.
type observer struct{}

var _ replicated.Observer = observer{}

// Routed adds the route to the answers of the request that ctx belongs to, if any.
func (observer) Routed(ctx context.Context, r replicated.Route) {
	if a := answersOf(ctx); a != nil {
		a.mu.Lock()
		a.all = append(a.all, answer{Server: r.Server, Role: role(r.Intent), Reason: r.Reason.String()})
		a.mu.Unlock()
	}
}

func role(i replicated.Intent) string {
	if i == replicated.Slave {
		return "slave"
	}
	return "master"
}

func answersOf(ctx context.Context) *answers {
	a, _ := ctx.Value(answersKey{}).(*answers)
	return a
}

// list returns the answers so far, oldest first.
func (a *answers) list() []answer {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.all)
}

// visit is a request as the page's list of recent ones shows it.
type visit struct {
	At      time.Time
	Method  string
	Path    string
	Answers []answer
}

// visits remembers the last requests that asked the database.
type visits struct {
	mu   sync.Mutex
	last []visit // oldest first
}

const maxVisits = 12

// Latest returns the visits, newest first.
func (v *visits) Latest() []visit {
	v.mu.Lock()
	defer v.mu.Unlock()
	last := slices.Clone(v.last)
	slices.Reverse(last)
	return last
}

// Record collects the answers of each request, and remembers the request once it is over.
func (v *visits) Record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := &answers{}
		at := time.Now()
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), answersKey{}, a)))
		if all := a.list(); len(all) > 0 {
			v.add(visit{At: at, Method: r.Method, Path: r.URL.Path, Answers: all})
		}
	})
}

func (v *visits) add(one visit) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.last) == maxVisits {
		v.last = slices.Delete(v.last, 0, 1)
	}
	v.last = append(v.last, one)
}

const (
	headerServer = "X-Served-By"
	headerRole   = "X-Served-Role"
	headerReason = "X-Routed-Because"
)

// describe puts the answers into the response's headers, a value for each query in turn: so programs learn
// what the page shows to people. Like every header it has to be called before the response begins.
func describe(header http.Header, all []answer) {
	for _, one := range all {
		header.Add(headerServer, one.Server)
		header.Add(headerRole, one.Role)
		header.Add(headerReason, one.Reason)
	}
}
