package measure

import (
	"math"
	"slices"
	"testing"
)

const ms = int64(1e6)

func TestAPacketComesBackAsItWasStamped(t *testing.T) {
	packet := make([]byte, 200)
	want := Stamp{Stream: 3, Number: 1 << 40, Sent: 946684800000000001, Frame: 77, Index: 2, Count: 7, Key: true}
	want.Write(packet)
	if got, err := Read(packet); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for bit := 8 * (headerBytes + 1); bit < 8*len(packet); bit++ {
		packet[bit/8] ^= 1 << (bit % 8)
		if _, err := Read(packet); err == nil {
			t.Errorf("bit %d flipped and nobody noticed", bit)
		}
		packet[bit/8] ^= 1 << (bit % 8)
	}
}

func FuzzRead(f *testing.F) {
	packet := make([]byte, 80)
	Stamp{Number: 9}.Write(packet)
	f.Add(packet)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := Read(b); err == nil && s.Count == 0xffff && len(b) < MinPacketBytes {
			t.Error("read more than there is")
		}
	})
}

// Values of the E-model for G.711 with concealment and random loss, computed apart.
func TestMOSMatchesTheEModel(t *testing.T) {
	for delay, row := range map[float64][4]float64{
		150: {4.41, 4.32, 4.23, 3.92}, 250: {4.18, 4.05, 3.92, 3.53}, 400: {3.56, 3.38, 3.21, 2.75},
	} {
		for i, loss := range []float64{0, 0.01, 0.02, 0.05} {
			if got := MOS(delay, loss, 1); math.Abs(got-row[i]) > 0.006 {
				t.Errorf("%v ms and %v lost: %.3f, want %.2f", delay, loss, got, row[i])
			}
		}
	}
	if MOS(5000, 1, 1) != 1 {
		t.Error("nothing arrived and somebody was content")
	}
}

// play sends count packets 10 ms apart to a meter, and hands them over in the order of arrival; fate says the delay of
// each, negative is lost.
func play(m *Meter, count int, fate func(i int) int64) {
	type arrival struct {
		s  Stamp
		at int64
	}
	var all []arrival
	for i := range count {
		s := Stamp{Number: uint64(i), Sent: int64(i) * 10 * ms}
		m.Sent(s.Number, s.Sent)
		if d := fate(i); d >= 0 {
			all = append(all, arrival{s, s.Sent + d})
		}
	}
	slices.SortStableFunc(all, func(a, b arrival) int { return int(a.at - b.at) })
	for _, a := range all {
		m.Arrived(a.s, a.at)
	}
}

func TestTheMeterCountsWhatWasSentInItsWindow(t *testing.T) {
	m := NewMeter(1000*ms, 2000*ms, 100*ms, 500*ms)
	play(m, 250, func(i int) int64 {
		switch {
		case i >= 120 && i < 130:
			return -1 // a burst inside the window
		case i < 50:
			return -1 // before it
		case i == 150:
			return 400 * ms // late
		}
		return 50 * ms
	})
	if m.Arrived(Stamp{Number: 160, Sent: 1600 * ms}, 1700*ms) {
		t.Error("a packet that came twice was taken for a new one")
	}
	r := m.Result(100, 200)
	if r.Sent != 100 || r.Delivered != 90 || r.Late != 1 || r.Duplicates != 1 {
		t.Errorf("%+v", r)
	}
	if r.P50/ms != 50 || r.Max/ms < 399 || r.LongestGap != 110*ms {
		t.Errorf("p50 %d ms, max %d ms, gap %d ms", r.P50/ms, r.Max/ms, r.LongestGap/ms)
	}
	if r.BurstRatio < 8 || r.MOS > MOS(100, 0.1, 1) {
		t.Errorf("burst ratio %.1f, MOS %.2f: ten lost in one burst must count more than ten apart", r.BurstRatio, r.MOS)
	}
	if r.Series[2].Sent != 50 || r.Series[2].Delivered != 40 {
		t.Errorf("series: %+v", r.Series)
	}
}

// film plays frames of three packets at 30 fps; lost says which packet of which frame is missing.
func film(p *Player, frames int, lost func(frame, packet int) bool, key func(frame int) bool) (asked int) {
	const interval = 33 * ms
	for f := range frames {
		sent := int64(f) * interval
		for i := range 3 {
			if !lost(f, i) {
				p.Arrived(Stamp{Frame: uint32(f), Index: uint16(i), Count: 3, Key: key(f), Sent: sent})
			}
		}
		if p.Due(uint32(f), sent) {
			asked++
		}
	}
	return asked
}

func TestALostPacketFreezesThePictureUntilAKeyframe(t *testing.T) {
	p := NewPlayer(100 * ms)
	asked := film(p, 300, func(f, i int) bool { return f == 100 && i == 1 }, func(f int) bool { return f%60 == 0 })
	count, total := p.Freezes(300 * 33 * ms)
	if count != 1 || total != (120-99)*33*ms || asked != 20 {
		t.Errorf("%d freezes of %d ms, asked %d times", count, total/ms, asked)
	}
	if shown, of := p.Shown(); shown != 280 || of != 300 {
		t.Errorf("%d of %d frames", shown, of)
	}
}

func TestAShortGapIsNoFreeze(t *testing.T) {
	p := NewPlayer(100 * ms)
	film(p, 300, func(f, i int) bool { return f == 100 && i == 1 }, func(f int) bool { return f%60 == 0 || f == 103 })
	if count, _ := p.Freezes(300 * 33 * ms); count != 0 {
		t.Errorf("%d freezes: 132 ms are less than avg + 150 ms", count)
	}
	if count, total := p.Freezes(310*33*ms + 1000*ms); count != 1 || total < 1000*ms {
		t.Errorf("a picture that stands at the end: %d freezes of %d ms", count, total/ms)
	}
}
