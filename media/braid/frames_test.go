package braid

import (
	"bytes"
	"crypto/sha256"
	"testing"
)

// testExporter stands in for a TLS connection.
func testExporter(secret string) exporter {
	return func(label string, context []byte, n int) ([]byte, error) {
		sum := sha256.Sum256(append([]byte(secret+label), context...))
		return sum[:n], nil
	}
}

func testKey(t testing.TB, direction, epoch uint8) *mediaKey {
	t.Helper()
	k, err := newMediaKey(testExporter("secret"), direction, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sealed(k *mediaKey, tag, epoch uint8, seq uint64, records string) []byte {
	f := append(make([]byte, mediaHeader, 200), records...)
	return k.seal(f, tag, epoch, seq)
}

func TestMediaFrameOpensOnlyAsItWasSealed(t *testing.T) {
	f := sealed(testKey(t, 0, 3), 9, 3, 1<<40+5, "records")
	tag, epoch, seq, ok := parseMediaHeader(f)
	if !ok || tag != 9 || epoch != 3 || seq != 1<<40+5 {
		t.Fatalf("header: tag %d, epoch %d, sequence %d", tag, epoch, seq)
	}
	if got, ok := testKey(t, 0, 3).open(bytes.Clone(f)); !ok || string(got) != "records" {
		t.Fatalf("opened %q, %v", got, ok)
	}
	if _, ok := testKey(t, 1, 3).open(bytes.Clone(f)); ok {
		t.Error("opened with the other direction's key")
	}
	for i := range f {
		bad := bytes.Clone(f)
		bad[i] ^= 1
		if _, ok := testKey(t, 0, 3).open(bad); ok {
			t.Errorf("opened with byte %d changed", i)
		}
	}
}

func TestNonceNeverRepeats(t *testing.T) {
	seen := map[[12]byte]bool{}
	k := testKey(t, 0, 0)
	for epoch := range 4 {
		for seq := range 300 {
			f := make([]byte, mediaHeader)
			putMediaHeader(f, 1, uint8(epoch), uint64(epoch*300+seq))
			k.setNonce(f)
			if seen[k.nonce] {
				t.Fatalf("nonce of epoch %d, sequence %d was used before", epoch, seq)
			}
			seen[k.nonce] = true
		}
	}
}

func TestRecordsComeBack(t *testing.T) {
	in := []record{
		{stream: 1, data: []byte("audio")}, {stream: 65535, data: []byte{}},
		{stream: 2, fragment: true, message: 77, index: 1, count: 3, data: bytes.Repeat([]byte{5}, 600)},
	}
	var b []byte
	for _, r := range in {
		b = appendRecord(b, r)
	}
	for i, want := range in {
		got, rest, ok := nextRecord(b)
		if !ok || got.stream != want.stream || got.fragment != want.fragment || got.message != want.message ||
			got.index != want.index || got.count != want.count || !bytes.Equal(got.data, want.data) {
			t.Fatalf("record %d: %+v, want %+v", i, got, want)
		}
		b = rest
	}
	if len(b) != 0 {
		t.Errorf("%d bytes left over", len(b))
	}
}

func TestPacketsOfEverySizeSurviveFragmentation(t *testing.T) {
	var j rejoin
	o := outMedia{slab: make([][]byte, runFrames)}
	for size := 1; size <= MaxPacket; size++ {
		p := testPacket(uint64(size), max(8, size))[:size]
		o.frames = o.frames[:0]
		o.put(queued{buf: p, stream: 3}, mediaHeader, maxRecords)
		var got []byte
		for _, f := range o.frames {
			if len(f) > mediaHeader+maxRecords {
				t.Fatalf("size %d: a frame of %d bytes", size, len(f))
			}
			for b := f[mediaHeader:]; len(b) > 0; {
				r, rest, ok := nextRecord(b)
				if !ok {
					t.Fatalf("size %d: malformed record", size)
				}
				if b, got = rest, r.data; r.fragment {
					got = j.add(r, 1)
				}
			}
		}
		if !bytes.Equal(got, p) {
			t.Fatalf("size %d: came back as %d bytes", size, len(got))
		}
	}
}

func TestRejoinTakesAnyOrderAndGivesUp(t *testing.T) {
	var j rejoin
	part := func(m uint16, i, n uint8) record {
		return record{stream: 1, fragment: true, message: m, index: i, count: n, data: []byte{'a' + i}}
	}
	for _, index := range []uint8{2, 2, 0} { // one of them twice
		if j.add(part(1, index, 3), 0) != nil {
			t.Fatal("complete too early")
		}
	}
	if got := j.add(part(1, 1, 3), 0); string(got) != "abc" {
		t.Errorf("joined %q, want abc", got)
	}
	j.add(part(2, 0, 2), 0)
	if got := j.add(part(2, 1, 2), rejoinMS+1); got != nil || j.expired != 1 {
		t.Errorf("joined %q after the deadline, %d expired", got, j.expired)
	}
	for m := range uint16(3 * rejoinSlots) {
		j.add(part(100+m, 0, 2), rejoinMS+2)
	}
	if got := j.add(part(100+3*rejoinSlots-1, 1, 2), rejoinMS+2); string(got) != "ab" {
		t.Errorf("the newest packet gave way to older ones: %q", got)
	}
}

func FuzzMediaFrame(f *testing.F) {
	f.Add(sealed(testKey(f, 0, 0), 1, 0, 1, "x"), false)
	f.Add(appendRecord(nil, record{stream: 1, data: []byte("abc")}), true)
	f.Add(appendRecord(nil, record{stream: 1, fragment: true, count: 2, data: []byte("abc")}), true)
	f.Fuzz(func(t *testing.T, b []byte, records bool) {
		if !records {
			if _, _, _, ok := parseMediaHeader(b); ok {
				testKey(t, 0, 0).open(bytes.Clone(b))
			}
			return
		}
		var j rejoin
		for len(b) > 0 {
			r, rest, ok := nextRecord(b)
			if !ok {
				return
			}
			if again := appendRecord(nil, r); !bytes.Equal(again, b[:len(b)-len(rest)]) {
				t.Fatalf("a record changed by a round trip: % x, % x", b, again)
			}
			if r.fragment {
				j.add(r, 0)
			}
			b = rest
		}
	})
}
