package token

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

const ttl = 5 * time.Minute

// issued is when the tokens of these tests are sealed, except where time is what they are about.
var issued = time.Date(2025, 3, 14, 15, 9, 26, 535_000_000, time.UTC)

var (
	secretA = []byte("the first secret, as good as any")
	secretB = []byte("the second secret, no worse at all")
	secretC = bytes.Repeat([]byte("third "), 20)
)

func newSealer(tb testing.TB, context string, secrets ...[]byte) *Sealer {
	tb.Helper()
	s, err := NewSealer(secrets, context)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func seal(tb testing.TB, s *Sealer, t Token) string {
	tb.Helper()
	text, err := s.Seal(t, issued)
	if err != nil {
		tb.Fatalf("Seal(%+v): %v", t, err)
	}
	return text
}

// refuses fails if s opens text, or returns something beside the error.
func refuses(tb testing.TB, s *Sealer, text string, want error) {
	tb.Helper()
	if t, err := s.Open(text, issued, ttl); t != nil || err != want {
		tb.Errorf("Open(%q) = %+v, %v; want none, %v", text, t, err, want)
	}
}

func at(milli int64) time.Time { return issued.Add(time.Duration(milli) * time.Millisecond) }

// of returns n bytes that look like nothing in particular.
func of(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*i + 7*i + n)
	}
	return b
}

var roundTrips = []struct {
	name string
	t    Token
}{
	{"a position", Token{{History: "orders", Position: []byte{0}}}},
	{"a time", Token{{History: "orders", Until: at(5000)}}},
	{"both", Token{{History: "orders", Position: of(16), Until: at(5000)}}},
	{"the nameless history", Token{{Position: of(16)}}},
	{"since when", Token{{History: "orders", Position: of(16), Since: at(-7)}}},
	{"everything", Token{{History: "orders", Position: of(16), Until: at(5000), Since: at(-7)}}},
	{"a time that is over", Token{{History: "orders", Until: at(-1)}}},
	{"1970", Token{{History: "orders", Until: time.UnixMilli(0).UTC()}}},
	{"histories, some with a common beginning", Token{
		{Position: of(8)}, {History: "a", Until: at(1)}, {History: "aa", Position: of(300)},
		{History: "ab", Position: of(1), Until: at(2)},
	}},
	{"names that are no text", Token{{History: "\x00", Position: of(1)}, {History: "a\x00b", Position: of(2)},
		{History: "\xff\xfe", Until: at(0)}}},
	{"the longest name", Token{{History: strings.Repeat("g", MaxHistory), Position: of(4)}}},
	{"as many histories as may be", manyHistories(MaxEntries)},
	{"the longest position", Token{{Position: of(longestPosition)}}},
}

func manyHistories(n int) (t Token) {
	for i := range n {
		t = append(t, Entry{History: fmt.Sprintf("%03d", i), Position: of(4)})
	}
	return t
}

// longestPosition is the length of the longest position that a token has room for.
const longestPosition = (MaxSealed-len(version))*3/4 - nonceSize - tagSize - instantSize - 1 - 2 - 2

func TestRoundTrip(t *testing.T) {
	s := newSealer(t, "app", secretA)
	for _, tt := range roundTrips {
		t.Run(tt.name, func(t *testing.T) {
			text := seal(t, s, tt.t)
			if strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") != "" ||
				len(text) > MaxSize {
				t.Errorf("%q, of %d bytes, does not fit in a cookie", text, len(text))
			}
			got, err := s.Open(text, issued, ttl)
			if err != nil || !reflect.DeepEqual(got, tt.t) {
				t.Errorf("opened: %+v, %v; want %+v", got, err, tt.t)
			}
			again := seal(t, s, tt.t)
			if again == text || len(again) != len(text) {
				t.Errorf("sealed again: %q; want another text of the same length as %q", again, text)
			}
		})
	}
}

func TestSealSortsACopy(t *testing.T) {
	s := newSealer(t, "app", secretA)
	given := Token{{History: "b", Position: []byte("2")}, {History: "a", Position: []byte("1")}}
	got, err := s.Open(seal(t, s, given), issued, ttl)
	if want := (Token{{History: "a", Position: []byte("1")},
		{History: "b", Position: []byte("2")}}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("opened: %+v, %v; want %+v", got, err, want)
	}
	if given[0].History != "b" {
		t.Errorf("Seal changed its argument to %+v", given)
	}
}

