package token

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
)

const (
	extendedKeySize = 32
	nonceSize       = 24
	tagSize         = 16

	derivingSize = nonceSize / 2 // the half of the nonce that the key of a message is derived from
)

// extendedKey is a key of XAES-256-GCM, as c2sp.org/XAES-256-GCM specifies it: the first half of the nonce
// makes the key for one message by the counter mode KDF of NIST SP 800-108r1 (section 4.1) with AES-CMAC
// (NIST SP 800-38B), the second half is the nonce of AES-256-GCM (NIST SP 800-38D) under that key.
//
// It is the function that derives the key for one message, because nothing that prints values can look into a
// function. fmt does look behind pointers, where the verb does not fit.
type extendedKey func(deriving []byte) []byte

func newExtendedKey(key []byte) (extendedKey, error) {
	if len(key) != extendedKeySize {
		return nil, aes.KeySizeError(len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	k1 := cmacSubkey(block)
	k := extendedKey(func(deriving []byte) []byte { return messageKey(block, k1, deriving) })

	// AES-GCM may be missing, as with GODEBUG=fips140=only, which knows no nonces but its own: better heard of
	// now.
	if _, err := k.aead(make([]byte, derivingSize)); err != nil {
		return nil, err
	}
	return k, nil
}

// cmacSubkey returns K1 of NIST SP 800-38B, section 6.1: the encrypted zero block, doubled in GF(2^128).
func cmacSubkey(block cipher.Block) []byte {
	b := make([]byte, aes.BlockSize)
	block.Encrypt(b, b)
	var carry byte
	for i := aes.BlockSize - 1; i >= 0; i-- {
		b[i], carry = b[i]<<1|carry, b[i]>>7
	}
	b[aes.BlockSize-1] ^= 0b1000_0111 & -carry // without a branch: it is a bit of a secret
	return b
}

// messageKey derives the key for one message. What is put into CMAC is a counter of 16 bits, a label, a
// separator and the context: one whole block, so that each half of the key is one encryption.
func messageKey(block cipher.Block, k1, deriving []byte) []byte {
	key := make([]byte, extendedKeySize)
	for i := range extendedKeySize / aes.BlockSize {
		half := key[i*aes.BlockSize:][:aes.BlockSize]
		copy(half, []byte{0, byte(i + 1), 'X', 0})
		copy(half[4:], deriving)
		subtle.XORBytes(half, half, k1)
		block.Encrypt(half, half)
	}
	return key
}

// aead returns AES-256-GCM under the key for one message.
func (k extendedKey) aead(deriving []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(k(deriving))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// seal appends the ciphertext and its tag to nonce, which nobody may ever use again.
func (k extendedKey) seal(nonce, plaintext, additional []byte) ([]byte, error) {
	aead, err := k.aead(nonce[:derivingSize])
	if err != nil {
		return nil, err
	}
	return aead.Seal(nonce, nonce[derivingSize:], plaintext, additional), nil
}

// open appends to dst the plaintext of what seal returned, of at least nonceSize bytes.
func (k extendedKey) open(dst, sealed, additional []byte) ([]byte, error) {
	aead, err := k.aead(sealed[:derivingSize])
	if err != nil {
		return nil, err
	}
	return aead.Open(dst, sealed[derivingSize:nonceSize], sealed[nonceSize:], additional)
}
