package positions

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	gormmysql "gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated/integration/metronome"
	"github.com/gorm-replicated/replicated/integration/servers"
	"github.com/gorm-replicated/replicated/internal/cluster"
	"github.com/gorm-replicated/replicated/internal/position"
)

// maxLag is short, so that slaves leave the view and return.
const maxLag = 2 * time.Second

// watch opens the servers of c with the ordinary account, and has the monitor watch them.
func watch(ctx context.Context, t *testing.T, k kind, c *servers.Cluster,
	cfg cluster.Monitoring) *cluster.Cluster {
	t.Helper()
	dial := gormmysql.Open
	if k.driver == "pgx" {
		dial = postgres.Open
	}
	dialector := dial(c.Master.DSN())
	db, err := gorm.Open(dialector, &gorm.Config{})
	ok(t, err)
	own, err := db.DB()
	ok(t, err)
	t.Cleanup(func() { ok(t, own.Close()) })
	master := cluster.NewServer(c.Master.String(), own, dialector, 0, 0)
	var specs []cluster.Spec
	for i, s := range c.Slaves {
		specs = append(specs, cluster.Spec{Field: fmt.Sprintf("Slaves[%d]", i), ID: s.String(),
			Dialector: dial(s.DSN())})
	}
	slaves, err := cluster.Open(master, specs)
	ok(t, err)
	watched := cluster.New([]*cluster.Server{master}, slaves)
	t.Cleanup(func() { ok(t, watched.Close()) })
	cfg.Dialect, cfg.MaxLag = k.config.Dialect, maxLag
	watched.Watch(cfg)
	watched.AwaitFirst(ctx)
	return watched
}

// await waits until there is a view of which is holds.
func await(ctx context.Context, t *testing.T, c *cluster.Cluster, what string, is func(*cluster.View) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		v := c.View()
		if is(v) {
			return
		}
		select {
		case <-v.Changed:
		case <-ctx.Done():
			t.Fatalf("still not %s: %s", what, describe(v))
		}
	}
}

func describe(v *cluster.View) string {
	var b strings.Builder
	for _, s := range slices.Concat(v.Masters, v.All) {
		lag, known := s.Lag(time.Now())
		fmt.Fprintf(&b, "\n\t%s: up %v, lag %v (known %v), at %v; %s", s.Server.ID, s.Up, lag, known, s.Position,
			s.Reason)
	}
	return b.String()
}

// have tells whether these of the slaves are in the view, and no other.
func have(slaves ...int) func(*cluster.View) bool {
	return func(v *cluster.View) bool {
		for i, s := range v.All {
			if slices.Contains(v.Slaves, s.Server) != slices.Contains(slaves, i) {
				return false
			}
		}
		return true
	}
}

// diary is a table, and when what is in it was committed: ids from 1 on.
type diary struct {
	db     *sql.DB
	insert string
	table  *ledger

	mu     sync.Mutex
	times  []time.Time // when the commit of each had returned; zero: not yet
	latest time.Time
	more   chan struct{} // closed at the next commit
}

func newDiary(ctx context.Context, t *testing.T, k kind, c *servers.Cluster, table string) *diary {
	t.Helper()
	db, err := sql.Open(k.driver, c.Master.DSN())
	ok(t, err)
	t.Cleanup(func() { ok(t, db.Close()) })
	return &diary{db: db, insert: fmt.Sprintf("INSERT INTO %s (id) VALUES (%s)", table, k.arg),
		table: newLedger(ctx, t, k, c, table), more: make(chan struct{})}
}

// commit commits the next row.
func (d *diary) commit(ctx context.Context) error {
	d.mu.Lock()
	d.times = append(d.times, time.Time{})
	id := len(d.times)
	d.mu.Unlock()
	if _, err := d.db.ExecContext(ctx, d.insert, id); err != nil {
		return err
	}
	returned := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.times[id-1] = returned
	if returned.After(d.latest) {
		d.latest = returned
	}
	close(d.more)
	d.more = make(chan struct{})
	return nil
}

