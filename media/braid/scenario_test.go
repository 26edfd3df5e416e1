package braid

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestLargePacketsCrossAsFragments(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		s := a.session(2)
		stream(s, 0, 300, 1500, 3*time.Millisecond)
		stream(s, 300, 1, MaxPacket, 0)
		if why := s.Send(1, Video, make([]byte, MaxPacket+1)); why != DropTooLarge {
			t.Errorf("Send of %d bytes: %v, want %v", MaxPacket+1, why, DropTooLarge)
		}
		pause(time.Second)
		if b.rec.got() != 301 || b.rec.bad != 0 {
			t.Errorf("%d of 301 packets, %d damaged", b.rec.got(), b.rec.bad)
		}
	})
}

// Both ends accept both carriers at any time, so they may even differ.
func TestCarrierDatagram(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		carrier := func(c *Config) { c.Carrier = func(FenceID) Carrier { return Datagram } }
		a := n.add(1, 1, threePaths, carrier)
		b := n.add(2, 1, threePaths)
		n.add(3, 1, direct)
		n.add(4, 1, direct)
		s := a.session(2)
		stream(s, 0, 300, 1500, 3*time.Millisecond)
		stream(b.session(1), 0, 300, 200, time.Millisecond)
		pause(3 * time.Second)
		if b.rec.got() != 300 || b.rec.bad != 0 || a.rec.got() != 300 {
			t.Errorf("datagrams: %d of 300 packets, %d damaged; frames: %d of 300", b.rec.got(), b.rec.bad, a.rec.got())
		}
		if st := b.session(1).Stats(); st.Undelivered != 0 {
			t.Errorf("undelivered %d, want 0", st.Undelivered)
		}
	})
}

func TestWhatAllPathsLostIsRepaired(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		delays := map[NodeID]time.Duration{2: 100 * time.Millisecond, 3: 90 * time.Millisecond, 4: 110 * time.Millisecond}
		n.link = func(from, to NodeID) (time.Duration, float64) {
			return max(delays[to]-80*time.Millisecond*0, 10*time.Millisecond), 0
		}
		s := a.session(2)
		stream(s, 0, 500, 1150, time.Millisecond)
		n.set(func() { n.slot = func(from NodeID, _ time.Time) bool { return from == 1 } })
		stream(s, 500, 5, 1150, time.Millisecond)
		n.set(func() { n.slot = nil })
		stream(s, 505, 500, 1150, time.Millisecond)
		n.set(func() { n.slot = func(from NodeID, _ time.Time) bool { return from == 1 } })
		stream(s, 1005, 1, 1150, time.Millisecond) // the last one: nothing follows that would show the hole
		n.set(func() { n.slot = nil })
		pause(3 * time.Second)
		st := b.session(1).Stats()
		if b.rec.got() != 1006 || st.Repaired < 5 || st.Undelivered != 0 {
			t.Errorf("%d of 1006 packets, %d repaired, %d undelivered, %d asked for", b.rec.got(), st.Repaired, st.Undelivered, st.Asked)
		}
		for seq, times := range b.rec.packets {
			if times != 1 {
				t.Errorf("packet %d was delivered %d times", seq, times)
			}
		}
	})
}

// All paths lose a frame, and all lose the request for it.
func TestALostRequestForRepairIsMadeAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		n.set(func() { n.link = func(NodeID, NodeID) (time.Duration, float64) { return 50 * time.Millisecond, 0 } })
		s := a.session(2)
		stream(s, 0, 300, 1150, time.Millisecond)
		began, answers := time.Now(), 0
		n.set(func() {
			n.slot = func(from NodeID, at time.Time) bool {
				since := at.Sub(began)
				lost := from == 1 && since < time.Millisecond || from == 2 && since > 50*time.Millisecond && since < 112*time.Millisecond
				if from == 2 && lost {
					answers++
				}
				return lost
			}
		})
		stream(s, 300, 300, 1150, time.Millisecond)
		pause(time.Second)
		st := b.session(1).Stats()
		if b.rec.got() != 600 || st.Undelivered != 0 || st.Repaired == 0 || answers == 0 {
			t.Errorf("%d of 600 packets, %d undelivered, %d repaired; %d frames of the receiver were lost", b.rec.got(), st.Undelivered, st.Repaired, answers)
		}
	})
}

func TestKeyEpochsRotateWithoutLoss(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		a.braid.rekey = 300
		s := a.session(2)
		stream(s, 0, 2000, 300, time.Millisecond)
		pause(time.Second)
		if b.rec.got() != 2000 || s.out.epoch < 5 {
			t.Errorf("%d of 2000 packets over %d key epochs", b.rec.got(), s.out.epoch)
		}
	})
}

