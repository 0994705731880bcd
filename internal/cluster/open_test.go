package cluster

import (
	"database/sql"
	"testing"

	"gorm.io/driver/mysql"
	"gorm.io/gorm"
)

// TestOneDialectorForSeveralServers has a dialector that writes to itself while it opens, as PostgreSQL's
// does.
func TestOneDialectorForSeveralServers(t *testing.T) {
	d := &selfish{Dialector: mysql.New(mysql.Config{Conn: sql.OpenDB(&wire{}), SkipInitializeWithVersion: true})}
	own := NewServer("master", sql.OpenDB(&wire{}), d, 0, 0)
	three := []Spec{{ID: "a", Dialector: d}, {ID: "b", Dialector: d}, {ID: "c", Dialector: d}}
	if _, err := Open(own, three); err != nil || d.opened != 3 {
		t.Errorf("opened %d times, %v", d.opened, err) // and the race detector is silent
	}
	slaveOfAnotherGroup := NewServer("other", sql.OpenDB(&wire{}), d, 0, 0)
	own = NewServer("master", sql.OpenDB(&wire{}), mysql.Open("app:secret@tcp(db1)/shop"), 0, 0)
	if s, err := Open(own, []Spec{{ID: "d", Dialector: d}}, slaveOfAnotherGroup); err != nil ||
		s[0].reopening != slaveOfAnotherGroup.reopening {
		t.Errorf("it may be opened while another server opens it: %v", err)
	}
}

type selfish struct {
	gorm.Dialector
	opened int
}

func (d *selfish) Initialize(db *gorm.DB) error {
	d.opened++
	return d.Dialector.Initialize(db)
}
