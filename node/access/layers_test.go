package access

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pion/rtcp"
)

// mile is a last mile in virtual time: a queue that drains at capacity bit/s, and losses by chance.
type mile struct {
	capacity float64
	delay    time.Duration
	queue    time.Duration // most that waits
	loss     float64

	free time.Time // when the link has sent what waits
	rand *rand.Rand
	seen []arrival // since the last feedback
}

type arrival struct {
	seq uint16
	at  time.Time // zero: lost
}

func (m *mile) carry(seq uint16, size int, now time.Time) {
	if m.free.Before(now) {
		m.free = now
	}
	if m.free.Sub(now) > m.queue || m.rand.Float64() < m.loss {
		m.seen = append(m.seen, arrival{seq: seq})
		return
	}
	m.free = m.free.Add(time.Duration(float64(size*8) / m.capacity * float64(time.Second)))
	m.seen = append(m.seen, arrival{seq, m.free.Add(m.delay)})
}

// feedback is what a viewer reports of the packets that have arrived at now; nil for nothing.
func (m *mile) feedback(now time.Time) *rtcp.TransportLayerCC {
	n := 0
	for n < len(m.seen) && !m.seen[n].at.After(now) {
		n++
	}
	told := m.seen[:n]
	m.seen = slices.Clone(m.seen[n:])
	begin := slices.IndexFunc(told, func(a arrival) bool { return !a.at.IsZero() })
	if begin < 0 {
		return nil
	}
	reference := told[begin].at.UnixMilli() / 64
	f := &rtcp.TransportLayerCC{BaseSequenceNumber: told[0].seq, PacketStatusCount: uint16(len(told)), ReferenceTime: uint32(reference) & 0xffffff}
	last := time.UnixMilli(reference * 64)
	for _, a := range told {
		symbol := uint16(rtcp.TypeTCCPacketNotReceived)
		if !a.at.IsZero() {
			symbol = rtcp.TypeTCCPacketReceivedLargeDelta
			f.RecvDeltas = append(f.RecvDeltas, &rtcp.RecvDelta{Type: symbol, Delta: a.at.Sub(last).Microseconds()})
			last = a.at
		}
		f.PacketChunks = append(f.PacketChunks, &rtcp.RunLengthChunk{PacketStatusSymbol: symbol, RunLength: 1})
	}
	return f
}

// watch plays a viewer's session over m: three layers in frames at 25 a second, feedback every 100 ms, a choice every
// 250 ms. It returns which layer was sent in each second.
func watch(m *mile, seconds int, change func(second int)) (layers []int, e *estimator) {
	var (
		l     ladder
		rates = []float64{150e3, 500e3, 1.5e6}
		at    = 2
		now   = time.Unix(1_800_000_000, 0)
	)
	e = new(estimator)
	m.rand = rand.New(rand.NewPCG(1, 2))
	for ms := range seconds * 1000 {
		if change != nil && ms%1000 == 0 {
			change(ms / 1000)
		}
		if ms%40 == 0 { // a frame, in packets of at most 1,200 bytes
			for left := int(rates[at] / 8 / 25); left > 0; left -= 1200 {
				size := min(left, 1200)
				m.carry(e.sent(now, size), size, now)
			}
		}
		if ms%100 == 50 {
			if f := m.feedback(now); f != nil {
				e.feedback(now, f)
			}
		}
		if ms%250 == 0 {
			bps, known := e.rate(now)
			at = l.choose(now, at, []int{0, 1, 2}, rates, signs{bps: bps, known: known, reports: true, trouble: e.took()})
		}
		if ms%1000 == 999 {
			layers = append(layers, at)
		}
		now = now.Add(time.Millisecond)
	}
	return layers, e
}

func share(layers []int, of int) float64 {
	n := 0
	for _, l := range layers {
		if l == of {
			n++
		}
	}
	return float64(n) / float64(len(layers))
}

