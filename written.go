package replicated

import (
	"context"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated/internal/sqlkind"
)

// remember has the session remember that it wrote to the groups of the tables that a statement names. The
// statement ran on a master of g; g is nil where that master is not known. If its SQL, or a function in it,
// is unknown, the statement may have written to every group on that master.
func (rt *router) remember(ctx context.Context, j judgement, g *group) {
	session := lookup(ctx).sessionOfWrite(rt)
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

// touched calls f with each group that a statement of g may read, until f returns true, and tells whether f
// did. These are the groups of the tables that the statement names. A transaction, for which tables is nil,
// may read every group on the same master.
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
	return session != nil && rt.touched(g, tables, func(other *group) bool {
		return session.memoryOf(other).wroteTo()
	})
}

// minPositionOn returns what a session must not read behind on a slave of g with a statement about these
// tables, nil for a transaction.
func (s *session) minPositionOn(g *group, tables *sqlkind.Tables) *minPosition {
	d := s.memoryOf(g).minPosition()
	if s == nil || len(s.router.groups) == 1 {
		return d
	}
	s.router.touched(g, tables, func(other *group) bool {
		switch theirs := s.memoryOf(other).minPosition(); {
		case other == g || theirs == nil:
		case g.shares(other):
			d = d.and(theirs, time.Now(), s.router.config.Token.TTL)
		default: // a position of another master tells nothing about a slave of this one
			d = &minPosition{until: forever}
		}
		return false
	})
	return d
}

// rememberTable remembers that a session has written to the table of a create, update or delete.
func (rt *router) rememberTable(stmt *gorm.Statement) {
	session := lookup(stmt.Context).sessionOfWrite(rt)
	if session == nil {
		return
	}
	session.markWritten(rt.orGlobal(rt.tableGroup(stmt)))
	if stmt.TableExpr != nil && rt.index() != nil { // "users AS u, orders AS o"
		tables := rt.kinds.Load().Look("TABLE " + stmt.TableExpr.SQL).Tables
		rt.remember(stmt.Context, judgement{writes, false, tables}, nil)
	}
}
