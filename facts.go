package replicated

import (
	"context"
	"regexp"
	"strconv"
	"strings"

	"github.com/gorm-replicated/replicated/internal/sqlkind"
)

// What the rules of resolver.go look at is gathered here: judge asks the SQL, fill the context and the
// configuration.

// judge judges SQL. Where the dialect is not known, what GORM built is taken for the read it looks like,
// and anything else may write.
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
	return rt.rejectWrites && f.writesAgainstIntent() && !(f.nature == unknown && rt.dialect == sqlkind.Other)
}

// fill adds what the context and the configuration say about a statement of g, and returns the session and
// what that remembers of g. It fills f in place: copying so many small fields costs more than the rules do.
func (rt *router) fill(ctx context.Context, g *group, f *facts) (*session, *memory) {
	f.auto, f.byDefault = rt.auto.Load(), rt.byDefault
	scope := lookup(ctx)
	session := scope.of(rt)
	if scope != nil {
		f.explicit, f.handler = scope.explicit, scope.handler
		f.limited, f.staleness = scope.limited, scope.staleness
	}
	if session == nil {
		if f.explicit == undecided && f.handler == undecided && f.byDefault == Master {
			rt.withoutIntent.Add(1)
		}
		return nil, nil
	}
	memory := session.memoryOf(g)
	f.inRequest, f.pattern, f.method = session.request, session.pattern, session.method
	f.wrote = memory.wrote.Load()
	return session, memory
}

// about returns the group of a statement by its SQL, or nil. What asks the catalog, as the Migrator does,
// has the table's name among its arguments.
func (x index) about(tables *sqlkind.Tables, n nature, query string, args []any) *group {
	if tables != nil && tables.Main != "" {
		return x.named(tables.Main)
	}
	if n == catalog {
		return x.named(catalogArgument(query, args))
	}
	return nil
}

// catalogArgument returns the argument that a query of the catalog compares with the name of a table, or "".
func catalogArgument(query string, args []any) string {
	at := tableName.FindStringSubmatchIndex(query)
	if at == nil {
		return ""
	}
	n := strings.Count(query[:at[1]], "?")
	if at[2] >= 0 {
		n, _ = strconv.Atoi(query[at[2]:at[3]])
	}
	if n < 1 || n > len(args) {
		return ""
	}
	name, _ := args[n-1].(string)
	return name
}

// tableName matches where the Migrators of MySQL and PostgreSQL compare the name of a table.
var tableName = regexp.MustCompile(`(?i)\b(?:table_?name|relname)"?\s*=\s*(?:\?|\$([0-9]+))`)
