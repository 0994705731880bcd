package position

import (
	"fmt"
	"strconv"
	"strings"
)

// cursor reads a text from its beginning.
type cursor struct {
	text string
	at   int
}

// expected is the error of a text that has something else where the cursor is.
func (c *cursor) expected(what string) error {
	if c.at == len(c.text) {
		return fmt.Errorf("expected %s at byte %d, which is the end", what, c.at)
	}
	rest := c.text[c.at:]
	return fmt.Errorf("expected %s at byte %d, found %q", what, c.at, rest[:min(len(rest), 40)])
}

// blanks moves past blanks: what isspace of C takes for one.
func (c *cursor) blanks() {
	for c.at < len(c.text) && strings.IndexByte(" \t\n\v\f\r", c.text[c.at]) >= 0 {
		c.at++
	}
}

// atEnd reports whether nothing but blanks is left.
func (c *cursor) atEnd() bool {
	c.blanks()
	return c.at == len(c.text)
}

// accept moves past b, if the cursor is there.
func (c *cursor) accept(b byte) bool {
	if c.at == len(c.text) || c.text[c.at] != b {
		return false
	}
	c.at++
	return true
}

// expect moves past b, which has to be there.
func (c *cursor) expect(b byte) error {
	if !c.accept(b) {
		return c.expected(strconv.QuoteRune(rune(b)))
	}
	return nil
}

// number reads a decimal number of at most limit, which is 9 or more. It takes no zeros in front, which
// MySQL's server takes for octal.
func (c *cursor) number(what string, limit uint64) (uint64, error) {
	start := c.at
	var n uint64
	for ; c.at < len(c.text) && isDigit(c.text[c.at]); c.at++ {
		digit := uint64(c.text[c.at] - '0')
		if n > (limit-digit)/10 {
			c.at = start
			return 0, c.expected(fmt.Sprintf("%s of at most %d", what, limit))
		}
		n = n*10 + digit
	}
	if c.at == start || c.text[start] == '0' && c.at > start+1 {
		c.at = start
		return 0, c.expected(what)
	}
	return n, nil
}

// hex reads a hexadecimal number of up to 8 digits.
func (c *cursor) hex(what string) (uint64, error) {
	start := c.at
	var n uint64
	for c.at < len(c.text) && c.at < start+8 {
		digit, ok := hexDigit(c.text[c.at])
		if !ok {
			break
		}
		n = n<<4 | uint64(digit)
		c.at++
	}
	if c.at == start {
		return 0, c.expected(what)
	}
	return n, nil
}

func isDigit(b byte) bool { return b-'0' < 10 }

func hexDigit(b byte) (digit byte, ok bool) {
	switch {
	case isDigit(b):
		return b - '0', true
	case b|0x20-'a' < 6:
		return b | 0x20 - 'a' + 10, true
	default:
		return 0, false
	}
}
