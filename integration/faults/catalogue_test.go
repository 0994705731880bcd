package faults_test

import (
	"context"
	"testing"
)

// fault is something that befalls a server, or the network before it.
type fault struct {
	name string
	// begin brings it about. What ends it has to be called also after an error, unless it is nil.
	begin func(context.Context, *node) (end func(context.Context) error, err error)
	// leaves: a member that it befalls leaves its group, or is expelled from it.
	leaves bool
}

// befall has a fault befall n. What it returns ends that, and so does the end of the test.
func (f fault) befall(t *testing.T, n *node) (end func()) {
	t.Helper()
	undo, err := f.begin(t.Context(), n)
	ended := undo == nil
	once := func(ctx context.Context) error {
		if ended {
			return nil
		}
		ended = true
		return undo(ctx)
	}
	healed(t, once)
	must(t, err)
	return func() { t.Helper(); must(t, once(t.Context())) }
}

func nothing(context.Context) error { return nil }

// poisoned is a fault of the network.
func poisoned(name, toxic string, a attributes, streams ...string) fault {
	return fault{name, func(_ context.Context, n *node) (func(context.Context) error, error) {
		end := func(context.Context) error { n.cleanse(); return nil }
		for _, stream := range streams {
			if err := n.poison(toxic, stream, a); err != nil {
				return end, err
			}
		}
		return end, nil
	}, false}
}

var (
	killed = fault{"killed", func(_ context.Context, n *node) (func(context.Context) error, error) {
		return n.Start, n.Kill()
	}, true}
	stopped = fault{"stopped", func(ctx context.Context, n *node) (func(context.Context) error, error) {
		return n.Start, n.Stop(ctx)
	}, true}
	frozen = fault{"frozen", func(_ context.Context, n *node) (func(context.Context) error, error) {
		return n.goesOn, n.Freeze()
	}, true}
	refused = fault{"refused", func(_ context.Context, n *node) (func(context.Context) error, error) {
		n.refuse()
		return func(context.Context) error { return n.accept() }, nil
	}, false}
	// Connections that are there fall silent, and so are new ones. (That the network drops what begins one
	// cannot be had without privileges; there it is a connection that takes long to come about.)
	blackHole = poisoned("black hole", "timeout", attributes{"timeout": 0}, "downstream", "upstream")
	oneWay    = poisoned("silent", "timeout", attributes{"timeout": 0}, "downstream") // what it is told it does
	reset     = poisoned("reset", "reset_peer", attributes{"timeout": 0}, "downstream")
	cut       = poisoned("cut after some bytes", "limit_data", attributes{"bytes": 5000}, "downstream")
	latency   = poisoned("200 ms away", "latency", attributes{"latency": 200}, "downstream")
	trickle   = poisoned("trickling", "slicer",
		attributes{"average_size": 64, "size_variation": 16, "delay": 5000}, "downstream")
	slowClose = poisoned("slow to close", "slow_close", attributes{"delay": 500}, "downstream")

	crowded = fault{"too many connections", func(ctx context.Context, n *node) (ending, error) {
		return n.engine.crowd(ctx, n.Server)
	}, false}
	lockedOut = fault{"access denied", func(ctx context.Context, n *node) (func(context.Context) error, error) {
		return n.engine.lockOut(ctx, n.Server)
	}, false}
	accountLocked = fault{"account locked", func(ctx context.Context, n *node) (ending, error) {
		return n.engine.lockAccount(ctx, n.Server)
	}, false}
	// These two befall whichever slave reads go to.
	killing = fault{"a statement that kills its backend", func(ctx context.Context, n *node) (ending, error) {
		return nothing, n.app.kills(ctx)
	}, false}
	killedRead = fault{"KILL of a running read", func(ctx context.Context, n *node) (ending, error) {
		return nothing, n.app.runsAway(ctx)
	}, false}
	disconnected = fault{"connections killed", func(ctx context.Context, n *node) (ending, error) {
		return nothing, exec(ctx, n.Server, n.engine.killAll)
	}, false}
	held = fault{"not replaying", func(ctx context.Context, n *node) (func(context.Context) error, error) {
		return n.Release, n.Hold(ctx)
	}, false}
	// Of a master the same as of a slave: its replication goes on.
	readOnly = fault{"read-only", func(ctx context.Context, n *node) (func(context.Context) error, error) {
		return n.engine.readOnly(ctx, n.Server)
	}, false}
	unstopped = fault{"not replicating", func(ctx context.Context, n *node) (ending, error) {
		return n.engine.sever(ctx, n.Server)
	}, true}
	lost = fault{"lost its position", func(ctx context.Context, n *node) (func(context.Context) error, error) {
		return n.engine.lose(ctx, n.Server, func(context.Context) error { return nil })
	}, true}
)

// ofSlaves are the faults that may befall a slave, ofMasters those after which a master has what it has
// acknowledged.
func ofSlaves() []fault {
	return []fault{killed, stopped, frozen, refused, blackHole, oneWay, reset, cut, latency, trickle, slowClose,
		crowded, lockedOut, disconnected, held, readOnly, unstopped, lost, accountLocked, killing, killedRead}
}

func ofMasters() []fault {
	return []fault{killed, frozen, refused, blackHole, reset, latency, disconnected, readOnly}
}
