package token

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
)

// A content for reading: issued, entries; and then the entries.
const (
	head1  = "01959533fa87 01"
	head2  = "01959533fa87 02"
	entryA = "01 01 61 0001 aa"              // history a at position aa
	entryB = "03 01 62 019595340e0f 0002 bb" // history b until, and at position bb…
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

var malformed = []struct {
	name    string
	content []byte
}{
	{"nothing", nil},
	{"half an instant", unhex("0195")},
	{"no number of entries", unhex("01959533fa87")},
	{"no entries", unhex("01959533fa87 00")},
	{"no entries, and something else", unhex("01959533fa87 00" + entryA)},
	{"one entry missing", unhex(head2 + entryA)},
	{"all entries missing", unhex(head1)},
	{"one entry too many", unhex(head1 + entryA + entryB + "cc")},
	{"a byte too many", unhex(head1 + entryA + "00")},
	{"more entries than may be", append(unhex("01959533fa87 41"), manyEntries(65)...)},
	{"255 entries", unhex("01959533fa87 ff" + entryA)},
	{"no parts", unhex(head1 + "00 01 61")},
	{"no parts, but a position", unhex(head1 + "00 01 61 0001 aa")},
	{"unknown parts", unhex(head1 + "08 01 61 0001 aa")},
	{"since alone", unhex(head1 + "04 01 61 019595340e0f")},
	{"since cut short", unhex(head1 + "05 01 61 019595340e")},
	{"since without a position behind it", unhex(head1 + "05 01 61 019595340e0f")},
	{"unknown parts beside a position", unhex(head1 + "09 01 61 0001 aa")},
	{"unknown parts beside all", unhex(head1 + "83 01 61 019595340e0f 0001 aa")},
	{"a part that is missing", unhex(head1 + "03 01 61 019595340e0f")},
	{"a name that is missing", unhex(head1 + "01 01")},
	{"a name cut short", unhex(head1 + "01 ff 61 0001 aa")},
	{"an instant cut short", unhex(head1 + "02 01 61 019595340e")},
	{"a position cut short", unhex(head1 + "01 01 61 0002 aa")},
	{"a very long position cut short", unhex(head1 + "01 01 61 ffff aa")},
	{"a position without its length", unhex(head1 + "01 01 61")},
	{"half of its length", unhex(head1 + "01 01 61 00")},
	{"an empty position", unhex(head1 + "01 01 61 0000")},
	{"a history twice", unhex(head2 + entryA + entryA)},
	{"a history twice, each with another part", unhex(head2 + entryA + "02 01 61 019595340e0f")},
	{"histories in descending order", unhex(head2 + "01 01 62 0001 bb" + entryA)},
	{"a longer name before its beginning", unhex(head2 + "01 02 6161 0001 bb" + entryA)},
	{"the nameless history last", unhex(head2 + entryA + "01 00 0001 bb")},
	{"the nameless history twice", unhex(head2 + "01 00 0001 bb 01 00 0001 bb")},
}

// manyEntries returns entries in order.
func manyEntries(n int) (b []byte) {
	for i := range n {
		b = append(b, 1, 1, byte(i), 0, 1, 0xaa)
	}
	return b
}

func TestDecodeRefuses(t *testing.T) {
	for _, tt := range malformed {
		when, tok, err := decode(tt.content)
		if told := len(tt.content) >= instantSize; err != ErrVersion || tok != nil || when.IsZero() == told {
			t.Errorf("%s: decode(%x) = %v, %+v, %v; want ErrVersion, and the instant if it is there",
				tt.name, tt.content, when, tok, err)
		}
	}
}

func TestEveryTruncationAndExtensionOfAContentIsRefused(t *testing.T) {
	for _, tt := range roundTrips {
		content, err := encode(tt.t, issued)
		if err != nil {
			t.Fatal(err)
		}
		for n := range content {
			if _, tok, err := decode(content[:n]); err != ErrVersion || tok != nil {
				t.Fatalf("%s: the first %d of %d bytes: %+v, %v", tt.name, n, len(content), tok, err)
			}
		}
		for b := range 256 {
			if _, tok, err := decode(append(bytes.Clone(content), byte(b))); err != ErrVersion || tok != nil {
				t.Fatalf("%s: with %x behind: %+v, %v", tt.name, b, tok, err)
			}
		}
	}
}

func TestContent(t *testing.T) {
	for _, tt := range []struct {
		name    string
		content []byte
		want    Token
	}{
		{"a position", unhex(head1 + entryA), Token{{History: "a", Position: []byte{0xaa}}}},
		{"a time", unhex(head1 + "02 01 61 019595340e0f"), Token{{History: "a", Until: at(5000)}}},
		{"a position, and since when", unhex(head1 + "05 01 61 0195953406df 0001 aa"),
			Token{{History: "a", Position: []byte{0xaa}, Since: at(3160)}}},
		{"two histories", unhex(head2 + entryA + entryB + "cc"),
			Token{{History: "a", Position: []byte{0xaa}},
				{History: "b", Position: []byte{0xbb, 0xcc}, Until: at(5000)}}},
		{"as many as may be", append(unhex("01959533fa87 40"), manyEntries(64)...), nil},
	} {
		when, tok, err := decode(tt.content)
		if err != nil || !when.Equal(issued) || tt.want != nil && !reflect.DeepEqual(tok, tt.want) {
			t.Errorf("%s: decode(%x) = %v, %+v, %v; want %v, %+v", tt.name, tt.content, when, tok, err, issued,
				tt.want)
		}
		if content, err := encode(tok, issued); err != nil || !bytes.Equal(content, tt.content) {
			t.Errorf("%s: encode(%+v) = %x, %v; want %x", tt.name, tok, content, err, tt.content)
		}
	}
}
