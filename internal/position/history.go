package position

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// historySize is the length of what [Reading.History] returns.
const historySize = 8

// History names the history that a master's position is of: the same for every reading of one master, at
// whatever address it was asked, and for a process that never heard of this one. Empty: it is not known.
//
//   - MySQL and MariaDB: it goes with the server, by its Identity. Across a failover the name changes, though
//     the GTIDs go on: see [Related].
//   - PostgreSQL: it goes with the cluster and the timeline.
//   - Custom: it goes with the name of the sequence.
//
// A slave's reading has another one where it goes with the server: a slave is to be taken for its master's
// history.
//
// It takes 8 bytes, and shows nothing of the server.
func (r Reading) History() string {
	var of []byte
	switch v := r.Position.value.(type) {
	case nil:
		return ""
	case lsn:
		of = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, v.system), v.timeline)
	case sequence:
		of = []byte(v.name)
	default:
		if r.Identity == "" {
			return ""
		}
		of = []byte(r.Identity)
	}
	sum := sha256.Sum256(append([]byte{byte(r.Position.Kind())}, of...))
	return string(sum[:historySize])
}

// Related reports whether p and q may be of one history, as far as positions alone can tell. It is false only
// if they are certainly not, or if either is unknown.
//
//   - MySQL: they have transactions of one server.
//   - MariaDB: they have a domain in common. Databases that know nothing of each other have, unless they were
//     given gtid_domain_ids of their own: the domain is 0 by default.
//   - PostgreSQL: same cluster, whatever the timeline.
//   - Custom: same name.
func Related(p, q Position) bool {
	if p.value == nil || q.value == nil || p.value.kind() != q.value.kind() {
		return false
	}
	return p.value.related(q.value)
}

// Comparable reports whether positions of a history that q is of can come to cover p. It is stricter than
// [Related] on PostgreSQL, where those of another timeline never do.
func Comparable(p, q Position) bool {
	a, ok := p.value.(lsn)
	b, also := q.value.(lsn)
	return Related(p, q) && (!ok || !also || a.timeline == b.timeline)
}

func (s gtidSet) related(other value) bool {
	q := other.(gtidSet)
	for i, j := 0, 0; i < len(s) && j < len(q); {
		switch {
		case s[i].uuid == q[j].uuid:
			return true
		case s[i].compare(&q[j].origin) < 0:
			i++
		default:
			j++
		}
	}
	return false
}

func (l gtidList) related(other value) bool {
	q := other.(gtidList)
	return slices.ContainsFunc(l, func(d domain) bool {
		_, found := slices.BinarySearchFunc(q, d.id, func(d domain, id uint32) int {
			return cmp.Compare(d.id, id)
		})
		return found
	})
}

func (p lsn) related(other value) bool { return p.system == other.(lsn).system }

func (s sequence) related(other value) bool { return s.name == other.(sequence).name }
