package position

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

func TestParseMalformed(t *testing.T) {
	uuid := strings.Repeat("A", 16)
	after := strings.Repeat("B", 16)
	tests := []struct{ name, form string }{
		{"no kind", "\x00"},
		{"another kind", "\x05\x01"},

		{"MySQL, nothing", "\x01"},
		{"MySQL, no UUID", "\x01\x00"},
		{"MySQL, half a UUID", "\x01\x00AAAA"},
		{"MySQL, no interval", "\x01\x00" + uuid},
		{"MySQL, half an interval", "\x01\x00" + uuid + "\x00"},
		{"MySQL, more intervals than there are", "\x01\x04" + uuid + "\x00\x00"},
		{"MySQL, very many intervals", "\x01\xfc\xff\xff\xff\xff\xff\xff\xff\xff\x01" + uuid + "\x00\x00"},
		{"MySQL, a longer form of a number", "\x01\x00" + uuid + "\x80\x00\x00"},
		{"MySQL, a number without an end", "\x01\x00" + uuid + "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"},
		{"MySQL, behind the last number", "\x01\x00" + uuid + string(binary.AppendUvarint(nil, maxNumber)) +
			"\x00"},
		{"MySQL, up to behind the last number",
			"\x01\x00" + uuid + "\x00" + string(binary.AppendUvarint(nil, maxNumber))},
		{"MySQL, an interval behind the last number",
			"\x01\x04" + uuid + "\x00" + string(binary.AppendUvarint(nil, maxNumber-1)) + "\x00\x00"},
		{"MySQL, an interval that begins behind the last number",
			"\x01\x04" + uuid + "\x00\x00" + string(binary.AppendUvarint(nil, 1<<64-1)) + "\x00"},
		{"MySQL, an interval as long as a number can be",
			"\x01\x00" + uuid + "\x01" + string(binary.AppendUvarint(nil, 1<<64-1))},
		{"MySQL, the first UUID is said to be as before", "\x01\x01\x00\x00"},
		{"MySQL, the same UUID again", "\x01\x00" + uuid + "\x00\x00\x00" + uuid + "\x00\x00"},
		{"MySQL, the same UUID again, by reference", "\x01\x00" + uuid + "\x00\x00\x01\x00\x00"},
		{"MySQL, the same UUID in full, with a tag", "\x01\x00" + uuid + "\x00\x00\x02" + uuid + "\x01a\x00\x00"},
		{"MySQL, the UUIDs in the wrong order", "\x01\x00" + after + "\x00\x00\x00" + uuid + "\x00\x00"},
		{"MySQL, the tags in the wrong order", "\x01\x02" + uuid + "\x01b\x00\x00\x03\x01a\x00\x00"},
		{"MySQL, a tag again", "\x01\x02" + uuid + "\x01b\x00\x00\x03\x01b\x00\x00"},
		{"MySQL, an empty tag", "\x01\x02" + uuid + "\x00\x00\x00"},
		{"MySQL, a tag in upper case", "\x01\x02" + uuid + "\x01A\x00\x00"},
		{"MySQL, a tag that begins with a digit", "\x01\x02" + uuid + "\x021a\x00\x00"},
		{"MySQL, a tag that is too long", "\x01\x02" + uuid + "\x21" + strings.Repeat("a", 33) + "\x00\x00"},
		{"MySQL, a tag that is cut off", "\x01\x02" + uuid + "\x20aaa"},
		{"MySQL, something behind", "\x01\x00" + uuid + "\x00\x00\x00"},

		{"MariaDB, nothing", "\x02"},
		{"MariaDB, no server", "\x02\x00"},
		{"MariaDB, no number", "\x02\x00\x01"},
		{"MariaDB, a domain that is too large", "\x02\x80\x80\x80\x80\x10\x01\x01"},
		{"MariaDB, a second domain that is too large", "\x02\x01\x01\x01\xfe\xff\xff\xff\x0f\x01\x01"},
		{"MariaDB, a server that is too large", "\x02\x00\x80\x80\x80\x80\x10\x01"},
		{"MariaDB, something behind", "\x02\x00\x01\x01\x00"},

		{"PostgreSQL, nothing", "\x03"},
		{"PostgreSQL, half a system identifier", "\x03AAAA"},
		{"PostgreSQL, no timeline", "\x03AAAAAAAA"},
		{"PostgreSQL, timeline 0", "\x03AAAAAAAA\x00\x01"},
		{"PostgreSQL, a timeline that is too large", "\x03AAAAAAAA\x80\x80\x80\x80\x10\x01"},
		{"PostgreSQL, no LSN", "\x03AAAAAAAA\x01"},
		{"PostgreSQL, LSN 0", "\x03AAAAAAAA\x01\x00"},
		{"PostgreSQL, something behind", "\x03AAAAAAAA\x01\x01\x00"},

		{"a sequence, nothing", "\x04"},
		{"a sequence, number 0", "\x04\x00log"},
		{"a sequence, a longer form of a number", "\x04\x81\x00log"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if p, err := Parse([]byte(tt.form)); err == nil {
				t.Errorf("it is taken for %v", p)
			} else if p.Known() || !strings.HasPrefix(err.Error(), "position: ") {
				t.Errorf("the error is %q, beside it there is %v", err, p)
			}
		})
	}
}

