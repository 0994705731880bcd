package replicated

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"
)

// Config configures a [Plugin]. Most applications set Slaves and Secrets. The zero value has no slaves:
// everything runs on the master.
//
// [New] copies it: changing it later has no effect.
type Config struct {
	// Slaves are the servers to read from, opened by Initialize: each one server, not an address that leads to
	// several. A pool that a dialector brings ready-made (mysql.Config.Conn) becomes the plugin's once db.Use
	// succeeds: Close closes it. Wrap one in [Server] to name or weigh it. Default: none.
	Slaves []gorm.Dialector

	// Masters are the servers to write to, opened by Initialize. Several have to be equal: each takes writes,
	// and what is written to one appears on the others. A request stays on one of them. They are never closed.
	// db.DB() is the first. Default: the connection of the *gorm.DB itself, which is not used otherwise.
	Masters []gorm.Dialector

	// Policy picks the slave of a request, or of a statement outside of any; where there are several masters,
	// the master as well. It is given the connection pools of those that may serve, as dbresolver does; nil
	// or a pool it was not given means any of them. Calls are serialised, so it must not block: all reads
	// that need a slave would wait. It must not change the slice. Default: dbresolver.RandomPolicy{}.
	Policy dbresolver.Policy

	// MaxLag is how far behind a slave may be that is read. It is compared with an upper bound of its lag,
	// which Probe finds out. Default: 60 s; less turns every burst of lag into load on the master.
	MaxLag time.Duration

	// Pool limits the connection pool of each server of Slaves and Masters. That of the *gorm.DB itself is
	// never touched.
	Pool PoolConfig

	// AutoReadOnSlave lets the request's method and DefaultIntent choose a slave (AUTO_READ_ON_SLAVE in
	// Flask-Replicated). If it is false, only what is marked reads from slaves: UseSlave, WithSlave, Routes, a
	// clause. [Plugin.SetAutoReadOnSlave] changes it while requests run. Default: true.
	AutoReadOnSlave *bool

	// ReadOnlyMethods are the HTTP methods whose requests only read; their case does not matter.
	// Default, if nil: GET and HEAD. Empty and not nil: none.
	ReadOnlyMethods []string

	// Routes gives requests an intent by pattern, whatever their method and whether or not AutoReadOnSlave is
	// on: {"POST /search": replicated.Slave}. Patterns are those of [http.ServeMux], matched against the
	// request as Middleware sees it; the most specific one counts. Default: none.
	Routes map[string]Intent

	// DefaultIntent is the intent where there is no request, such as in a background job, while
	// AutoReadOnSlave is on. Default: Master.
	DefaultIntent Intent

	// RejectWrites makes a write under a Slave intent fail with [ErrWriteOnSlave], before anything is
	// executed. Default: it runs on the master.
	RejectWrites bool

	// WriteFunctions names functions that write although a SELECT calls them, such as stored ones. Case and
	// schema do not matter. Default: none; those of the databases themselves are known (docs/routing.md).
	WriteFunctions []string

	// Secrets seal the tokens by which a client reads what it has written: the first one seals, all open. Each
	// is at least 32 random bytes, such as "openssl rand -base64 32" prints, the same in all instances of the
	// application. To replace one, add the new one behind it everywhere, then swap them, and remove the old
	// one after Token.TTL. Default: none. Then a cookie without content sends a client that wrote to the
	// master for Token.Window.
	Secrets [][]byte

	// Token says how tokens travel, and how long they count.
	Token TokenConfig

	// Probe says how the servers are watched.
	Probe ProbeConfig

	// Failover says what happens when servers fail.
	Failover FailoverConfig

	// Logger takes what an operator should know: above all, when db.Use is called, that a group has no
	// positions, and what to set. One that blocks stops nothing: messages that it does not take are
	// dropped, and their number is logged when it takes some again. Default: slog.Default().
	Logger *slog.Logger

	// Observer is told about every routed statement. Default: none.
	Observer Observer
}

// Group is servers for some of the tables, for use with [Plugin.Register]. Its fields are those of
// [Config]: without Masters, the master is the connection of the *gorm.DB itself; without Slaves,
// everything about these tables runs on the master.
type Group struct {
	Slaves, Masters []gorm.Dialector
	Policy          dbresolver.Policy
	MaxLag          time.Duration // default: that of Config
	Pool            PoolConfig
}

