package replicated_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"gorm.io/driver/mysql"
	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
)

func TestMistakesInConfig(t *testing.T) {
	slave := func() gorm.Dialector { return dialector(openPool(t, &fake{name: "slave"})) }
	for _, test := range []struct {
		name   string
		config replicated.Config
		want   []string // parts of the one error
	}{
		{"nil dialector", replicated.Config{Slaves: []gorm.Dialector{slave(), nil}},
			[]string{"Slaves[1]: nil dialector"}},
		{"nil in a Server", replicated.Config{Slaves: []gorm.Dialector{replicated.Server{ID: "a"}}},
			[]string{"Slaves[0]: nil dialector"}},
		{"nil *Server", replicated.Config{Slaves: []gorm.Dialector{(*replicated.Server)(nil)}},
			[]string{"Slaves[0]: nil dialector"}},
		{"typed nil dialector", replicated.Config{Slaves: []gorm.Dialector{(*mysql.Dialector)(nil)}},
			[]string{"Slaves[0]: nil dialector"}},
		{"dialector without Config", replicated.Config{Slaves: []gorm.Dialector{&mysql.Dialector{}}},
			[]string{"Slaves[0] (slave-1)"}},
		{"same ID", replicated.Config{Slaves: []gorm.Dialector{
			replicated.Server{Dialector: slave(), ID: "a"}, replicated.Server{Dialector: slave(), ID: "a"},
		}}, []string{`Slaves[1]: ID "a" is that of Slaves[0]`}},
		{"another dialect", replicated.Config{Slaves: []gorm.Dialector{named{slave(), "postgres"}}},
			[]string{`Slaves[0] (slave-1): dialect "postgres", but the master's is "mysql"`}},
		{"nil policy", replicated.Config{Policy: dbresolver.PolicyFunc(nil)},
			[]string{"Policy: nil dbresolver.PolicyFunc"}},
		{"empty pattern", replicated.Config{Routes: map[string]replicated.Intent{"": replicated.Slave}},
			[]string{`Routes[""]: `}},
		{"refused pattern", replicated.Config{Routes: map[string]replicated.Intent{"GET /{": replicated.Slave}},
			[]string{`Routes["GET /{"]: `, "wildcard"}},
		{"pattern without a slash", replicated.Config{
			Routes: map[string]replicated.Intent{"search": replicated.Slave},
		}, []string{`Routes["search"]: `}},
		{"conflicting patterns", replicated.Config{
			Routes: map[string]replicated.Intent{"/a/{x}": replicated.Slave, "/{x}/b": replicated.Master},
		}, []string{`Routes["/{x}/b"]: `, "conflicts with", "/a/{x}"}},
		{"unknown intent of a pattern", replicated.Config{Routes: map[string]replicated.Intent{"/a": 7}},
			[]string{`Routes["/a"]: unknown intent Intent(7)`}},
		{"unknown DefaultIntent", replicated.Config{DefaultIntent: 9},
			[]string{"DefaultIntent: unknown intent Intent(9)"}},
		{"empty method", replicated.Config{ReadOnlyMethods: []string{"GET", ""}},
			[]string{`ReadOnlyMethods[1]: not a method: ""`}},
		{"not a method", replicated.Config{ReadOnlyMethods: []string{"GET, HEAD"}},
			[]string{`ReadOnlyMethods[0]: not a method: "GET, HEAD"`}},
		{"negative count", replicated.Config{Pool: replicated.PoolConfig{MaxOpen: -1}},
			[]string{"Pool.MaxOpen: negative: -1"}},
		{"negative duration", replicated.Config{Pool: replicated.PoolConfig{MaxIdleTime: -time.Second}},
			[]string{"Pool.MaxIdleTime: negative: -1s"}},
		{"empty function name", replicated.Config{WriteFunctions: []string{"f", " "}},
			[]string{"WriteFunctions[1]: empty name"}},
		{"negative MaxLag", replicated.Config{MaxLag: -time.Second}, []string{"MaxLag: negative: -1s"}},
		{"too short a secret", replicated.Config{Secrets: [][]byte{[]byte("hunter2")}},
			[]string{"Secrets[0] has 7 bytes: at least 32"}},
		{"TTL below MaxLag and the skew", replicated.Config{Secrets: [][]byte{secret}, MaxLag: 5 * time.Minute},
			[]string{"Token.TTL: 5m0s is less than MaxLag, 5m0s, and 1m0s"}},
		{"negative times", replicated.Config{
			Token: replicated.TokenConfig{TTL: -1, Window: -2, Timeout: -3, Wait: -4},
		}, []string{
			"Token.TTL: negative: -1ns", "Token.Window: negative: -2ns", "Token.Timeout: negative: -3ns",
			"Token.Wait: negative: -4ns",
		}},
		{"not a cookie", replicated.Config{Token: replicated.TokenConfig{Cookie: "a b"}},
			[]string{`Token.Cookie: not the name of a cookie: "a b"`}},
		{"not a cookie's path", replicated.Config{Token: replicated.TokenConfig{Path: "/;a"}},
			[]string{`Path "/;a"`}},
		{"not a header", replicated.Config{Token: replicated.TokenConfig{Header: "a:"}},
			[]string{`Token.Header: not the name of a header: "a:"`}},
		{"unknown SameSite", replicated.Config{Token: replicated.TokenConfig{SameSite: 7}},
			[]string{"Token.SameSite: unknown: 7"}},
		{"SameSite None without Secure", replicated.Config{
			Token: replicated.TokenConfig{SameSite: http.SameSiteNoneMode},
		}, []string{"Token.Secure: browsers drop"}},
		{"a prefix without Secure", replicated.Config{Token: replicated.TokenConfig{Cookie: "__Host-r"}},
			[]string{"Token.Secure: browsers drop"}},
		{"TTL below Window", replicated.Config{
			Secrets: [][]byte{secret}, Token: replicated.TokenConfig{Window: 10 * time.Minute},
		}, []string{"Token.TTL: 5m0s is less than Token.Window, 10m0s"}},
		{"Monotonic without Secrets", replicated.Config{Token: replicated.TokenConfig{Monotonic: true}},
			[]string{"Token.Monotonic: needs Secrets"}},
		{"negative MinInterval", replicated.Config{Probe: replicated.ProbeConfig{MinInterval: -1}},
			[]string{"Probe.MinInterval: negative: -1ns"}},
		{"MinInterval above Interval", replicated.Config{
			Probe: replicated.ProbeConfig{Interval: time.Second, MinInterval: time.Minute},
		}, []string{"Probe.MinInterval: 1m0s is more than Probe.Interval, 1s"}},
		{"nil Source", replicated.Config{Probe: replicated.ProbeConfig{Source: (*history)(nil)}},
			[]string{"Probe.Source: nil *replicated_test.history"}},
		{"all at once", replicated.Config{
			Slaves:          []gorm.Dialector{nil},
			Routes:          map[string]replicated.Intent{"x": 7},
			DefaultIntent:   7,
			ReadOnlyMethods: []string{""},
			Pool:            replicated.PoolConfig{MaxOpen: -2},
		}, []string{
			"Slaves[0]", `Routes["x"]: unknown`, `Routes["x"]: parsing`, "DefaultIntent", "ReadOnlyMethods[0]",
			"Pool.MaxOpen: negative: -2",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := &fakeLog{}
			db := openFake(t, openPool(t, &fake{name: "master", log: log}), gorm.Config{})
			pool := db.ConnPool
			err := db.Use(replicated.New(test.config))
			if err == nil {
				t.Fatal("no error")
			}
			for _, part := range append(test.want, "replicated: ") {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q is not in:\n%v", part, err)
				}
			}
			// Nothing is left registered.
			if db.ConnPool != pool || replicated.From(db) != nil ||
				db.Callback().Query().Get("gorm:db_resolver") != nil ||
				db.Callback().Row().Get("replicated:route") != nil {
				t.Error("the refused plugin is left in the database")
			}
			if err := db.Use(replicated.New(replicated.Config{})); err != nil {
				t.Errorf("a correct one after it: %v", err)
			}
		})
	}
}

