package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func address(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) }

func listen(t *testing.T, h *Host, port uint16) *Conn {
	t.Helper()
	c, err := h.ListenPacket(context.Background(), netip.AddrPortFrom(netip.IPv6Unspecified(), port))
	if err != nil {
		t.Fatal(err)
	}
	return c.(*Conn)
}

// two makes a network of hosts a and b, each listening on port 7000.
func two(t *testing.T, seed uint64) (n *Network, a, b *Conn) {
	t.Helper()
	n = New(seed)
	a = listen(t, n.Host("a", address(1)), 7000)
	b = listen(t, n.Host("b", address(2)), 7000)
	return n, a, b
}

var toA, toB = netip.AddrPortFrom(address(1), 7000), netip.AddrPortFrom(address(2), 7000)

func write(t *testing.T, c *Conn, to netip.AddrPort, payload string) {
	t.Helper()
	if _, err := c.WriteToUDPAddrPort([]byte(payload), to); err != nil {
		t.Fatal(err)
	}
}

// read returns the next packet, or "" if none comes within the wait.
func read(t *testing.T, c *Conn, wait time.Duration) string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2048)
	n, _, err := c.ReadFrom(buf)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestPacketsTakeTheLinksDelayEachWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := two(t, 1)
		defer n.Close()
		n.SetLink("a", "b", Link{Delay: 80 * time.Millisecond})
		n.SetLink("b", "a", Link{Delay: 90 * time.Millisecond})
		start := time.Now()
		write(t, a, toB, "there")
		if got := read(t, b, time.Second); got != "there" || time.Since(start) != 80*time.Millisecond {
			t.Errorf("b got %q after %v, want it after exactly 80ms of virtual time", got, time.Since(start))
		}
		write(t, b, toA, "back")
		if got := read(t, a, time.Second); got != "back" || time.Since(start) != 170*time.Millisecond {
			t.Errorf("a got %q after %v in all, want 170ms", got, time.Since(start))
		}
	})
}

func TestEveryArrivalHasItsOwnInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		defer n.Close()
		n.SetDefault(Link{Delay: 10 * time.Millisecond})
		sink := listen(t, n.Host("sink", address(100)), 7000)
		for i := range 20 { // twenty hosts send at one instant over equal links
			write(t, listen(t, n.Host(fmt.Sprint("h", i), address(i+1)), 7000), netip.AddrPortFrom(address(100), 7000), "x")
		}
		seen := make(map[time.Time]bool)
		for i := range 20 {
			if read(t, sink, time.Second) == "" {
				t.Fatalf("only %d of 20 packets arrived", i)
			}
			if seen[time.Now()] {
				t.Fatalf("two packets were read at one instant, %v", time.Now())
			}
			seen[time.Now()] = true
		}
	})
}

// transcript sends numbered packets over a lossy link and returns who arrived when; other traffic may disturb.
func transcript(t *testing.T, seed uint64, disturb bool) (out string) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := two(t, seed)
		defer n.Close()
		link := Link{Delay: 30 * time.Millisecond, Jitter: 4 * time.Millisecond, Loss: 0.1, Reorder: 0.05, Duplicate: 0.05}
		n.SetLink("a", "b", link)
		n.SetDefault(link)
		other := listen(t, n.Host("c", address(3)), 7000)
		start := time.Now()
		for i := range 300 {
			write(t, a, toB, fmt.Sprint(i))
			if disturb {
				write(t, other, toA, "noise")
			}
			time.Sleep(time.Millisecond)
		}
		for {
			got := read(t, b, time.Second)
			if got == "" {
				return
			}
			out += fmt.Sprintf("%s@%d ", got, time.Since(start).Microseconds())
		}
	})
	return out
}

func TestASeedReplaysALinkWhateverTheOthersDo(t *testing.T) {
	first := transcript(t, 42, false)
	if again := transcript(t, 42, false); again != first {
		t.Errorf("the same seed gave two histories:\n%s\n%s", first, again)
	}
	if noisy := transcript(t, 42, true); noisy != first {
		t.Errorf("traffic on another link changed this one:\n%s\n%s", first, noisy)
	}
	if other := transcript(t, 43, false); other == first {
		t.Error("another seed gave the same history")
	}
}

func TestKilledHostIsSilentBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := two(t, 1)
		defer n.Close()
		n.SetDefault(Link{Delay: 50 * time.Millisecond})
		write(t, a, toB, "under way when b dies")
		n.Kill("b")
		write(t, a, toB, "sent to the dead")
		write(t, b, toA, "sent by the dead")
		if got := read(t, b, time.Second); got != "" {
			t.Errorf("the dead host received %q", got)
		}
		if got := read(t, a, time.Second); got != "" {
			t.Errorf("the dead host sent %q", got)
		}
		n.Revive("b")
		write(t, a, toB, "welcome back")
		if got := read(t, b, time.Second); got != "welcome back" {
			t.Errorf("after Revive b got %q", got)
		}
		if s := n.LinkStats("a", "b"); s.Cut != 2 || s.Delivered != 1 || s.Sent != 3 {
			t.Errorf("a to b: %+v, want 3 sent, 2 cut, 1 delivered", s)
		}
	})
}

func TestPartitionSplitsNamedHostsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := two(t, 1)
		defer n.Close()
		c := listen(t, n.Host("c", address(3)), 7000)
		n.Partition([]string{"a"}, []string{"b"})
		write(t, a, toB, "no")
		write(t, c, toB, "c is in no group")
		if got := read(t, b, time.Second); got != "c is in no group" {
			t.Errorf("b got %q", got)
		}
		n.Partition()
		write(t, a, toB, "healed")
		if got := read(t, b, time.Second); got != "healed" {
			t.Errorf("after healing b got %q", got)
		}
	})
}

func TestLinkDownIsOneWayAndNeedsNoTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := two(t, 1)
		defer n.Close()
		n.UpdateLink("a", "b", func(l *Link) { l.Down = true })
		write(t, a, toB, "no")
		write(t, b, toA, "yes")
		if got := read(t, a, time.Second); got != "yes" {
			t.Errorf("the open direction gave %q", got)
		}
		if got := read(t, b, time.Second); got != "" {
			t.Errorf("the closed direction gave %q", got)
		}
	})
}

func TestJointLossHitsAllCopiesOfAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := two(t, 5)
		defer n.Close()
		c := listen(t, n.Host("c", address(3)), 7000)
		n.SetJointLoss("a", 0.2, 10*time.Millisecond)
		time.Sleep(time.Millisecond)
		const rounds = 2000
		for i := range rounds {
			write(t, a, toB, fmt.Sprint(i))
			write(t, a, netip.AddrPortFrom(address(3), 7000), fmt.Sprint(i))
			time.Sleep(10 * time.Millisecond)
		}
		count := 0
		for {
			one, other := read(t, b, time.Second), read(t, c, time.Second)
			if one != other {
				t.Fatalf("one path got %q where the other got %q", one, other)
			}
			if one == "" {
				break
			}
			count++
		}
		if lost := rounds - count; lost < 340 || lost > 460 {
			t.Errorf("%d of %d moments lost, want about 20 %%", lost, rounds)
		}
	})
}

func TestReceiveQueueIsBoundedAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := two(t, 1)
		defer n.Close()
		for range receiveQueuePackets + 10 {
			write(t, a, toB, "x")
		}
		time.Sleep(time.Second)
		if b.Drops() != 10 || n.Stats().ReceiveDrops != 10 {
			t.Errorf("%d and %d drops counted, want 10", b.Drops(), n.Stats().ReceiveDrops)
		}
		got := 0
		for range receiveQueuePackets / readRunPackets {
			if err := b.ReadRuns(func(segment []byte, _ int, from netip.AddrPort, _ bool, _ time.Duration) {
				if string(segment) != "x" || from != toA {
					t.Fatalf("read %q from %v", segment, from)
				}
				got++
			}); err != nil {
				t.Fatal(err)
			}
		}
		if got != receiveQueuePackets {
			t.Errorf("read %d packets, the queue holds %d", got, receiveQueuePackets)
		}
	})
}