func TestAViewerGetsTheLayerThatItsLastMileCarries(t *testing.T) {
	for _, c := range []struct {
		name     string
		capacity float64
		loss     float64
		want     int
		most     float64 // of the estimate, times the capacity
	}{
		{"a wide link carries the best", 10e6, 0, 2, 1},
		{"a wide link that loses 2 % still does", 10e6, 0.02, 2, 1},
		{"800 kbit/s carry the middle", 800e3, 0, 1, 1.3},
		{"250 kbit/s carry the least", 250e3, 0, 0, 1.5},
		{"100 kbit/s carry none whole: the least", 100e3, 0, 0, 1.5},
	} {
		t.Run(c.name, func(t *testing.T) {
			layers, e := watch(&mile{capacity: c.capacity, delay: 30 * time.Millisecond, queue: 500 * time.Millisecond, loss: c.loss}, 120, nil)
			if got := share(layers[5:], c.want); got < 0.85 {
				t.Errorf("layer %d in %.0f %% of the seconds after the fifth: %v", c.want, 100*got, layers)
			}
			if bps, _ := e.rate(time.Unix(1_800_000_120, 0)); bps > c.most*c.capacity {
				t.Errorf("estimate %.0f of a link of %.0f bit/s", bps, c.capacity)
			}
		})
	}
}

func TestAViewersLayerFollowsItsLastMile(t *testing.T) {
	m := &mile{capacity: 5e6, delay: 20 * time.Millisecond, queue: 400 * time.Millisecond}
	layers, _ := watch(m, 90, func(second int) {
		switch second {
		case 20:
			m.capacity = 250e3
		case 40:
			m.capacity = 5e6
		}
	})
	if share(layers[5:20], 2) < 1 || share(layers[23:40], 0) < 0.7 || share(layers[75:], 2) < 1 {
		t.Errorf("layers by the second, 250 kbit/s from 20 to 40: %v", layers)
	}
}

func TestLayersWithoutReports(t *testing.T) {
	rates, all, now := []float64{150e3, 500e3, 1.5e6}, []int{0, 1, 2}, time.Unix(1_800_000_000, 0)
	var mute, slow ladder
	if got := mute.choose(now, 0, all, rates, signs{}); got != 2 {
		t.Errorf("a viewer that has agreed to no reports gets layer %d", got)
	}
	if got := slow.choose(now, 0, all, rates, signs{reports: true}); got != 1 {
		t.Errorf("before its first report a viewer gets layer %d", got)
	}
	if got := slow.choose(now.Add(silentTime+1), 1, all, rates, signs{reports: true}); got != 2 {
		t.Errorf("a viewer that never reports gets layer %d", got)
	}
	if got := slow.choose(now, 2, all, []float64{150e3, 500e3, 0}, signs{known: true, bps: 5e6}); got != 1 {
		t.Errorf("when its layer falls silent a viewer gets layer %d", got)
	}
	if got := slow.choose(now, 1, all, []float64{0, 0, 0}, signs{known: true, bps: 5e6}); got != 1 {
		t.Errorf("while nothing comes a viewer gets layer %d", got)
	}
	if got := slow.choose(now, 2, all, rates, signs{known: true, bps: 200e3}); got != 0 {
		t.Errorf("a viewer that says 200 kbit/s gets layer %d", got)
	}
}

// A report that comes by both tracks' RTCP, or names again what the one before named, counts a loss once.
func TestALossIsCountedOnce(t *testing.T) {
	var e estimator
	now := time.Unix(100, 0)
	for range 4 {
		e.sent(now, 1000)
	}
	f := &rtcp.TransportLayerCC{PacketStatusCount: 4, PacketChunks: []rtcp.PacketStatusChunk{
		&rtcp.RunLengthChunk{PacketStatusSymbol: rtcp.TypeTCCPacketNotReceived, RunLength: 3},
		&rtcp.RunLengthChunk{PacketStatusSymbol: rtcp.TypeTCCPacketReceivedSmallDelta, RunLength: 1},
	}, RecvDeltas: []*rtcp.RecvDelta{{Type: rtcp.TypeTCCPacketReceivedSmallDelta}}}
	e.feedback(now, f)
	e.feedback(now, f)
	if e.lost != 3 || e.decided != 4 {
		t.Errorf("%d of %d lost, want 3 of 4", e.lost, e.decided)
	}
}

func TestMeterForgetsALayerThatStopped(t *testing.T) {
	var m meter
	now, bytes := time.Unix(1, 0), []uint64{0, 0}
	for range 20 {
		now = now.Add(rateWindow)
		bytes[0] += 12500
		if now.Unix() < 6 {
			bytes[1] += 50000
		}
		m.measure(now, bytes)
	}
	if got := fmt.Sprintf("%.0f", m.rates[0]); got != "200000" || m.rates[1] >= m.rates[0] {
		t.Errorf("rates %v, want 200000 and one that is forgotten", m.rates)
	}
}

