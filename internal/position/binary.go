package position

import "encoding/binary"

// decoder reads a binary form from its beginning. Once it is malformed, everything read is zero.
type decoder struct {
	rest      []byte
	malformed bool
}

func (d *decoder) fail() {
	d.rest, d.malformed = nil, true
}

// more reports whether something is left to read.
func (d *decoder) more() bool { return len(d.rest) > 0 }

// uvarint reads a number, in the shortest of its forms.
func (d *decoder) uvarint() uint64 {
	n, length := binary.Uvarint(d.rest)
	if length <= 0 || length > 1 && d.rest[length-1] == 0 {
		d.fail()
		return 0
	}
	d.rest = d.rest[length:]
	return n
}

// uint32 reads a number that fits.
func (d *decoder) uint32() uint32 {
	n := d.uvarint()
	if n > 1<<32-1 {
		d.fail()
		return 0
	}
	return uint32(n)
}

// bytes reads n bytes; the result is a part of the form.
func (d *decoder) bytes(n int) []byte {
	if n > len(d.rest) {
		d.fail()
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}