// TestNothingIsLeftOpen has one slave of three fail to open. What was handed
// over stays its owner's.
func TestNothingIsLeftOpen(t *testing.T) {
	db := openFake(t, openPool(t, &fake{name: "master"}), gorm.Config{})
	first, last, ready := &opens{}, &opens{}, openPool(t, &fake{})
	err := db.Use(replicated.New(replicated.Config{Slaves: []gorm.Dialector{
		first, broken{dialector(nil), os.ErrDeadlineExceeded}, last, dialector(ready),
	}}))
	if err == nil || !strings.Contains(err.Error(), "Slaves[1] (slave-2): timed out") {
		t.Errorf("got %v", err)
	}
	for i, d := range []*opens{first, last} {
		if err := d.pool.Ping(); err == nil || !strings.Contains(err.Error(), "closed") {
			t.Errorf("slave %d is open: %v", i, err)
		}
	}
	if err := ready.Ping(); err != nil {
		t.Errorf("the pool that was handed over: %v", err)
	}
}

// opens is a dialector that opens a pool of its own.
type opens struct {
	gorm.Dialector
	pool *sql.DB
}

func (*opens) Name() string { return "mysql" }
func (o *opens) Initialize(db *gorm.DB) error {
	o.pool = sql.OpenDB(&fake{})
	db.ConnPool = o.pool
	return nil
}