func TestRelayKeyEpochsRollOver(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		time.Sleep(time.Until(time.Now().Truncate(time.Hour).Add(time.Hour - 2*time.Second)))
		a, b, _, _ := four(n)
		s := a.session(2)
		stream(s, 0, 600, 300, 5*time.Millisecond)
		pause(time.Second)
		st := b.braid.Stats().Frames
		if b.rec.got() != 600 || st["relay_epoch"]+st["bad_mac"] != 0 {
			t.Errorf("%d of 600 packets across the hour; frames %v", b.rec.got(), st)
		}
		for _, p := range s.Stats().Out {
			if !p.Alive || p.Lost > 0 {
				t.Errorf("path %v: alive %v, lost %d", p.Relays, p.Alive, p.Lost)
			}
		}
	})
}

func TestRelayRefusesWhatTheFenceForbids(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, r3, r4 := four(n)
		r3.only(func(hop NodeID) bool { return hop != 3 }) // relay 3 knows itself to be outside
		r4.only(func(hop NodeID) bool { return hop != 2 }) // relay 4 knows the next hop to be outside
		s := a.session(2)
		stream(s, 0, 200, 300, time.Millisecond)
		pause(time.Second)
		f3, f4 := r3.braid.Stats().Frames, r4.braid.Stats().Frames
		if f3["fence"] < 200 || f3["relayed"] != 0 || f4["next_hop_fence"] < 200 {
			t.Errorf("relay 3: %v; relay 4: %v", f3, f4)
		}
		if b.rec.got() != 200 {
			t.Errorf("%d of 200 packets by the direct path", b.rec.got())
		}
	})
}

func TestNoSessionOutsideTheFence(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b := n.add(1, 1, direct), n.add(2, 1, direct)
		ctx := context.Background()
		if _, err := a.braid.Session(ctx, 2, n.fence+1); !errors.Is(err, ErrFence) {
			t.Errorf("another fence: %v, want ErrFence", err)
		}
		if _, err := a.braid.Session(ctx, 2, 0); !errors.Is(err, ErrFence) {
			t.Errorf("the mesh fence: %v, want ErrFence", err)
		}
		s := a.session(2)
		b.only(func(NodeID) bool { return false })
		b.braid.Refresh()
		pause(time.Second)
		if !s.closing() {
			t.Error("the session outlived a policy that forbids it")
		}
	})
}

func TestPathsWithForbiddenRelaysAreNotUsed(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, _, _, _ := four(n)
		a.only(func(hop NodeID) bool { return hop != 4 })
		s := a.session(2)
		for _, p := range s.Stats().Out {
			if slices.Contains(p.Relays, 4) {
				t.Errorf("path %v is in use", p.Relays)
			}
		}
		if a.braid.Stats().Frames["path_fenced"] == 0 {
			t.Error("the refusal was not counted")
		}
	})
}

func TestBothDialAtOnce(t *testing.T) {
	for range 3 {
		inBubble(t, func(t *testing.T, n *testNet) {
			a, b, _, _ := four(n)
			var wg sync.WaitGroup
			got := make([]*Session, 6)
			for i := range got {
				wg.Go(func() {
					if i%2 == 0 {
						got[i] = a.session(2)
					} else {
						got[i] = b.session(1)
					}
				})
			}
			wg.Wait()
			pause(2 * time.Second)
			for i, s := range got {
				if s != got[i%2] || s.closing() {
					t.Errorf("caller %d has session %p (over: %v), the first caller has %p", i, s, s.closing(), got[i%2])
				}
			}
			if !got[0].dialer || got[1].dialer {
				t.Error("the connection dialed by the larger id stayed")
			}
			if len(a.rec.opened)-len(a.rec.closed) != 1 || len(b.rec.opened)-len(b.rec.closed) != 1 {
				t.Errorf("a opened %d closed %d, b opened %d closed %d; want one session left at each",
					len(a.rec.opened), len(a.rec.closed), len(b.rec.opened), len(b.rec.closed))
			}
			stream(got[0], 0, 100, 300, time.Millisecond)
			stream(got[1], 0, 100, 300, time.Millisecond)
			pause(time.Second)
			if a.rec.got() != 100 || b.rec.got() != 100 {
				t.Errorf("a got %d, b got %d of 100 packets", a.rec.got(), b.rec.got())
			}
		})
	}
}

func TestRestartedPeerIsANewPeerAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		old := a.session(2)
		// b dies without a word: it can no longer send.
		n.set(func() { n.inspect = func(from, _ NodeID, _ []byte) bool { return from != 2 } })
		b.stop()
		n.set(func() { n.inspect = nil })
		b = n.add(2, 2, threePaths)
		began := time.Now()
		s := b.session(1)
		pause(500 * time.Millisecond)
		if !old.closing() {
			t.Error("the session with the peer's former life goes on")
		}
		if d := time.Since(began); d > 3*time.Second {
			t.Errorf("the new session took %v", d)
		}
		stream(s, 0, 100, 300, time.Millisecond)
		stream(a.session(2), 0, 100, 300, time.Millisecond)
		pause(time.Second)
		if a.rec.got() != 100 || b.rec.got() != 100 {
			t.Errorf("a got %d, b got %d of 100 packets", a.rec.got(), b.rec.got())
		}
	})
}

// The injector sits on the direct path: it sees every frame there and sends a changed one ahead of the true one.
func TestInjectorOnOnePathSuppressesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		s := a.session(2)
		b2 := b.braid
		n.set(func() {
			n.inspect = func(from, to NodeID, frame []byte) bool {
				if from != 1 || to != 2 {
					return true
				}
				var h pathHeader
				if parsePathFrame(frame, &h) == DropNone && h.kind == kindMedia {
					payload := h.payload(frame)
					payload[len(payload)-1] ^= 1 // behind the path MAC, so that only the seal can tell
					bad := slices.Clone(frame)
					bad[6] ^= 1 // and one that the path MAC tells
					time.AfterFunc(0, func() { n.nodes[2].inbox <- arrived{bad, time.Now()} })
				}
				return true
			}
		})
		stream(s, 0, 500, 300, time.Millisecond)
		pause(2 * time.Second)
		st := b2.Stats()
		if b.rec.got() != 500 || b.rec.bad != 0 {
			t.Errorf("%d of 500 packets, %d damaged", b.rec.got(), b.rec.bad)
		}
		if st.Frames["bad_mac"] < 500 {
			t.Errorf("bad MACs counted: %d, want 500", st.Frames["bad_mac"])
		}
		if st.Sessions[0].Undelivered != 0 {
			t.Errorf("undelivered %d", st.Sessions[0].Undelivered)
		}
	})
}

func TestImpostorIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b := n.add(1, 1, direct), n.add(2, 1, direct)
		a.cert = testCert(t, 9) // frames say node 1, the certificate says 9
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if _, err := a.braid.Session(ctx, 2, n.fence); err == nil {
			t.Error("a session under another node's name")
		}
		if len(b.rec.opened) != 0 {
			t.Error("the impostor's session was opened")
		}
	})
}

func TestChangedPathsKeepTheirHistory(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		n.add(5, 1, direct)
		s := a.session(2)
		stream(s, 0, 300, 300, time.Millisecond)
		a.routes = func(NodeID) []Path { return []Path{{Relays: []NodeID{4}}, {}, {Relays: []NodeID{5, 3}}} }
		a.braid.Refresh()
		stream(s, 300, 300, 300, time.Millisecond)
		pause(2 * time.Second)
		st := s.Stats()
		var active, inactive int
		for _, p := range st.Out {
			if p.Active {
				active++
			} else if inactive++; !slices.Equal(p.Relays, []NodeID{3}) || p.Sent < 300 {
				t.Errorf("inactive path %v, sent %d", p.Relays, p.Sent)
			}
		}
		if active != 3 || inactive != 1 || b.rec.got() != 600 {
			t.Errorf("%d paths active, %d inactive, %d of 600 packets", active, inactive, b.rec.got())
		}
		if last := st.Out[len(st.Out)-1]; !slices.Equal(last.Relays, []NodeID{5, 3}) || !last.Alive || last.First+last.Received == 0 {
			t.Errorf("the path over two relays: %+v", last)
		}
	})
}

func TestProbesCrossDirectlyAndAreChecked(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		var got []string
		a := n.add(1, 1, direct)
		b := n.add(2, 1, direct, func(c *Config) {
			c.Probe = func(from NodeID, p []byte) { got = append(got, string(p)) }
		})
		if err := a.braid.SendProbe(2, []byte("first")); !errors.Is(err, ErrNoKey) {
			t.Errorf("before the key: %v, want ErrNoKey", err)
		}
		pause(time.Second)
		if err := a.braid.SendProbe(2, []byte("ping")); err != nil {
			t.Fatal(err)
		}
		pause(time.Second)
		if !slices.Equal(got, []string{"ping"}) || b.braid.Stats().Frames["probe"] != 1 {
			t.Errorf("got probes %q", got)
		}
	})
}

func TestShutdownSaysGoodbye(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		a.session(2)
		pause(time.Second)
		a.stop()
		began := time.Now()
		pause(100 * time.Millisecond)
		if len(a.rec.closed) != 1 || len(b.rec.closed) != 1 {
			t.Errorf("%v after the end of a: closed at a %d, at b %d; want one each", time.Since(began), len(a.rec.closed), len(b.rec.closed))
		}
		synctest.Wait()
	})
}
