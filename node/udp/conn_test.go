package udp

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t testing.TB, addr string) *Conn {
	t.Helper()
	c, err := Listen(context.Background(), netip.MustParseAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	return c
}

func addrOf(c *Conn, host string) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(host), c.LocalAddr().(*net.UDPAddr).AddrPort().Port())
}

// run makes count segments of size bytes, the last one of last bytes; each begins with its number.
func run(count, size, last int) []byte {
	var b []byte
	for i := range count {
		n := size
		if i == count-1 {
			n = last
		}
		b = append(b, bytes.Repeat([]byte{byte(i)}, n)...)
	}
	return b
}

// segments calls handle for each packet of a run.
func segments(handle func(segment []byte, from netip.AddrPort)) func([]byte, int, netip.AddrPort, bool, time.Duration) {
	return func(run []byte, segment int, from netip.AddrPort, _ bool, _ time.Duration) {
		for len(run) > segment {
			handle(run[:segment], from)
			run = run[segment:]
		}
		handle(run, from)
	}
}

func TestRunsArriveSegmentBySegment(t *testing.T) {
	t.Run("waiting writes", func(t *testing.T) { testRuns(t, (*Conn).WriteRun) })
	t.Run("writes that never wait", func(t *testing.T) { testRuns(t, (*Conn).TryWriteRun) })
}

func testRuns(t *testing.T, write func(c *Conn, run []byte, segment int, to netip.AddrPort) error) {
	for _, tc := range []struct {
		name              string
		host, listen      string
		noGSO             bool
		count, size, last int
	}{
		{"one packet", "127.0.0.1", "127.0.0.1:0", false, 1, 1200, 1200},
		{"a run with a short end", "127.0.0.1", "127.0.0.1:0", false, 20, 1200, 17},
		{"more than 64 segments", "127.0.0.1", "127.0.0.1:0", false, 150, 200, 200},
		{"more than 64 KiB", "127.0.0.1", "127.0.0.1:0", false, 100, 1372, 1000},
		{"IPv6", "::1", "[::1]:0", false, 20, 1200, 17},
		{"IPv4 on a dual-stack socket", "127.0.0.1", "[::]:0", false, 20, 1200, 17},
		{"GSO refused", "127.0.0.1", "127.0.0.1:0", true, 20, 1200, 17},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in, out := listen(t, tc.listen), listen(t, tc.listen)
			out.noGSO.Store(tc.noGSO)
			if err := write(out, run(tc.count, tc.size, tc.last), tc.size, addrOf(in, tc.host)); err != nil {
				t.Fatal(err)
			}
			next := 0
			for next < tc.count {
				err := in.ReadRuns(segments(func(p []byte, from netip.AddrPort) {
					want := tc.size
					if next == tc.count-1 {
						want = tc.last
					}
					if len(p) != want || p[0] != byte(next) || p[len(p)-1] != byte(next) {
						t.Errorf("segment %d: %d bytes numbered %d, want %d bytes", next, len(p), p[0], want)
					}
					if from != addrOf(out, tc.host) {
						t.Errorf("segment %d: from %v, want %v", next, from, addrOf(out, tc.host))
					}
					next++
				}))
				if err != nil {
					t.Fatalf("after %d of %d segments: %v", next, tc.count, err)
				}
			}
		})
	}
}

// A member's address may be of a family that this node's socket does not have.
func TestAnAddressOfTheOtherFamilyIsAnError(t *testing.T) {
	c := listen(t, "127.0.0.1:0")
	for _, to := range []netip.AddrPort{netip.MustParseAddrPort("[::1]:9"), {}} {
		if c.WriteRun([]byte("packet"), 6, to) == nil || c.TryWriteRun([]byte("packet"), 6, to) == nil {
			t.Errorf("an IPv4 socket wrote to %v", to)
		}
	}
}

func TestClosingEndsReadRuns(t *testing.T) {
	c := listen(t, "127.0.0.1:0")
	ended := make(chan error, 1)
	go func() { ended <- c.ReadRuns(func([]byte, int, netip.AddrPort, bool, time.Duration) {}) }()
	_ = c.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("ReadRuns on a closed socket: %v, want net.ErrClosed", err)
	}
}

func TestPlainPacketConn(t *testing.T) {
	var pc net.PacketConn = listen(t, "127.0.0.1:0")
	if _, err := pc.WriteTo([]byte("ping"), pc.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, _, err := pc.ReadFrom(buf)
	if err != nil || string(buf[:n]) != "ping" {
		t.Errorf("read %q, %v", buf[:n], err)
	}
}

func TestAPlainReadNeverSeesARun(t *testing.T) {
	in, out := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	if err := out.WriteRun(run(5, 1000, 300), 1000, addrOf(in, "127.0.0.1")); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		buf := make([]byte, readBytes)
		n, _, err := in.ReadFrom(buf)
		if want := []int{1000, 1000, 1000, 1000, 300}[i]; err != nil || n != want || buf[0] != byte(i) {
			t.Fatalf("packet %d: %d bytes that begin with %d, %v; want %d bytes", i, n, buf[0], err, want)
		}
	}
}

