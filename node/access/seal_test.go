package access

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

// masters are a key and a salt for a profile.
func masters(profile srtp.ProtectionProfile) (key, salt []byte) {
	key, salt = make([]byte, 16), make([]byte, 12)
	switch profile {
	case srtp.ProtectionProfileAeadAes256Gcm:
		key = make([]byte, 32)
	case srtp.ProtectionProfileAes128CmHmacSha1_80:
		salt = make([]byte, 14)
	}
	for i := range key {
		key[i] = byte(3 * i)
	}
	for i := range salt {
		salt[i] = byte(200 - i)
	}
	return key, salt
}

// The library seals and opens the same packets: out of order, with RTX's two bytes in front, and across two turns of the numbers.
func TestSealedLikeTheLibrary(t *testing.T) {
	draw := rand.New(rand.NewPCG(1, 2))
	for _, profile := range []srtp.ProtectionProfile{srtp.ProtectionProfileAeadAes128Gcm, srtp.ProtectionProfileAeadAes256Gcm, srtp.ProtectionProfileAes128CmHmacSha1_80} {
		key, salt := masters(profile)
		s, err := newSealer(key, salt, profile)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err1 := srtp.CreateContext(key, salt, profile)
		opener, err2 := srtp.CreateContext(key, salt, profile)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		var turns turns
		for n := 40_000; n < 140_000; n += 1 + draw.IntN(300) {
			seq := uint16(n - draw.IntN(200))
			h := rtp.Header{Version: 2, SequenceNumber: seq, Timestamp: uint32(n), SSRC: 0xfedc0123, PayloadType: 100, Marker: n%2 == 0}
			payload := bytes.Repeat([]byte{byte(n)}, 1+draw.IntN(100))
			before := make([]byte, 2*draw.IntN(2))
			plain, _ := (&rtp.Packet{Header: h, Payload: append(bytes.Clone(before), payload...)}).Marshal()
			want, err := theirs.EncryptRTP(nil, plain, nil)
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, len(plain)+srtpRoom)
			copy(b, plain[:bareHeader])
			size := s.seal(b, bareHeader, before, payload, &h, &turns)
			if !bytes.Equal(b[:size], want) {
				t.Fatalf("%v, number %d: sealed as %x, by the library as %x", profile, n, b[:size], want)
			}
			if got, err := opener.DecryptRTP(nil, b[:size], nil); err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("%v, number %d: the library opens it as %x, %v", profile, n, got, err)
			}
		}
	}
}

func TestTurnsOfNumbers(t *testing.T) {
	var x turns
	for _, tc := range []struct {
		number uint16
		turn   uint32
		ok     bool
	}{
		{5, 0, true}, {65_534, 0, false}, // from before the first
		{30_000, 0, true}, {60_000, 0, true}, {3, 1, true}, {65_000, 0, true}, {4, 1, true}, {20_000, 1, true}, {40_000, 1, true},
		{40_000 - lateMost, 1, true}, {40_000 - lateMost - 1, 0, false}, {15_000, 0, false}, {40_001, 1, true},
	} {
		if turn, ok := x.of(tc.number); turn != tc.turn || ok != tc.ok {
			t.Errorf("%d is of turn %d, %v; want %d, %v", tc.number, turn, ok, tc.turn, tc.ok)
		}
	}
	x = turns{top: 1<<48 - 1, began: true}
	if _, ok := x.of(0); ok {
		t.Error("after the last turn the key stream begins again")
	}
}