// until waits for a commit at that time or later.
func (d *diary) until(ctx context.Context, at time.Time) error {
	for {
		d.mu.Lock()
		latest, more := d.latest, d.more
		d.mu.Unlock()
		if !latest.Before(at) {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// missing returns when what was committed that w has not seen was committed, by id.
func (d *diary) missing(w *watcher) map[int]time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	missing := map[int]time.Time{}
	for i := w.low; i < len(d.times); i++ {
		if at := d.times[i]; !at.IsZero() && !w.seen[i+1] {
			missing[i+1] = at
		}
	}
	return missing
}

// before returns the ids of those committed before at.
func before(missing map[int]time.Time, at time.Time) (ids []int) {
	for id, committed := range missing {
		if committed.Before(at) {
			ids = append(ids, id)
		}
	}
	return ids
}

const (
	// shift is by how much fresher the control claims slaves to be.
	shift = 300 * time.Millisecond
	// slack is how late the monitor's timer may be, and how often as late as any goroutine comes to run.
	slack = 250 * time.Millisecond
)

// TestWhatIsFreshIsThere commits rows on a master all the time, while slaves fall behind and catch up.
// Whenever the view says that a slave is fresh as of some time, the slave has to have all rows whose commit
// had returned by then, and those in the view all that are older than MaxLag.
func TestWhatIsFreshIsThere(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) { testFresh(t, k) })
	}
}

func testFresh(t *testing.T, k kind) {
	seed := setting(t, "POSITIONS_SEED", 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // so that nothing hangs
	defer cancel()
	c, err := k.start(ctx, servers.Config{Slaves: len(k.slaves)})
	servers.Check(t, err)
	t.Cleanup(func() { ok(t, c.Close()) })
	for i, s := range k.slaves {
		exec(ctx, t, c.Slaves[i], s.setUp...)
	}
	d := newDiary(ctx, t, k, c, "fresh")
	watched := watch(ctx, t, k, c, cluster.Monitoring{Interval: 100 * time.Millisecond,
		MinInterval: 10 * time.Millisecond})

	var tasks sync.WaitGroup
	failed := make(chan error, 16)
	stop := make(chan struct{})
	task := func(step func() error) {
		tasks.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := step(); err != nil {
					failed <- err
					cancel() // nobody need wait for what will not come
					return
				}
			}
		})
	}
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for range 2 { // so that rows are not committed in the order of their ids
		task(func() error {
			<-pace.C
			return d.commit(ctx)
		})
	}
	finish := sync.OnceFunc(func() {
		close(stop)
		tasks.Wait()
	})
	defer finish()
	var healthy atomic.Bool
	late := metronome.New()
	defer late.Stop()
	watchers := make([]*watcher, len(k.slaves))
	for i := range k.slaves {
		watchers[i] = &watcher{checker: d.table.checker(ctx, t, k, c.Slaves[i]), t: t,
			cluster: watched, diary: d, i: i, late: late,
			stop: stop, healthy: &healthy, random: rand.New(rand.NewPCG(seed, uint64(i)))}
		tasks.Go(func() {
			for stopped := false; !stopped || !watchers[i].enough() && ctx.Err() == nil; {
				select {
				case <-stop:
					stopped = true
				default:
				}
				if err := watchers[i].step(ctx); err != nil {
					failed <- err
					cancel()
					return
				}
			}
		})
	}

	err = wander(ctx, t, c, d, watched, watchers, &healthy, seed)
	finish()
	close(failed)
	for e := range failed {
		err = errors.Join(err, e)
	}
	ok(t, err)

	// An idle master makes nobody lag, and in the end all is there.
	d.mu.Lock()
	rows, latest := len(d.times), d.latest
	d.mu.Unlock()
	await(ctx, t, watched, "fresh as of the last commit", func(v *cluster.View) bool {
		return !slices.ContainsFunc(v.All, func(s cluster.State) bool { return !s.FreshAsOf.After(latest) })
	})
	for i, w := range watchers {
		ok(t, w.step(ctx))
		if n := len(d.missing(w)); n > 0 {
			t.Errorf("%s: at the end %d rows are missing", k.slaves[i].name, n)
		}
		t.Logf("%s, %s: %d rows; %v", w.state().Server.ID, k.slaves[i].name, rows, w)
		w.judge()
	}
}

