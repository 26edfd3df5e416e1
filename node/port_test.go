package node

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ternmesh/tern/sim"
)

// pairOfPorts returns two ports on one emulated network; nothing reads them yet.
func pairOfPorts(t *testing.T) (n *sim.Network, a, b *port) {
	n = sim.New(1)
	open := func(name string, i byte) *port {
		addr := netip.AddrFrom4([4]byte{10, 0, 0, i})
		conn, err := n.Host(name, addr).ListenPacket(t.Context(), netip.AddrPortFrom(addr, 7900))
		if err != nil {
			t.Fatal(err)
		}
		return newPort(conn)
	}
	return n, open("a", 1), open("b", 2)
}

func (p *port) addr() net.Addr { return p.conn.LocalAddr() }

func TestThePortTellsClassesApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pairOfPorts(t)
		defer n.Close()
		var frames int
		b.frames = func([]byte, int, netip.AddrPort, bool, time.Duration) { frames++ }
		done := make(chan error, 1)
		go func() { done <- b.run() }()

		if _, err := a.gossip.WriteTo([]byte("hello"), b.addr()); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		if k, from, err := b.gossip.ReadFrom(buf); err != nil || string(buf[:k]) != "hello" || from.String() != "10.0.0.1:7900" {
			t.Fatalf("gossip: %q from %v, %v", buf[:k], from, err)
		}
		for _, first := range []byte{0x40, 0x7f, 0xc0, 0xff} {
			_, _ = a.quic.WriteTo([]byte{first, 1}, b.addr())
			if k, _, err := b.quic.ReadFrom(buf); err != nil || k != 2 || buf[0] != first {
				t.Errorf("QUIC packet %#x: %d bytes, %v", first, k, err)
			}
		}
		for _, first := range []byte{classPath, 0, 3, 6, 20, 63, 128, 191} {
			_, _ = a.conn.WriteTo([]byte{first}, b.addr())
		}
		_, _ = a.conn.WriteTo(nil, b.addr())
		time.Sleep(time.Second)
		synctest.Wait()
		if frames != 1 {
			t.Errorf("%d path frames, want 1", frames)
		}
		if got := b.stats().Unknown; got < 7 {
			t.Errorf("%d packets of unknown class counted, want 7 or more", got)
		}
		_ = b.conn.Close()
		if err := <-done; err != nil {
			t.Errorf("run ended with %v", err)
		}
		if _, _, err := b.gossip.ReadFrom(buf); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a reader outlived the socket: %v", err)
		}
	})
}

func TestAFullClassDropsAndCountsAndHarmsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pairOfPorts(t)
		defer n.Close()
		go func() { _ = b.run() }()
		const extra = 10
		for range classQueue + extra {
			_, _ = a.gossip.WriteTo([]byte("flood"), b.addr())
		}
		_, _ = a.quic.WriteTo([]byte{0x40}, b.addr())
		time.Sleep(time.Second)
		synctest.Wait()
		if got := b.stats().QueueFull; got != extra {
			t.Errorf("%d dropped, want %d", got, extra)
		}
		if _, _, err := b.quic.ReadFrom(make([]byte, 10)); err != nil {
			t.Errorf("QUIC suffered from the gossip flood: %v", err)
		}
	})
}

func TestAClassHonoursItsReadDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _, b := pairOfPorts(t)
		defer n.Close()
		start := time.Now()
		_ = b.quic.SetReadDeadline(start.Add(time.Second))
		if _, _, err := b.quic.ReadFrom(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		if got := time.Since(start); got != time.Second {
			t.Errorf("waited %v", got)
		}
		_ = b.quic.SetReadDeadline(time.Time{})
		go func() {
			time.Sleep(time.Second)
			_ = b.quic.SetReadDeadline(time.Now()) // wakes a reader that is already waiting
		}()
		if _, _, err := b.quic.ReadFrom(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	})
}

func TestThePortAsksTheFilterFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pairOfPorts(t)
		defer n.Close()
		b.allow = func(src netip.AddrPort, _ []byte) bool { return src.Addr() != netip.MustParseAddr("10.0.0.1") }
		go func() { _ = b.run() }()
		_, _ = a.gossip.WriteTo([]byte("x"), b.addr())
		time.Sleep(time.Second)
		synctest.Wait()
		if s := b.stats(); s.Filtered != 1 {
			t.Errorf("%+v, want 1 filtered", s)
		}
	})
}

func FuzzPort(f *testing.F) {
	f.Add([]byte{classGossip, 1})
	f.Add([]byte{classPath})
	f.Add([]byte{0xc3, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, packet []byte) {
		p := &port{frames: func([]byte, int, netip.AddrPort, bool, time.Duration) {}}
		p.gossip, p.quic = newClassConn(p, classGossip), newClassConn(p, 0)
		p.handle(packet, len(packet), netip.AddrPort{}, false, 0)
		if p.received.Load() != 1 {
			t.Fatal("a packet was not counted")
		}
	})
}
