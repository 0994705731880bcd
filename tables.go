package replicated

import (
	"fmt"
	"reflect"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

const (
	routeName  = pluginName + ":route"
	settleName = pluginName + ":settle"
	// dbresolver's clauses call the query callback of this name; its plugin gives it to all of its callbacks.
	clauseName = "gorm:db_resolver"
	usingName  = clauseName + ":using" // of the clause dbresolver.Use
	writeName  = clauseName + ":write" // of the settings that its Write and Read make
	readName   = clauseName + ":read"
)

// groupNamed returns the group of this name, or nil.
func (rt *router) groupNamed(name string) *group {
	for _, g := range rt.groups {
		if g.name == name {
			return g
		}
	}
	return nil
}

// groupOf returns the group that a statement is about: as a clause says, else that of its table. It is nil
// where that does not tell: then the SQL may, and otherwise it is the global group.
func (rt *router) groupOf(stmt *gorm.Statement) *group {
	x := rt.index()
	if x == nil {
		return nil
	}
	if name := usedGroup(stmt); name != "" {
		if g := x.exactly(name); g != nil {
			return g
		}
		if rt.unregistered.add(name) {
			rt.config.Logger.Warn("replicated: dbresolver.Use of a name that was not registered has no effect",
				"name", name)
		}
	}
	return rt.tableGroup(stmt)
}

// tableGroup returns the group of a statement's table, or nil.
func (rt *router) tableGroup(stmt *gorm.Statement) *group {
	x := rt.index()
	if x == nil {
		return nil
	}
	if stmt.SQL.Len() > 0 {
		if tables := rt.kinds.Load().Look(stmt.SQL.String()).Tables; tables.Main != "" {
			return x.named(tables.Main)
		}
	}
	if expr := stmt.TableExpr; expr != nil {
		if g, known := rt.expressionGroup(expr); known {
			return g
		}
	} else if g := x.named(stmt.Table); g != nil {
		return g
	}
	switch {
	case stmt.Schema != nil:
		return x.named(stmt.Schema.Table)
	case stmt.Model != nil: // not parsed yet
		if table, err := parser(stmt.DB)(stmt.Model); err == nil {
			return x.named(table)
		}
	}
	return nil
}

// expressionGroup returns the group of what was given to Table, such as "users AS u", of which stmt.Table
// is the u. It is nil, and known, for a query, which the SQL will show.
func (rt *router) expressionGroup(expr *clause.Expr) (_ *group, known bool) {
	x := rt.index()
	if tables := rt.kinds.Load().Look("TABLE " + expr.SQL).Tables; tables.Main != "" {
		return x.named(tables.Main), true
	}
	if len(expr.Vars) == 0 { // a ? alone may be an operator
		return nil, false
	}
	if table, ok := expr.Vars[0].(clause.Table); ok {
		return x.named(table.Name), true
	}
	return nil, true
}

// orGlobal returns g, or the global group if there is none.
func (rt *router) orGlobal(g *group) *group {
	if g == nil {
		return rt.groups[0]
	}
	return g
}

// usedGroup returns the name in a clause dbresolver.Use, or "". The clause's type is not exported, but its
// field is.
func usedGroup(stmt *gorm.Statement) string {
	c, ok := stmt.Clauses[usingName]
	if !ok {
		return ""
	}
	if v := reflect.ValueOf(c.Expression); v.Kind() == reflect.Struct {
		if f := v.FieldByName("Use"); f.Kind() == reflect.String {
			return f.String()
		}
	}
	return ""
}

// names returns the names of the tables, models and groups that were registered; "" for a mistake. parse
// tells a model's table.
func (r registration) names(parse func(model any) (string, error), found *mistakes) []string {
	names := make([]string, len(r.tables))
	for i, t := range r.tables {
		name, ok := t.(string)
		if !ok {
			var err error
			if name, err = parse(t); err != nil {
				found.add("Register: %T: %w", t, err)
				continue
			}
		}
		if name == "" {
			found.add("Register: empty name")
		} else if strings.ContainsAny(name, " \t\r\n`'\",;()") {
			found.add("Register: not the name of a table: %q", name)
		}
		names[i] = name
	}
	return names
}

// parser returns a function that tells the table of a model.
func parser(db *gorm.DB) func(any) (string, error) {
	return func(model any) (table string, err error) {
		defer func() {
			if v := recover(); v != nil { // a model's TableName on a nil pointer
				err = fmt.Errorf("%v", v)
			}
		}()
		stmt := gorm.Statement{DB: db}
		if err := stmt.Parse(model); err != nil {
			return "", err
		}
		return stmt.Schema.Table, nil
	}
}

func clauseOf(stmt *gorm.Statement) choice {
	if i, ok := stmt.Clauses[pluginName].Expression.(Intent); ok {
		return choose(i)
	}
	return undecided
}
