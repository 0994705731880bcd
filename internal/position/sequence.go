package position

import (
	"encoding/binary"
	"strconv"
)

// Sequence returns position n of a history that is a sequence of numbers: rows of a log, timestamps of a
// clock that only goes forward. What has a larger number happened later, and a server that has replayed n has
// replayed all up to n. The name keeps sequences apart that have nothing to do with each other; it travels
// with the position, so a short one serves best.
//
// Numbers begin at 1: with 0 nothing has happened yet, and the position is unknown.
func Sequence(name string, n uint64) Position {
	if n == 0 {
		return Position{}
	}
	return Position{value: sequence{name, n}}
}

type sequence struct {
	name string
	n    uint64
}

func (sequence) kind() Kind { return Custom }

func (s sequence) covers(other value) bool {
	q := other.(sequence)
	return s.name == q.name && s.n >= q.n
}

func (s sequence) merge(other value) value {
	q := other.(sequence)
	if s.name != q.name {
		return nil
	}
	return sequence{s.name, max(s.n, q.n)}
}

// appendBinary writes the number, then the name.
func (s sequence) appendBinary(b []byte) []byte {
	return append(binary.AppendUvarint(b, s.n), s.name...)
}

func decodeSequence(d *decoder) value {
	s := sequence{n: d.uvarint()}
	if s.n == 0 {
		d.fail()
	}
	s.name = string(d.bytes(len(d.rest)))
	return s
}

func (s sequence) String() string { return s.name + ":" + strconv.FormatUint(s.n, 10) }
