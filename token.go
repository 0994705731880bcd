package replicated

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"slices"
	"strings"
)

var (
	errNoSecrets = errors.New("replicated: Token needs db.Use, and Config.Secrets")
	errNoSession = errors.New(
		"replicated: Token needs the context of a request behind Middleware, or one of WithToken")
)

// Token returns what the next session of the same client has to bring along to see what this one has
// written and what it was itself begun with: for a client or another service by any way but HTTP's, such as
// the arguments of a background job or the user's record in a store. The responses of requests behind
// [Plugin.Middleware] bring it without being asked. It is "" if there is nothing to bring.
//
// After a write it reads the master's position, each time anew, in at most Token.Timeout. Call it once all
// is committed: it does not cover what is committed later. ctx is that of a request behind Middleware, or
// of [Plugin.WithToken]. It is an error if it is neither, if it has ended, or without [Config].Secrets. The
// end of ctx does not end the question.
func (p *Plugin) Token(ctx context.Context) (string, error) {
	session := lookup(ctx).of(&p.router)
	switch {
	case p.sealer == nil:
		return "", errNoSecrets
	case session == nil:
		return "", errNoSession
	case ctx.Err() != nil:
		return "", ctx.Err()
	}
	session.catchUp(ctx)
	return session.seal()
}

// WithToken returns a context that begins a session outside of HTTP, with a token or "": slaves that are
// behind the token are not read through it, and once it has written it reads the master. It does not say
// where to read: outside of requests that is Config.DefaultIntent, and WithSlave reads a slave that is
// behind if there is no other.
//
// If ctx is in a session, that one gets the token: two tokens make one by
// p.Token(p.WithToken(p.WithToken(ctx, a), b)). Tokens that are forged or expired have no effect but that
// [Status] counts them. Before db.Use it returns ctx.
func (p *Plugin) WithToken(ctx context.Context, token string) context.Context {
	if !p.initialized.Load() {
		return ctx
	}
	if session := lookup(ctx).of(&p.router); session != nil {
		session.bring(token)
		return ctx
	}
	begun, session := p.newSession(ctx)
	session.accept(token)
	return begun
}

// bring takes in a token that came in while the session ran, and that its client has to hear of.
func (s *session) bring(text string) {
	if !s.accept(text) {
		return
	}
	s.carried.raised.Store(true)
	if s.carried.late() {
		s.router.noteLate()
	}
}

// textsOfRequest is how many tokens of one request are looked at, which bounds the work: one in the header,
// one in the cookie, one of reads, and some that another application has left under the cookie's name.
const textsOfRequest = 8

// receive takes in the tokens that a request came with. A client may bring several: in the header, which
// proxies may have made one of, and in cookies of several paths. If they are too many to look at, its own may
// be among the others: then the master is read for all of them.
func (s *session) receive(r *http.Request) {
	cfg := &s.router.config.Token
	var texts [textsOfRequest]string
	n := 0
	take := func(text string) {
		if text == "" {
			return
		}
		if n < len(texts) {
			texts[n] = text
		}
		n++
	}
	for text := range tokensIn(r.Header[cfg.Header]) {
		take(text)
	}
	cookiesNamed(r.Header["Cookie"], cfg.Cookie, take)
	switch {
	case n == 0:
	case s.router.sealer == nil: // whatever is in it: it lives for Window
		s.readMaster(cfg.Window)
	case n > len(texts):
		s.router.tokens.unread.Add(uint64(n))
		s.readMaster(cfg.TTL)
	default:
		for _, text := range texts[:n] {
			s.accept(text)
		}
	}
}

// tokensIn returns the texts in headers of tokens, of which a proxy may have made one.
func tokensIn(lines []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range lines {
			for text := range strings.SplitSeq(line, ",") {
				if !yield(strings.Trim(text, " \t")) {
					return
				}
			}
		}
	}
}

// cookiesNamed calls f with the value of each cookie of tokens in these headers. It does not use
// [http.Request.Cookies], which gives up on all cookies where there are too many.
func cookiesNamed(lines []string, name string, f func(value string)) {
	for _, line := range lines {
		if !strings.Contains(line, name) {
			continue
		}
		for pair := range strings.SplitSeq(line, ";") {
			if key, value, found := strings.Cut(strings.Trim(pair, " \t"), "="); found && isOurs(key, name) {
				f(strings.Trim(value, `"`))
			}
		}
	}
}

// ofReads ends the name of the cookie of a request that has only read: it must not take the place of one
// that has written, whose response may have been faster.
const ofReads = "-read"

// isOurs tells whether a cookie is that of tokens, or that of reads.
func isOurs(key, name string) bool {
	rest, found := strings.CutPrefix(key, name)
	return found && (rest == "" || rest == ofReads)
}

// Transport returns an [http.RoundTripper] for requests to other services of the same application, with the
// same Secrets and names in Token: each takes the token of the session in its context along, in the header,
// so that the other service reads what this session has written; and what the other one has written comes
// back, for this session to read and for its own client. A nil base is [http.DefaultTransport].
//
//	client := &http.Client{Transport: p.Transport(nil)}
//	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, url, body)
//	resp, err := client.Do(req)
//
// After a write the session asks the master for its position before each request. The session's token takes
// the place of a header and of cookies that are there already, such as those of the client whose request a
// proxy passes on ([net/http/httputil.ReverseProxy]): it holds what they brought. A request without a session
// or a token, or that a redirect has led to another host, passes unchanged. Do not use it for services of
// others: they would get a token that they can do nothing with but send.
func (p *Plugin) Transport(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return transport{p, base}
}

type transport struct {
	plugin *Plugin
	base   http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	p, header := t.plugin, t.plugin.config.Token.Header
	session := lookup(r.Context()).of(&p.router)
	if session == nil || p.sealer == nil || redirectedAway(r) {
		return t.base.RoundTrip(r)
	}
	text, err := p.Token(r.Context())
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // a RoundTripper always does
		}
		return nil, err
	}
	if text != "" {
		r = r.Clone(r.Context()) // a RoundTripper must not change the request
		r.Header.Set(header, text)
		withoutCookies(r.Header, p.config.Token.Cookie)
	}
	response, err := t.base.RoundTrip(r)
	if err == nil {
		for text := range tokensIn(response.Header[header]) {
			session.bring(text)
		}
	}
	return response, err
}

// CloseIdleConnections is what [http.Client.CloseIdleConnections] calls.
func (t transport) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// withoutCookies takes the cookies of tokens out of a request that a proxy passes on.
func withoutCookies(h http.Header, name string) {
	if !slices.ContainsFunc(h["Cookie"], func(line string) bool { return strings.Contains(line, name) }) {
		return
	}
	var rest []string
	for _, line := range h["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			pair = strings.Trim(pair, " \t")
			if key, _, _ := strings.Cut(pair, "="); pair != "" && !isOurs(key, name) {
				rest = append(rest, pair)
			}
		}
	}
	if h.Del("Cookie"); len(rest) > 0 {
		h.Set("Cookie", strings.Join(rest, "; "))
	}
}

// redirectedAway tells whether a client was sent to another host than the one that it was asked to go to:
// that may be anybody's.
func redirectedAway(r *http.Request) bool {
	first := r
	for first.Response != nil && first.Response.Request != nil {
		first = first.Response.Request
	}
	return first.URL.Host != r.URL.Host
}
