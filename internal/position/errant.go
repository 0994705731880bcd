package position

import (
	"cmp"
	"fmt"
	"slices"
)

// Errant returns what own has, which a slave has itself written, and none of these masters: its errant
// transactions. It is unknown if there are none, and also if that is not certain. The slave and the masters
// need not have been asked in any order: a slave writes nothing itself but what is errant, unless it was the
// master before, and then the masters have had that from it for long. (One that is a slave and a master of
// its master, and is written to, has errant transactions for as long as they take to get there: its like
// should be among the masters.)
//
//   - MySQL: what none of the masters' positions covers. A master knows of all that it has, also of what it
//     was restored from, gtid_purged.
//   - MariaDB: own is the last of each domain. It is errant if there is a master that has the domain but does
//     not know of this transaction, and none that knows of it or may have it without knowing: see [Origins].
//     If no master has the domain, somebody has chosen one for writing to the slave, as MariaDB's
//     documentation asks for: that is no mistake.
//
// It is no proof that the data differ: ANALYZE TABLE, GRANT and, in a log of statements, temporary tables are
// transactions, too. Nor is it one that they do not: what is written with sql_log_bin=0 has no GTID. And
// where a master has lost its memory (RESET MASTER, on MariaDB with an empty gtid_slave_pos; data from a dump
// without a position), what a slave wrote while it was the master is errant: there is nothing by which to
// tell.
func Errant(own Position, masters ...Reading) Position {
	if len(masters) == 0 {
		return Position{}
	}
	switch own := own.value.(type) {
	case gtidSet:
		for _, m := range masters {
			executed, ok := m.Position.value.(gtidSet)
			if !ok {
				return Position{}
			}
			own = own.without(executed)
		}
		if len(own) > 0 {
			return Position{value: own}
		}
	case gtidList:
		var errant gtidList
		for _, last := range own {
			lack := false
			may := slices.ContainsFunc(masters, func(m Reading) bool {
				switch m.Origins.about(last) {
				case lacks:
					lack = true
				case hasNoDomain:
				default:
					return true
				}
				return false
			})
			if lack && !may {
				errant = append(errant, last)
			}
		}
		if errant != nil {
			return Position{value: errant}
		}
	}
	return Position{}
}

// Origins is what a MariaDB server knows of who has written what it has. The zero value knows nothing.
//
// A position tells only the last transaction of each domain. gtid_binlog_state tells the last of each domain
// and server of all that was ever written to the binary log, whether or not the log is still there. With
// log_slave_updates that is everything; without, which is the default, what was replicated is missing, and
// shows in gtid_slave_pos only: the last of each domain. RESET SLAVE does not change that, so a slave that
// was promoted keeps it.
//
// Numbers of a domain grow, also those of different servers: what a server writes itself is numbered above
// all that it has written or replicated. Tried on 10.11.
type Origins struct {
	logged   []domain // in the order of domains and servers
	replayed gtidList
}

// ParseMariaDBOrigins reads gtid_binlog_state and gtid_slave_pos.
func ParseMariaDBOrigins(binlogState, slavePos string) (Origins, error) {
	logged, err := parseGTIDs(binlogState, maxOrigins)
	if err != nil {
		return Origins{}, fmt.Errorf("position: MariaDB's gtid_binlog_state: %w", err)
	}
	slices.SortFunc(logged, func(a, b domain) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.server, b.server))
	})
	replayed, err := parseGTIDList(slavePos)
	if err != nil {
		return Origins{}, fmt.Errorf("position: MariaDB's gtid_slave_pos: %w", err)
	}
	return Origins{logged: logged, replayed: replayed}, nil
}

// By returns what the server with that id has written, unknown if that is nothing.
func (o Origins) By(server uint32) Position {
	var own gtidList
	for _, d := range o.logged {
		if d.server == server && (len(own) == 0 || own[len(own)-1].id != d.id) {
			own = append(own, d)
		}
	}
	if own == nil {
		return Position{}
	}
	return Position{value: own}
}

// answer is what there is to say about a transaction.
type answer int

const (
	mayHave     answer = iota // it is not known
	hasIt                     // it has it
	lacks                     // it has the domain, and not the transaction
	hasNoDomain               // it has nothing of the domain
)

// about tells whether the server has t, the last transaction of a domain that another server has written.
func (o Origins) about(t domain) answer {
	if len(o.logged) == 0 {
		return mayHave // there is no binary log, or it was not asked
	}
	known := hasNoDomain
	for _, l := range o.logged {
		switch {
		case l.id != t.id:
		case l.server == t.server && l.sequence >= t.sequence:
			return hasIt
		default:
			known = lacks
		}
	}
	for _, r := range o.replayed {
		switch {
		case r.id != t.id:
		case r.server == t.server && r.sequence >= t.sequence:
			return hasIt
		case r.server != t.server && !o.hasLogged(r):
			// It has replicated this domain and not logged what. All of that may be from t's server, up to where
			// another went on. Had that one's last been from t's own server, what that wrote later did not get here.
			return mayHave
		default:
			known = lacks
		}
	}
	return known
}

func (o Origins) hasLogged(t domain) bool {
	return slices.ContainsFunc(o.logged, func(l domain) bool {
		return l.id == t.id && l.server == t.server && l.sequence >= t.sequence
	})
}
