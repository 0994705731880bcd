// Package position says how far a server has come in its master's history: MySQL's GTID sets, MariaDB's GTID
// lists, PostgreSQL's log sequence numbers, and plain numbers for everything else. It asks servers and
// compares the answers.
//
//	master := position.NewReader(conn, position.Config{Dialect: "mysql"})
//	slave := position.NewReader(another, position.Config{Dialect: "mysql"})
//	…
//	committed, err := master.Master(ctx)
//	…
//	replayed, err := slave.Slave(ctx)
//	…
//	replayed.Position.Covers(committed.Position) // it has all that was committed before Master was called
//
// A [Reader] asks, a [Position] is the answer; [Position.Append] and [Parse] carry it elsewhere. A [Source]
// teaches a Reader another kind of server.
package position

import (
	"errors"
	"fmt"
	"strconv"
)

// Kind is the kind of server that a position is one of. The numbers are part of the form that
// [Position.Append] writes.
type Kind uint8

const (
	Unknown    Kind = iota
	MySQL           // a GTID set
	MariaDB         // a GTID list
	PostgreSQL      // a log sequence number of one timeline of one cluster
	Custom          // the number of a sequence that has a name
)

func (k Kind) String() string {
	switch k {
	case Unknown:
		return "unknown"
	case MySQL:
		return "mysql"
	case MariaDB:
		return "mariadb"
	case PostgreSQL:
		return "postgresql"
	case Custom:
		return "custom"
	default:
		return "Kind(" + strconv.Itoa(int(k)) + ")"
	}
}

// Position is a point in a master's history, or where a server stands in it. [Position.Covers] is the usual
// method.
//
// The zero value is the unknown position. It covers nothing and nothing covers it, itself included. What a
// server without any history answers, the empty GTID set and the like, is unknown, too: servers that do not
// keep positions answer the same, and an empty position must never pass for one that covers everything.
//
// A Position is immutable and safe for concurrent use.
type Position struct {
	_     [0]func() // no ==: it would compare addresses
	value value     // nil if unknown
}

// value is a known position of one kind. Its methods are called with values of the same kind only.
type value interface {
	kind() Kind
	covers(value) bool
	merge(value) value            // nil if there is none
	related(value) bool           // see [Related]
	appendBinary(b []byte) []byte // without the kind
	String() string
}

// Kind returns the kind of server that p is a position of, Unknown if it is not known.
func (p Position) Kind() Kind {
	if p.value == nil {
		return Unknown
	}
	return p.value.kind()
}

// Known reports whether p is known.
func (p Position) Known() bool { return p.value != nil }

// Covers reports whether a server at p has everything that belongs to q. It is false if either is unknown,
// and if they are of different kinds.
//
//   - MySQL: every transaction of q is in p, as GTID_SUBSET(q, p) says. Sets may have gaps: a slave that
//     commits out of order (replica_preserve_commit_order=OFF) has some for a moment, and the members of a
//     group (Group Replication) number their transactions in blocks of their own. A transaction in a gap is
//     not covered, whatever is behind it.
//   - MariaDB: in each domain of q, p has the same sequence number or a larger one. Which server wrote it
//     does not count, since after a change of master another one goes on counting. So two servers that both
//     write to one domain, neither hearing of the other, cannot be told apart; gtid_strict_mode keeps slaves
//     from following such masters.
//   - PostgreSQL: same cluster, same timeline, and the LSN of p is at least that of q. Across timelines it is
//     always false. Timeline 2 contains timeline 1 up to the LSN at which it branched off, and a server shows
//     that to nobody but its administrators; what is behind it on timeline 1 is lost to timeline 2, however
//     large its LSNs have become.
//   - Custom: same name, and a number at least as large.
//
// Among known positions Covers is reflexive and transitive. Two that cover each other are the same point; in
// MariaDB they may still differ in who wrote the last transaction.
//
// Covers allocates nothing. Its time is linear in the length of p and q.
func (p Position) Covers(q Position) bool {
	if p.value == nil || q.value == nil || p.value.kind() != q.value.kind() {
		return false
	}
	return p.value.covers(q.value)
}

// Merge returns the least position that covers both p and q: what a client must not read behind that has seen
// both. It is commutative, associative and idempotent.
//
// Where there is none, the result is unknown: if p or q is, and if they are of different kinds, clusters,
// timelines or sequences. Nothing covers that, so whoever demands it reads the master. That should not go on
// for good: a caller who keeps demands for some time does well to keep the newer one alone once the time of
// the older one is over.
func Merge(p, q Position) Position {
	if p.value == nil || q.value == nil || p.value.kind() != q.value.kind() {
		return Position{}
	}
	return Position{value: p.value.merge(q.value)}
}

// String returns p as its server would write it: a GTID set without blanks and in lower case, a GTID list in
// the order of domains, and "unknown". PostgreSQL's positions come as system identifier, timeline and LSN,
// such as 7711070308038412141:2:16/B374D848, those of a sequence as its name, a colon and the number.
func (p Position) String() string {
	if p.value == nil {
		return "unknown"
	}
	return p.value.String()
}

// Append appends a compact form of p to b, for [Parse] to read. The unknown position appends nothing. The
// form does not tell where it ends.
//
// A GTID set takes 18 bytes and what it has of intervals, 2 to 6 bytes each if it is not unusual, 18 at the
// very most; 17 bytes more for each further server, 2 and its length for each tag. A GTID list takes some 6
// bytes for each domain, PostgreSQL's position some 16. A set can be large: who has a limit to what it can
// carry has to look at the length.
func (p Position) Append(b []byte) []byte {
	if p.value == nil {
		return b
	}
	return p.value.appendBinary(append(b, byte(p.value.kind())))
}

// Parse reads what [Position.Append] wrote, all of b. Every position has one form and Parse takes no other,
// so that positions are the same if, and only if, their forms are. It may be given anything: time and memory
// are linear in the length of b, and limited.
func Parse(b []byte) (Position, error) {
	if len(b) == 0 {
		return Position{}, nil
	}
	d := decoder{rest: b[1:]}
	var v value
	switch k := Kind(b[0]); k {
	case MySQL:
		v = decodeGTIDSet(&d)
	case MariaDB:
		v = decodeGTIDList(&d)
	case PostgreSQL:
		v = decodeLSN(&d)
	case Custom:
		v = decodeSequence(&d)
	default:
		return Position{}, fmt.Errorf("position: %v in a binary form", k)
	}
	if d.malformed {
		return Position{}, errMalformed
	}
	return Position{value: v}, nil
}

var errMalformed = errors.New("position: malformed binary form")
