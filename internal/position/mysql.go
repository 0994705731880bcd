package position

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxNumber is the largest number of a transaction. The manual says one more, but the servers' parser does
	// not take that, since it ends intervals behind their last number.
	maxNumber = 1<<63 - 2

	maxTag = 32 // characters

	// What a set may have. Those of real servers have a handful of origins, and an interval for each or, while
	// many transactions are replayed at once, some dozens.
	maxOrigins   = 1 << 12
	maxIntervals = 1 << 16
)

// ParseMySQL reads a GTID set: "uuid:1-5:11:tag:1-3, uuid:7". It takes what servers write, from 5.6 on and
// with the tags of 8.3, in any order: letters of either case, intervals that overlap, blanks and line ends
// between the parts. The empty set is the unknown position.
//
// Of what servers take beyond that it refuses what could only be a mistake: numbers that begin with 0, which
// are octal, intervals that end before they begin, parts that are empty.
//
// (MySQL's manual, "GTID Format and Storage". It does not say that in a set several tags may follow one UUID,
// which is how servers write them: bugs.mysql.com/116789.)
func ParseMySQL(text string) (Position, error) {
	set, err := parseGTIDSet(text)
	if err != nil {
		return Position{}, fmt.Errorf("position: MySQL's GTID set: %w", err)
	}
	if len(set) == 0 {
		return Position{}, nil
	}
	return Position{value: set}, nil
}

// gtidSet is a position of MySQL: in the order of origins, each there once. It is not empty.
type gtidSet []gtids

// gtids is the transactions of one origin: intervals in ascending order, with gaps between them. There is at
// least one.
type gtids struct {
	origin
	intervals []interval
}

// origin is who numbers transactions from 1 on: a server, for one of its tags or for none.
type origin struct {
	uuid [16]byte
	tag  string // in lower case
}

// interval is the numbers from first to last.
type interval struct{ first, last uint64 }

// compare orders origins as servers write them: by UUID, the one without a tag first.
func (o *origin) compare(other *origin) int {
	if c := bytes.Compare(o.uuid[:], other.uuid[:]); c != 0 {
		return c
	}
	return strings.Compare(o.tag, other.tag)
}

func (gtidSet) kind() Kind { return MySQL }

func (s gtidSet) covers(other value) bool {
	i := 0
	for j, q := 0, other.(gtidSet); j < len(q); j++ {
		for i < len(s) && s[i].compare(&q[j].origin) < 0 {
			i++
		}
		if i == len(s) || s[i].compare(&q[j].origin) != 0 || !containsAll(s[i].intervals, q[j].intervals) {
			return false
		}
	}
	return true
}

// containsAll reports whether each of the intervals q is within one of p.
func containsAll(p, q []interval) bool {
	i := 0
	for _, q := range q {
		for i < len(p) && p[i].last < q.last {
			i++
		}
		if i == len(p) || p[i].first > q.first {
			return false
		}
	}
	return true
}

func (s gtidSet) merge(other value) value {
	q := other.(gtidSet)
	if s.covers(q) {
		return s
	}
	if q.covers(s) {
		return q
	}
	merged, err := newGTIDSet(append(s.spans(), q.spans()...))
	if err != nil { // it has too much
		return nil
	}
	return merged
}

// of returns what the server with that UUID has written. It may be empty.
func (s gtidSet) of(uuid [16]byte) gtidSet {
	from := slices.IndexFunc(s, func(g gtids) bool { return g.uuid == uuid })
	if from < 0 {
		return nil
	}
	to := from
	for to < len(s) && s[to].uuid == uuid { // a server's tags follow each other
		to++
	}
	return s[from:to:to]
}

// without returns what is in s and not in q. It may be empty.
func (s gtidSet) without(q gtidSet) gtidSet {
	var rest gtidSet
	for _, g := range s {
		i := slices.IndexFunc(q, func(o gtids) bool { return o.origin == g.origin })
		if i >= 0 {
			g.intervals = subtract(g.intervals, q[i].intervals)
		}
		if len(g.intervals) > 0 {
			rest = append(rest, g)
		}
	}
	return rest
}

// subtract returns what is in the intervals p and not in q.
func subtract(p, q []interval) (rest []interval) {
	for _, i := range p {
		for len(q) > 0 && q[0].last < i.first {
			q = q[1:]
		}
		for _, o := range q {
			if o.first > i.last || i.first > i.last {
				break
			}
			if o.first > i.first {
				rest = append(rest, interval{i.first, o.first - 1})
			}
			i.first = o.last + 1
		}
		if i.first <= i.last {
			rest = append(rest, i)
		}
	}
	return rest
}

