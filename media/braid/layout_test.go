package braid

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/dchest/siphash"
)

// plain is hex with spaces between the fields of doc.go.
func plain(t *testing.T, fields ...string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(strings.Join(fields, ""), " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Byte by byte what doc.go says, written by hand: a node of another version reads these.
func TestFramesAreLaidOutAsDocSays(t *testing.T) {
	const sentMS = 0x0000_0123_4567_89ab
	h := pathHeader{
		flags: 3<<epochShift | flagLowestCost | flagCongestion, relayN: 2, hop: 1, path: 13, kind: kindMedia, copies: 5, length: 3,
		seq: 0xa1a2a3a4, time: 0x89ab, fence: 0xb1b2b3b4, source: 0xc1c2c3c4, dest: 0xd1d2d3d4,
		relays: [maxRelays]NodeID{0xe1e2e3e4, 0xf1f2f3f4},
	}
	keys := [...]Key{{1, 2, 3}, {4, 5, 6}, {7, 8, 9}}
	got := make([]byte, 50, 53)
	h.put(got)
	var buf [macInputSize]byte
	for hop := range keys {
		k := keys[hop].hop()
		sign(got, macInput(&buf, got, 2, sentMS), 2, hop, &k)
	}
	got = append(got, "abc"...)

	head := plain(t, "05", "1f", "d6", "52", "0003", "a1a2a3a4", "89ab", "b1b2b3b4", "c1c2c3c4", "d1d2d3d4", "e1e2e3e4 f1f2f3f4")
	covered := bytes.Clone(head) // the congestion bit and the hop index as zero, then the whole time
	covered[1], covered[2] = 0x1e, 0xd2
	covered = append(covered, plain(t, "00000123456789ab")...)
	want := bytes.Clone(head)
	for _, key := range keys {
		mac := siphash.New(key[:])
		_, _ = mac.Write(covered)
		sum := mac.Sum64()
		for i := range 6 {
			want = append(want, byte(sum>>(8*i)))
		}
	}
	want = append(want, "abc"...)
	if !bytes.Equal(got, want) {
		t.Errorf("path frame\n%x, doc.go has\n%x", got, want)
	}

	material, _ := testExporter("secret")("EXPORTER-tern media", []byte{1, 200}, 28)
	block, _ := aes.NewCipher(material[:16])
	gcm, _ := cipher.NewGCM(block)
	clear := plain(t, "77", "c8", "010203040506")
	nonce := bytes.Clone(material[16:])
	for i, b := range clear[1:] {
		nonce[5+i] ^= b
	}
	records := plain(t, "0007", "0002", "aabb", "0008", "8001 1234 02 03", "cc") // one whole, one fragment of one byte
	if sealed := sealed(testKey(t, 1, 200), 0x77, 200, 0x010203040506, string(records)); !bytes.Equal(sealed, gcm.Seal(clear, nonce, records, clear)) {
		t.Errorf("media frame %x", sealed)
	}
	var ours []byte
	ours = appendRecord(ours, record{stream: 7, data: []byte{0xaa, 0xbb}})
	ours = appendRecord(ours, record{stream: 8, fragment: true, message: 0x1234, index: 2, count: 3, data: []byte{0xcc}})
	if !bytes.Equal(ours, records) {
		t.Errorf("records %x, doc.go has %x", ours, records)
	}
}

// Kinds and copies that this version does not know: a relay hands them on as they came, an egress drops the kinds and counts them.
func TestRelaysPassWhatTheyDoNotKnow(t *testing.T) {
	w := &keptWire{}
	b := still(t, 3, &nullHandler{}, w)
	for _, h := range []pathHeader{{kind: 15}, {kind: 9, copies: 15}, {kind: kindMedia, copies: 15}} {
		h.relayN, h.relays, h.fence, h.source, h.dest = 1, [maxRelays]NodeID{3}, 1, 1, 2
		frame := frameFor(b, h, make([]byte, 50))
		want := bytes.Clone(frame)
		advanceHop(want)
		w.runs = nil
		b.HandleFrame(frame, addrOf(1))
		if len(w.runs) != 1 || !bytes.Equal(w.runs[0], want) {
			t.Errorf("kind %d, copies %d: a relay passes on %x, want %x", h.kind, h.copies, w.runs, want)
		}
	}
	b.HandleFrame(frameFor(b, pathHeader{kind: 15, fence: 1, source: 1, dest: 3}, make([]byte, 50)), addrOf(1))
	if st := b.Stats().Frames; st["malformed"] != 1 || st["relayed"] != 3 {
		t.Errorf("an unknown kind at its egress: %v", st)
	}
}