func TestPiecesDoNotOverlap(t *testing.T) {
	s := newSealer(t, "app", secretA)
	got, err := s.Open(seal(t, s, Token{{History: "a", Position: []byte("12")},
		{History: "b", Position: []byte("34")}}), issued, ttl)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(got[0].Position, "#######"...) // as many bytes as follow
	if p := string(got[1].Position); p != "34" {
		t.Errorf("appending to a position changed the next one to %q", p)
	}
}

func TestSealRefuses(t *testing.T) {
	s := newSealer(t, "app", secretA)
	ok := Token{{Position: of(1)}}
	for _, tt := range []struct {
		name string
		t    Token
		now  time.Time
		want string
	}{
		{"nothing", nil, issued, "token: no entries"},
		{"an entry without demands", Token{{History: "orders", Position: []byte{}}}, issued,
			`token: the entry for history "orders" demands nothing`},
		{"a history twice", Token{{History: "b", Until: issued}, {History: "a", Until: issued},
			{History: "b", Position: of(1)}}, issued, `token: two entries for history "b"`},
		{"too long a name", Token{{History: strings.Repeat("g", MaxHistory+1), Until: issued}}, issued,
			`token: the name of history "gggggggggggggggggggg"… has 256 bytes: 255 at most`},
		{"no time of issue", ok, time.Time{}, "token: 0001-01-01 00:00:00 +0000 UTC cannot be written"},
		{"before 1970", Token{{Until: time.UnixMilli(-1)}}, issued,
			"token: 1969-12-31 23:59:59.999 +0000 UTC cannot be written"},
		{"after 10889", ok, time.UnixMilli(maxInstant + 1),
			"token: 10889-08-02 05:31:50.656 +0000 UTC cannot be written"},
		{"too many histories", manyHistories(MaxEntries + 1), issued, ErrTooLarge.Error()},
		{"too long a position", Token{{Position: of(longestPosition + 1)}}, issued, ErrTooLarge.Error()},
		{"a position longer than its length can say", Token{{Position: of(1<<16 + 1)}}, issued,
			ErrTooLarge.Error()},
	} {
		text, err := s.Seal(tt.t, tt.now)
		if text != "" || err == nil || err.Error() != tt.want {
			t.Errorf("%s: %q, %v; want %s", tt.name, text, err, tt.want)
		}
		if (err == ErrTooLarge) != (tt.want == ErrTooLarge.Error()) {
			t.Errorf("%s: %v is not ErrTooLarge itself", tt.name, err)
		}
	}
}

func TestSecretsRotate(t *testing.T) {
	old, both, swapped, fresh := newSealer(t, "app", secretA), newSealer(t, "app", secretA, secretB),
		newSealer(t, "app", secretB, secretA), newSealer(t, "app", secretB)
	want := Token{{History: "orders", Position: of(16)}}
	for _, tt := range []struct {
		name     string
		from, to *Sealer
		opens    bool
	}{
		{"before, the same", old, old, true},
		{"before, after adding", old, both, true},
		{"after adding, before", both, old, true},
		{"after adding, swapped", both, swapped, true},
		{"swapped, after adding", swapped, both, true},
		{"swapped, removed", swapped, fresh, true},
		{"removed, swapped", fresh, swapped, true},
		{"after adding, removed", both, fresh, false},
		{"before, removed", old, fresh, false},
		{"swapped, before", swapped, old, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := seal(t, tt.from, want)
			if !tt.opens {
				refuses(t, tt.to, text, ErrForeign)
			} else if got, err := tt.to.Open(text, issued, ttl); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("opened: %+v, %v; want %+v", got, err, want)
			}
		})
	}
}

func TestEverySecretOpens(t *testing.T) {
	var secrets [][]byte
	for i := range MaxSecrets {
		secrets = append(secrets, of(MinSecret+i))
	}
	all, want := newSealer(t, "app", secrets...), Token{{History: "orders", Position: of(16)}}
	for i, secret := range secrets {
		if got, err := all.Open(seal(t, newSealer(t, "app", secret), want), issued, ttl); err != nil ||
			!reflect.DeepEqual(got, want) {
			t.Errorf("secret %d: %+v, %v; want %+v", i, got, err, want)
		}
	}
	if got, err := newSealer(t, "app", secrets[0]).Open(seal(t, all, want), issued, ttl); err != nil ||
		!reflect.DeepEqual(got, want) {
		t.Errorf("sealed with all, opened with the first: %+v, %v; want %+v", got, err, want)
	}
}

