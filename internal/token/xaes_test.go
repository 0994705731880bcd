package token

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/hex"
	"math/big"
	"testing"
)

// The test vectors of c2sp.org/XAES-256-GCM.
func TestXAES(t *testing.T) {
	for _, tt := range []struct {
		key                   byte // the two differ in the first bit of the encrypted zero block
		additional, encrypted string
	}{
		{0x01, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{0x03, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		k, err := newExtendedKey(bytes.Repeat([]byte{tt.key}, extendedKeySize))
		if err != nil {
			t.Fatal(err)
		}
		const nonce, plaintext = "ABCDEFGHIJKLMNOPQRSTUVWX", "XAES-256-GCM"
		sealed, err := k.seal([]byte(nonce), []byte(plaintext), []byte(tt.additional))
		if want := nonce + string(unhex(tt.encrypted)); err != nil || string(sealed) != want {
			t.Errorf("key %x: seal = %x, %v; want %x", tt.key, sealed, err, want)
		}
		opened, err := k.open(nil, []byte(nonce+string(unhex(tt.encrypted))), []byte(tt.additional))
		if err != nil || string(opened) != plaintext {
			t.Errorf("key %x: open = %q, %v; want %q", tt.key, opened, err, plaintext)
		}
	}
}

// The accumulated test of the same specification: keys, nonces, texts and additional data from SHAKE128 of
// nothing, the ciphertexts into another SHAKE128.
func TestXAESAccumulated(t *testing.T) {
	source, sum := sha3.NewSHAKE128(), sha3.NewSHAKE128()
	read := func(n int) []byte {
		b := make([]byte, n)
		_, _ = source.Read(b)
		return b
	}
	for range 10_000 {
		k, err := newExtendedKey(read(extendedKeySize))
		if err != nil {
			t.Fatal(err)
		}
		nonce := read(nonceSize)
		plaintext := read(int(read(1)[0]))
		additional := read(int(read(1)[0]))
		sealed, err := k.seal(bytes.Clone(nonce), plaintext, additional)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = sum.Write(sealed[nonceSize:])
		if opened, err := k.open(nil, sealed, additional); err != nil || !bytes.Equal(opened, plaintext) {
			t.Fatalf("open = %x, %v; want %x", opened, err, plaintext)
		}
	}
	got := make([]byte, 32)
	_, _ = sum.Read(got)
	const want = "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"
	if hex.EncodeToString(got) != want {
		t.Errorf("the ciphertexts have the sum %x, want %s", got, want)
	}
}

func TestKeySize(t *testing.T) {
	for _, n := range []int{0, 16, 24, 31, 33} {
		if k, err := newExtendedKey(make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes: %v", n, k)
		}
	}
}

// What follows says once more how a token is sealed, in other words than the package: nothing of it is
// shared.

// deriveByHand is HKDF-SHA256 (RFC 5869, sections 2.2 and 2.3): no salt, one block.
func deriveByHand(secret []byte) []byte {
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	return mac(mac(make([]byte, 32), string(secret)), "github.com/gorm-replicated/replicated token v1\x01")
}

// k1ByHand is CMAC's subkey for whole blocks (NIST SP 800-38B, section 6.1).
func k1ByHand(key []byte) []byte {
	c, _ := aes.NewCipher(key)
	l := make([]byte, 16)
	c.Encrypt(l, l)
	k1 := new(big.Int).Lsh(new(big.Int).SetBytes(l), 1)
	if k1.Bit(128) == 1 {
		k1.SetBit(k1, 128, 0).Xor(k1, big.NewInt(0x87))
	}
	return k1.FillBytes(make([]byte, 16))
}

// openByHand is XAES-256-GCM.
func openByHand(key, sealed []byte, additional string) ([]byte, error) {
	nonce, derived := string(sealed[:24]), make([]byte, 32)
	for i, start := range []string{"\x00\x01X\x00", "\x00\x02X\x00"} {
		x := new(big.Int).SetBytes([]byte(start + nonce[:12]))
		x.Xor(x, new(big.Int).SetBytes(k1ByHand(key)))
		c, _ := aes.NewCipher(key)
		c.Encrypt(derived[16*i:], x.FillBytes(make([]byte, 16)))
	}
	c, _ := aes.NewCipher(derived)
	gcm, _ := cipher.NewGCM(c)
	return gcm.Open(nil, []byte(nonce[12:]), sealed[24:], []byte(additional))
}
