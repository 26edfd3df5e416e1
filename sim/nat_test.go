package sim

import (
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

var public = netip.MustParseAddr("203.0.113.1")

// natted is two with a translator in front of a, and a third host c.
func natted(t *testing.T, kind NATKind) (n *Network, a, b, c *Conn) {
	t.Helper()
	n, a, b = two(t, 1)
	c = listen(t, n.Host("c", address(3)), 7000)
	n.SetNAT("a", NAT{Kind: kind, Public: public, Idle: 30 * time.Second})
	return n, a, b, c
}

// seenFrom sends from a and returns the source that the receiver sees.
func seenFrom(t *testing.T, a, at *Conn, to netip.AddrPort) netip.AddrPort {
	t.Helper()
	write(t, a, to, "out")
	_ = at.SetReadDeadline(time.Now().Add(time.Second))
	_, from, err := at.ReadFromUDPAddrPort(make([]byte, 10))
	if err != nil {
		t.Fatalf("nothing came through: %v", err)
	}
	return from
}

func TestNATKindsMapAndFilter(t *testing.T) {
	toC := netip.AddrPortFrom(address(3), 7000)
	for kind, want := range map[NATKind]struct{ same, stranger bool }{
		Cone: {true, true}, Restricted: {true, false}, Symmetric: {false, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			n, a, b, c := natted(t, kind)
			defer n.Close()
			atB := seenFrom(t, a, b, toB)
			if atB.Addr() != public {
				t.Errorf("kind %d: b sees %v, want an address of the translator", kind, atB)
			}
			write(t, c, atB, "stranger")
			if got := read(t, a, time.Second); (got == "stranger") != want.stranger {
				t.Errorf("kind %d: a host that was not sent to reached the inside: %q", kind, got)
			}
			write(t, b, atB, "answer")
			if got := read(t, a, time.Second); got != "answer" {
				t.Errorf("kind %d: the answer gave %q", kind, got)
			}
			if atC := seenFrom(t, a, c, toC); (atC == atB) != want.same {
				t.Errorf("kind %d: b sees %v and c sees %v", kind, atB, atC)
			}
		})
	}
}

func TestAStaticNATKeepsPortsAndLetsEveryoneIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b, c := natted(t, Static)
		defer n.Close()
		inside := netip.AddrPortFrom(public, a.LocalAddr().(*net.UDPAddr).AddrPort().Port())
		write(t, c, inside, "unasked")
		if got := read(t, a, time.Second); got != "unasked" {
			t.Errorf("a packet to the public address gave %q", got)
		}
		if atB := seenFrom(t, a, b, toB); atB != inside {
			t.Errorf("b sees %v, want %v", atB, inside)
		}
		time.Sleep(time.Hour)
		n.Rebind("a")
		write(t, b, inside, "later")
		if got := read(t, a, time.Second); got != "later" {
			t.Errorf("after an hour and a restart of the translator: %q", got)
		}
	})
}

func TestAStaticNATLeadsToTheAddressOfItsFamily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		defer n.Close()
		n.Host("a", netip.MustParseAddr("fd00::1"))
		conn, err := n.Host("a", address(1)).ListenPacket(t.Context(), netip.AddrPortFrom(address(1), 7000))
		if err != nil {
			t.Fatal(err)
		}
		a, b := conn.(*Conn), listen(t, n.Host("b", address(2)), 7000)
		n.SetNAT("a", NAT{Kind: Static, Public: public})
		write(t, b, netip.AddrPortFrom(public, 7000), "unasked")
		if got := read(t, a, time.Second); got != "unasked" {
			t.Errorf("a host with an IPv6 address too got %q", got)
		}
	})
}

func TestNATHidesThePrivateAddressAndForgetsWhatIsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b, _ := natted(t, Restricted)
		defer n.Close()
		write(t, b, toA, "direct")
		if got := read(t, a, time.Second); got != "" || n.Stats().Unrouted != 1 {
			t.Errorf("the private address was reached from outside: %q", got)
		}
		first := seenFrom(t, a, b, toB)
		time.Sleep(29 * time.Second)
		if again := seenFrom(t, a, b, toB); again != first {
			t.Errorf("a mapping in use changed from %v to %v", first, again)
		}
		time.Sleep(31 * time.Second)
		write(t, b, first, "late")
		if got := read(t, a, time.Second); got != "" || n.Stats().NATDrops != 1 {
			t.Errorf("an idle mapping let %q in; drops %d, want 1", got, n.Stats().NATDrops)
		}
		if next := seenFrom(t, a, b, toB); next == first {
			t.Errorf("an expired mapping came back as %v", next)
		}
	})
}

func TestARebindGivesNewPortsAndDropsAnswersToOldOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b, _ := natted(t, Cone)
		defer n.Close()
		first := seenFrom(t, a, b, toB)
		n.Rebind("a")
		write(t, b, first, "old")
		if got := read(t, a, time.Second); got != "" {
			t.Errorf("the old port let %q in", got)
		}
		if next := seenFrom(t, a, b, toB); next == first || next.Addr() != public {
			t.Errorf("after the rebind b sees %v, before it saw %v", next, first)
		}
		n.SetNAT("a", NAT{})
		if bare := seenFrom(t, a, b, toB); bare != toA {
			t.Errorf("without the translator b sees %v, want %v", bare, toA)
		}
	})
}