// wander has the slaves fall behind and catch up.
func wander(ctx context.Context, t *testing.T, c *servers.Cluster, d *diary, watched *cluster.Cluster,
	watchers []*watcher, healthy *atomic.Bool, seed uint64) error {
	hold := func(i int) error {
		err := c.Slaves[i].Hold(ctx)
		watchers[i].held.Store(true)
		return err
	}
	release := func(i int) error {
		watchers[i].held.Store(false)
		return c.Slaves[i].Release(ctx)
	}
	last := func(howLong time.Duration) error { return d.until(ctx, time.Now().Add(howLong)) }

	all := have(0, 1)
	await(ctx, t, watched, "all in the view", all)
	healthy.Store(true)
	if err := last(time.Second); err != nil {
		return err
	}
	healthy.Store(false)

	errs := make([]error, len(c.Slaves))
	var done sync.WaitGroup
	end := time.Now().Add(2 * time.Second)
	for i := range c.Slaves {
		random := rand.New(rand.NewPCG(seed, uint64(100+i)))
		some := func() error { return last(time.Duration(random.Int64N(int64(500 * time.Millisecond)))) }
		done.Go(func() {
			for time.Now().Before(end) && errs[i] == nil {
				errs[i] = errors.Join(hold(i), some(), release(i), some())
			}
		})
	}
	done.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}

	await(ctx, t, watched, "all in the view", all)
	if err := errors.Join(hold(1), last(maxLag+time.Second)); err != nil {
		return err
	}
	await(ctx, t, watched, "without the one that has stopped for longer than MaxLag, with the other", have(0))
	if err := release(1); err != nil {
		return err
	}
	await(ctx, t, watched, "back in the view", all)
	return errors.Join(hold(0), hold(1), last(time.Second), release(0), release(1), c.CatchUp(ctx))
}

// watcher compares what the view says of a slave with what is there.
type watcher struct {
	*checker
	t       *testing.T
	cluster *cluster.Cluster
	diary   *diary
	i       int // of the slave
	late    *metronome.Metronome
	stop    <-chan struct{}
	random  *rand.Rand
	held    atomic.Bool  // replays nothing
	healthy *atomic.Bool // nobody is held

	checks, in int // where it was known as of when the slave is fresh, and of these in the view
	stands     int // the lag stood still
	unfit      int // there were rows missing that should have been there, as FreshAsOf was

	wrong, tooOld int           // rows that should have been there: by FreshAsOf, and by MaxLag
	over          time.Duration // by how much one was older than MaxLag, at most
	reported      time.Duration // the largest lag
	behind        time.Duration // the largest there was
	tooMuch       []time.Duration

	shifted, halved int // what the controls find
}