func TestMasterAsItsOwnSlave(t *testing.T) {
	master := openPool(t, &fake{name: "master"})
	db := openFake(t, master, gorm.Config{})
	err := db.Use(replicated.New(replicated.Config{Slaves: []gorm.Dialector{dialector(master)}}))
	if err == nil || !strings.Contains(err.Error(), "Slaves[0] (slave-1): its connection pool is the master's") {
		t.Errorf("got %v", err)
	}
	if err := master.Ping(); err != nil {
		t.Errorf("the master was closed: %v", err)
	}
}

func TestNoTwoServersOfOneName(t *testing.T) {
	db := openFake(t, openPool(t, &fake{name: "master"}), gorm.Config{})
	p := replicated.New(replicated.Config{
		Slaves: []gorm.Dialector{replicated.Server{Dialector: dialector(openPool(t, &fake{})), ID: "master"}},
	})
	if err := db.Use(p); err != nil {
		t.Fatal(err)
	}
	servers := p.Status().Groups[0].Servers
	expect(t, []string{servers[0].ID, servers[1].ID}, "master-2", "master")
}

// broken is a dialector that cannot be opened.
type broken struct {
	gorm.Dialector
	err error
}

func (b broken) Initialize(*gorm.DB) error { return b.err }

// TestNoPasswordAnywhere looks for it in every text that a DSN could reach.
func TestNoPasswordAnywhere(t *testing.T) {
	const password = "s3cr3t-p4ss"
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := closed.Addr().String()
	closed.Close()

	for name, dsn := range map[string]string{
		"no slash":         "app:" + password + "@tcp(db1:3306)",
		"no network":       "app:" + password + "/shop",
		"not closed":       "app:" + password + "@tcp(db1:3306/shop",
		"unknown option":   "app:" + password + "@tcp(db1:3306)/shop?parseTime=" + password,
		"key and value":    "host=db1 password=" + password + " port=x",
		"a URL":            "mysql://app:" + password + "@db1:3306/shop?" + password,
		"nothing but that": password,
	} {
		t.Run(name, func(t *testing.T) {
			db := openFake(t, openPool(t, &fake{name: "master"}), gorm.Config{})
			err := db.Use(replicated.New(replicated.Config{Slaves: []gorm.Dialector{mysql.Open(dsn)}}))
			if err == nil {
				t.Fatal("no error")
			}
			for err := err; err != nil; err = errors.Unwrap(err) {
				if strings.Contains(err.Error(), password) {
					t.Errorf("it is in the error: %v", err)
				}
			}
		})
	}
	t.Run("another driver's error", func(t *testing.T) {
		for _, dsn := range []string{
			"host=db1 user=app password=" + password + " port=5432",
			"host=db1 user=app password='" + password + "'",
			"postgres://app:" + password + "@db1:5432/shop",
			"app:" + password + "@tcp(db1:3306)/shop",
		} {
			db := openFake(t, openPool(t, &fake{name: "master"}), gorm.Config{})
			err := db.Use(replicated.New(replicated.Config{
				Slaves: []gorm.Dialector{talkative{DSN: dsn, password: password}},
			}))
			if err == nil || strings.Contains(err.Error(), password) {
				t.Errorf("it is in the error: %v", err)
			}
		}
	})
	t.Run("a running plugin", func(t *testing.T) {
		routes := &routes{}
		db := openFake(t, openPool(t, &fake{name: "master"}), gorm.Config{})
		p := replicated.New(replicated.Config{Observer: routes, Slaves: []gorm.Dialector{
			mysql.Open("app:" + password + "@tcp(" + refusing + ")/shop"),
			mysql.Open("app:" + password + "@tcp(" + refusing + ")/other"),
		}})
		if err := db.Use(p); err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if err := db.WithContext(replicated.WithSlave(t.Context())).First(&User{}).Error; err != nil {
			t.Errorf("a query on slaves that refuse connections: %v", err)
		}
		texts := fmt.Sprintf("%+v %+v", p.Status(), routes.take())
		if !strings.Contains(texts, "connection refused") {
			t.Errorf("nothing is said of the reason in %s", texts)
		}
		if strings.Contains(texts, password) {
			t.Errorf("it is in %s", texts)
		}
		if !strings.Contains(texts, refusing) || !strings.Contains(texts, refusing+"-2") {
			t.Errorf("the servers are not named by their address in %s", texts)
		}
	})
}