// TokenConfig says how a client carries what it must not read behind from a response to its next request:
// in a cookie, and for clients without cookies in a header.
type TokenConfig struct {
	// TTL is how long a token counts: at least MaxLag and a minute, by which the clocks of two instances may
	// differ. A client that comes back later finds every slave that is read to have caught up. Default: 5
	// minutes.
	TTL time.Duration
	// Window is how long a client that wrote reads the master where there is no position to compare with:
	// without Secrets, on SQLite, with the binary log off. Slaves that are further behind show it stale data.
	// Default: 5 s.
	Window time.Duration
	// Timeout bounds the reading of the master's position after a write. When it is over the token carries a
	// time, as for Window. Default: 250 ms.
	Timeout time.Duration
	// Wait is how long a request waits at most, from its first wait on, for a slave to catch up with its
	// token, before it reads the master. Default: 0, it does not wait.
	Wait time.Duration
	// Monotonic makes a token rise with what was read before the response began, too: a client never sees an
	// older state than before, whichever slave answers. It costs the responses of reading requests a question
	// to the slave, shared by those that end at the same time. It needs Secrets, and servers with positions.
	// Reads have a cookie of their own, the name of which ends in "-read". Default: false.
	Monotonic bool

	// Cookie and Header are the names of the cookie and of the header, in requests and responses. Each plugin
	// of a request, and each database that clients of one host or services behind one Transport meet, needs a
	// cookie and a header of its own, unless all groups of all of them are on the same masters: a token of a
	// master that an instance does not know sends its client to the masters that it does know. Tokens of one
	// cookie's name do not open under another. Of the cookie "replicated", "replicated-read" is taken as well.
	// Default: "replicated" and "Replicated-Token".
	Cookie, Header string
	// Domain, Path, SameSite and Secure are the cookie's attributes, see [http.Cookie]. It is always HttpOnly.
	// Default: none, "/", Lax, and secure where the request came by TLS.
	Domain, Path string
	SameSite     http.SameSite
	Secure       *bool
}

// ProbeConfig says how the servers are watched: what the master has, and what the slaves have of it. The
// questions go over connections of their own, one for each server, and need no privilege.
//
// Servers are asked where the dialect is MySQL's or PostgreSQL's, or there is a Source. Pools that a
// dialector, or the *gorm.DB, brings ready-made are asked only if Secrets, MaxLag, Interval or Source is
// set.
//
// Where servers have no positions, as MySQL has none while gtid_mode is not ON, lag is not known, MaxLag has
// no effect, and tokens carry a time. That is logged once for each group, with the remedy.
type ProbeConfig struct {
	// Interval is between two rounds of questions while slaves are read; if they are not it is a quarter of
	// MaxLag. Default: 1 s. Negative: no questions at all. Then lag is not known, and tokens carry a time.
	Interval time.Duration
	// MinInterval is between two rounds at least, while a slave is awaited. Default: 10 ms.
	MinInterval time.Duration
	// Source reads positions of servers that the plugin does not know. Default: none.
	Source PositionSource
}

// FailoverConfig says what happens when servers fail. A read whose slave cannot be reached, breaks the
// connection or says that it does not serve runs on the next slave, then on the master, in the same call:
// docs/operations.md.
type FailoverConfig struct {
	// SlaveTimeout is how long a slave may take to the first row of a read before the plugin asks whether that
	// slave is alive. The question goes over a connection of the plugin's own, and waits for a second at most.
	// If the slave answers, the read goes on for as long as it takes, and runs once. If the slave does not,
	// the read is cancelled there and runs elsewhere. Default: 1 s. Negative: reads wait for as long as their
	// context allows.
	SlaveTimeout time.Duration

	// MaxOnMaster is how many reads of each group may run on the master at once, until their rows are closed,
	// because no slave is there for them; more fail at once with [ErrMasterBusy]. Reads that belong on the
	// master anyway do not count: those of a session that wrote, or whose token no slave covers yet. Default:
	// 0, unlimited.
	MaxOnMaster int
}

// PoolConfig limits the connection pool of each server that is opened. A pool that a dialector
// brings ready-made keeps its own limits.
type PoolConfig struct {
	// MaxOpen is the number of connections at most. Default: as the pool of the *gorm.DB has it.
	MaxOpen int
	// MaxIdle is the number of idle connections at most; negative: none are kept.
	// Default: MaxOpen, or 16 if that is unlimited.
	MaxIdle int
	// MaxLifetime is the age at which a connection is closed; negative: none. Default: 3 minutes; none for
	// SQLite.
	MaxLifetime time.Duration
	// MaxIdleTime is how long a connection may be idle. Default: any time.
	MaxIdleTime time.Duration
}

// Server is a server with a name and a weight, for use in Slaves and Masters of [Config] and [Group].
type Server struct {
	gorm.Dialector
	// ID names the server in routes, logs and Status. It must not hold a credential.
	// Default: host:port where the DSN shows it, otherwise slave-1, slave-2 and so on, or master-1.
	ID string
	// Weight is a slave's part of the reads, compared with the Weight of the others: with
	// dbresolver.RandomPolicy{}, which is the default Policy, and with [LeastLatency]. Other policies do not
	// see it. 1,000,000 at most. Default: 1.
	Weight int
}

// registration is a call of Register.
type registration struct {
	group  Group
	tables []any
}

// mistakes are those of a configuration.
type mistakes []error

func (m *mistakes) add(format string, args ...any) { *m = append(*m, fmt.Errorf(format, args...)) }
