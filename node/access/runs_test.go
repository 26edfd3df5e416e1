package access

import (
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
	sent []byte
	fail error

	discard bool
}

func (w *recordingWire) WriteTo(p []byte, to net.Addr) (int, error) {
	w.said = append(w.said, fmt.Sprintf("one %d to %s", len(p), to))
	w.sent = append(w.sent, p...)
	return len(p), w.fail
}

func (w *recordingWire) WriteRun(run []byte, segment int, to netip.AddrPort) error {
	if w.discard {
		return nil
	}
	w.said = append(w.said, fmt.Sprintf("run %d of %d to %s", len(run), segment, to))
	w.sent = append(w.sent, run...)
	return w.fail
}

// fill puts datagrams of these sizes in, each full of its own number.
func fill(o *outbox, sizes ...int) (want []byte) {
	for i, size := range sizes {
		b := o.room(size + 16) // room may be more than is taken
		for j := range size {
			b[j] = byte(i + 1)
		}
		want = append(want, b[:size]...)
		o.add(size)
	}
	return want
}

func TestABurstLeavesAsRunsOfEqualSegments(t *testing.T) {
	viewer := netip.MustParseAddrPort("192.0.2.1:1000")
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
		o := &outbox{port: newClientPort(w)}
		o.to(viewer)
		want := fill(o, c.sizes...)
		o.flush()
		if got := strings.Join(w.said, "; "); got != strings.Join(c.want, "; ") || string(w.sent) != string(want) {
			t.Errorf("%s: sent %s, want %s", name, got, strings.Join(c.want, "; "))
		}
	}
}

func TestAnotherViewersPacketsAreAnotherRun(t *testing.T) {
	w := &recordingWire{}
	o := &outbox{port: newClientPort(w)}
	for _, to := range []string{"192.0.2.1:1", "192.0.2.2:2", "192.0.2.2:2"} {
		o.to(netip.MustParseAddrPort(to))
		fill(o, 50)
	}
	o.flush()
	if got := strings.Join(w.said, "; "); got != "run 50 of 50 to 192.0.2.1:1; run 100 of 50 to 192.0.2.2:2" {
		t.Error(got)
	}
}

func TestRunsKeepTheirBounds(t *testing.T) {
	w := &recordingWire{fail: errors.New("network is down")}
	o := &outbox{port: newClientPort(w)}
	o.to(netip.MustParseAddrPort("[2001:db8::1]:1000"))
	sizes := make([]int, 100)
	for i := range sizes {
		sizes[i] = 1400
	}
	want := fill(o, sizes...)
	o.flush()
	if len(w.said) < 5 || string(w.sent) != string(want) {
		t.Errorf("100 packets left as %d runs: larger than %d bytes, or changed", len(w.said), runBytes)
	}
	if got := o.port.failed.Load(); got != 100 {
		t.Errorf("%d refused datagrams counted, want 100", got)
	}
	plain := &outbox{port: newClientPort(struct{ net.PacketConn }{w})}
	plain.to(netip.MustParseAddrPort("192.0.2.1:1"))
	w.said = nil
	fill(plain, 20, 20, 10)
	if got := strings.Join(w.said, "; "); got != "one 20 to 192.0.2.1:1; one 20 to 192.0.2.1:1; one 10 to 192.0.2.1:1" {
		t.Errorf("a socket without runs: %s", got)
	}
}
