package link

import (
	"context"
	"net"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ternmesh/tern/bench/fanout"
	"github.com/ternmesh/tern/bench/load"
	"github.com/ternmesh/tern/sim"
)

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

// running starts a link and returns where it listens.
func running(t *testing.T, cfg Config) (l *Link, udp netip.AddrPort, web string) {
	t.Helper()
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	opened, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- l.Run(ctx, func(a netip.AddrPort, w string) { udp, web = a, w; close(opened) })
	}()
	select {
	case <-opened:
	case err := <-done:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the link ended with %v", err)
		}
	})
	return l, udp, web
}

// echo answers every packet.
func echo(t *testing.T) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(loopback))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		buf := make([]byte, 2000)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestRealPacketsTakeTheLinksTimeBothWays(t *testing.T) {
	l, at, _ := running(t, Config{Out: sim.Link{Delay: 30 * time.Millisecond}, Back: sim.Link{Delay: 20 * time.Millisecond}, Listen: loopback, To: echo(t)})
	for _, text := range []string{"one", "two"} { // two programs: the answers must not be mixed up
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		began := time.Now()
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(began.Add(10 * time.Second))
		buf := make([]byte, 100)
		n, err := c.Read(buf)
		if took := time.Since(began); err != nil || string(buf[:n]) != text || took < 50*time.Millisecond {
			t.Errorf("%q came back as %q after %v (%v), want at least 50 ms", text, buf[:n], took, err)
		}
	}
	if out, back, refused := l.Stats(); out.Delivered != 2 || back.Delivered != 2 || refused != 0 {
		t.Errorf("delivered %d out and %d back, refused %d: want 2, 2, 0", out.Delivered, back.Delivered, refused)
	}
}

func TestWebRTCGoesThroughTheLinkBySignalling(t *testing.T) {
	s, err := fanout.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s)
	t.Cleanup(func() { web.Close(); s.Close() })
	upstream, err := url.Parse(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	l, _, at := running(t, Config{Out: sim.Link{Delay: 40 * time.Millisecond}, Back: sim.Link{}, HTTP: "127.0.0.1:0", Upstream: upstream})
	r, err := load.Run(context.Background(), load.Config{
		Publishers: 1, Viewers: 1, WHIP: "http://" + at + "/whip/a", WHEP: web.URL + "/whep/a", Size: 100, Rate: 50, Burst: 1, For: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Delivered == 0 || r.Latency.P50 < 40 {
		t.Errorf("%d packets, median %v ms: the publisher's way should take at least the link's 40 ms", r.Delivered, r.Latency.P50)
	}
	if out, _, _ := l.Stats(); out.Delivered < r.Delivered {
		t.Errorf("%d packets crossed the link, %d arrived", out.Delivered, r.Delivered)
	}
}

func TestCandidatesAreMappedOrDropped(t *testing.T) {
	sdp := "v=0\r\na=candidate:1 1 udp 5 10.0.0.1 99 typ host\r\na=candidate:2 1 tcp 5 10.0.0.1 9 typ host tcptype active\r\n" +
		"a=candidate:3 1 UDP 5 x.local 99 typ host\r\na=candidate:4 1 udp\r\na=candidate:5 1 udp 5 10.0.0.2 99999 typ host\r\na=end-of-candidates\r\n"
	to := netip.MustParseAddrPort("127.0.0.1:7")
	got := rewrite(sdp, func(from netip.AddrPort) (netip.AddrPort, bool) {
		if from.String() != "10.0.0.1:99" {
			t.Errorf("asked for %v", from)
		}
		return to, true
	})
	if want := "v=0\r\na=candidate:1 1 udp 5 127.0.0.1 7 typ host\r\na=end-of-candidates\r\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := withoutCandidates(sdp); strings.Contains(got, "a=candidate:") || !strings.Contains(got, "end-of-candidates") {
		t.Errorf("an offer kept candidates:\n%s", got)
	}
}

func FuzzRewrite(f *testing.F) {
	f.Add("a=candidate:1 1 udp 5 10.0.0.1 99 typ host\r\n")
	f.Add("a=candidate:1 1 udp 5 ::1 99 typ host\nm=x")
	f.Fuzz(func(t *testing.T, sdp string) {
		if got := withoutCandidates(sdp); strings.HasPrefix(got, "a=candidate:") {
			t.Errorf("%q kept a candidate: %q", sdp, got)
		}
	})
}

func TestEveryMistakeOfAConfigIsReported(t *testing.T) {
	u, _ := url.Parse("ftp://x")
	for want, cfg := range map[string]Config{
		"nothing to carry":        {},
		"listen and to belong":    {Listen: loopback},
		"http and upstream":       {HTTP: ":1"},
		"not an http or https":    {HTTP: ":1", Upstream: u},
		"loss is 2, want a share": {Listen: loopback, To: loopback, Out: sim.Link{Loss: 2}},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