// span is one interval with its origin.
type span struct {
	origin
	interval
}

func (s gtidSet) spans() []span {
	var spans []span
	for _, g := range s {
		for _, i := range g.intervals {
			spans = append(spans, span{g.origin, i})
		}
	}
	return spans
}

// newGTIDSet returns the set of what is in spans, in any order. It uses spans up.
func newGTIDSet(spans []span) (gtidSet, error) {
	slices.SortFunc(spans, func(a, b span) int {
		if c := a.compare(&b.origin); c != 0 {
			return c
		}
		return cmp.Compare(a.first, b.first)
	})
	origins, n := 0, 0 // spans[:n] is done
	for _, s := range spans {
		switch {
		case n == 0 || spans[n-1].origin != s.origin:
			origins++
		case s.first <= spans[n-1].last+1:
			spans[n-1].last = max(spans[n-1].last, s.last)
			continue
		}
		spans[n] = s
		n++
	}
	if origins > maxOrigins {
		return nil, fmt.Errorf("more than %d UUIDs and tags", maxOrigins)
	}
	if n > maxIntervals {
		return nil, fmt.Errorf("more than %d intervals", maxIntervals)
	}
	set := make(gtidSet, 0, origins)
	all := make([]interval, 0, n)
	for _, s := range spans[:n] {
		all = append(all, s.interval)
		if len(set) == 0 || set[len(set)-1].origin != s.origin {
			set = append(set, gtids{origin: s.origin})
		}
		g := &set[len(set)-1]
		g.intervals = all[len(all)-len(g.intervals)-1 : len(all) : len(all)]
	}
	return set, nil
}

// Bits of the number that each origin of a binary form begins with. The other bits are its number of
// intervals, less 1.
const (
	sameUUID  = 1 << iota // as the origin before
	hasTag                // a tag follows, behind a byte with its length
	countFrom = iota
)

// appendBinary writes each origin with its intervals. Of an interval it writes how far behind the one before
// it begins, less the 2 that it is at least, and how much its last number is above the first.
func (s gtidSet) appendBinary(b []byte) []byte {
	for i, g := range s {
		head := uint64(len(g.intervals)-1) << countFrom
		if i > 0 && s[i-1].uuid == g.uuid {
			head |= sameUUID
		}
		if g.tag != "" {
			head |= hasTag
		}
		b = binary.AppendUvarint(b, head)
		if head&sameUUID == 0 {
			b = append(b, g.uuid[:]...)
		}
		if head&hasTag != 0 {
			b = append(append(b, byte(len(g.tag))), g.tag...)
		}
		next := uint64(1) // the smallest number that the interval can begin with
		for _, i := range g.intervals {
			b = binary.AppendUvarint(b, i.first-next)
			b = binary.AppendUvarint(b, i.last-i.first)
			next = i.last + 2
		}
	}
	return b
}

func decodeGTIDSet(d *decoder) value {
	var set gtidSet
	total := 0
	for d.more() && len(set) < maxOrigins {
		g := gtids{}
		head := d.uvarint()
		g.origin = decodeOrigin(d, head, set)
		count := head>>countFrom + 1
		if count > uint64(len(d.rest)/2) || total+int(count) > maxIntervals { // an interval takes 2 bytes or more
			d.fail()
			break
		}
		total += int(count)
		g.intervals = decodeIntervals(d, int(count))
		set = append(set, g)
	}
	if d.more() || len(set) == 0 {
		d.fail()
	}
	return set
}

// decodeOrigin reads an origin that follows those of set.
func decodeOrigin(d *decoder, head uint64, set gtidSet) (o origin) {
	if head&sameUUID == 0 {
		copy(o.uuid[:], d.bytes(len(o.uuid)))
	} else if len(set) > 0 {
		o.uuid = set[len(set)-1].uuid
	}
	if head&hasTag != 0 {
		if length := d.bytes(1); length != nil {
			o.tag = string(d.bytes(int(length[0])))
		}
		if !isTag(o.tag) || o.tag != strings.ToLower(o.tag) {
			d.fail()
		}
	}
	if len(set) == 0 {
		if head&sameUUID != 0 {
			d.fail()
		}
	} else if before := &set[len(set)-1].origin; before.compare(&o) >= 0 ||
		(before.uuid == o.uuid) != (head&sameUUID != 0) {
		d.fail()
	}
	return o
}

