package access

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// recordingWire is a socket that writes down what it is asked to send.
type recordingWire struct {
	net.PacketConn
	said []string
	fail error
}

func (w *recordingWire) WriteTo(p []byte, to net.Addr) (int, error) {
	w.said = append(w.said, fmt.Sprintf("one %d to %s", len(p), to))
	return len(p), nil
}

func (w *recordingWire) WriteRun(run []byte, segment int, to netip.AddrPort) error {
	w.said = append(w.said, fmt.Sprintf("run %d of %d to %s", len(run), segment, to))
	return w.fail
}

func TestABurstLeavesAsRunsOfEqualSegments(t *testing.T) {
	viewer, other := netip.MustParseAddrPort("192.0.2.1:1000"), netip.MustParseAddrPort("192.0.2.2:1000")
	for name, c := range map[string]struct {
		sizes []int
		want  []string
	}{
		"a frame":                  {[]int{100, 100, 100}, []string{"run 300 of 100 to 192.0.2.1:1000"}},
		"a shorter one ends a run": {[]int{100, 100, 40, 100}, []string{"run 240 of 100 to 192.0.2.1:1000", "run 100 of 100 to 192.0.2.1:1000"}},
		"a longer one begins one":  {[]int{100, 120, 120}, []string{"run 100 of 100 to 192.0.2.1:1000", "run 240 of 120 to 192.0.2.1:1000"}},
		"nothing":                  {nil, nil},
	} {
		w := &recordingWire{}
		conn := newRunConn(w)
		r := conn.gather(viewer)
		for _, size := range c.sizes {
			if n, err := conn.WriteTo(make([]byte, size), net.UDPAddrFromAddrPort(viewer)); n != size || err != nil {
				t.Fatalf("%s: WriteTo took %d of %d: %v", name, n, size, err)
			}
		}
		conn.flush(r)
		if got := strings.Join(w.said, "; "); got != strings.Join(c.want, "; ") {
			t.Errorf("%s: sent %s, want %s", name, got, strings.Join(c.want, "; "))
		}
		w.said = nil
		_, _ = conn.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(viewer))
		if len(w.said) != 1 || w.said[0] != "one 1 to 192.0.2.1:1000" {
			t.Errorf("%s: after the flush: %v", name, w.said)
		}
	}
	w := &recordingWire{}
	conn := newRunConn(w)
	r := conn.gather(viewer)
	_, _ = conn.WriteTo([]byte("xy"), net.UDPAddrFromAddrPort(other))
	if len(w.said) != 1 || w.said[0] != "one 2 to 192.0.2.2:1000" {
		t.Errorf("another address had to wait: %v", w.said)
	}
	conn.flush(r)
}

func TestRunsKeepTheirBounds(t *testing.T) {
	viewer := netip.MustParseAddrPort("[2001:db8::1]:1000")
	w := &recordingWire{fail: errors.New("network is down")}
	conn := newRunConn(w)
	if conn.gather(netip.AddrPort{}) != nil {
		t.Error("collects for no address")
	}
	r := conn.gather(viewer)
	if conn.gather(viewer) != nil {
		t.Error("two sessions collect for one address")
	}
	packet := bytes.Repeat([]byte("x"), 1400)
	for range 100 {
		_, _ = conn.WriteTo(packet, net.UDPAddrFromAddrPort(viewer))
	}
	conn.flush(r)
	if len(w.said) < 5 {
		t.Errorf("100 packets left as %d runs: larger than %d bytes", len(w.said), runBytes)
	}
	if got := conn.failed.Load(); got != 100 {
		t.Errorf("%d refused datagrams counted, want 100", got)
	}
	plain := newRunConn(struct{ net.PacketConn }{w})
	if plain.gather(viewer) != nil {
		t.Error("a socket without runs collects")
	}
}
