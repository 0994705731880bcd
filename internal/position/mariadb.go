package position

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
)

// maxDomains is how many domains a list may have. Replication with several masters takes one for each.
const maxDomains = 1 << 12

// ParseMariaDB reads a GTID list, "0-1-5,7-2-19": domain, server and sequence number of the last transaction
// of each domain, in any order, with or without blanks around the commas. The empty list is the unknown
// position.
//
// gtid_binlog_pos, gtid_slave_pos and gtid_current_pos have one entry for each domain. A list with more, like
// gtid_binlog_state, is no position, and an error here as it is where a server is to replicate from one.
//
// (MariaDB's documentation, "Global Transaction ID": domain and server are 32 bits, the sequence number 64.)
func ParseMariaDB(text string) (Position, error) {
	list, err := parseGTIDList(text)
	if err != nil {
		return Position{}, fmt.Errorf("position: MariaDB's GTID list: %w", err)
	}
	if len(list) == 0 {
		return Position{}, nil
	}
	return Position{value: list}, nil
}

// gtidList is a position of MariaDB: in the order of domains, each there once. It is not empty.
type gtidList []domain

// domain is where one domain has got to.
type domain struct {
	id       uint32
	server   uint32 // which wrote the last transaction. Not compared: see [Position.Covers]
	sequence uint64
}

func (gtidList) kind() Kind { return MariaDB }

func (l gtidList) covers(other value) bool {
	i := 0
	for _, q := range other.(gtidList) {
		for i < len(l) && l[i].id < q.id {
			i++
		}
		if i == len(l) || l[i].id != q.id || l[i].sequence < q.sequence {
			return false
		}
	}
	return true
}

func (l gtidList) merge(other value) value {
	q := other.(gtidList)
	merged := make(gtidList, 0, len(l)+len(q))
	for len(l) > 0 && len(q) > 0 {
		switch {
		case l[0].id < q[0].id:
			merged, l = append(merged, l[0]), l[1:]
		case l[0].id > q[0].id:
			merged, q = append(merged, q[0]), q[1:]
		default:
			merged, l, q = append(merged, later(l[0], q[0])), l[1:], q[1:]
		}
	}
	merged = append(append(merged, l...), q...)
	if len(merged) > maxDomains {
		return nil
	}
	return merged
}

// later returns the later one of two states of a domain. Of two servers that wrote the same number it takes
// the one with the larger id: any would do, as long as it is always the same one.
func later(a, b domain) domain {
	if a.sequence < b.sequence || a.sequence == b.sequence && a.server < b.server {
		return b
	}
	return a
}

// appendBinary writes domain, server and sequence number of each domain; the domain as the distance to the
// one before.
func (l gtidList) appendBinary(b []byte) []byte {
	next := uint32(0) // the smallest that the domain can be
	for _, d := range l {
		b = binary.AppendUvarint(b, uint64(d.id-next))
		b = binary.AppendUvarint(b, uint64(d.server))
		b = binary.AppendUvarint(b, d.sequence)
		next = d.id + 1
	}
	return b
}

func decodeGTIDList(d *decoder) value {
	var list gtidList
	next := uint64(0)
	for d.more() && len(list) < maxDomains {
		id := next + uint64(d.uint32())
		if id > 1<<32-1 {
			d.fail()
		}
		list = append(list, domain{uint32(id), d.uint32(), d.uvarint()})
		next = id + 1
	}
	if d.more() || len(list) == 0 {
		d.fail()
	}
	return list
}

func (l gtidList) String() string {
	b := make([]byte, 0, 24*len(l))
	for i, d := range l {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(d.id), 10)
		b = append(b, '-')
		b = strconv.AppendUint(b, uint64(d.server), 10)
		b = append(b, '-')
		b = strconv.AppendUint(b, d.sequence, 10)
	}
	return string(b)
}

func parseGTIDList(text string) (gtidList, error) {
	list, err := parseGTIDs(text, maxDomains)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b domain) int { return cmp.Compare(a.id, b.id) })
	for i := 1; i < len(list); i++ {
		if list[i].id == list[i-1].id {
			return nil, fmt.Errorf("domain %d is there twice", list[i].id)
		}
	}
	return list, nil
}

// parseGTIDs reads at most so many GTIDs, which may be of one domain.
func parseGTIDs(text string, most int) ([]domain, error) {
	c := cursor{text: text}
	if c.atEnd() {
		return nil, nil
	}
	var list []domain
	for {
		d, err := c.domain()
		if err != nil {
			return nil, err
		}
		if len(list) == most {
			return nil, fmt.Errorf("more than %d domains", most)
		}
		list = append(list, d)
		if c.atEnd() {
			return list, nil
		}
		if err := c.expect(','); err != nil {
			return nil, err
		}
		c.blanks()
	}
}

func (c *cursor) domain() (d domain, err error) {
	id, err := c.number("a domain", 1<<32-1)
	if err != nil {
		return d, err
	}
	if err := c.expect('-'); err != nil {
		return d, err
	}
	server, err := c.number("a server id", 1<<32-1)
	if err != nil {
		return d, err
	}
	if err := c.expect('-'); err != nil {
		return d, err
	}
	d.sequence, err = c.number("a sequence number", 1<<64-1)
	d.id, d.server = uint32(id), uint32(server)
	return d, err
}
