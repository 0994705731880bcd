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
//	entries   1  how many, 1 to MaxEntries; in ascending order of their groups' bytes, no group twice
//
// and for each entry
//
//	parts     1  1: a position, 2: until, 3: both
//	length    1  of the group's name
//	group
//	until     6  milliseconds since 1970, if it is one of the parts
//	length    2  of the position, at least 1, if it is one of the parts
//	position
//
// Nothing may follow. So one content stands for one token, and one token for one content.
const (
	// MaxEntries is the number of a token's entries at most.
	MaxEntries = 64
	// MaxGroup is the length of a group's name at most, in bytes.
	MaxGroup = 255

	hasPosition = 1 << 0
	hasUntil    = 1 << 1

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
	byGroup := func(a, b Entry) int { return strings.Compare(a.Group, b.Group) }
	if !slices.IsSortedFunc(t, byGroup) {
		t = slices.Clone(t)
		slices.SortFunc(t, byGroup)
	}
	size, err := contentSize(t)
	if err != nil {
		return nil, err
	}
	if textSize(size) > MaxSize { // so no position is longer than its length can say
		return nil, ErrTooLarge
	}

	content, err := appendInstant(make([]byte, 0, size), now.UnixMilli())
	if err != nil {
		return nil, err
	}
	content = append(content, byte(len(t)))
	for _, e := range t {
		content = append(content, e.parts(), byte(len(e.Group)))
		content = append(content, e.Group...)
		if !e.Until.IsZero() {
			if content, err = appendInstant(content, ceilMilli(e.Until)); err != nil {
				return nil, err
			}
		}
		if len(e.Position) > 0 {
			content = binary.BigEndian.AppendUint16(content, uint16(len(e.Position)))
			content = append(content, e.Position...)
		}
	}
	return content, nil
}

// contentSize returns the length of the content for t, whose entries are in order.
func contentSize(t Token) (int, error) {
	n := instantSize + 1
	for i, e := range t {
		switch {
		case i > 0 && e.Group == t[i-1].Group:
			return 0, fmt.Errorf("token: two entries for group %q", e.Group)
		case len(e.Group) > MaxGroup:
			return 0, fmt.Errorf("token: the name of group %.20q… has %d bytes: %d at most", e.Group, len(e.Group), MaxGroup)
		case e.parts() == 0:
			return 0, fmt.Errorf("token: the entry for group %q demands nothing", e.Group)
		}
		n += 2 + len(e.Group)
		if !e.Until.IsZero() {
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

// decode is the opposite of encode, and accepts nothing that encode does not return. Positions of the token are pieces of
// content. The error is ErrMalformed.
func decode(content []byte) (issued time.Time, _ Token, _ error) {
	r := reader{rest: content}
	issued = r.instant()
	n := r.uint(1)
	if n == 0 || n > MaxEntries {
		return time.Time{}, nil, ErrMalformed
	}
	t := make(Token, n)
	for i := range t {
		e := &t[i]
		parts := r.uint(1)
		e.Group = string(r.take(r.uint(1)))
		if parts&hasUntil != 0 {
			e.Until = r.instant()
		}
		if parts&hasPosition != 0 {
			e.Position = r.take(r.uint(2))
		}
		if r.failed || parts == 0 || parts != int64(e.parts()) || i > 0 && e.Group <= t[i-1].Group {
			return time.Time{}, nil, ErrMalformed
		}
	}
	if len(r.rest) > 0 {
		return time.Time{}, nil, ErrMalformed
	}
	return issued, t, nil
}

// reader takes pieces from the front of rest. Once there was not enough left, it has failed, and returns zeros.
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
