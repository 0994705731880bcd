// Package token seals what a client carries from a response to its next request, and opens it again.
//
//	sealer, err := token.NewSealer(secrets, "replicated")
//	text, err := sealer.Seal(token.Token{{History: history, Position: position}}, time.Now())
//	t, err := sealer.Open(text, time.Now(), 5*time.Minute)
//
// The text is opaque to the client and cannot be changed by it; it expires, and opens on every instance that
// has the secret. It consists of A-Z, a-z, 0-9, "-", "_" and one ".", so that it needs no quoting as the
// value of a cookie (RFC 6265, section 4.1.1) or of a header (RFC 9110, section 5.6.2), or in a URL (RFC
// 3986, section 2.3):
//
//	v1.BASE64URL(nonce ‖ ciphertext ‖ tag)
//
// Its length follows from the lengths of what is inside, and so shows them. See [NewSealer] for how it is
// sealed.
//
// Instances of before and after a deploy read each other's tokens. What was sealed by one of them and cannot
// be read by another is [ErrVersion], and never taken for a forgery.
//
// Everything here is pure: time is a parameter, what a position means is the caller's affair.
package token

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

const (
	// MaxSize is the length of a token's text that Open looks at. Browsers take 4,096 bytes of a cookie, its
	// name and attributes included (RFC 6265, section 6.1).
	MaxSize = 3800

	// MaxSealed is the length of a text that Seal returns. A response carries it twice, in a cookie and in a
	// header, and a proxy may have a single page of 4,096 bytes for all headers of a response, as nginx has
	// by default (proxy_buffer_size). What does not fit there is an error for the client, after its write was
	// committed.
	MaxSealed = 1200

	// MaxSecrets is the number of secrets at most: it bounds the work that a text costs which none of them
	// opens.
	MaxSecrets = 8

	// MinSecret is the length of a secret at least, in bytes. It is also that of 16 random bytes written in
	// hexadecimal: what is shorter was hardly made by a machine, or holds less than 128 bits of chance.
	MinSecret = 32

	// MaxSkew is by how much the clock of the instance that sealed a token may be ahead of that of the one that
	// opens it.
	MaxSkew = time.Minute

	// Marker is the content of a cookie that says no more than "read the master", for where there are no
	// secrets. No token looks like it.
	Marker = "1"
)

// What [Sealer.Open] returns, as it is, not wrapped. None of them says anything about the text.
var (
	ErrTooLarge  = errors.New("token: too large") // longer than MaxSize; of Seal, than MaxSealed
	ErrMalformed = errors.New("token: malformed") // not a token
	ErrForeign   = errors.New("token: foreign")   // forged, or sealed with another secret or for another context
	ErrExpired   = errors.New("token: expired")
	ErrFuture    = errors.New("token: from the future") // by more than MaxSkew
	ErrVersion   = errors.New("token: of a version that is not known here")
)

// Token is what a session must not read behind, history by history: in any order, no history twice. It is
// plain data; sharing it is as safe as sharing any slice.
type Token []Entry

// Entry is what a session must not read behind in one history. It has a Position, or Until, or both: then
// both count.
type Entry struct {
	// History names the history. Any string of at most MaxHistory bytes; the empty one where it is not known.
	History string
	// Position is a point in the history that a slave has to cover. Empty: none is demanded.
	Position []byte
	// Until is when the master need no longer be read. A token carries it rounded up to a millisecond. Zero:
	// there is no such time.
	Until time.Time
	// Since is when the session last learned of the Position. A token carries it rounded up to a millisecond.
	// Zero: it is not known, as in the tokens of instances that do not tell it.
	Since time.Time
}

// Sealer seals tokens with one secret, and opens what was sealed with that one or another. [NewSealer] makes
// one; the zero value seals and opens nothing. A Sealer never changes and is safe for concurrent use. It
// shows nothing of its keys when printed or logged.
type Sealer struct {
	keys    []extendedKey // the first one seals
	context []byte        // additional data
}

// version begins every token. Changing anything about what follows it needs another one, and the old one must
// still open: during a deploy, old and new instances read each other's tokens.
const version = "v1."

// label separates our keys from whatever else is derived from the same secrets (RFC 5869, section 3.2).
const label = "github.com/gorm-replicated/replicated token v1"

// encoding leaves one text for each sequence of bytes, but that it skips line breaks: Open looks for those.
var encoding = base64.RawURLEncoding.Strict()

// NewSealer returns a Sealer for secrets, or every mistake in them. The first secret seals, all open: to
// replace one without losing a token, first add the new one behind the old one on every instance, then swap
// them, and remove the old one once the last token that it sealed has expired.
//
// context is what the tokens are for, such as the application and the name of the cookie: those of one
// context do not open in another, even with the same secret.
//
// A secret is at least MinSecret random bytes, in any encoding, as "openssl rand -base64 32" prints them. It
// must not be a password: whoever holds a token can try those out (RFC 5869, section 4). Secrets are not
// kept, nor is the slice.
//
// Each secret is made into an AES-256 key by HKDF-SHA256 (RFC 5869), with a label of this package. Tokens are
// sealed with XAES-256-GCM (c2sp.org/XAES-256-GCM), with the version and context as additional data. That is
// AES-256-GCM under a key for each token, derived from half of a random nonce of 192 bits. Plain AES-GCM has
// 96 bits, and may see 2^32 random ones per key (NIST SP 800-38D, section 8.3): at a thousand writes a second
// that is fifty days, and nobody could count the tokens of all instances. Here it is 2^80.
func NewSealer(secrets [][]byte, context string) (*Sealer, error) {
	if err := check(secrets); err != nil {
		return nil, err
	}
	s := &Sealer{context: []byte(version + context)}
	for _, secret := range secrets {
		key, err := hkdf.Key(sha256.New, secret, nil, label, extendedKeySize)
		if err != nil {
			return nil, fmt.Errorf("deriving a key: %w", err)
		}
		k, err := newExtendedKey(key)
		if err != nil {
			return nil, fmt.Errorf("setting up AES-256-GCM: %w", err)
		}
		s.keys = append(s.keys, k)
	}
	return s, nil
}

