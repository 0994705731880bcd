package token

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// small returns tokens whose texts end in one, two and three characters of a quadruple, and one of some size.
func small(tb testing.TB, s *Sealer) (texts []string) {
	tb.Helper()
	for n := range 3 {
		texts = append(texts, seal(tb, s, Token{{History: "orders", Position: of(14 + n)}}))
	}
	return append(texts, seal(tb, s, Token{{Position: of(40)},
		{History: "orders", Position: of(24), Until: at(5000)}}))
}

// mustNotOpen fails if s opens text.
func mustNotOpen(tb testing.TB, s *Sealer, text string) {
	tb.Helper()
	if t, err := s.Open(text, issued, ttl); t != nil || err == nil {
		tb.Errorf("opened: %q, as %+v, %v", text, t, err)
	}
}

func TestEveryBitFlipIsRefused(t *testing.T) {
	s := newSealer(t, "app", secretA, secretB)
	for _, text := range small(t, s) {
		for i := range text {
			for bit := range 8 {
				b := []byte(text)
				b[i] ^= 1 << bit
				mustNotOpen(t, s, string(b))
			}
		}
		raw := decoded(t, text)
		for i := range raw {
			for bit := range 8 {
				raw[i] ^= 1 << bit
				mustNotOpen(t, s, encoded(raw))
				raw[i] ^= 1 << bit
			}
		}
		if _, err := s.Open(encoded(raw), issued, ttl); err != nil { // the control: no bit flipped
			t.Errorf("unchanged: %v", err)
		}
	}
}

func TestEveryOtherCharacterIsRefused(t *testing.T) {
	s := newSealer(t, "app", secretA)
	for _, text := range small(t, s) {
		for i := range text {
			for c := range 256 {
				if byte(c) != text[i] {
					mustNotOpen(t, s, text[:i]+string([]byte{byte(c)})+text[i+1:])
				}
			}
		}
	}
	// The control: without Strict, other last characters mean the same bytes.
	same := 0
	for _, text := range small(t, s) {
		raw := decoded(t, text)
		for c := range 256 {
			other := text[:len(text)-1] + string([]byte{byte(c)})
			bytesOfOther, err := base64.RawURLEncoding.DecodeString(other[len(version):])
			if err == nil && other != text && bytes.Equal(bytesOfOther, raw) {
				same++
			}
		}
	}
	if same < 3+15 { // one loose end has two bits, another four
		t.Errorf("%d other last characters mean the same bytes: this test has nothing to find", same)
	}
}

func TestEveryTruncationIsRefused(t *testing.T) {
	s := newSealer(t, "app", secretA)
	for _, text := range small(t, s) {
		for i := range text {
			mustNotOpen(t, s, text[:i])
			mustNotOpen(t, s, text[i+1:])
			mustNotOpen(t, s, text[:i]+text[i+1:])
		}
		raw := decoded(t, text)
		for i := range raw {
			mustNotOpen(t, s, encoded(raw[:i]))
			mustNotOpen(t, s, encoded(raw[i+1:]))
			mustNotOpen(t, s, encoded(append(bytes.Clone(raw[:i]), raw[i+1:]...)))
		}
	}
}

func TestEveryExtensionIsRefused(t *testing.T) {
	s := newSealer(t, "app", secretA)
	for _, text := range small(t, s) {
		raw := string(decoded(t, text))
		for c := range 256 {
			x := string([]byte{byte(c)})
			for n := 1; n < 10; n++ {
				mustNotOpen(t, s, text+strings.Repeat(x, n))
				mustNotOpen(t, s, strings.Repeat(x, n)+text)
				mustNotOpen(t, s, encoded([]byte(raw+strings.Repeat(x, n))))
				mustNotOpen(t, s, encoded([]byte(strings.Repeat(x, n)+raw)))
			}
		}
		for _, x := range []string{"A", "_", "=", ".", "\n", "\r", " ", "\x00", "\xff"} { // inside
			for i := range text {
				mustNotOpen(t, s, text[:i]+x+text[i:])
			}
			for i := range raw {
				mustNotOpen(t, s, encoded([]byte(raw[:i]+x+raw[i:])))
			}
		}
	}
}

