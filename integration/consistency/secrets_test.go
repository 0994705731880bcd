package consistency

import (
	"bytes"
	"net/http"
	"testing"

	"github.com/gorm-replicated/replicated"
)

// TestRotatingSecrets has instances of an application, of which some have the new secret already, take each
// other's tokens: as long as one can open what the other seals.
func TestRotatingSecrets(t *testing.T) {
	for _, e := range withPositions {
		t.Run(e.name, func(t *testing.T) { testRotatingSecrets(t, e) })
	}
}

func testRotatingSecrets(t *testing.T, e engine) {
	before, after := bytes.Repeat([]byte("before"), 6), bytes.Repeat([]byte("after."), 6)
	c := e.cluster(t)
	secrets := map[string][][]byte{
		"old":           {before},
		"old, then new": {before, after},
		"new, then old": {after, before},
		"new":           {after},
	}
	apps := map[string]*app{}
	for name, s := range secrets {
		apps[name] = open(t, e, c, func(cfg *replicated.Config) { cfg.Secrets = s })
	}
	hold(t, c.Slaves...) // so that a token makes a difference
	for _, test := range []struct {
		writes, reads string
		opens         bool
	}{
		{"old", "old", true},
		{"old", "old, then new", true},
		{"old", "new, then old", true},
		{"old, then new", "old", true},
		{"old, then new", "new, then old", true},
		{"new, then old", "old, then new", true},
		{"new, then old", "new", true},
		{"new", "new, then old", true},
		// This is why there are two steps: an instance that seals with the new secret may do so before another can
		// open it.
		{"new, then old", "old", false},
		{"old", "new", false},
		{"new", "old", false},
	} {
		t.Run("written with "+test.writes+"; read with "+test.reads, func(t *testing.T) {
			a, b := apps[test.writes], apps[test.reads]
			carried := &headers{base: a.transport, header: a.header}
			writer := &client{name: a.nameOf("rotating"), app: a, http: &http.Client{Transport: carried}}
			if _, err := writer.post(t.Context(), 1, "default", "201"); err != nil {
				t.Fatal(err)
			}
			before := b.plugin.Status().Tokens
			reader := &client{name: writer.name, app: b, http: writer.http}
			p, err := reader.get(t.Context(), writer.name)
			if err != nil {
				t.Fatal(err)
			}
			now := b.plugin.Status().Tokens
			accepted, forged := now.Accepted-before.Accepted == 1, now.Forged-before.Forged == 1
			if accepted != test.opens || forged == test.opens {
				t.Errorf("accepted %v, forged %v; token %q%s", accepted, forged, p.Token, b.state())
			}
			if got := !stale(1, p); got != test.opens {
				t.Errorf("sees what was written: %v, want %v; from %s (%s), token %q", got, test.opens, p.Server,
					p.Reason, p.Token)
			}
			if p.Slave == test.opens {
				t.Errorf("answered by %s (%s)", p.Server, p.Reason)
			}
		})
	}
}
