package consistency

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// version is an application in one of its versions, outside of HTTP: reads go to slaves.
type version struct {
	db     *gorm.DB
	plugin *replicated.Plugin
	routes chan replicated.Route
}

// Routed implements replicated.Observer.
func (v *version) Routed(_ context.Context, r replicated.Route) { v.routes <- r }

// openVersion opens an application whose global group has these slaves. register may be nil.
func openVersion(
	t *testing.T, e engine, c *servers.Cluster, register func(*replicated.Plugin), slaves ...*servers.Server,
) *version {
	t.Helper()
	db, err := gorm.Open(e.dial(c.Master.DSN()), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		t.Fatal(err)
	}
	master, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	log := &lines{}
	v := &version{db: db, routes: make(chan replicated.Route, 1000)}
	v.plugin = replicated.New(replicated.Config{
		Slaves: e.dialAll(slaves...), Secrets: [][]byte{secret}, DefaultIntent: replicated.Slave, Observer: v,
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if register != nil {
		register(v.plugin)
	}
	if err := db.Use(v.plugin); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.plugin.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the plugin's log:\n%s", log)
		}
	})
	return v
}

func (e engine) dialAll(all ...*servers.Server) (dialectors []gorm.Dialector) {
	for _, s := range all {
		dialectors = append(dialectors, e.dial(s.DSN()))
	}
	return dialectors
}

// wrote returns the token of a session that has written the n-th entry of a client.
func (v *version) wrote(t *testing.T, client string, n int) string {
	t.Helper()
	ctx := v.plugin.WithToken(t.Context(), "")
	if err := v.db.WithContext(ctx).Create(&Entry{Client: client, N: n}).Error; err != nil {
		t.Fatal(err)
	}
	token, err := v.plugin.Token(ctx)
	if err != nil || token == "" {
		t.Fatalf("token %q, %v", token, err)
	}
	return token
}

// read returns a client's latest entry, as a session with this token sees it, and where it was read.
func (v *version) read(t *testing.T, token, client string) (n int, r replicated.Route) {
	t.Helper()
	for len(v.routes) > 0 {
		<-v.routes
	}
	var entry Entry
	ctx := v.plugin.WithToken(t.Context(), token)
	err := v.db.WithContext(ctx).Where("client = ?", client).Order("n DESC").Limit(1).Find(&entry).Error
	if err != nil {
		t.Fatal(err)
	}
	for len(v.routes) > 0 {
		r = <-v.routes
	}
	return entry.N, r
}

// TestADeployThatChangesGroups has a client write through one version of an application and read through
// another, whose groups are others, while no slave replays. All groups are on one master, which the last of
// them know by another address.
func TestADeployThatChangesGroups(t *testing.T) {
	for _, e := range wanted(mariaDB, postgreSQL, mySQL) {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel() // on servers of their own
			c := e.cluster(t)
			open(t, e, c, nil) // has the table made
			one, other := c.Slaves[0], c.Slaves[1]
			here := func(tables ...any) func(*replicated.Plugin) {
				return func(p *replicated.Plugin) { p.Register(replicated.Group{Slaves: e.dialAll(other)}, tables...) }
			}
			address := strings.Replace(c.Master.DSN(), "127.0.0.1", "localhost", 1)
			if address == c.Master.DSN() {
				t.Fatalf("no other address for %s", address)
			}
			byAnotherAddress := func(slaves ...*servers.Server) func(*replicated.Plugin) {
				return func(p *replicated.Plugin) {
					masters := []gorm.Dialector{e.dial(address)}
					p.Register(replicated.Group{Masters: masters, Slaves: e.dialAll(slaves...)}, "entries")
				}
			}
			for _, test := range []struct {
				name          string
				before, after func(*replicated.Plugin)
			}{
				{"nothing changes", nil, nil},
				{"a group is added", nil, here("entries")},
				{"a group is removed", here("entries"), nil},
				{"a group is renamed", here("entries", "more"), here("more", "entries")},
				{"a group is added that has another address", nil, byAnotherAddress(other)},
				{"a group is removed that has another address, and no slaves", byAnotherAddress(), nil},
			} {
				t.Run(test.name, func(t *testing.T) {
					before := openVersion(t, e, c, test.before, one)
					after := openVersion(t, e, c, test.after, one)
					client := fmt.Sprintf("%s: %s", t.Name(), time.Now())
					if len(client) > 60 {
						client = client[len(client)-60:]
					}
					before.wrote(t, client, 1)
					if err := c.CatchUp(t.Context()); err != nil {
						t.Fatal(err)
					}
					bySlave := func(token string, want int) func() error {
						return func() error {
							n, r := after.read(t, token, client)
							if n != want || r.Intent != replicated.Slave {
								return fmt.Errorf("entry %d, want %d, by %s: %v", n, want, r.Server, r.Reason)
							}
							return nil
						}
					}
					eventually(t, 10*time.Second, bySlave("", 1))
					hold(t, one, other)
					token := before.wrote(t, client, 2)
					for range 20 {
						if n, r := after.read(t, token, client); n != 2 || r.Intent != replicated.Master {
							t.Fatalf("entry %d by %s: %v", n, r.Server, r.Reason)
						}
						if err := bySlave("", 1)(); err != nil { // the control: without the token
							t.Fatal(err)
						}
					}
					release(t, one, other)
					eventually(t, 10*time.Second, bySlave(token, 2))
					if n := after.plugin.Status().Tokens; n.OtherHistory != 0 || n.TimeOnly != 0 {
						t.Errorf("%+v", n)
					}
				})
			}
		})
	}
}

