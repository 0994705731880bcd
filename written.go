package replicated

import (
	"context"
	"slices"
	"time"

	"github.com/gorm-replicated/replicated/internal/sqlkind"
)

// judge judges SQL. Where the dialect is not known, what GORM built is
// taken for the read it looks like, and anything else may write.
func (rt *router) judge(query string, built bool) judgement {
	v := rt.kinds.Load().Look(query)
	j := judgement{natures[v.Kind], v.CallsUnknown, v.Tables}
	if rt.dialect == sqlkind.Other {
		j.nature = j.nature.unjudged(built)
	}
	return j
}

// judgement is what SQL tells of a statement.
type judgement struct {
	nature  nature
	strange bool            // it calls a function of which nobody knows whether it writes
	tables  *sqlkind.Tables // that have been registered
}

// mayWriteOnMaster tells whether a statement counts as a write of its session if it runs on a master, and not
// by want of a slave. A slave refuses what an unknown function writes.
func (j judgement) mayWriteOnMaster() bool { return j.nature.mayWrite() || j.strange }

// unjudged is what n is worth in a dialect that is not known.
func (n nature) unjudged(built bool) nature {
	switch {
	case n == writes:
		return writes
	case !built:
		return unknown
	case n == unknown:
		return reads
	}
	return n // locks
}

// rejectsWrite applies Config.RejectWrites. Raw SQL in a dialect that cannot be
// judged is not refused: most of it only reads.
func (rt *router) rejectsWrite(f *facts) bool {
	return rt.rejects && f.rejectsWrite() && !(f.nature == unknown && rt.dialect == sqlkind.Other)
}

// remember remembers that a session has written to the groups of the tables that a statement names, which ran on a master of g, or on
// one that is not known if that is nil. If its SQL is unknown, or a function in it, it may have written to
// every group that is there.
func (rt *router) remember(ctx context.Context, j judgement, g *group) {
	session := lookup(ctx).remembers(rt)
	if session == nil {
		return
	}
	if len(rt.groups) == 1 {
		session.markWritten(rt.groups[0])
		return
	}
	tables := j.tables
	named := tables != nil && (tables.Others || len(tables.All) > 0)
	if j.nature == unknown || j.strange || !named {
		for _, other := range rt.groups {
			if g == nil || g.shares(other) {
				session.markWritten(other)
			}
		}
	}
	if !named {
		return
	}
	if tables.Others {
		session.markWritten(rt.groups[0])
	}
	for _, t := range tables.All {
		session.markWritten(rt.index().named(t))
	}
}

// touched calls f with the groups that a statement of g may read, until it returns true: those of the tables that it names, or if it is a
// transaction, for which tables is nil, those on the same master. It tells whether f did.
func (rt *router) touched(g *group, tables *sqlkind.Tables, f func(*group) bool) bool {
	if tables == nil {
		return slices.ContainsFunc(rt.groups, func(other *group) bool { return g.shares(other) && f(other) })
	}
	if f(g) || tables.Others && f(rt.groups[0]) {
		return true
	}
	return slices.ContainsFunc(tables.All, func(t string) bool { return f(rt.index().named(t)) })
}

// wrote tells whether the session has written to what a statement of g may read.
func (rt *router) wrote(ctx context.Context, g *group, tables *sqlkind.Tables) bool {
	session := lookup(ctx).of(rt)
	return session != nil && rt.touched(g, tables, func(other *group) bool { return session.memoryOf(other).wroteTo() })
}

// demandsOn returns what a session must not read behind on a slave of g with a statement about these tables, nil for a transaction.
func (s *session) demandsOn(g *group, tables *sqlkind.Tables) *demand {
	d := s.memoryOf(g).demands()
	if s == nil || len(s.router.groups) == 1 {
		return d
	}
	s.router.touched(g, tables, func(other *group) bool {
		switch theirs := s.memoryOf(other).demands(); {
		case other == g || theirs == nil:
		case g.shares(other):
			d = d.and(theirs, time.Now(), s.router.config.Token.TTL)
		default: // a position of another master tells nothing about a slave of this one
			d = &demand{until: forever}
		}
		return false
	})
	return d
}

// fill adds what the context and the configuration say about a statement of g, and returns the session and what
// that remembers of g. It fills f in place: copying so many small fields costs more than the rules do.
func (rt *router) fill(ctx context.Context, g *group, f *facts) (*session, *memory) {
	f.auto, f.fallback = rt.auto.Load(), rt.fallback
	scope := lookup(ctx)
	session := scope.of(rt)
	if scope != nil {
		f.explicit, f.handler = scope.explicit, scope.handler
		f.limited, f.staleness = scope.limited, scope.staleness
	}
	if session == nil {
		if f.explicit == undecided && f.handler == undecided && f.fallback == Master {
			rt.withoutIntent.Add(1)
		}
		return nil, nil
	}
	memory := session.memoryOf(g)
	f.inRequest, f.pattern, f.method = session.request, session.pattern, session.method
	f.wrote = memory.wrote.Load()
	return session, memory
}
