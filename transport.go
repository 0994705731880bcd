package replicated

import (
	"net/http"
	"slices"
	"strings"
)

// Transport returns an [http.RoundTripper] for requests to other services of the same application, with the same Secrets and names in Token:
// each takes the token of the session in its context along, in the header, so that the other service reads what this session has
// written; and what the other one has written comes back, for this session to read and for its own client. A nil base
// is [http.DefaultTransport].
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
	session := lookup(r.Context()).of(p)
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

// redirectedAway tells whether a client was sent to another host than the one that it was asked to go to: that may be anybody's.
func redirectedAway(r *http.Request) bool {
	first := r
	for first.Response != nil && first.Response.Request != nil {
		first = first.Response.Request
	}
	return first.URL.Host != r.URL.Host
}

// CloseIdleConnections is what [http.Client.CloseIdleConnections] calls.
func (t transport) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}
