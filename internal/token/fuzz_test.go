package token

import (
	"bytes"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// FuzzOpen opens any text, and any bytes in the guise of a token: but for those that the seeds are, none may
// open.
func FuzzOpen(f *testing.F) {
	s := newSealer(f, "app", secretA, secretB)
	valid := make(map[string]bool)
	for _, tt := range vectors {
		if tt.context == "app" {
			valid[tt.text] = true
		}
		f.Add(tt.text)
		f.Add(string(decoded(f, tt.text)))
	}
	f.Add("")
	f.Add(Marker)
	f.Add(version)
	f.Add(version + "\r\n")
	f.Fuzz(func(t *testing.T, given string) {
		for _, text := range []string{given, version + given, encoded([]byte(given))} {
			switch tok, err := s.Open(text, issued, ttl); {
			case valid[text]:
				if err != nil || len(tok) == 0 {
					t.Errorf("Open(%q) = %+v, %v", text, tok, err)
				}
			case tok != nil:
				t.Errorf("opened: %q, as %+v", text, tok)
			case err == ErrVersion:
				if !beginsWithVersion(text) || strings.HasPrefix(text, version) {
					t.Errorf("Open(%q): %v", text, err)
				}
			case err != ErrTooLarge && err != ErrMalformed && err != ErrForeign:
				t.Errorf("Open(%q): %v", text, err)
			case (err == ErrTooLarge) != (len(text) > MaxSize):
				t.Errorf("Open of %d bytes: %v", len(text), err)
			}
		}
	})
}

// FuzzDecode reads any content: what it accepts is the one content for what it found.
func FuzzDecode(f *testing.F) {
	for _, tt := range malformed {
		f.Add(tt.content)
	}
	for _, tt := range roundTrips {
		content, err := encode(tt.t, issued)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		when, tok, err := decode(content)
		if err != nil {
			if err != ErrVersion || tok != nil || when.IsZero() == (len(content) >= instantSize) {
				t.Errorf("decode(%x) = %v, %+v, %v", content, when, tok, err)
			}
			return
		}
		switch again, err := encode(tok, when); {
		case textSize(len(content)) > MaxSealed:
			if err != ErrTooLarge {
				t.Errorf("%d bytes of content: %v", len(content), err)
			}
		case err != nil || !bytes.Equal(again, content):
			t.Errorf("decode(%x) = %v, %+v; encode = %x, %v", content, when, tok, again, err)
		}
	})
}

// FuzzRoundTrip seals any two entries, if they can be sealed, and opens them somewhere else.
func FuzzRoundTrip(f *testing.F) {
	s, other := newSealer(f, "app", secretA), newSealer(f, "app", secretB, secretA)
	f.Add("orders", []byte("0-1-42"), int64(0), int64(0),
		"users", []byte(nil), int64(1e12), int64(1e11), int64(1e12))
	f.Add("", []byte{0}, int64(1), int64(2), "\x00", []byte(nil), int64(0), int64(0), int64(-1))
	f.Add("a", []byte(nil), int64(maxInstant), int64(1),
		"a", []byte("x"), int64(maxInstant+1), int64(0), int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, historyA string, positionA []byte, untilA, sinceA int64,
		historyB string, positionB []byte, untilB, sinceB, now int64,
	) {
		entry := func(history string, position []byte, until, since int64) Entry {
			e := Entry{History: history, Position: position}
			if len(position) == 0 {
				e.Position = nil
			}
			if until != 0 {
				e.Until = time.UnixMilli(until).UTC()
			}
			if since != 0 {
				e.Since = time.UnixMilli(since).UTC()
			}
			return e
		}
		given := Token{entry(historyA, positionA, untilA, sinceA), entry(historyB, positionB, untilB, sinceB)}
		sealed := time.UnixMilli(now)
		text, err := s.Seal(given, sealed)
		if err != nil {
			return
		}
		slices.SortFunc(given, func(a, b Entry) int { return strings.Compare(a.History, b.History) })
		got, err := other.Open(text, sealed, time.Second)
		if err != nil || !reflect.DeepEqual(got, given) {
			t.Errorf("sealed %+v, opened %+v, %v", given, got, err)
		}
	})
}