func TestWriteRunCutsSegments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := two(t, 1)
		defer n.Close()
		if err := a.WriteRun([]byte("aaabbbcc"), 3, toB); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"aaa", "bbb", "cc"} {
			if got := read(t, b, time.Second); got != want {
				t.Errorf("got segment %q, want %q", got, want)
			}
		}
		if err := a.WriteRun([]byte("x"), 0, toB); err == nil {
			t.Error("a segment size of zero was accepted")
		}
	})
}

func TestCorruptionFlipsOneBit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := two(t, 1)
		defer n.Close()
		n.SetLink("a", "b", Link{Corrupt: 1})
		write(t, a, toB, "\x00\x00\x00\x00")
		if got := binary.BigEndian.Uint32([]byte(read(t, b, time.Second))); got == 0 || got&(got-1) != 0 {
			t.Errorf("four zero bytes arrived as %08x, want exactly one bit set", got)
		}
	})
}

func TestDualStackHostAnswersFromTheRightFamily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		defer n.Close()
		six := netip.MustParseAddr("fd00::2")
		n.Host("b", address(2))
		b := listen(t, n.Host("b", six), 7000)
		n.Host("a", address(1))
		a := listen(t, n.Host("a", netip.MustParseAddr("fd00::1")), 7000)
		for to, from := range map[string]string{"10.0.0.2:7000": "10.0.0.1:7000", "[fd00::2]:7000": "[fd00::1]:7000"} {
			write(t, a, netip.MustParseAddrPort(to), "x")
			_, got, err := b.ReadFromUDPAddrPort(make([]byte, 10))
			if err != nil || got.String() != from {
				t.Errorf("packet to %s came from %v (%v), want %s", to, got, err, from)
			}
		}
		if got := a.LocalAddr().String(); got != "10.0.0.1:7000" {
			t.Errorf("LocalAddr is %s, want the host's first address", got)
		}
		only := listen(t, n.Host("four", address(4)), 1)
		if _, err := only.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(six, 1)); !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("an IPv4 host sent to IPv6: %v", err)
		}
	})
}

func TestListenRefusesWhatASocketRefuses(t *testing.T) {
	n := New(1)
	defer n.Close()
	h := n.Host("a", address(1))
	ctx := context.Background()
	first, err := h.ListenPacket(ctx, netip.AddrPortFrom(address(1), 0))
	if err != nil {
		t.Fatal(err)
	}
	taken := first.LocalAddr().(*net.UDPAddr).AddrPort()
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for _, c := range []struct {
		what string
		ctx  context.Context
		addr netip.AddrPort
		want error
	}{
		{"a port in use", ctx, taken, syscall.EADDRINUSE},
		{"all addresses on a port in use", ctx, netip.AddrPortFrom(netip.IPv4Unspecified(), taken.Port()), syscall.EADDRINUSE},
		{"another host's address", ctx, netip.AddrPortFrom(address(9), 1), syscall.EADDRNOTAVAIL},
		{"an ended context", ended, netip.AddrPortFrom(address(1), 2), context.Canceled},
	} {
		if _, err := h.ListenPacket(c.ctx, c.addr); !errors.Is(err, c.want) {
			t.Errorf("%s: got error %v, want %v", c.what, err, c.want)
		}
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.ListenPacket(ctx, taken); err != nil {
		t.Errorf("the port is not free after Close: %v", err)
	}
	n.Close()
	if _, err := h.ListenPacket(ctx, taken); !errors.Is(err, net.ErrClosed) {
		t.Errorf("listening on a closed network: %v", err)
	}
}

func TestDeadlineWakesAWaitingReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, _ := two(t, 1)
		defer n.Close()
		failed := make(chan error)
		go func() {
			_, _, err := a.ReadFrom(make([]byte, 10))
			failed <- err
		}()
		synctest.Wait() // the reader waits without a deadline
		start := time.Now()
		_ = a.SetReadDeadline(start.Add(3 * time.Second))
		err := <-failed
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() || time.Since(start) != 3*time.Second {
			t.Errorf("after %v: %v, want a timeout after 3s", time.Since(start), err)
		}
		_ = a.SetReadDeadline(time.Time{})
		write(t, a, toA, "to myself")
		if n, _, err := a.ReadFrom(make([]byte, 20)); n != 9 || err != nil {
			t.Errorf("after the deadline was lifted: %d bytes, %v", n, err)
		}
	})
}

