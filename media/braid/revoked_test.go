package braid

import (
	"testing"
	"time"
)

// expel makes a node no member in the eyes of x, as a revocation does: no address, outside every fence.
func (x *testNode) expel(id NodeID) {
	x.gone.Store(uint32(id))
	x.only(func(hop NodeID) bool { return hop != id })
	x.braid.Refresh()
}

// A revoked relay is out of use at once, and the media goes on by the other paths.
func TestRevokedRelayIsOutOfUse(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		s := a.session(2)
		stream(s, 0, 100, 300, 10*time.Millisecond)
		a.expel(4)
		toRevoked := 0
		n.set(func() {
			n.inspect = func(from, to NodeID, _ []byte) bool {
				if from == 1 && to == 4 {
					toRevoked++
				}
				return true
			}
		})
		stream(s, 100, 100, 300, 10*time.Millisecond)
		pause(time.Second)
		n.set(func() {
			if toRevoked > 0 || b.rec.got() != 200 {
				t.Errorf("%d frames went to the revoked relay, %d of 200 packets arrived", toRevoked, b.rec.got())
			}
		})
	})
}

// What a revoked source sends is relayed no more by a relay that knows; at the peer its live connection ends, and no frame of
// its counts for anything but one drop.
func TestRevokedSourceIsCutOff(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, r3, _ := four(n)
		s := a.session(2)
		stream(s, 0, 100, 300, 10*time.Millisecond)
		relayed := r3.braid.Stats().Frames["relayed"]
		r3.expel(1)
		stream(s, 100, 100, 300, 10*time.Millisecond)
		pause(time.Second)
		// What the relay still forwards comes from node 2, and goes nowhere: its next hop is no member either.
		if st := r3.braid.Stats(); st.Frames["not_member"] < 100 || st.Frames["relayed"] > relayed+3 {
			t.Errorf("relay: %v, %d relayed before", st.Frames, relayed)
		}
		if b.rec.got() != 200 {
			t.Errorf("%d of 200 packets by the other paths", b.rec.got())
		}
		b.expel(1)
		stream(s, 200, 100, 300, 10*time.Millisecond)
		pause(time.Second)
		if len(b.rec.closed) != 1 || b.rec.got() != 200 || b.braid.Stats().Frames["not_member"] == 0 {
			t.Errorf("at the peer: %d sessions closed, %d packets, frames %v", len(b.rec.closed), b.rec.got(), b.braid.Stats().Frames)
		}
	})
}