func TestSecretsAreCopied(t *testing.T) {
	secret := bytes.Clone(secretA)
	s := newSealer(t, "app", secret)
	clear(secret)
	if _, err := newSealer(t, "app", secretA).Open(seal(t, s, Token{{Until: issued}}), issued, ttl); err != nil {
		t.Errorf("after the caller cleared its secret: %v", err)
	}
}

func TestContextsAreApart(t *testing.T) {
	contexts := []string{"", "a", "ab", "b", "v1.", "A", "a\x00"}
	for _, from := range contexts {
		text := seal(t, newSealer(t, from, secretA), Token{{Until: issued}})
		for _, to := range contexts {
			_, err := newSealer(t, to, secretA).Open(text, issued, ttl)
			if from == to && err != nil || from != to && err != ErrForeign {
				t.Errorf("sealed for %q, opened for %q: %v", from, to, err)
			}
		}
	}
}

func TestNewSealerRefuses(t *testing.T) {
	short := []byte("hunter2 hunter2 hunter2 hunter2")
	for _, tt := range []struct {
		name    string
		secrets [][]byte
		want    string
	}{
		{"none", nil, "Secrets is empty"},
		{"an empty one", [][]byte{secretA, {}},
			`Secrets[1] has 0 bytes: at least 32 are needed, such as "openssl rand -base64 32" prints`},
		{"several mistakes", [][]byte{short, secretA, nil, make([]byte, 32)},
			`Secrets[0] has 31 bytes: at least 32 are needed, such as "openssl rand -base64 32" prints` + "\n" +
				`Secrets[2] has 0 bytes: at least 32 are needed, such as "openssl rand -base64 32" prints` + "\n" +
				`Secrets[3] is one byte 32 times over, as if it had never been filled`},
		{"too many", [][]byte{secretA, secretB, secretC, secretA, secretB, secretC, secretA, secretB, secretC},
			"Secrets has 9 elements: 8 at most"},
	} {
		s, err := NewSealer(tt.secrets, "app")
		if s != nil || err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v, %v; want %s", tt.name, s, err, tt.want)
		}
	}
	for _, secret := range [][]byte{secretA, make([]byte, 31), append(make([]byte, 31), 1), of(4096)} {
		if _, err := NewSealer([][]byte{secret}, ""); (err == nil) != (len(secret) >= MinSecret) {
			t.Errorf("a secret of %d bytes: %v", len(secret), err)
		}
	}
}

func TestTime(t *testing.T) {
	s := newSealer(t, "app", secretA)
	text := seal(t, s, Token{{Until: at(5000)}})
	for _, tt := range []struct {
		name string
		now  time.Time
		ttl  time.Duration
		want error
	}{
		{"at once", issued, ttl, nil},
		{"a second before it expires", issued.Add(ttl - time.Second), ttl, nil},
		{"a nanosecond before it expires", issued.Add(ttl - 1), ttl, nil},
		{"when it expires", issued.Add(ttl), ttl, ErrExpired},
		{"a second after", issued.Add(ttl + time.Second), ttl, ErrExpired},
		{"a thousand years after", issued.AddDate(1000, 0, 0), ttl, ErrExpired},
		{"a minute early", issued.Add(-MaxSkew), ttl, nil},
		{"a nanosecond more than a minute early", issued.Add(-MaxSkew - 1), ttl, ErrFuture},
		{"a second more", issued.Add(-MaxSkew - time.Second), ttl, ErrFuture},
		{"a thousand years early", issued.AddDate(-1000, 0, 0), ttl, ErrFuture},
		{"shorter TTL", issued.Add(2 * time.Second), 2 * time.Second, ErrExpired},
		{"longer TTL", issued.Add(ttl), ttl + 1, nil},
		{"no TTL", issued, 0, ErrExpired},
		{"another time zone", issued.In(time.FixedZone("", 5*3600)), ttl, nil},
		{"no time", time.Time{}, ttl, ErrFuture},
	} {
		got, err := s.Open(text, tt.now, tt.ttl)
		if err != tt.want || (got != nil) != (err == nil) {
			t.Errorf("%s: %+v, %v; want %v", tt.name, got, err, tt.want)
		}
	}
}