// TestTokensOfTwoDatabases has one application write to two databases, each with a master and slaves of its
// own. What it wrote to one does not keep the slaves of the other from being read.
func TestTokensOfTwoDatabases(t *testing.T) {
	for _, e := range wanted(mariaDB, postgreSQL, mySQL) {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			c := e.cluster(t)
			open(t, e, c, nil)
			there, err := e.start(t.Context(), servers.Config{Slaves: 1})
			servers.Check(t, err)
			t.Cleanup(func() {
				if err := there.Close(); err != nil {
					t.Error(err)
				}
			})
			plain, err := gorm.Open(e.dial(there.Master.DSN()), &gorm.Config{Logger: logger.Discard})
			if err != nil {
				t.Fatal(err)
			}
			err = errors.Join(plain.Table("notes").AutoMigrate(&Entry{}), there.CatchUp(t.Context()))
			if pool, _ := plain.DB(); err != nil || pool.Close() != nil {
				t.Fatal(err)
			}
			v := openVersion(t, e, c, func(p *replicated.Plugin) {
				masters, slaves := e.dialAll(there.Master), e.dialAll(there.Slaves...)
				p.Register(replicated.Group{Masters: masters, Slaves: slaves}, "notes")
			}, c.Slaves[0])
			notes := *v
			notes.db = v.db.Table("notes").Session(&gorm.Session{})
			client := fmt.Sprintf("two databases %d", time.Now().UnixNano())
			for _, group := range []*version{v, &notes} {
				token := group.wrote(t, client, 1)
				eventually(t, 10*time.Second, func() error {
					if n, r := group.read(t, token, client); n != 1 || r.Intent != replicated.Slave {
						return fmt.Errorf("entry %d by %s: %v", n, r.Server, r.Reason)
					}
					return nil
				})
			}
			hold(t, there.Slaves[0])
			token := notes.wrote(t, client, 2)
			if n, r := notes.read(t, token, client); n != 2 || r.Intent != replicated.Master {
				t.Errorf("there: entry %d by %s: %v", n, r.Server, r.Reason)
			}
			if n, r := notes.read(t, "", client); n != 1 || r.Intent != replicated.Slave { // the control
				t.Errorf("there, without a token: entry %d by %s: %v", n, r.Server, r.Reason)
			}
			if n, r := v.read(t, token, client); n != 1 || r.Intent != replicated.Slave {
				t.Errorf("here: entry %d by %s: %v", n, r.Server, r.Reason)
			}
		})
	}
}
