package faults_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/gorm-replicated/replicated/integration/servers"
)

// node is a server and the network before it: a Toxiproxy of this process, through which the plugin connects,
// and nobody else.
type node struct {
	*servers.Server
	engine *engine
	app    *app // that connects

	mu    sync.Mutex // Toxiproxy guards its connections, not what is done to the proxy
	proxy *toxiproxy.Proxy
}

func newNode(t *testing.T, e *engine, s *servers.Server) *node {
	t.Helper()
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	n := &node{Server: s, engine: e, proxy: toxiproxy.NewProxy(api, s.String(), "127.0.0.1:0", s.Addr())}
	must(t, n.proxy.Start())
	t.Cleanup(n.refuse)
	return n
}

// addr is where the plugin finds the server.
func (n *node) addr() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proxy.Listen
}

// dsn leads there.
func (n *node) dsn() string { return n.engine.through(n.DSN(), n.addr()) }

// refuse cuts all connections, and refuses new ones, until accept.
func (n *node) refuse() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.proxy.Stop()
}

func (n *node) accept() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.proxy.Start(); err != nil && !errors.Is(err, toxiproxy.ErrProxyAlreadyStarted) {
		return err
	}
	return nil
}

// lead has the address lead to another server, and cuts the connections to the one before.
func (n *node) lead(to *servers.Server) error {
	n.refuse()
	n.mu.Lock()
	n.proxy.Upstream = to.Addr()
	n.mu.Unlock()
	return n.accept()
}

// attributes are those of a toxic, as Toxiproxy's manual has them.
type attributes map[string]int

// poison has the network do something to what the server sends ("downstream") or is sent ("upstream"), on
// connections that are there as well, until cleanse.
func (n *node) poison(toxic, stream string, a attributes) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	text, err := json.Marshal(map[string]any{"type": toxic, "stream": stream, "attributes": a})
	if err != nil {
		return err
	}
	if _, err := n.proxy.Toxics.AddToxicJson(strings.NewReader(string(text))); err != nil {
		return fmt.Errorf("%v: %s: %w", n, toxic, err)
	}
	return nil
}

func (n *node) cleanse() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.proxy.Toxics.ResetToxics(context.Background())
}
