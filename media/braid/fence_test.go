package braid

import (
	"context"
	"errors"
	"testing"
	"time"
)

// The policy of node 1 loses the fence while a session is in use, though Config.Paths goes on offering paths: media ends
// at once, the session with Refresh, and nothing leaves after it.
func TestNoPathIsUsedOnceTheFenceIsGone(t *testing.T) {
	for name, allow := range map[string]func(hop NodeID) bool{
		"unknown fence":         func(NodeID) bool { return false },
		"this node is outside":  func(hop NodeID) bool { return hop != 1 },
		"the peer is outside":   func(hop NodeID) bool { return hop != 2 },
		"relays only (control)": func(hop NodeID) bool { return hop != 3 && hop != 4 },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *testNet) {
				a, b, _, _ := four(n)
				s := a.session(2)
				stream(s, 0, 100, 300, time.Millisecond)
				pause(time.Second)
				control := allow(1) && allow(2)
				var media, frames, relayed int
				n.set(func() {
					n.inspect = func(from, to NodeID, frame []byte) bool {
						var h pathHeader
						if from == 1 && parsePathFrame(frame, &h) == DropNone {
							frames++
							if h.kind == kindMedia {
								media++
							}
							if to != 2 {
								relayed++
							}
						}
						return true
					}
				})
				a.only(allow)
				stream(s, 100, 50, 300, time.Millisecond) // before Refresh
				pause(time.Millisecond)
				if !control && media != 0 {
					t.Errorf("%d media frames left before Refresh", media)
				}
				a.braid.Refresh()
				pause(100 * time.Millisecond)
				n.set(func() { frames, relayed = 0, 0 })
				stream(s, 150, 50, 300, time.Millisecond)
				pause(20 * time.Second) // b dials nobody, but retransmits what it has
				_, err := a.braid.Session(context.Background(), 2, n.fence)
				if control {
					if err != nil || relayed != 0 || b.rec.got() != 200 {
						t.Errorf("the direct path is allowed: %v; %d frames to relays, %d of 200 packets", err, relayed, b.rec.got())
					}
					return
				}
				if !errors.Is(err, ErrFence) || frames != 0 || b.rec.got() != 100 {
					t.Errorf("%v; %d frames after Refresh, %d packets arrived, want those 100 from before", err, frames, b.rec.got())
				}
				for _, p := range s.Stats().Out {
					if p.Active || p.Alive {
						t.Errorf("path %v is shown as active %v, alive %v", p.Relays, p.Active, p.Alive)
					}
				}
				if len(b.braid.Sessions()) != 0 {
					t.Error("the peer was not told")
				}
			})
		})
	}
}
