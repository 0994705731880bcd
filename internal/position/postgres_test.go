package position

import (
	"strings"
	"testing"
)

func TestParsePostgreSQL(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"as it is written", "7711070308038412141:2:16/B374D848", "7711070308038412141:2:16/B374D848"},
		{"lower case", "7:1:a/b", "7:1:A/B"},
		{"zeros in front, as 19 writes them", "7:1:16/0000D848", "7:1:16/D848"},
		{"the largest", "18446744073709551615:4294967295:FFFFFFFF/FFFFFFFF",
			"18446744073709551615:4294967295:FFFFFFFF/FFFFFFFF"},
		{"no system identifier", "0:1:0/1", "0:1:0/1"},
		{"nothing", "7:1:0/0", "unknown"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := ParsePostgreSQL(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.String(); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if !same(mustParse(t, p.Append(nil)), p) {
				t.Errorf("%v does not survive its binary form", p)
			}
		})
	}
}

func TestParsePostgreSQLErrors(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"an empty text", "", "expected a system identifier at byte 0, which is the end"},
		{"an LSN alone", "16/B374D848", "expected ':' at byte 2"},
		{"timeline 0", "7:0:0/1", "no timeline 0"},
		{"a timeline that is too large", "7:4294967296:0/1", "a timeline of at most"},
		{"no slash", "7:1:16", "expected '/' at byte 2"},
		{"nothing behind the slash", "7:1:16/", "the second half of an LSN"},
		{"nothing before the slash", "7:1:/16", "expected an LSN"},
		{"nine digits", "7:1:123456789/0", "expected '/'"},
		{"nine digits behind", "7:1:0/123456789", "the end of an LSN"},
		{"not hexadecimal", "7:1:0/G", "the second half of an LSN"},
		{"a blank", "7:1:0/1 ", "the end of an LSN"},
		{"a sign", "7:1:-1/0", "expected an LSN"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := ParsePostgreSQL(tt.text)
			if err == nil {
				t.Fatalf("it is taken for %v", p)
			}
			if !strings.HasPrefix(err.Error(), "position: PostgreSQL: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %q, want %q in it", err, tt.want)
			}
		})
	}
}

func TestEndOfRecord(t *testing.T) {
	s := postgreSQLServer{segment: 16 << 20, block: 8192}
	tests := []struct {
		name      string
		lsn, want uint64
	}{
		{"within a page", 0x3025C70, 0x3025C70},
		{"behind the header of a file", 0x4000028, 0x4000000},
		{"behind the header of a page", 0x4002018, 0x4002000},
		{"40 bytes into a page that does not begin a file", 0x4002028, 0x4002028},
		{"24 bytes into a file: inside its header", 0x4000018, 0x4000018},
		{"at a page", 0x4002000, 0x4002000},
		{"at a file", 0x4000000, 0x4000000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := s.end(tt.lsn); got != tt.want {
				t.Errorf("got %X, want %X", got, tt.want)
			}
		})
	}
	if got := (&postgreSQLServer{}).end(0x4000028); got != 0x4000028 {
		t.Errorf("without the sizes: %X", got)
	}
}
