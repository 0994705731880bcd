package cluster

import (
	"database/sql"
	"reflect"

	"gorm.io/gorm"
)

// Same tells whether two servers are one, as far as can be seen: what is written to one is in the history of
// the other.
func (s *Server) Same(other *Server) bool {
	if s == other || samePool(s.Pool, other.Pool) {
		return true
	}
	if s.dialector == nil || other.dialector == nil {
		return false
	}
	address := addressOf(s.dialector)
	return address != "" && address == addressOf(other.dialector)
}

// SharesPool tells whether two servers have one pool.
func (s *Server) SharesPool(other *Server) bool { return samePool(s.Pool, other.Pool) }

// OpenedBy tells whether d opens, or has opened, what s is.
func (s *Server) OpenedBy(d gorm.Dialector) bool {
	if sameDialector(s.dialector, d) {
		return true
	}
	if conn := fieldOf(d, "Conn"); readyMade(d) {
		pool, ok := conn.Interface().(gorm.ConnPool)
		return ok && samePool(pool, s.Pool)
	}
	origin := originOf(d)
	return s.dialector != nil && reflect.TypeOf(s.dialector) == reflect.TypeOf(d) && !readyMade(s.dialector) &&
		origin != "" && origin == originOf(s.dialector)
}

// sameDialector tells whether two dialectors are one, as far as they can be compared.
func sameDialector(a, b gorm.Dialector) bool {
	return a != nil && b != nil && reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable() && a == b
}

// samePool tells whether two pools are one *sql.DB.
func samePool(a, b gorm.ConnPool) bool {
	x, ok := a.(*sql.DB)
	y, also := b.(*sql.DB)
	return ok && also && x == y
}
