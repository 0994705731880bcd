package replicated

import (
	"database/sql"
	"reflect"

	"gorm.io/gorm"
)

// Other plugins put pools of their own around ours: tracers, gorm.io/sharding. One that is registered before
// this plugin does so behind our callback, which has put the pool for a route into the statement by then. One
// that is registered after it has done so before our callback, or has replaced the pool of the *gorm.DB. Then
// the route travels in the statement's context, and our pool takes it from there when the SQL arrives.

// within returns the pool of this plugin around which the statement's is another's, or nil.
func (rt *router) within(stmt *gorm.Statement) *pool {
	w := rt.lookInto(stmt.ConnPool)
	if w.pool == nil || w.bound != nil {
		return nil
	}
	if w.statements {
		rt.saidWrapped.Do(func() {
			rt.config.Logger.Warn("replicated: the pool of another plugin is around GORM's prepared statements, "+
				"so that what runs on it stays on the master: register that plugin before this one",
				"type", reflect.TypeOf(stmt.ConnPool).String())
		})
		return nil
	}
	if !rt.wrapped.Load() {
		rt.wrapped.Store(true)
	}
	return w.pool.chosen(stmt.Context)
}

// wrapped is what was found in a pool of another plugin.
type wrapped struct {
	router     *router
	pool       *pool         // the plugin's
	statements bool          // GORM's prepared statements are in between
	bound      gorm.ConnPool // a transaction or a connection; nil if there is none
}

func (rt *router) lookInto(cp gorm.ConnPool) wrapped {
	w := wrapped{router: rt}
	switch cp.(type) {
	case *sql.Tx, *sql.Conn, *gorm.PreparedStmtTX, *slaveTx: // nearly all that are not ours
		w.bound = cp
	default:
		w.look(reflect.ValueOf(cp), 0)
	}
	return w
}

// mostWrappers bounds how deep wrappers are looked into.
const mostWrappers = 8

var connPoolType = reflect.TypeFor[gorm.ConnPool]()

// look looks for pools in v, and in the fields of structs that are pools themselves, exported or not.
func (w *wrapped) look(v reflect.Value, depth int) {
	for v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if !v.IsValid() || depth > mostWrappers {
		return
	}
	switch v.Type() {
	case reflect.TypeFor[*sql.DB]():
		return
	case reflect.TypeFor[*pool](): // of a field that is not exported, only the address can be had
		if c := (*pool)(v.UnsafePointer()); c.router == w.router {
			w.pool = c
		}
		return
	case reflect.TypeFor[*gorm.PreparedStmtDB]():
		w.statements = true
	case reflect.TypeFor[*sql.Tx]():
		w.bound = (*sql.Tx)(v.UnsafePointer())
		return
	case reflect.TypeFor[*sql.Conn]():
		w.bound = (*sql.Conn)(v.UnsafePointer())
		return
	case reflect.TypeFor[*gorm.PreparedStmtTX]():
		w.bound = (*gorm.PreparedStmtTX)(v.UnsafePointer())
		return
	case reflect.TypeFor[*slaveTx]():
		w.bound = (*slaveTx)(v.UnsafePointer())
		return
	}
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return
	}
	for i := range v.NumField() {
		field := v.Field(i)
		for field.Kind() == reflect.Interface {
			field = field.Elem()
		}
		if field.IsValid() && field.Type().Implements(connPoolType) {
			w.look(field, depth+1)
		}
	}
}