// Times are carried in milliseconds. Rounding may make a token expire too early, but never let its reader
// leave the master too early.
func TestTimeIsRounded(t *testing.T) {
	s := newSealer(t, "app", secretA)
	text, err := s.Seal(Token{{Until: at(5000).Add(1)}}, at(1).Add(-1))
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Open(text, issued.Add(ttl-1), ttl)
	if err != nil || !got[0].Until.Equal(at(5001)) {
		t.Errorf("opened: %+v, %v; want until %v", got, err, at(5001))
	}
	if _, err := s.Open(text, issued.Add(ttl), ttl); err != ErrExpired {
		t.Errorf("a millisecond before it was issued, and TTL later: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	s := newSealer(t, "app", secretA, secretB)
	text := seal(t, s, roundTrips[2].t)
	body := strings.TrimPrefix(text, version)
	for _, tt := range []struct {
		name, text string
		want       error
	}{
		{"nothing", "", ErrMalformed},
		{"the marker", Marker, ErrMalformed},
		{"the version alone", version, ErrMalformed},
		{"no version", body, ErrMalformed},
		{"a later version", "v2." + body, ErrVersion},
		{"a version that is no number", "vx." + body, ErrMalformed},
		{"no number", "v." + body, ErrMalformed},
		{"a number beyond all", "v" + strings.Repeat("9", 100) + "." + body, ErrMalformed},
		{"a negative number", "v-2." + body, ErrMalformed},
		{"in capitals", "V1." + body, ErrMalformed},
		{"in quotes", `"` + text + `"`, ErrMalformed},
		{"blank before", " " + text, ErrMalformed},
		{"blank behind", text + " ", ErrMalformed},
		{"a line break behind", text + "\n", ErrMalformed},
		{"line breaks inside", version + body[:20] + "\r\n" + body[20:], ErrMalformed},
		{"padding", text + "=", ErrMalformed},
		{"the other alphabet", version + strings.Repeat("+/", 40), ErrMalformed},
		{"twice", text + text, ErrMalformed},
		{"a nonce and half a tag", version + strings.Repeat("A", 52), ErrMalformed},
		{"a nonce and a tag, of nothing", version + strings.Repeat("A", 54), ErrForeign},
		{"zeros", version + strings.Repeat("A", 100), ErrForeign},
		{"as large as may be", version + strings.Repeat("A", MaxSize-len(version)-1), ErrForeign},
		{"one more", version + strings.Repeat("A", MaxSize-len(version)+1), ErrTooLarge},
		{"large rubbish", strings.Repeat("\x00", 1<<20), ErrTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) { refuses(t, s, tt.text, tt.want) })
	}
	var zero Sealer
	refuses(t, &zero, text, ErrForeign)
	if text, err := zero.Seal(roundTrips[0].t, issued); text != "" || err == nil {
		t.Errorf("the zero Sealer seals: %q, %v", text, err)
	}
}

// What somebody with the secret sealed is no forgery, even if it is no token: it is of another version of
// this package.
func TestOpenRefusesContent(t *testing.T) {
	s := newSealer(t, "app", secretA)
	for _, tt := range malformed {
		text := sealContent(t, s, tt.content)
		refuses(t, s, text, ErrVersion)
		if len(tt.content) >= instantSize { // it ends as any other does
			if _, err := s.Open(text, issued.Add(ttl), ttl); err != ErrExpired {
				t.Errorf("%s: %v when it has expired", tt.name, err)
			}
		}
	}
	// The control: the same way of sealing, with a content that is one.
	content, err := encode(roundTrips[2].t, issued)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Open(sealContent(t, s, content), issued, ttl); err != nil ||
		!reflect.DeepEqual(got, roundTrips[2].t) {
		t.Errorf("opened: %+v, %v; want %+v", got, err, roundTrips[2].t)
	}
}

func sealContent(tb testing.TB, s *Sealer, content []byte) string {
	tb.Helper()
	nonce := make([]byte, nonceSize, 4096)
	copy(nonce, content)
	sealed, err := s.keys[0].seal(nonce, content, s.context)
	if err != nil {
		tb.Fatal(err)
	}
	return version + base64.RawURLEncoding.EncodeToString(sealed)
}

func TestNoncesAreFresh(t *testing.T) {
	s := newSealer(t, "app", secretA)
	halves := make(map[string]bool)
	const n = 10_000
	for range n {
		sealed, err := base64.RawURLEncoding.DecodeString(seal(t, s, roundTrips[0].t)[len(version):])
		if err != nil {
			t.Fatal(err)
		}
		halves[string(sealed[:12])], halves[string(sealed[12:24])] = true, true
	}
	if len(halves) != 2*n {
		t.Errorf("%d halves of %d nonces", len(halves), n)
	}
}

func TestConcurrently(t *testing.T) {
	s := newSealer(t, "app", secretA, secretB)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 100 {
				want := Token{{History: fmt.Sprint("history ", i), Position: of(i + 1)}}
				text, err := s.Seal(want, issued)
				if err != nil {
					t.Error(err)
				}
				if got, err := s.Open(text, issued, ttl); err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("opened: %+v, %v; want %+v", got, err, want)
				}
			}
		})
	}
	wg.Wait()
}

