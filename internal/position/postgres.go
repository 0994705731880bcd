package position

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ParsePostgreSQL reads what [Position.String] returns for a position of PostgreSQL: the system identifier of
// the cluster, the timeline and the LSN, "7711070308038412141:2:16/B374D848". The LSN 0/0, which is none,
// makes the position unknown.
func ParsePostgreSQL(text string) (Position, error) {
	c := cursor{text: text}
	v, err := c.lsn()
	if err != nil {
		return Position{}, fmt.Errorf("position: PostgreSQL: %w", err)
	}
	if v.lsn == 0 {
		return Position{}, nil
	}
	return Position{value: v}, nil
}

// lsn is a position of PostgreSQL.
type lsn struct {
	// system is the identifier that initdb gave the cluster, and that its standbys share: LSNs of others mean
	// nothing.
	system   uint64
	timeline uint32 // not 0
	lsn      uint64 // not 0
}

func (lsn) kind() Kind { return PostgreSQL }

func (p lsn) covers(other value) bool {
	q := other.(lsn)
	return p.system == q.system && p.timeline == q.timeline && p.lsn >= q.lsn
}

func (p lsn) merge(other value) value {
	q := other.(lsn)
	if p.system != q.system || p.timeline != q.timeline {
		return nil
	}
	return lsn{p.system, p.timeline, max(p.lsn, q.lsn)}
}

// appendBinary writes system identifier, timeline and LSN.
func (p lsn) appendBinary(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, p.system)
	b = binary.AppendUvarint(b, uint64(p.timeline))
	return binary.AppendUvarint(b, p.lsn)
}

func decodeLSN(d *decoder) value {
	var p lsn
	if system := d.bytes(8); system != nil {
		p.system = binary.BigEndian.Uint64(system)
	}
	p.timeline = d.uint32()
	p.lsn = d.uvarint()
	if d.more() || p.timeline == 0 || p.lsn == 0 {
		d.fail()
	}
	return p
}

func (p lsn) String() string {
	return fmt.Sprintf("%d:%d:%X/%X", p.system, p.timeline, p.lsn>>32, uint32(p.lsn))
}

func (c *cursor) lsn() (p lsn, err error) {
	if p.system, err = c.number("a system identifier", 1<<64-1); err != nil {
		return p, err
	}
	if err := c.expect(':'); err != nil {
		return p, err
	}
	timeline, err := c.number("a timeline", 1<<32-1)
	if err != nil {
		return p, err
	}
	if timeline == 0 {
		return p, errors.New("there is no timeline 0")
	}
	p.timeline = uint32(timeline)
	if err := c.expect(':'); err != nil {
		return p, err
	}
	p.lsn, err = parseLSN(c.text[c.at:])
	return p, err
}

// parseLSN reads an LSN as PostgreSQL writes it: two hexadecimal numbers of up to 8 digits.
// (PostgreSQL's manual, "pg_lsn Type".)
func parseLSN(text string) (uint64, error) {
	c := cursor{text: text}
	high, err := c.hex("an LSN")
	if err != nil {
		return 0, err
	}
	if err := c.expect('/'); err != nil {
		return 0, err
	}
	low, err := c.hex("the second half of an LSN")
	if err != nil {
		return 0, err
	}
	if c.at < len(text) {
		return 0, c.expected("the end of an LSN")
	}
	return high<<32 | low, nil
}
