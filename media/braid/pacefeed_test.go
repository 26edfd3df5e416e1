package braid

import (
	"reflect"
	"testing"
	"time"
)

func TestPaceReportComesBack(t *testing.T) {
	in := paceReport{holes: 1 << 40, paths: []pacePath{
		{id: 15, paceTotals: paceTotals{received: 1 << 50, lost: 3, congested: 4, bytes: 1 << 60}, delayMS: -12_345}, {id: 0, delayMS: 1 << 30},
	}}
	b := in.append(nil)
	var out paceReport
	if err := out.parse(b); err != nil || !reflect.DeepEqual(in, out) {
		t.Errorf("%v: %+v became %+v", err, in, out)
	}
	if grown := append([]byte{datagramPace, 0, 3, 7, 1, 1, 1, 1, 1}, 9, 9); out.parse(grown) != nil || out.paths[0].received != 1 {
		t.Errorf("a field that this version does not know: %+v", out)
	}
}

func FuzzPaceReport(f *testing.F) {
	one := paceReport{holes: 7, paths: []pacePath{{id: 3, paceTotals: paceTotals{received: 300, lost: 1, bytes: 1 << 20}, delayMS: -40}}}
	f.Add(one.append(nil))
	f.Add([]byte{datagramPace, 0})
	f.Add([]byte{datagramPace, 0, 3, 200, 1})
	f.Add([]byte{datagramPace, 0x80, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again paceReport
		if r.parse(b) != nil {
			return
		}
		if len(r.paths) > pathIDs {
			t.Fatalf("%d paths", len(r.paths))
		}
		if err := again.parse(r.append(nil)); err != nil || len(r.paths) > 0 && !reflect.DeepEqual(r, again) {
			t.Fatalf("%v: %+v became %+v", err, r, again)
		}
	})
}

// What a peer says, however absurd, does no lasting harm: counts that run backwards or jump.
func TestAbsurdPaceReportsAreHarmless(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		s := a.session(2)
		stream(s, 0, 200, 1000, time.Millisecond)
		for _, v := range []uint64{0, 1 << 63, 5, ^uint64(0), 0} {
			r := paceReport{holes: v}
			for id := range uint8(pathIDs) {
				r.paths = append(r.paths, pacePath{id: id, paceTotals: paceTotals{received: v, lost: ^v, congested: v, bytes: v}, delayMS: int32(v)})
			}
			s.handlePace(&r, time.Now())
		}
		stream(s, 200, 5000, 1000, 2*time.Millisecond)
		before := b.rec.got()
		stream(s, 5200, 1000, 1000, 2*time.Millisecond)
		pause(time.Second)
		if got := b.rec.got() - before; got < 1000 {
			t.Errorf("ten seconds later %d of 1,000 packets arrive", got)
		}
	})
}

// Media that begins is told of at once, but asked for once: an older peer takes no such messages, and nothing notes that one went out.
func TestABeginningIsNotedOnce(t *testing.T) {
	var s paceState
	var p inPath
	noted := 0
	for ms := range uint64(1000) {
		if s.noted(&p, 100, 100_000+ms) {
			noted++
		}
	}
	if !s.begun || noted != 1 {
		t.Errorf("a stream's beginning is noted %d times, begun %v", noted, s.begun)
	}
}

// Feedback costs at most one byte in a hundred of the media that it is about.
func TestPaceFeedbackIsCheap(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, _, _, _ := four(n)
		s := a.session(2)
		var out, back int
		n.set(func() {
			n.inspect = func(from, to NodeID, frame []byte) bool {
				switch {
				case from == 1 && frame[3]&0xf == kindMedia:
					out += len(frame)
				case to == 1 && frame[3]&0xf == kindQUIC:
					back += len(frame)
				}
				return true
			}
		})
		stream(s, 0, 3000, 1150, time.Millisecond)
		n.mu.Lock()
		defer n.mu.Unlock()
		t.Logf("%d bytes of media, %d of QUIC the other way: %.2f %%", out, back, 100*float64(back)/float64(out))
		if back*100 > out {
			t.Errorf("reports and feedback are %.2f %% of the media", 100*float64(back)/float64(out))
		}
	})
}