// talkative is a dialector whose error quotes all of its DSN.
type talkative struct {
	gorm.Dialector
	DSN      string
	password string
}

func (talkative) Name() string { return "mysql" }
func (d talkative) Initialize(*gorm.DB) error {
	return fmt.Errorf("cannot open %q: %w", d.DSN, errors.New(d.password))
}

// TestStartWithFrozenSlave has a server that accepts connections and says
// nothing: opening asks it nothing, so it does not hold up the start.
func TestStartWithFrozenSlave(t *testing.T) {
	frozen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer frozen.Close()
	db := openFake(t, openPool(t, &fake{name: "master"}), gorm.Config{})
	p := replicated.New(replicated.Config{
		Slaves: []gorm.Dialector{mysql.Open("app@tcp(" + frozen.Addr().String() + ")/shop")},
	})
	if err := db.Use(p); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestPoolLimits(t *testing.T) {
	open := func(limit int, cfg replicated.PoolConfig, slave gorm.Dialector) replicated.ServerStatus {
		t.Helper()
		master := openPool(t, &fake{name: "master"})
		master.SetMaxOpenConns(limit)
		db := openFake(t, master, gorm.Config{})
		p := replicated.New(replicated.Config{Slaves: []gorm.Dialector{slave}, Pool: cfg})
		if err := db.Use(p); err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if n := master.Stats().MaxOpenConnections; n != limit {
			t.Errorf("the master's limit was changed to %d", n)
		}
		return p.Status().Groups[0].Servers[1]
	}
	dsn := mysql.Open("app@tcp(127.0.0.1:1)/shop")
	for _, test := range []struct {
		name  string
		limit int
		cfg   replicated.PoolConfig
		want  int
	}{
		{"as the master's", 7, replicated.PoolConfig{}, 7},
		{"unlimited, as the master's", 0, replicated.PoolConfig{}, 0},
		{"as configured", 7, replicated.PoolConfig{MaxOpen: 3}, 3},
	} {
		if got := open(test.limit, test.cfg, dsn).Pool.MaxOpenConnections; got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
	own := openPool(t, &fake{name: "slave"})
	own.SetMaxOpenConns(5)
	if got := open(7, replicated.PoolConfig{MaxOpen: 3}, dialector(own)).Pool.MaxOpenConnections; got != 5 {
		t.Errorf("a pool that was handed over: %d, want its own 5", got)
	}
}

// TestRefusedInitializeCanBeRepeated: the plugin is not used up by an error.
func TestRefusedInitializeCanBeRepeated(t *testing.T) {
	failing := errors.New("not yet")
	log := &fakeLog{}
	d := &later{Dialector: dialector(openPool(t, &fake{name: "slave", log: log})), err: failing}
	p := replicated.New(replicated.Config{Slaves: []gorm.Dialector{d}})
	db := openFake(t, openPool(t, &fake{name: "master", log: log}), gorm.Config{})
	if err := db.Use(p); !errors.Is(err, failing) {
		t.Fatalf("got %v", err)
	}
	d.err = nil
	if err := db.Use(p); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := db.WithContext(replicated.WithSlave(context.Background())).First(&User{}).Error; err != nil {
		t.Fatal(err)
	}
	expect(t, log.servers(), "slave")
}

type later struct {
	gorm.Dialector
	err error
}

func (l *later) Initialize(db *gorm.DB) error {
	if l.err != nil {
		return l.err
	}
	return l.Dialector.Initialize(db)
}