func TestKeyframesByTheirPayload(t *testing.T) {
	for _, c := range []struct {
		mime    string
		payload []byte
		want    bool
	}{
		{"video/VP8", []byte{0x10, 0x00}, true},
		{"video/VP8", []byte{0x10, 0x01}, false},
		{"video/VP8", []byte{0x00, 0x00}, false},                         // not the first
		{"video/VP8", []byte{0x11, 0x00}, false},                         // second partition
		{"video/VP8", []byte{0x90, 0x80, 0x81, 0x02, 0x00}, true},        // picture id of 15 bits
		{"video/VP8", []byte{0x90, 0xf0, 0x01, 0x07, 0x20, 0x01}, false}, // all of the descriptor
		{"video/VP8", []byte{0x90, 0x80, 0x81}, false},                   // cut short
		{"video/vp9", []byte{0x08}, true},
		{"video/vp9", []byte{0x48}, false},
		{"video/vp9", []byte{0x88 | 0x20, 0x80, 0x01, 0x00}, true},
		{"video/vp9", []byte{0x88 | 0x20, 0x80, 0x01, 0x02}, false}, // an upper spatial layer
		{"video/vp9", []byte{0xa8}, false},
		{"video/H264", []byte{0x65}, true},
		{"video/H264", []byte{0x67}, true},
		{"video/H264", []byte{0x41}, false},
		{"video/H264", []byte{0x7c, 0x85}, true},
		{"video/H264", []byte{0x7c, 0x05}, false},                        // not its first fragment
		{"video/H264", []byte{0x78, 0, 1, 0x41, 0, 2, 0x65, 0x00}, true}, // aggregated
		{"video/H264", []byte{0x78, 0, 0, 0x41, 0, 2, 0x65}, false},
		{"video/AV1", []byte{0x18}, true},
		{"video/AV1", []byte{0x10}, false},
		{"video/other", []byte{0x10, 0}, false},
		{"video/VP8", nil, false}, {"video/VP9", nil, false}, {"video/H264", nil, false}, {"video/AV1", nil, false},
	} {
		if got := startsKeyframe(c.mime, c.payload); got != c.want {
			t.Errorf("%s %x: %v", c.mime, c.payload, got)
		}
	}
}

func FuzzKeyframe(f *testing.F) {
	for i := range 4 {
		f.Add(i, []byte{0x90, 0x80, 0x81, 0x02, 0x00})
		f.Add(i, []byte{0x78, 0, 1, 0x41, 0, 2, 0x65, 0x00})
	}
	f.Fuzz(func(t *testing.T, codec int, payload []byte) {
		mime := []string{"video/VP8", "video/VP9", "video/H264", "video/AV1"}[uint(codec)%4]
		if startsKeyframe(mime, payload) && len(payload) == 0 {
			t.Error("a keyframe out of nothing")
		}
	})
}

func FuzzFeedback(f *testing.F) {
	m := mile{capacity: 1e6, rand: rand.New(rand.NewPCG(1, 1))}
	for i := range 20 {
		m.carry(uint16(i), 1200, time.Unix(5, 0))
	}
	seed := m.feedback(time.Unix(60, 0))
	seed.Header = rtcp.Header{Count: rtcp.FormatTCC, Type: rtcp.TypeTransportSpecificFeedback, Length: uint16(seed.MarshalSize()/4 - 1)}
	b, err := seed.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, uint16(20))
	f.Fuzz(func(t *testing.T, b []byte, sent uint16) {
		all, err := rtcp.Unmarshal(b)
		if err != nil {
			return
		}
		var e estimator
		now := time.Unix(1_800_000_000, 0)
		for range min(sent, 3000) {
			e.sent(now, 1200)
			now = now.Add(time.Millisecond)
		}
		for range 3 {
			for _, p := range all {
				if p, ok := p.(*rtcp.TransportLayerCC); ok {
					e.feedback(now, p)
				}
			}
			now = now.Add(time.Second)
		}
		if bps, _ := e.rate(now); math.IsNaN(bps) || bps < 0 || len(e.delays) > sentMemory || len(e.arrived) > sentMemory {
			t.Errorf("estimate %v, windows of %d and %d", bps, len(e.delays), len(e.arrived))
		}
	})
}