func TestNothingIsShown(t *testing.T) {
	s := newSealer(t, "app", secretA)
	nonce := make([]byte, nonceSize)
	key, k1, messageKey := deriveByHand(secretA), k1ByHand(deriveByHand(secretA)),
		s.keys[0](nonce[:derivingSize])
	var hidden []string
	for _, b := range [][]byte{secretA, key, k1, messageKey} {
		hidden = append(hidden,
			string(b), hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)),
			base64.StdEncoding.EncodeToString(b),
			strings.Trim(fmt.Sprint(b), "[]"), strings.Trim(fmt.Sprintf("%#v", b), "[]byte{}"),
			strings.Trim(fmt.Sprintf("%o", b), "[]"))
	}
	shows := func(text string) bool {
		for _, h := range hidden {
			if strings.Contains(text, h) {
				return true
			}
		}
		return false
	}
	render := func(v any) (texts []string) {
		for _, verb := range "vsqxXdobcUteEfFgGTp" {
			for _, flags := range []string{"", "+", "#", "+#", " ", "-", "0", "20.5"} {
				texts = append(texts, fmt.Sprintf("%"+flags+string(verb), v))
			}
		}
		var buf bytes.Buffer
		slog.New(slog.NewTextHandler(&buf, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&buf, nil)).Info("x", "v", v)
		js, _ := json.Marshal(v)
		return append(texts, buf.String(), string(js), fmt.Sprint(v), fmt.Sprintln(v),
			fmt.Errorf("%w", errors.New(fmt.Sprint(v))).Error())
	}
	for _, tt := range []struct {
		name string
		v    any
	}{
		{"sealer", s},
		{"its value", *s},
		{"in a field", struct{ Sealer *Sealer }{s}},
		{"in a hidden field", struct{ sealer *Sealer }{s}},
		{"its value in a hidden field", struct{ sealer Sealer }{*s}},
		{"in a slice", []*Sealer{s}},
		{"its value in a map", map[string]Sealer{"x": *s}},
		{"key", s.keys[0]},
		{"in any", []any{s.keys[0], s, *s}},
	} {
		for _, text := range render(tt.v) {
			if shows(text) {
				t.Errorf("%s shows what is secret: %s", tt.name, text)
			}
		}
	}
	if got := fmt.Sprintf("%+v", s); got != "token.Sealer" {
		t.Errorf("a Sealer is shown as %q", got)
	}
	// The control: what holds the bytes openly is caught.
	for _, v := range []any{struct{ secret []byte }{secretA}, &struct{ k1 [16]byte }{[16]byte(k1)}, []any{key},
		struct{ x *struct{ k []byte } }{&struct{ k []byte }{messageKey}}} {
		shown := 0
		for _, text := range render(v) {
			if shows(text) {
				shown++
			}
		}
		if shown < 5 {
			t.Errorf("%T was caught %d times only", v, shown)
		}
	}
}

func TestErrorsSayNothingOfTheText(t *testing.T) {
	s := newSealer(t, "app", secretA)
	for _, text := range []string{"personal", "v1.personal", version + strings.Repeat("personal", 10),
		strings.Repeat("personal", 1000)} {
		if _, err := s.Open(text, issued, ttl); err == nil || strings.Contains(err.Error(), "personal") {
			t.Errorf("%v", err)
		}
	}
}
