package braid

import (
	"testing"
	"time"
)

func four(n *testNet, change ...func(*Config)) (a, b, r3, r4 *testNode) {
	a, b = n.add(1, 1, threePaths, change...), n.add(2, 1, threePaths, change...)
	return a, b, n.add(3, 1, direct), n.add(4, 1, direct)
}

func TestTwoNodesExchangePacketsAndMessages(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b := n.add(1, 1, direct), n.add(2, 1, direct)
		s := a.session(2)
		if err := s.SendMessage([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		stream(s, 0, 500, 1150, time.Millisecond)
		back := b.session(1)
		if err := back.SendMessage([]byte("welcome")); err != nil {
			t.Fatal(err)
		}
		stream(back, 0, 100, 160, time.Millisecond)
		pause(time.Second)
		if got := b.rec.got(); got != 500 || b.rec.bad != 0 {
			t.Errorf("b got %d of 500 packets, %d damaged", got, b.rec.bad)
		}
		if got := a.rec.got(); got != 100 || a.rec.bad != 0 {
			t.Errorf("a got %d of 100 packets, %d damaged", got, a.rec.bad)
		}
		if len(b.rec.messages) != 1 || b.rec.messages[0] != "hello" || len(a.rec.messages) != 1 {
			t.Errorf("messages: a got %q, b got %q", a.rec.messages, b.rec.messages)
		}
		if len(a.rec.opened) != 1 || len(b.rec.opened) != 1 {
			t.Errorf("sessions opened: %d and %d, want one each", len(a.rec.opened), len(b.rec.opened))
		}
		s.Close("done")
		pause(time.Second)
		if len(a.rec.closed) != 1 || len(b.rec.closed) != 1 {
			t.Errorf("sessions closed: %d and %d, want one each", len(a.rec.closed), len(b.rec.closed))
		}
		if why := s.Send(1, Audio, []byte("late")); why != DropClosed {
			t.Errorf("Send on a closed session: %v, want %v", why, DropClosed)
		}
	})
}

func TestNothingIsLostWhileOnePathLives(t *testing.T) {
	for name, dead := range map[string]func(from, to NodeID) bool{
		"relay 3 dies":               func(from, to NodeID) bool { return from == 3 || to == 3 },
		"the direct path dies":       func(from, to NodeID) bool { return from < 3 && to < 3 },
		"direct path and relay 3":    func(from, to NodeID) bool { return from < 3 && to < 3 || from == 3 || to == 3 },
		"both relays":                func(from, to NodeID) bool { return from > 2 || to > 2 },
		"the direct path, one way":   func(from, to NodeID) bool { return from == 1 && to == 2 },
		"nothing (the control case)": func(from, to NodeID) bool { return false },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *testNet) {
				a, b, _, _ := four(n)
				s := a.session(2)
				stream(s, 0, 500, 300, time.Millisecond)
				n.set(func() {
					n.link = func(from, to NodeID) (time.Duration, float64) {
						if dead(from, to) {
							return 0, 1
						}
						return 20 * time.Millisecond, 0
					}
				})
				stream(s, 500, 500, 300, time.Millisecond)
				pause(2 * time.Second)
				if got := b.rec.got(); got != 1000 || b.rec.bad != 0 {
					t.Errorf("got %d of 1000 packets, %d damaged", got, b.rec.bad)
				}
				checkPaths(t, s, b.session(1), dead)
			})
		})
	}
}

// checkPaths compares what both ends say about the paths with what was done to them.
func checkPaths(t *testing.T, out, in *Session, dead func(from, to NodeID) bool) {
	t.Helper()
	o, i := out.Stats(), in.Stats()
	if i.Undelivered != 0 || o.PeerUndelivered != 0 {
		t.Errorf("undelivered: %d here, %d reported; want 0", i.Undelivered, o.PeerUndelivered)
	}
	for _, p := range o.Out {
		broken := dead(1, 2)
		if len(p.Relays) == 1 {
			broken = dead(1, p.Relays[0]) || dead(p.Relays[0], 2)
		}
		if p.Alive == broken {
			t.Errorf("path %v: alive %v, but broken %v", p.Relays, p.Alive, broken)
		}
		if p.Sent < 1000 {
			t.Errorf("path %v: sent %d frames, want at least 1000: mode full keeps sending on dead paths", p.Relays, p.Sent)
		}
		if broken && (p.Lost < 450 || p.Lost > 700) || !broken && p.Lost > 0 {
			t.Errorf("path %v: lost %d frames, broken %v", p.Relays, p.Lost, broken)
		}
	}
	if dead(1, 2) {
		var rescued uint64
		for _, p := range i.In {
			rescued += p.Rescued
		}
		if rescued < 450 || rescued > 600 {
			t.Errorf("rescued %d frames, want about the 500 that the direct path lost", rescued)
		}
	}
}