func (w *watcher) String() string {
	slices.Sort(w.tooMuch)
	return fmt.Sprintf("%d checks, %d of them in the view, lag stood still in %d; "+
		"the largest lag reported %v, the largest there was %v; "+
		"too much is reported in health by %v (the median of %d); not there though fresh: %d rows; "+
		"older than MaxLag by up to %v; controls: %d if fresher by %v, %d with half of MaxLag",
		w.checks, w.in, w.stands, ms(w.reported), ms(w.behind), ms(w.median()), len(w.tooMuch), w.wrong,
		ms(w.over), w.shifted, shift, w.halved)
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

func (w *watcher) median() time.Duration {
	if len(w.tooMuch) == 0 {
		return 0
	}
	return w.tooMuch[len(w.tooMuch)/2]
}

func (w *watcher) state() cluster.State { return w.cluster.View().All[w.i] }

// judge is for when all is done.
func (w *watcher) judge() {
	w.t.Helper()
	switch {
	case w.wrong > 0:
		w.t.Errorf("%d rows were not there, though the slave was fresh", w.wrong)
	case w.tooOld > 0:
		w.t.Errorf("%d rows were not there, though the slave was in the view", w.tooOld)
	case !w.enough():
		w.t.Error("too few checks")
	case w.shifted == 0:
		w.t.Error("control: nobody noticed that the slave was said to be fresher than it was")
	case w.i == 1 && w.halved == 0: // the one that has stopped for long
		w.t.Error("control: nobody noticed that the slave was behind by half of MaxLag")
	}
}

// enough tells whether there were checks enough of the slave.
func (w *watcher) enough() bool {
	const least = 250
	return w.checks >= least && w.in >= least/2
}

// step checks once.
func (w *watcher) step(ctx context.Context) error {
	if w.random.IntN(2) == 0 {
		select { // when it says the most
		case <-w.cluster.View().Changed:
		case <-w.stop:
		}
	}
	w.cluster.Used()
	switch w.random.IntN(16) {
	case 0, 1:
		w.cluster.Hurry()
	case 2: // the monitor hears the answer, too
		if _, err := w.cluster.Position(ctx, w.cluster.Masters[0]); err != nil {
			return err
		}
	}

	held, healthy := w.held.Load(), w.healthy.Load()
	now := time.Now()
	v := w.cluster.View()
	state := v.All[w.i]
	if _, err := w.look(ctx); err != nil {
		return err
	}
	missing := w.diary.missing(w)
	held, healthy = held && w.held.Load(), healthy && w.healthy.Load()

	lag, known := state.Lag(now)
	if !known {
		return nil
	}
	w.checks++
	var behind time.Duration
	for _, committed := range missing {
		behind = max(behind, now.Sub(committed))
	}
	w.reported, w.behind = max(w.reported, lag), max(w.behind, behind)
	if healthy {
		w.tooMuch = append(w.tooMuch, lag-behind)
	}
	if held {
		w.shifted += len(before(missing, state.FreshAsOf.Add(shift)))
	}
	if slices.Contains(v.Slaves, state.Server) {
		w.in++
		if lag < now.Sub(state.FreshAsOf) {
			w.stands++ // the master could not be asked
		} else {
			w.halved += len(before(missing, now.Add(-maxLag/2)))
			w.tooOld += len(before(missing, now.Add(-maxLag-slack-10*w.late.Most())))
			w.over = max(w.over, behind-maxLag)
		}
	}
	w.report(state, before(missing, state.FreshAsOf))
	return nil
}

// report notes the rows that are not there though the slave is fresh.
func (w *watcher) report(state cluster.State, late []int) {
	const enough = 3 // reports
	if len(late) == 0 {
		return
	}
	w.wrong += len(late)
	if w.unfit++; w.unfit <= enough {
		w.t.Errorf("%s lacks %d rows, though it is fresh as of %v ago, at %v",
			state.Server.ID, len(late), time.Since(state.FreshAsOf), state.Position)
	}
}

// notice is what the monitor tells of a server.
type notice struct {
	in     bool
	reason string
}

// notices are those that nobody has expected yet, by server.
type notices map[string]chan notice

func (n notices) expect(ctx context.Context, t *testing.T, s *servers.Server, in bool) (reason string) {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	select {
	case got := <-n[s.String()]:
		t.Logf("%v after %v: in %v %s", s, ms(time.Since(began)), got.in, got.reason)
		if got.in != in || in != (got.reason == "") {
			t.Fatalf("%v: notice %+v, want in %v", s, got, in)
		}
		return got.reason
	case <-ctx.Done():
		t.Fatalf("%v: no notice", s)
		return ""
	}
}

// none fails if there was a notice of s.
func (n notices) none(t *testing.T, s *servers.Server) {
	t.Helper()
	select {
	case got := <-n[s.String()]:
		t.Errorf("%v: notice %+v", s, got)
	default:
	}
}

// TestServersComeAndGo has servers go, in the ways there are, and come again.
func TestServersComeAndGo(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel() // it waits most of the time
			testComeAndGo(t, k)
		})
	}
}