func TestCloseWakesReadersAndStopsEverything(t *testing.T) {
	n, a, b := two(t, 1)
	n.SetDefault(Link{Delay: time.Hour})
	write(t, a, toB, "never arrives")
	failed := make(chan error, 2)
	var ready sync.WaitGroup
	for _, c := range []*Conn{a, b} {
		ready.Add(1)
		go func() {
			ready.Done()
			_, _, err := c.ReadFrom(make([]byte, 10))
			failed <- err
		}()
	}
	ready.Wait()
	n.Close()
	n.Close() // twice is fine
	for range 2 {
		if err := <-failed; !errors.Is(err, net.ErrClosed) {
			t.Errorf("a reader got %v, want net.ErrClosed", err)
		}
	}
	if _, err := a.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(toB)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("writing after Close: %v", err)
	}
	if err := a.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closing twice: %v", err)
	}
}

// In real time nothing may be early, and order holds under concurrent senders. How late is the machine's affair.
func TestRealTimeIsNeverEarly(t *testing.T) {
	n, a, b := two(t, 1)
	defer n.Close()
	const delay, count = 20 * time.Millisecond, 500
	n.SetLink("a", "b", Link{Delay: delay, Jitter: time.Millisecond})
	go func() {
		payload := make([]byte, 12)
		for i := range count {
			binary.BigEndian.PutUint32(payload, uint32(i))
			binary.BigEndian.PutUint64(payload[4:], uint64(time.Since(n.birth)))
			_, _ = a.WriteToUDPAddrPort(payload, toB)
		}
	}()
	buf := make([]byte, 64)
	for i := range count {
		size, _, err := b.ReadFromUDPAddrPort(buf)
		if err != nil {
			t.Fatal(err)
		}
		if got := int(binary.BigEndian.Uint32(buf)); got != i || size != 12 {
			t.Fatalf("packet %d arrived in place %d", got, i)
		}
		if took := time.Since(n.birth) - time.Duration(binary.BigEndian.Uint64(buf[4:])); took < delay {
			t.Fatalf("packet %d took %v, the link alone takes %v", i, took, delay)
		}
	}
}

func TestStrayPacketsVanishAndAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := two(t, 1)
		defer n.Close()
		write(t, a, netip.AddrPortFrom(address(77), 1), "no such host")
		write(t, a, netip.AddrPortFrom(address(2), 1), "no such port")
		write(t, a, toB, string(bytes.Repeat([]byte("x"), 1473)))
		if got := read(t, b, time.Second); got != "" {
			t.Errorf("a packet of 1,501 bytes passed the default MTU")
		}
		if s := n.Stats(); s.Unrouted != 1 || s.NoListener != 1 || s.InFlight != 0 || n.LinkStats("a", "b").Oversize != 1 {
			t.Errorf("counters: %+v, link %+v", s, n.LinkStats("a", "b"))
		}
	})
}

func BenchmarkNetwork(b *testing.B) {
	n := New(1)
	defer n.Close()
	n.SetDefault(Link{Delay: time.Millisecond, Jitter: 100 * time.Microsecond})
	src, _ := n.Host("a", address(1)).ListenPacket(context.Background(), toA)
	dst, _ := n.Host("b", address(2)).ListenPacket(context.Background(), toB)
	payload := make([]byte, 1150)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		_ = src.(*Conn).WriteRun(payload, len(payload), toB)
		if i%32 == 31 {
			for got := 0; got < 32; {
				_ = dst.(*Conn).ReadRuns(func([]byte, int, netip.AddrPort, bool, time.Duration) { got++ })
			}
		}
	}
}
