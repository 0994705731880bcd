package token

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What is sealed, all numbers big-endian:
//
//	issued    6  milliseconds since 1970
//	entries   1  how many, 1 to MaxEntries; in ascending order of their histories' bytes, no history twice
//
// and for each entry
//
//	parts     1  a sum: 1 for a position, 2 for until, 4 for since; at least one of the first two
//	length    1  of the history's name
//	history
//	until     6  milliseconds since 1970, if it is one of the parts
//	since     6  milliseconds since 1970, if it is one of the parts
//	length    2  of the position, at least 1, if it is one of the parts
//	position
//
// Nothing may follow. So one content stands for one token, and one token for one content.
//
// At first the entries were named after groups, and had no since. Such a name is that of a history that
// nobody is on. What is added later has to be a new part, and issued has to remain in front: so who does not
// know the part still sees whether the token has expired.
const (
	// MaxEntries is the number of a token's entries at most.
	MaxEntries = 64
	// MaxHistory is the length of a history's name at most, in bytes.
	MaxHistory = 255

	hasPosition = 1 << 0
	hasUntil    = 1 << 1
	hasSince    = 1 << 2

	instantSize = 6
	maxInstant  = 1<<(8*instantSize) - 1 // in the year 10889
)

// encode returns the content for t, issued now.
func encode(t Token, now time.Time) ([]byte, error) {
	if len(t) == 0 {
		return nil, errors.New("token: no entries")
	}
	if len(t) > MaxEntries {
		return nil, ErrTooLarge
	}
	byHistory := func(a, b Entry) int { return strings.Compare(a.History, b.History) }
	if !slices.IsSortedFunc(t, byHistory) {
		t = slices.Clone(t)
		slices.SortFunc(t, byHistory)
	}
	size, err := contentSize(t)
	if err != nil {
		return nil, err
	}
	if textSize(size) > MaxSealed { // so no position is longer than its length can say
		return nil, ErrTooLarge
	}

	content, err := appendInstant(make([]byte, 0, size), now.UnixMilli())
	if err != nil {
		return nil, err
	}
	content = append(content, byte(len(t)))
	for _, e := range t {
		if content, err = e.append(content); err != nil {
			return nil, err
		}
	}
	return content, nil
}

// append appends an entry to the content.
func (e Entry) append(content []byte) ([]byte, error) {
	content = append(content, e.parts(), byte(len(e.History)))
	content = append(content, e.History...)
	for _, instant := range []time.Time{e.Until, e.Since} {
		if instant.IsZero() {
			continue
		}
		var err error
		if content, err = appendInstant(content, ceilMilli(instant)); err != nil {
			return nil, err
		}
	}
	if len(e.Position) > 0 {
		content = binary.BigEndian.AppendUint16(content, uint16(len(e.Position)))
		content = append(content, e.Position...)
	}
	return content, nil
}

// contentSize returns the length of the content for t, whose entries are in order.
func contentSize(t Token) (int, error) {
	n := instantSize + 1
	for i, e := range t {
		switch {
		case i > 0 && e.History == t[i-1].History:
			return 0, fmt.Errorf("token: two entries for history %q", e.History)
		case len(e.History) > MaxHistory:
			return 0, fmt.Errorf("token: the name of history %.20q… has %d bytes: %d at most",
				e.History, len(e.History), MaxHistory)
		case e.parts()&(hasPosition|hasUntil) == 0:
			return 0, fmt.Errorf("token: the entry for history %q demands nothing", e.History)
		}
		n += 2 + len(e.History)
		if !e.Until.IsZero() {
			n += instantSize
		}
		if !e.Since.IsZero() {
			n += instantSize
		}
		if len(e.Position) > 0 {
			n += 2 + len(e.Position)
		}
	}
	return n, nil
}

func (e Entry) parts() (parts byte) {
	if len(e.Position) > 0 {
		parts |= hasPosition
	}
	if !e.Until.IsZero() {
		parts |= hasUntil
	}
	if !e.Since.IsZero() {
		parts |= hasSince
	}
	return parts
}

func appendInstant(b []byte, milli int64) ([]byte, error) {
	if milli < 0 || milli > maxInstant {
		return nil, fmt.Errorf("token: %v cannot be written", time.UnixMilli(milli).UTC())
	}
	for shift := 8 * (instantSize - 1); shift >= 0; shift -= 8 {
		b = append(b, byte(milli>>shift))
	}
	return b, nil
}

// ceilMilli rounds up, so that the master is not left too early.
func ceilMilli(t time.Time) int64 {
	milli := t.UnixMilli()
	if t.After(time.UnixMilli(milli)) {
		milli++
	}
	return milli
}

// decode is the opposite of encode, and accepts nothing that encode does not return. Positions of the token
// are pieces of content. The error is ErrVersion: whoever has sealed it knew what it means. Then issued is
// zero only if there is none.
func decode(content []byte) (issued time.Time, _ Token, _ error) {
	r := reader{rest: content}
	if issued = r.instant(); r.failed {
		return time.Time{}, nil, ErrVersion
	}
	n := r.uint(1)
	if n == 0 || n > MaxEntries {
		return issued, nil, ErrVersion
	}
	t := make(Token, n)
	for i := range t {
		e := &t[i]
		parts := r.uint(1)
		e.History = string(r.take(r.uint(1)))
		if parts&hasUntil != 0 {
			e.Until = r.instant()
		}
		if parts&hasSince != 0 {
			e.Since = r.instant()
		}
		if parts&hasPosition != 0 {
			e.Position = r.take(r.uint(2))
		}
		demands := parts&(hasPosition|hasUntil) != 0
		if r.failed || !demands || parts != int64(e.parts()) || i > 0 && e.History <= t[i-1].History {
			return issued, nil, ErrVersion
		}
	}
	if len(r.rest) > 0 {
		return issued, nil, ErrVersion
	}
	return issued, t, nil
}

// reader takes pieces from the front of rest. Once there was not enough left, it has failed, and returns
// zeros.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) take(n int64) []byte {
	if n > int64(len(r.rest)) {
		r.rest, r.failed = nil, true
		return nil
	}
	piece := r.rest[:n:n] // appending to it must not change what follows
	r.rest = r.rest[n:]
	return piece
}

func (r *reader) uint(size int64) (n int64) {
	for _, b := range r.take(size) {
		n = n<<8 | int64(b)
	}
	return n
}

func (r *reader) instant() time.Time { return time.UnixMilli(r.uint(instantSize)).UTC() }
