package access

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtp"
)

// pictured is an audience whose first track is video, its one shard, and how to give it packets.
func pictured(t *testing.T) (*audience, *shard, func(track int, seq uint16, last bool)) {
	u, s, _, _ := seated(t, 2)
	u.tracks[0].picture = true
	return u, s, func(track int, seq uint16, last bool) {
		t.Helper()
		b, err := (&rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: 96, SequenceNumber: seq, Marker: last}, Payload: []byte{1}}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		u.write(track, b)
	}
}

func TestAPicturesPacketsLeaveTogetherButNeverWaitLong(t *testing.T) {
	for _, tc := range []struct {
		name   string
		give   func(write func(track int, seq uint16, last bool))
		atOnce int // packets queued before any time passes
		later  int // and after frameWait
	}{
		{"until the last one is here", func(w func(int, uint16, bool)) { w(0, 1, false); w(0, 2, false); w(0, 3, true) }, 3, 3},
		{"the last one is missing", func(w func(int, uint16, bool)) { w(0, 1, false); w(0, 2, false) }, 0, 2},
		{"sound waits for nothing", func(w func(int, uint16, bool)) { w(1, 1, false) }, 1, 1},
		{"sound takes along what waits", func(w func(int, uint16, bool)) { w(0, 1, false); w(1, 1, false) }, 2, 2},
		{"a large picture leaves in parts", func(w func(int, uint16, bool)) {
			for seq := range uint16(framePackets + 2) {
				w(0, seq, false)
			}
		}, framePackets, framePackets + 2},
		{"a timer that was stopped does not hold the next picture up", func(w func(int, uint16, bool)) { w(0, 1, false); w(0, 2, true); w(0, 3, false) }, 2, 3},
		{"each part of a picture waits for itself", func(w func(int, uint16, bool)) {
			w(0, 1, false)
			time.Sleep(2 * frameWait)
			w(0, 2, false)
		}, 1, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u, s, write := pictured(t)
				tc.give(write)
				if len(s.queue) != tc.atOnce {
					t.Errorf("%d packets queued at once, want %d", len(s.queue), tc.atOnce)
				}
				time.Sleep(frameWait)
				synctest.Wait()
				if len(s.queue) != tc.later || len(u.frame.packets) != 0 {
					t.Errorf("%d packets queued after %v, %d wait; want %d and none", len(s.queue), frameWait, len(u.frame.packets), tc.later)
				}
			})
		})
	}
}

func TestAnAudienceThatEndsLetsGoOfAnUnfinishedPicture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, s, write := pictured(t)
		write(0, 1, false)
		p := u.frame.packets[0]
		u.close()
		time.Sleep(2 * frameWait)
		synctest.Wait()
		(<-s.queue).release() // the shard's own hold
		if got := p.holds.Load(); got != 0 || len(u.frame.packets) != 0 {
			t.Errorf("%d holds on a packet, %d wait; want none", got, len(u.frame.packets))
		}
	})
}
