package braid

import (
	"bytes"
	"testing"
)

func sampleHeader(relays int) pathHeader {
	h := pathHeader{
		flags: 2<<epochShift | flagLowestCost, relayN: uint8(relays), path: 9, kind: kindMedia, length: 5, seq: 0xdeadbeef,
		time: 0x1234, fence: 0x01020304, source: 7, dest: 8,
	}
	for i := range relays {
		h.relays[i] = NodeID(100 + i)
	}
	return h
}

func sampleFrame(relays int, keys [maxRelays + 1]hopKey, ms uint64) []byte {
	h := sampleHeader(relays)
	h.time = uint16(ms)
	f := make([]byte, headerLen(relays)+5, 100)
	h.put(f)
	copy(f[headerLen(relays):], "media")
	var buf [macInputSize]byte
	in := macInput(&buf, f, relays, ms)
	for hop := range relays + 1 {
		sign(f, in, relays, hop, &keys[hop])
	}
	return f
}

func TestPathFrameSizes(t *testing.T) {
	if headerLen(0) != 30 || headerLen(1) != 40 || headerLen(2) != 50 || MaxHeader != 50 {
		t.Errorf("headers of %d, %d, %d bytes, want 30, 40, 50", headerLen(0), headerLen(1), headerLen(2))
	}
}

func TestPathFrameComesBack(t *testing.T) {
	for relays := range 3 {
		want := sampleHeader(relays)
		f := sampleFrame(relays, [3]hopKey{}, 0x1234)
		f = append(f, 0, 0, 0) // padding
		var got pathHeader
		if why := parsePathFrame(f, &got); why != DropNone || got != want {
			t.Errorf("%d relays: %v, got %+v, want %+v", relays, why, got, want)
		}
		if p := got.payload(f); !bytes.Equal(p, []byte("media")) {
			t.Errorf("%d relays: payload %q", relays, p)
		}
	}
}

func TestPathFrameRefusals(t *testing.T) {
	change := func(at int, v byte) []byte {
		f := sampleFrame(1, [3]hopKey{}, 0)
		f[at] = v
		return f
	}
	for name, tc := range map[string]struct {
		frame []byte
		want  DropReason
	}{
		"empty":                 {nil, DropMalformed},
		"another class":         {change(0, 4), DropMalformed},
		"version 2":             {change(1, 2<<4), DropVersion},
		"three relays":          {change(2, 3), DropMalformed},
		"hop behind egress":     {change(2, 1|2<<2), DropMalformed},
		"length beyond the end": {change(5, 6), DropMalformed},
		"cut":                   {sampleFrame(1, [3]hopKey{}, 0)[:39], DropMalformed},
	} {
		var h pathHeader
		if why := parsePathFrame(tc.frame, &h); why != tc.want {
			t.Errorf("%s: %v, want %v", name, why, tc.want)
		}
	}
}

// A relay may set the congestion bit and moves the hop index on; any other change of the header breaks the MACs.
func TestMACCoversAllButWhatRelaysChange(t *testing.T) {
	keys := [3]hopKey{{1, 2}, {3, 4}, {5, 6}}
	const ms = 1_700_000_001_234
	for relays := range 3 {
		for bit := range macOffset(relays, 0) * 8 {
			f := sampleFrame(relays, keys, ms)
			f[bit/8] ^= 1 << (bit % 8)
			free := bit/8 == 1 && bit%8 == 0 || bit/8 == 2 && bit%8 >= 2 && bit%8 < 4
			var buf [macInputSize]byte
			in := macInput(&buf, f, relays, ms)
			for hop := range relays + 1 {
				if ok := verify(f, in, relays, hop, &keys[hop]); ok != free {
					t.Errorf("%d relays, bit %d of byte %d flipped, hop %d: verifies %v, want %v", relays, bit%8, bit/8, hop, ok, free)
				}
			}
		}
	}
}

func TestNearestTime(t *testing.T) {
	for _, now := range []uint64{1_700_000_000_000, 1_700_000_032_768, 1<<40 - 1, 1 << 40, 1<<40 + 1} {
		for _, d := range []int64{-30_000, -1, 0, 1, 30_000} {
			want := uint64(int64(now) + d)
			if got := nearestTime(now, uint16(want)); got != want {
				t.Errorf("now %d, sent %+d ms: rebuilt %+d ms", now, d, int64(got-now))
			}
		}
	}
}

func FuzzPathFrame(f *testing.F) {
	for relays := range 3 {
		f.Add(sampleFrame(relays, [3]hopKey{}, 1))
	}
	f.Add([]byte{5, 16, 14})
	f.Fuzz(func(t *testing.T, b []byte) {
		var h pathHeader
		if parsePathFrame(b, &h) != DropNone {
			return
		}
		out := make([]byte, headerLen(int(h.relayN)))
		h.put(out)
		if n := macOffset(int(h.relayN), 0); !bytes.Equal(out[:n], b[:n]) {
			t.Fatalf("header changed by a round trip:\n% x\n% x", b[:n], out[:n])
		}
		if len(h.payload(b)) != int(h.length) {
			t.Fatal("payload of the wrong length")
		}
	})
}
