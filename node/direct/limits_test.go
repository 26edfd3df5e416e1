package direct

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
)

func TestOneNodeHoldsFewConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.net.Close()
		a, b := w.node("one", "a", 1), w.node("one", "b", 2)
		defer w.run(b)()
		var conns []*quic.Conn
		for range maxPerPeer + 3 {
			conn, err := a.transport.Dial(t.Context(), net.UDPAddrFromAddrPort(addrOf(2)), a.cfg.Identity.ClientTLS("b", alpn), quicConfig())
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn)
		}
		time.Sleep(time.Second)
		open := 0
		for _, c := range conns {
			if c.Context().Err() == nil {
				open++
			}
		}
		if open != maxPerPeer {
			t.Errorf("%d connections of one node are open, want %d", open, maxPerPeer)
		}
		_ = a.cfg.Conn.Close()
		_ = a.transport.Close()
	})
}

func TestACallerWhoGoesAwayDoesNotEndTheDialOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.net.Close()
		a, b := w.node("one", "a", 1), w.node("one", "b", 2)
		defer w.run(a)()
		defer w.run(b)()
		hasty, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { _, err := a.Call(hasty, "b", "echo", nil); done <- err }()
		synctest.Wait() // the dial is under way
		go func() { _, err := a.Call(t.Context(), "b", "echo", nil); done <- err }()
		synctest.Wait()
		cancel()
		if err := <-done; err == nil {
			t.Error("a cancelled call succeeded")
		}
		if err := <-done; err != nil {
			t.Errorf("the other caller of the same dial: %v", err)
		}
	})
}

func TestStrangersBeyondTheRateMustProveTheirAddressThenAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // virtual time: the buckets do not fill meanwhile
		th := newThrottle()
		for i := range unprovenPerSecond {
			if th.mustProve(nil) {
				t.Fatalf("newcomer %d had to prove its address", i)
			}
		}
		if !th.mustProve(nil) {
			t.Error("beyond the rate no proof was asked for")
		}
		for i := range handshakesPerSecond {
			if _, err := th.config(nil); err != nil {
				t.Fatalf("handshake %d: %v", i, err)
			}
		}
		if _, err := th.config(nil); err == nil {
			t.Error("handshakes are not bounded")
		}
		time.Sleep(time.Second)
		if _, err := th.config(nil); err != nil || th.mustProve(nil) {
			t.Error("a second later the door is still shut")
		}
	})
}
