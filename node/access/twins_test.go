package access

import "testing"

// twinPacket is a packet at an instant in milliseconds, and the SSRC under which it should count.
type twinPacket struct {
	at   int64
	ssrc uint32
	seq  uint16
	ts   uint32
	as   uint32
}

func TestAPublisherBehindTwoSSRCsIsOneSource(t *testing.T) {
	const rate = 1000 // so that a tick is a millisecond
	for name, packets := range map[string][]twinPacket{
		"it goes on under another SSRC": {{0, 1, 10, 500, 1}, {20, 1, 11, 520, 1}, {300, 2, 11, 520, 1}, {310, 2, 12, 540, 1}, {320, 1, 12, 540, 1}},
		"over the turn of the numbers":  {{0, 1, 65535, 4294967290, 1}, {20, 2, 0, 14, 1}, {40, 1, 0, 14, 1}},
		"it moves twice":                {{0, 1, 10, 0, 1}, {20, 2, 11, 20, 1}, {500, 3, 40, 500, 1}, {510, 2, 39, 490, 1}, {520, 3, 41, 520, 1}},
		"it begins anew":                {{0, 1, 10, 500, 1}, {20, 2, 9000, 77000, 2}, {40, 1, 11, 520, 1}, {50, 2, 9001, 77020, 2}},
		"from the same numbers, later":  {{0, 1, 0, 0, 1}, {2000, 1, 100, 2000, 1}, {3000, 2, 0, 0, 2}, {3010, 2, 1, 20, 2}, {3020, 1, 101, 2020, 1}},
		"it moves, then begins anew":    {{0, 1, 10, 500, 1}, {20, 2, 11, 520, 1}, {40, 3, 9000, 77000, 3}, {50, 2, 12, 540, 1}, {60, 3, 9001, 77020, 3}, {70, 1, 12, 540, 1}, {80, 3, 9002, 77040, 3}},
		"another clock":                 {{0, 1, 10, 500, 1}, {20, 2, 11, 50000, 2}},
	} {
		var d doubles
		for i, p := range packets {
			if got, _ := d.take(p.ssrc, p.seq, p.ts, rate, func() int64 { return p.at * 1e6 }); got != p.as {
				t.Errorf("%s: packet %d of %d counts as of %d, want %d", name, i, p.ssrc, got, p.as)
			}
		}
	}
}

func TestTwinsDeliverEachPacketOnce(t *testing.T) {
	const rate = 90000
	var d doubles
	taken := map[uint16]int{}
	for i := range 2000 { // SSRC 2 begins at packet 500, 40 behind; SSRC 1 ends at packet 1,000
		now := func() int64 { return int64(i) * 5e6 }
		if i < 1000 {
			if _, ok := d.take(1, uint16(i), uint32(i*450), rate, now); ok {
				taken[uint16(i)]++
			}
		}
		if j := i - 40; j >= 500 && i < 1500 {
			if _, ok := d.take(2, uint16(j), uint32(j*450), rate, now); ok {
				taken[uint16(j)]++
			}
		}
	}
	for seq := range uint16(1460) {
		if taken[seq] != 1 {
			t.Fatalf("packet %d was taken %d times", seq, taken[seq])
		}
	}
}

func TestWhatOneSourceSendsTwicePasses(t *testing.T) {
	var d doubles
	now := func() int64 { return 0 }
	for range 2 {
		if _, ok := d.take(1, 5, 100, 90000, now); !ok {
			t.Error("a packet that its only source repeats is dropped")
		}
	}
}
