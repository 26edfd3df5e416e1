package ebpf

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestSamplesNameTheLoudestSources(t *testing.T) {
	var log bytes.Buffer
	f := goFilter(t, &log)
	for i := range 20_000 {
		src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}), 9)
		if i%3 > 0 {
			src = netip.MustParseAddrPort("[::ffff:198.18.0.1]:9")
		}
		f.sample(src.Addr().Unmap(), judged(ClassRTP, ReasonBadLength), "go")
	}
	r := f.Report()
	if len(r.Top) != reportedSources || r.Top[0].Source != good4 || r.Top[0].Samples < 10_000 || r.Top[0].Reason != "bad_length" {
		t.Errorf("top: %+v", r.Top[:min(2, len(r.Top))])
	}
	if len(f.drops.sources) > sampledSources || r.Samples != 20_000 {
		t.Errorf("%d sources remembered, %d samples", len(f.drops.sources), r.Samples)
	}
	if n := strings.Count(log.String(), "many packets of one source"); n != 1 {
		t.Errorf("%d lines about one attacker:\n%s", n, log.String())
	}
}

func TestTwinSamplesWithinARate(t *testing.T) {
	f := goFilter(t, &bytes.Buffer{})
	begin := time.Now()
	const packets = 50_000
	for range packets {
		f.AllowPacket(netip.AddrPortFrom(good4, 1), testMesh, []byte{99})
	}
	most := sampleBurst + uint64(time.Since(begin)/sampleIntervalNS) + 1
	if r := f.Report(); r.Samples == 0 || r.Samples > most || r.Counts[0].Packets != packets {
		t.Errorf("%d samples of %d drops, at most %d: %+v", r.Samples, packets, most, r.Counts)
	}
}

func TestSourceOfAFrame(t *testing.T) {
	for _, s := range []sample{{src: good4, vlans: 2, options: 5}, {src: good6, headers: []byte{0, 60}}} {
		frame := s.frame()
		if got := frameSource(frame[:min(len(frame), sampleBytes)]); got != s.src {
			t.Errorf("%v instead of %v", got, s.src)
		}
		for n := range frame {
			frameSource(frame[:n])
		}
	}
}