// Nothing that is cut off may be a position, but for what ends in the middle of a list: there the shorter one
// is one.
func TestParseCutOff(t *testing.T) {
	for _, p := range []Position{
		parse(t, MySQL, uuidA+":1-5:17:200-4000:tag:9"),
		parse(t, MariaDB, "0-1-123456,7-300-19"),
		parse(t, PostgreSQL, "7711070308038412141:2:16/B374D848"),
	} {
		form := p.Append(nil)
		for i := 1; i < len(form); i++ {
			q, err := Parse(form[:i])
			if err == nil && (p.Kind() == PostgreSQL || !p.Covers(q)) {
				t.Errorf("%x of %v is %v", form[:i], p, q)
			}
		}
	}
}

func TestAppendKeepsWhatIsThere(t *testing.T) {
	p := parse(t, MariaDB, "0-1-5")
	if got, want := string(p.Append([]byte("x"))), "x\x02\x00\x01\x05"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := (Position{}).Append(nil); len(got) != 0 {
		t.Errorf("the unknown position is %x", got)
	}
}

// The forms are kept by clients while the program that reads them is replaced: a change here is a new version
// of what carries them. Their lengths are what a cookie has to hold.
func TestForms(t *testing.T) {
	gaps := func(uuid string, n int) string {
		s := uuid
		for i := range n {
			s += fmt.Sprintf(":%d-%d", 5_000_000+20*i, 5_000_000+20*i+7)
		}
		return s
	}
	tests := []struct {
		name   string
		kind   Kind
		text   string
		length int
		form   string // hexadecimal; not compared if empty
	}{
		{"one server, a million transactions", MySQL, uuidA + ":1-1000000", 22,
			"01003e11fa4771ca11e19e33c80aa942956200bf843d"},
		{"three servers", MySQL, uuidA + ":1-1000000," + uuidB + ":1-77," + uuidB[:35] + "e:1-12345678", 63, ""},
		{"a tag", MySQL, uuidA + ":1-1000000:batch:1-500", 32,
			"01003e11fa4771ca11e19e33c80aa942956200bf843d0305626174636800f303"},
		{"a hundred gaps", MySQL, gaps(uuidA, 100), 222, ""},
		{"the last number", MySQL, uuidA + ":1-9223372036854775806", 28, ""},
		{"one domain", MariaDB, "0-1-1000000", 6, "020001c0843d"},
		{"three domains", MariaDB, "0-1-1000000,1-2-5,20-168430081-12345678", 18, ""},
		{"the largest of everything", MariaDB, "4294967295-4294967295-18446744073709551615", 21, ""},
		{"an LSN", PostgreSQL, "7711070308038412141:2:16/B374D848", 16, "036b03399714b1076d02c8b0d39beb02"},
		{"the largest LSN", PostgreSQL, "18446744073709551615:4294967295:FFFFFFFF/FFFFFFFF", 24, ""},
		{"a log", Custom, "log:1000000", 7, "04c0843d6c6f67"},
	}
	for _, tt := range tests {
		t.Run(tt.kind.String()+", "+tt.name, func(t *testing.T) {
			form := parse(t, tt.kind, tt.text).Append(nil)
			if len(form) != tt.length {
				t.Errorf("it takes %d bytes, want %d", len(form), tt.length)
			}
			if got := fmt.Sprintf("%x", form); tt.form != "" && got != tt.form {
				t.Errorf("got %s, want %s", got, tt.form)
			}
		})
	}
}