// check returns every mistake in secrets.
func check(secrets [][]byte) error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(secrets) == 0 {
		add("Secrets is empty")
	}
	if len(secrets) > MaxSecrets {
		add("Secrets has %d elements: %d at most", len(secrets), MaxSecrets)
	}
	for i, secret := range secrets {
		if len(secret) < MinSecret {
			add(`Secrets[%d] has %d bytes: at least %d are needed, such as "openssl rand -base64 32" prints`,
				i, len(secret), MinSecret)
		} else if bytes.Count(secret, secret[:1]) == len(secret) {
			add("Secrets[%d] is one byte %d times over, as if it had never been filled", i, len(secret))
		}
	}
	return errors.Join(errs...)
}

// Seal returns the text of t, issued now. The same token never gives the same text twice, but always one of
// the same length.
//
// The error is [ErrTooLarge] if the text would exceed MaxSealed or there are more than MaxEntries entries.
// Any other is a mistake of the caller: no entry, an entry that demands nothing, a history twice or with too
// long a name, a time before 1970.
func (s *Sealer) Seal(t Token, now time.Time) (string, error) {
	content, err := encode(t, now)
	if err != nil {
		return "", err
	}
	if len(s.keys) == 0 {
		return "", errors.New("token: the Sealer has no keys")
	}
	sealed := make([]byte, nonceSize, nonceSize+len(content)+tagSize)
	_, _ = rand.Read(sealed) // it never fails
	if sealed, err = s.keys[0].seal(sealed, content, s.context); err != nil {
		return "", fmt.Errorf("token: sealing: %w", err)
	}
	text := make([]byte, 0, textSize(len(content)))
	return string(encoding.AppendEncode(append(text, version...), sealed)), nil
}

// textSize returns the length of the text for that many bytes of content.
func textSize(content int) int {
	return len(version) + encoding.EncodedLen(nonceSize+content+tagSize)
}

// Open returns the token that text was made of, its entries in the order of their histories. It opens from
// the instant of its issue, or MaxSkew before that, until ttl after it: at that instant it is expired.
//
// text may come from anybody. The error is one of [ErrTooLarge], [ErrMalformed], [ErrForeign], [ErrExpired],
// [ErrFuture] and [ErrVersion]; with it the Token is nil. ErrExpired and ErrFuture are of tokens that were
// sealed with one of the secrets. So is ErrVersion, of a token that has not expired, or else the text begins
// with a version to come. A text that does not open costs a number of bytes and of AES operations that
// MaxSize and MaxSecrets bound.
func (s *Sealer) Open(text string, now time.Time, ttl time.Duration) (Token, error) {
	if len(text) > MaxSize {
		return nil, ErrTooLarge
	}
	encoded, ok := strings.CutPrefix(text, version)
	if !ok && beginsWithVersion(text) {
		return nil, ErrVersion
	}
	if !ok || strings.IndexByte(encoded, '\n') >= 0 || strings.IndexByte(encoded, '\r') >= 0 {
		return nil, ErrMalformed
	}
	sealed, err := encoding.DecodeString(encoded)
	if err != nil || len(sealed) < nonceSize+tagSize {
		return nil, ErrMalformed
	}
	content, err := s.unseal(sealed)
	if err != nil {
		return nil, err
	}
	issued, t, err := decode(content)
	switch age := now.Sub(issued); {
	case issued.IsZero():
		return nil, err
	case age < -MaxSkew:
		return nil, ErrFuture
	case age >= ttl:
		return nil, ErrExpired
	}
	return t, err
}

// beginsWithVersion tells whether text begins with the version of a token: "v", a number and ".".
func beginsWithVersion(text string) bool {
	number, _, found := strings.Cut(text, ".")
	number, isVersion := strings.CutPrefix(number, "v")
	_, err := strconv.ParseUint(number, 10, 16)
	return found && isVersion && err == nil
}

// unseal tries one key after the other. That the time it takes tells which one it was does no harm: whoever
// has a token knows when it was issued. A key id in the text would save the tries, and tell anybody which
// applications share a secret.
func (s *Sealer) unseal(sealed []byte) ([]byte, error) {
	buf := make([]byte, 0, len(sealed)-nonceSize-tagSize)
	for _, k := range s.keys {
		if content, err := k.open(buf, sealed, s.context); err == nil {
			return content, nil
		}
	}
	return nil, ErrForeign
}

// Format implements [fmt.Formatter], for every verb: nothing is shown.
func (s Sealer) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "token.Sealer")
}