// ReadFrom hands out one after the other what a batched read brought; WriteTo takes every kind of address.
func TestPacketsInABatchComeOneByOne(t *testing.T) {
	for listenAt, host := range map[string]string{"127.0.0.1:0": "127.0.0.1", "[::1]:0": "::1", "[::]:0": "127.0.0.1"} {
		in, out := listen(t, listenAt), listen(t, listenAt)
		to := net.UDPAddrFromAddrPort(addrOf(in, host))
		const packets = 3 * readMessages
		for i := range packets {
			if _, err := out.WriteTo([]byte{byte(i), 7}, to); err != nil {
				t.Fatal(err)
			}
		}
		buf := make([]byte, 100)
		for i := range packets {
			n, from, err := in.ReadFrom(buf)
			if want := net.UDPAddrFromAddrPort(addrOf(out, host)).String(); err != nil || n != 2 || buf[0] != byte(i) || from.String() != want {
				t.Fatalf("%s, packet %d: %d bytes that begin with %d from %v, %v; want 2 from %s", listenAt, i, n, buf[0], from, err, want)
			}
		}
		if _, err := out.WriteTo(nil, to); err != nil {
			t.Errorf("%s: an empty packet: %v", listenAt, err)
		}
		if n, _, err := in.ReadFrom(buf); n != 0 || err != nil {
			t.Errorf("%s: an empty packet is read as %d bytes, %v", listenAt, n, err)
		}
		if err := in.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := in.ReadFrom(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: after the deadline: %v", listenAt, err)
		}
		_ = in.Close()
		if _, _, err := in.ReadFrom(buf); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: closed: %v", listenAt, err)
		}
	}
}

func TestBadAddressNamesIt(t *testing.T) {
	_, err := Listen(context.Background(), netip.MustParseAddrPort("192.0.2.1:1"))
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte("192.0.2.1:1")) {
		t.Errorf("error %v, want one that names the address", err)
	}
}

func TestNoAllocationPerPacket(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("batched reads exist on Linux only")
	}
	if raced {
		t.Skip("under the race detector pools forget at random")
	}
	in, out := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	to := addrOf(in, "127.0.0.1")
	b := run(20, 1200, 1200)
	got := 0
	handle := segments(func([]byte, netip.AddrPort) { got++ })
	allocs := testing.AllocsPerRun(100, func() {
		if err := out.WriteRun(b, 1200, to); err != nil {
			t.Fatal(err)
		}
		if err := out.TryWriteRun(b, 1200, to); err != nil {
			t.Fatal(err)
		}
		for got = 0; got < 40; {
			if err := in.ReadRuns(handle); err != nil {
				t.Fatal(err)
			}
		}
	})
	if allocs > 0 {
		t.Errorf("%v allocations per two runs of 20 packets written and read, want 0", allocs)
	}
}

// A router's congestion mark arrives with the packet; what TryWriteRun sends may be marked, what WriteRun sends may not.
func TestCongestionMarksAreRead(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("marks are read on Linux only")
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		in, out := listen(t, netip.AddrPortFrom(netip.MustParseAddr(host), 0).String()), listen(t, "[::]:0")
		setTOS(t, out, ecnCE) // as if a router had marked everything
		if err := out.WriteRun([]byte("marked"), 6, addrOf(in, host)); err != nil {
			t.Fatal(err)
		}
		if err := out.TryWriteRun([]byte("capable"), 7, addrOf(in, host)); err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		for len(got) < 2 {
			err := in.ReadRuns(func(run []byte, _ int, _ netip.AddrPort, marked bool, _ time.Duration) { got[string(run)] = marked })
			if err != nil {
				t.Fatalf("%s: after %v: %v", host, got, err)
			}
		}
		if !got["marked"] || got["capable"] {
			t.Errorf("%s: read as marked: %v", host, got)
		}
	}
}

// A reader learns how long a packet was there before it came.
func TestReadersLearnWhatHasWaited(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("arrival times are read on Linux only")
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		in, out := listen(t, netip.AddrPortFrom(netip.MustParseAddr(host), 0).String()), listen(t, "[::]:0")
		began := time.Now()
		if err := out.TryWriteRun([]byte("packet"), 6, addrOf(in, host)); err != nil {
			t.Fatal(err)
		}
		var waited time.Duration
		if err := in.ReadRuns(func(_ []byte, _ int, _ netip.AddrPort, _ bool, w time.Duration) { waited = w }); err != nil {
			t.Fatal(err)
		}
		if most := time.Since(began); waited <= 0 || waited > most {
			t.Errorf("%s: the packet has waited %v, want more than 0 and at most %v", host, waited, most)
		}
	}
}