// TestMutations opens random mutations of valid tokens: 50,000, or as many as the environment says.
//
//	TOKEN_MUTATIONS=10000000 go test -run TestMutations -v ./internal/token
func TestMutations(t *testing.T) {
	n := 50_000
	if text := os.Getenv("TOKEN_MUTATIONS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatalf("TOKEN_MUTATIONS: %v", err)
		}
	}
	s := newSealer(t, "app", secretA, secretB)
	m := newMutator(t, s, uint64(time.Now().UnixNano()))
	t.Logf("seed %d", m.seed)

	refused := make(map[error]int)
	unsealed := 0
	start := time.Now()
	for range n {
		text := m.next()
		tok, err := s.Open(text, issued, ttl)
		refused[err]++
		if tok != nil || err == nil {
			t.Errorf("seed %d: opened: %q, as %+v, %v", m.seed, text, tok, err)
		}
		if n <= 50_000 && openUnsealed(s, text) {
			unsealed++
		}
	}
	t.Logf("%d mutations in %v: %v", n, time.Since(start).Round(time.Millisecond), refused)

	for _, err := range []error{ErrMalformed, ErrForeign} { // so that it is not all about the outermost layer
		if refused[err] < n/5 {
			t.Errorf("%v: %d of %d mutations", err, refused[err], n)
		}
	}
	if refused[ErrExpired]+refused[ErrFuture] > 0 {
		t.Error("a time was believed that nobody sealed")
	}
	if n == 50_000 && unsealed < n/50 { // the control
		t.Errorf("without authentication %d of %d mutations would open: they have nothing to find", unsealed, n)
	}
}

// openUnsealed opens text as Sealer.Open does, but without looking at its tag.
func openUnsealed(s *Sealer, text string) bool {
	sealed, err := encoding.DecodeString(strings.TrimPrefix(text, version))
	if err != nil || len(sealed) < nonceSize+tagSize {
		return false
	}
	for _, k := range s.keys {
		block, err := aes.NewCipher(k(sealed[:derivingSize]))
		if err != nil {
			return false
		}
		content := make([]byte, len(sealed)-nonceSize-tagSize)
		start := append(bytes.Clone(sealed[derivingSize:nonceSize]), 0, 0, 0, 2) // NIST SP 800-38D, section 7.1
		cipher.NewCTR(block, start).XORKeyStream(content, sealed[nonceSize:][:len(content)])
		if _, _, err := decode(content); err == nil {
			return true
		}
	}
	return false
}

// mutator makes texts that are not tokens out of texts that are.
type mutator struct {
	seed  uint64
	rand  *rand.Rand
	valid map[string]bool
	texts []string
	raws  [][]byte
}

func newMutator(tb testing.TB, s *Sealer, seed uint64) *mutator {
	tb.Helper()
	m := &mutator{seed: seed, rand: rand.New(rand.NewPCG(seed, 0)), valid: make(map[string]bool)}
	m.texts = small(tb, s)
	for _, tt := range roundTrips[:7] {
		m.texts = append(m.texts, seal(tb, s, tt.t))
	}
	for _, text := range m.texts {
		m.valid[text] = true
		m.raws = append(m.raws, decoded(tb, text))
	}
	return m
}

func (m *mutator) next() string {
	for {
		which := m.rand.IntN(len(m.texts))
		other := m.rand.IntN(len(m.texts))
		var text string
		if m.rand.IntN(2) == 0 {
			text = string(m.mutate([]byte(m.texts[which]), []byte(m.texts[other]), m.character))
		} else {
			text = encoded(m.mutate(bytes.Clone(m.raws[which]), m.raws[other],
				func() byte { return byte(m.rand.Uint32()) }))
		}
		if !m.valid[text] {
			return text
		}
	}
}

// mutate changes b, from one to four times.
func (m *mutator) mutate(b, other []byte, random func() byte) []byte {
	for range 1 + m.rand.IntN(4)*m.rand.IntN(2) {
		if len(b) == 0 {
			return b
		}
		i, j := m.rand.IntN(len(b)), m.rand.IntN(len(b))
		switch m.rand.IntN(10) {
		case 0, 1:
			b[i] ^= 1 << m.rand.IntN(8)
		case 2, 3:
			b[i] = random()
		case 4:
			b[i], b[j] = b[j], b[i]
		case 5: // inserted
			b = append(b[:i+1], b[i:]...)
			b[i] = random()
		case 6: // removed
			b = append(b[:i], b[min(len(b), i+1+m.rand.IntN(4)):]...)
		case 7: // cut short or extended
			if m.rand.IntN(2) == 0 {
				b = b[:i]
			} else {
				for range m.rand.IntN(8) + 1 {
					b = append(b, random())
				}
			}
		case 8: // spliced with another: its nonce, its tag
			if k := min(i, len(other)); m.rand.IntN(2) == 0 {
				b = append(b[:k:k], other[k:]...)
			} else {
				b = append(bytes.Clone(other[:k]), b[k:]...)
			}
		case 9: // a piece of it somewhere else
			copy(b[i:], b[j:])
		}
	}
	return b
}

// character is mostly one that may be in a token.
func (m *mutator) character() byte {
	const encoded = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	const likely = encoded + encoded + ".=+/\r\n v"
	if m.rand.IntN(16) == 0 {
		return byte(m.rand.Uint32())
	}
	return likely[m.rand.IntN(len(likely))]
}

func encoded(raw []byte) string { return version + base64.RawURLEncoding.EncodeToString(raw) }

func decoded(tb testing.TB, text string) []byte {
	tb.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, version))
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}
