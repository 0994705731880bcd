package faults_test

import (
	"context"
	"fmt"
	"strings"
)

// fault is something that befalls a server, or the network before it.
type fault struct {
	name string
	// begin brings it about. What ends it has to be called also after an error, unless it is nil.
	begin func(context.Context, *node) (end func(context.Context) error, err error)
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
	}}
}

// ordered is a fault that is brought about, and ended, by statements on the server.
func ordered(name, begin, end string) fault {
	return fault{name, func(ctx context.Context, n *node) (func(context.Context) error, error) {
		return func(ctx context.Context) error { return exec(ctx, n.Server, end) }, exec(ctx, n.Server, begin)
	}}
}

var (
	killed = fault{"killed", func(_ context.Context, n *node) (func(context.Context) error, error) {
		return n.Start, n.Kill()
	}}
	stopped = fault{"stopped", func(ctx context.Context, n *node) (func(context.Context) error, error) {
		return n.Start, n.Stop(ctx)
	}}
	frozen = fault{"frozen", func(_ context.Context, n *node) (func(context.Context) error, error) {
		return thawed(n.Server), n.Freeze()
	}}
	refused = fault{"refused", func(_ context.Context, n *node) (func(context.Context) error, error) {
		n.refuse()
		return func(context.Context) error { return n.accept() }, nil
	}}
	// Connections that are there fall silent, and so are new ones. (That the network drops what begins one cannot be had without
	// privileges; there it is a connection that takes long to come about.)
	blackHole = poisoned("black hole", "timeout", attributes{"timeout": 0}, "downstream", "upstream")
	oneWay    = poisoned("silent", "timeout", attributes{"timeout": 0}, "downstream") // what it is told it does
	reset     = poisoned("reset", "reset_peer", attributes{"timeout": 0}, "downstream")
	cut       = poisoned("cut after some bytes", "limit_data", attributes{"bytes": 5000}, "downstream")
	latency   = poisoned("200 ms away", "latency", attributes{"latency": 200}, "downstream")
	trickle   = poisoned("trickling", "slicer", attributes{"average_size": 64, "size_variation": 16, "delay": 5000}, "downstream")
	slowClose = poisoned("slow to close", "slow_close", attributes{"delay": 500}, "downstream")

	crowded = fault{"too many connections", func(ctx context.Context, n *node) (func(context.Context) error, error) {
		return n.engine.crowd(ctx, n.Server)
	}}
	lockedOut = fault{"access denied", func(ctx context.Context, n *node) (func(context.Context) error, error) {
		return n.engine.lockOut(ctx, n.Server)
	}}
	disconnected = fault{"connections killed", func(ctx context.Context, n *node) (func(context.Context) error, error) {
		return nothing, exec(ctx, n.Server, n.engine.killAll)
	}}
	held = fault{"not replaying", func(ctx context.Context, n *node) (func(context.Context) error, error) {
		return n.Release, n.Hold(ctx)
	}}

	// Of MariaDB.
	readOnly  = ordered("read-only", "SET GLOBAL read_only = ON", "SET GLOBAL read_only = OFF")
	unstopped = ordered("not replicating", "STOP SLAVE", "START SLAVE")
	lost      = fault{"lost its position", func(ctx context.Context, n *node) (func(context.Context) error, error) {
		before, err := ask[string](ctx, n.Server, "SELECT @@GLOBAL.gtid_slave_pos")
		if err != nil {
			return nil, err
		}
		if err := exec(ctx, n.Server, "STOP SLAVE"); err != nil {
			return nil, err
		}
		if before, err = ask[string](ctx, n.Server, "SELECT @@GLOBAL.gtid_slave_pos"); err != nil || strings.Contains(before, "'") {
			return nil, fmt.Errorf("it is at %q: %w", before, err)
		}
		return func(ctx context.Context) error {
			return exec(ctx, n.Server, "SET GLOBAL gtid_slave_pos = '"+before+"'", "START SLAVE")
		}, exec(ctx, n.Server, "SET GLOBAL gtid_slave_pos = ''")
	}}
)

// ofSlaves are the faults that may befall a slave, ofMasters those after which a master has what it has acknowledged.
func ofSlaves(e *engine) []fault {
	all := []fault{killed, stopped, frozen, refused, blackHole, oneWay, reset, cut, latency, trickle, slowClose, crowded, lockedOut, disconnected, held}
	if e == mariaDB {
		all = append(all, readOnly, unstopped, lost)
	}
	return all
}

func ofMasters() []fault {
	return []fault{killed, frozen, refused, blackHole, reset, latency, disconnected}
}
