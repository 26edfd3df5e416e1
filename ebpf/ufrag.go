package ebpf

import (
	"crypto/rand"
	"encoding/binary"

	"github.com/dchest/siphash"
)

// A ufrag of this node is ufragSize characters from 'a' to 'p', four bits each: 12 of session id, 4 of epoch (the
// hour of its making), 16 of MAC, the first character in the lowest bits. The MAC is SipHash-2-4 over the 16 characters
// before it, under a key that lives as long as the process. So the filter knows a ufrag without being told of it.
const (
	ufragSize      = 32
	ufragBody      = 16
	ufragEpochNS   = 3_600_000_000_000
	ufragEpochs    = 168 // a week: afterwards a ufrag is as good as none
	maxAttributes  = 8
	stunUsername   = 6
	ufragAlphabet0 = 'a'
)

// Ufrag is the size of the ufrags that Filter.Ufrag makes, in characters.
const Ufrag = ufragSize

// key is a SipHash key.
type key [2]uint64

func newKey() key {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return key{binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:])}
}

// makeUfrag: id is random; only its low 48 bits count.
func makeUfrag(k key, id uint64, epoch uint16) string {
	b := make([]byte, 0, ufragSize)
	b = spell(b, id, 12)
	b = spell(b, uint64(epoch), 4)
	return string(spell(b, siphash.Hash(k[0], k[1], b), 16))
}

func spell(b []byte, x uint64, n int) []byte {
	for range n {
		b = append(b, ufragAlphabet0+byte(x&15))
		x >>= 4
	}
	return b
}

// nibbles reads characters that spell wrote; false if another one is among them.
func nibbles(b []byte) (x uint64, ok bool) {
	for i := len(b) - 1; i >= 0; i-- {
		c := b[i] - ufragAlphabet0
		if c > 15 {
			return 0, false
		}
		x = x<<4 | uint64(c)
	}
	return x, true
}

// knownUfrag says whether a USERNAME begins with a ufrag of this node that is not too old, and a colon.
func knownUfrag(k key, username []byte, hours uint64) bool {
	if len(username) <= ufragSize || username[ufragSize] != ':' {
		return false
	}
	mac, ok := nibbles(username[ufragBody:ufragSize])
	if !ok || mac != siphash.Hash(k[0], k[1], username[:ufragBody]) {
		return false
	}
	epoch, _ := nibbles(username[ufragBody-4 : ufragBody])
	return uint16(hours-epoch+1) <= ufragEpochs+1 // an hour ahead is no contradiction: two clocks were read
}

// requestUfrag finds the USERNAME of a well-formed Binding request and says whether it names one of our ufrags.
func requestUfrag(k key, p []byte, hours uint64) bool {
	if p[0] != 0 || p[1] != 1 {
		return false
	}
	p = p[:minSTUN+int(binary.BigEndian.Uint16(p[2:]))]
	for at, i := minSTUN, 0; i < maxAttributes && at <= 0x7ff && at+4 <= len(p); i++ {
		kind, size := binary.BigEndian.Uint16(p[at:]), int(binary.BigEndian.Uint16(p[at+2:]))
		at += 4
		if at+size > len(p) {
			return false
		}
		if kind == stunUsername {
			return knownUfrag(k, p[at:at+size], hours)
		}
		at += (size + 3) &^ 3
	}
	return false
}