func decodeIntervals(d *decoder, n int) []interval {
	intervals := make([]interval, 0, n)
	next := uint64(1)
	for range n {
		distance, length := d.uvarint(), d.uvarint()
		if next > maxNumber || distance > maxNumber-next || length > maxNumber-next-distance {
			d.fail()
			return nil
		}
		i := interval{next + distance, next + distance + length}
		intervals = append(intervals, i)
		next = i.last + 2
	}
	return intervals
}

func (s gtidSet) String() string {
	b := make([]byte, 0, 64*len(s))
	for i, g := range s {
		if i == 0 || s[i-1].uuid != g.uuid {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendUUID(b, g.uuid)
		}
		if g.tag != "" {
			b = append(append(b, ':'), g.tag...)
		}
		for _, i := range g.intervals {
			b = strconv.AppendUint(append(b, ':'), i.first, 10)
			if i.last > i.first {
				b = strconv.AppendUint(append(b, '-'), i.last, 10)
			}
		}
	}
	return string(b)
}

// uuidParts are the lengths, in bytes, of the parts of a UUID that hyphens separate.
var uuidParts = [...]int{4, 2, 2, 2, 6}

func appendUUID(b []byte, uuid [16]byte) []byte {
	at := 0
	for i, n := range uuidParts {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, uuid[at:at+n])
		at += n
	}
	return b
}

func parseGTIDSet(text string) (gtidSet, error) {
	c := cursor{text: text}
	if c.atEnd() {
		return nil, nil
	}
	var spans []span
	for {
		var err error
		if spans, err = c.origins(spans); err != nil {
			return nil, err
		}
		if c.atEnd() {
			return newGTIDSet(spans)
		}
		if err := c.expect(','); err != nil {
			return nil, err
		}
		c.blanks()
	}
}

// origins reads a UUID with all that belongs to it, and adds that to spans.
func (c *cursor) origins(spans []span) ([]span, error) {
	var s span
	var err error
	if s.uuid, err = c.uuid(); err != nil {
		return nil, err
	}
	intervals := 0 // of the last tag
	for {
		if c.blanks(); !c.accept(':') {
			if intervals == 0 {
				return nil, c.expected("a colon and an interval")
			}
			return spans, nil
		}
		c.blanks()
		if c.at < len(c.text) && isTag(c.text[c.at:c.at+1]) && (intervals > 0 || s.tag == "") {
			if s.tag, err = c.tag(); err != nil {
				return nil, err
			}
			intervals = 0
			continue
		}
		if s.interval, err = c.interval(); err != nil {
			return nil, err
		}
		if len(spans) == maxIntervals {
			return nil, fmt.Errorf("more than %d intervals", maxIntervals)
		}
		spans = append(spans, s)
		intervals++
	}
}

func (c *cursor) uuid() (uuid [16]byte, err error) {
	start, at := c.at, 0
	for i, n := range uuidParts {
		if i > 0 && !c.accept('-') {
			break
		}
		for ; n > 0 && c.at+2 <= len(c.text); n-- {
			high, ok1 := hexDigit(c.text[c.at])
			low, ok2 := hexDigit(c.text[c.at+1])
			if !ok1 || !ok2 {
				break
			}
			uuid[at] = high<<4 | low
			at++
			c.at += 2
		}
	}
	if at < len(uuid) || c.at-start != 36 {
		c.at = start
		return uuid, c.expected("a UUID")
	}
	return uuid, nil
}

func (c *cursor) tag() (string, error) {
	end := c.at
	for end < len(c.text) && isTagByte(c.text[end]) {
		end++
	}
	tag := c.text[c.at:end]
	if !isTag(tag) {
		return "", c.expected(fmt.Sprintf("a tag of at most %d characters", maxTag))
	}
	c.at = end
	// A set may live for long, the text it was in should not.
	return strings.ToLower(strings.Clone(tag)), nil
}

func isTag(s string) bool {
	if s == "" || len(s) > maxTag || isDigit(s[0]) {
		return false
	}
	for i := range len(s) {
		if !isTagByte(s[i]) {
			return false
		}
	}
	return true
}

func isTagByte(b byte) bool { return isDigit(b) || b == '_' || b|0x20-'a' < 26 }

func (c *cursor) interval() (i interval, err error) {
	if i.first, err = c.number("the number of a transaction", maxNumber); err != nil {
		return i, err
	}
	i.last = i.first
	if c.blanks(); c.accept('-') {
		c.blanks()
		if i.last, err = c.number("the number of a transaction", maxNumber); err != nil {
			return i, err
		}
	}
	if i.first == 0 {
		return i, errors.New("transactions are numbered from 1 on")
	}
	if i.last < i.first {
		return i, fmt.Errorf("the interval %d-%d ends before it begins", i.first, i.last)
	}
	return i, nil
}
