package replicated

import (
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// Intent says what a request, or a piece of code, means to do.
//
// It is also a clause: db.Clauses(replicated.Slave).Find(&posts) settles the question for one statement and
// for what follows from it: preloads, hooks, and the transaction that Begin opens.
type Intent uint8

const (
	// Master is the intent to write, or to see the newest state. It is the zero value.
	Master Intent = iota
	// Slave is the intent to read only. Statements that write, lock rows or depend on one connection's state
	// run on the master all the same.
	Slave
)

// String returns "master" or "slave".
func (i Intent) String() string {
	switch i {
	case Master:
		return "master"
	case Slave:
		return "slave"
	}
	return fmt.Sprintf("Intent(%d)", uint8(i))
}

// MarshalText returns what [Intent.String] does, for JSON.
func (i Intent) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

func (i Intent) valid() bool { return i <= Slave }

// Build makes Intent a [clause.Expression]; it writes nothing.
func (i Intent) Build(clause.Builder) {}

// ModifyStatement makes Intent a [gorm.StatementModifier]: it is what db.Clauses(replicated.Master) calls.
// Without the plugin it does nothing.
func (i Intent) ModifyStatement(stmt *gorm.Statement) {
	if !i.valid() {
		_ = stmt.AddError(fmt.Errorf("replicated: unknown intent %v as a clause", i))
		return
	}
	if stmt.DB == nil || stmt.DB.Config == nil {
		return
	}
	if p, ok := stmt.DB.Plugins[pluginName].(settler); ok {
		p.settle(stmt, i)
	}
}

// settler is the plugin as a clause sees it.
type settler interface {
	settle(stmt *gorm.Statement, i Intent)
}

// choice is an intent, or none.
type choice uint8

const (
	undecided choice = iota
	chooseMaster
	chooseSlave
)

func choose(i Intent) choice {
	if i == Slave {
		return chooseSlave
	}
	return chooseMaster
}

func (c choice) intent() Intent {
	if c == chooseSlave {
		return Slave
	}
	return Master
}

const pluginName = "replicated"