func testComeAndGo(t *testing.T, k kind) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // so that nothing hangs
	defer cancel()
	c, err := k.start(ctx, servers.Config{Slaves: 2})
	servers.Check(t, err)
	t.Cleanup(func() { ok(t, c.Close()) })
	d := newDiary(ctx, t, k, c, "going")
	told := notices{}
	var secrets []string // that must not be told
	for _, s := range append([]*servers.Server{c.Master}, c.Slaves...) {
		told[s.String()] = make(chan notice, 100)
		secrets = append(secrets, s.DSN(), password(t, k, s))
	}
	public := func(s *cluster.Server, reason string) {
		for _, secret := range secrets {
			if strings.Contains(reason, secret) {
				t.Errorf("%s: a credential is told: %s", s.ID, reason)
			}
		}
	}
	watched := watch(ctx, t, k, c, cluster.Monitoring{Interval: time.Second, MinInterval: 10 * time.Millisecond,
		Notice: func(s *cluster.Server, in bool, reason, _ string) {
			public(s, reason)
			told[s.ID] <- notice{in, reason}
		}})
	for _, s := range watched.View().All {
		if s.Position.Kind() == position.Unknown {
			t.Fatalf("it has no positions: %s", describe(watched.View()))
		}
	}
	ok(t, d.commit(ctx))
	await(ctx, t, watched, "all in the view", have(0, 1))
	goes, stays := c.Slaves[0], c.Slaves[1]
	down := func(v *cluster.View) bool {
		public(v.All[0].Server, v.All[0].Reason)
		return have(1)(v) && !v.All[0].Up && strings.HasPrefix(v.All[0].Reason, "does not answer: ") &&
			!v.All[0].Position.Known()
	}

	t.Run("a slave is killed", func(t *testing.T) {
		ok(t, goes.Kill())
		reason := told.expect(ctx, t, goes, false)
		if !down(watched.View()) || !strings.HasPrefix(reason, "does not answer: ") {
			t.Errorf("%q; %s", reason, describe(watched.View()))
		}
		ok(t, goes.Start(ctx))
		told.expect(ctx, t, goes, true)
		await(ctx, t, watched, "all in the view", have(0, 1))
	})
	t.Run("a slave stands still", func(t *testing.T) {
		ok(t, goes.Freeze())
		told.expect(ctx, t, goes, false) // it answers no longer, or is behind: whichever is first
		await(ctx, t, watched, "known not to answer", down)
		ok(t, goes.Thaw())
		told.expect(ctx, t, goes, true)
		await(ctx, t, watched, "all in the view", have(0, 1))
	})
	told.none(t, stays)
	told.none(t, c.Master)

	t.Run("the master is killed", func(t *testing.T) {
		ok(t, c.Master.Kill())
		reason := told.expect(ctx, t, c.Master, false)
		v := watched.View()
		public(v.Masters[0].Server, v.Masters[0].Reason)
		if v.Masters[0].Up || !strings.HasPrefix(reason, "does not answer: ") || v.Masters[0].Reason != reason {
			t.Errorf("%q; %s", reason, describe(v))
		}
		stood := make([]time.Duration, len(v.All))
		for i, s := range v.All {
			stood[i], _ = s.Lag(time.Now())
		}
		end := time.After(2*maxLag + maxLag/2)
		for during := true; during; v = watched.View() {
			for i, s := range v.All {
				if lag, known := s.Lag(time.Now()); !have(0, 1)(v) || !known || lag != stood[i] {
					t.Fatalf("not as it was: lag %v, now %s", stood, describe(v))
				}
			}
			select {
			case <-v.Changed:
			case <-end:
				during = false
			}
		}
		// The control: there is something that stands still.
		for _, s := range v.All {
			if age := time.Since(s.FreshAsOf); age < 2*maxLag {
				t.Errorf("%s is fresh as of %v ago", s.Server.ID, age)
			}
		}
		told.none(t, goes)
		told.none(t, stays)

		ok(t, c.Master.Start(ctx))
		told.expect(ctx, t, c.Master, true)
		began := time.Now()
		ok(t, d.commit(ctx))
		await(ctx, t, watched, "all well", func(v *cluster.View) bool {
			for _, s := range v.All {
				if !s.FreshAsOf.After(d.latest) || s.Reason != "" || !s.Position.Covers(v.Masters[0].Position) {
					return false
				}
			}
			return v.Masters[0].Up && v.Masters[0].Reason == "" && have(0, 1)(v)
		})
		t.Logf("all is well %v after the master answered", ms(time.Since(began)))
		for i, s := range c.Slaves {
			// Where it has not yet found its master again while that goes on writing, it is behind since the master
			// went.
			for n := len(told[s.String()]); n > 0; n -= 2 {
				told.expect(ctx, t, s, false)
				told.expect(ctx, t, s, true)
			}
			look := d.table.checker(ctx, t, k, s)
			_, err := look.look(ctx)
			ok(t, err)
			if look.low != len(d.times) {
				t.Errorf("slave %d has %d rows of %d", i, look.low, len(d.times))
			}
		}
	})
}

// password returns what is secret about how s is connected with.
func password(t *testing.T, k kind, s *servers.Server) string {
	t.Helper()
	var password string
	if k.driver == "pgx" {
		cfg, err := pgx.ParseConfig(s.DSN())
		ok(t, err)
		password = cfg.Password
	} else {
		cfg, err := mysql.ParseDSN(s.DSN())
		ok(t, err)
		password = cfg.Passwd
	}
	if password == "" {
		t.Fatal("there is no password")
	}
	return password
}
