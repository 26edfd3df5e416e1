package access

import (
	"net"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
)

func TestBlockedAddressGetsABare403(t *testing.T) {
	list := netip.MustParsePrefix("203.0.113.0/24")
	six := netip.MustParsePrefix("fe80::/64")
	w := newWorld(t, func(c *Config) {
		c.Allow = func(a netip.Addr) bool { return !list.Contains(a) && !six.Contains(a) }
	})
	for _, tc := range []struct {
		remote string
		code   int
	}{
		{"203.0.113.7:1000", 403}, {"[::ffff:203.0.113.7]:1000", 403}, {"[fe80::1%eth0]:1000", 403},
		{"198.51.100.1:1000", 200}, {"[2001:db8::1]:1000", 200}, {"@", 200}, // no address: a Unix socket
	} {
		r := httptest.NewRequest("GET", "/whip/open/room", nil)
		r.RemoteAddr = tc.remote
		res := httptest.NewRecorder()
		w.a.Handler().ServeHTTP(res, r)
		if res.Code != tc.code || res.Body.Len() != 0 || (tc.code == 403) != (res.Header().Get("Connection") == "close") {
			t.Errorf("%s: %d %v %q, want %d", tc.remote, res.Code, res.Header(), res.Body, tc.code)
		}
	}
	if n := w.a.Stats().RequestsBlocked; n != 3 {
		t.Errorf("%d requests counted as blocked, want 3", n)
	}
}

func TestPlainRTPFromABlockedAddressIsDropped(t *testing.T) {
	var blocked atomic.Bool // for UDP only: the test's own HTTP comes from the same address
	w := newWorld(t, func(c *Config) { c.Allow = func(netip.Addr) bool { return !blocked.Load() } })
	res := w.do("POST", "/v1/apps/open/channels/room/rtp", "", "Content-Type", typeJSON)
	if res.code != 201 {
		t.Fatalf("%d %s", res.code, res.body)
	}
	conn := dialUDP(t, portsOf(t, res.body)["video"])
	blocked.Store(true)
	send := func(what string, seq uint16, from net.Conn, counted func() uint64) {
		before := counted()
		w.until(what, func() bool { _, _ = from.Write(rtpBytes(t, 96, seq, []byte("x"))); return counted() > before })
	}
	dropped := func() uint64 { return w.a.Stats().DropsBlocked }
	passed := func() uint64 { return w.a.Stats().PacketsIn }
	// One packet, waited for: a second one still under way when the block is lifted would make conn the source.
	if _, err := conn.Write(rtpBytes(t, 96, 1, []byte("x"))); err != nil {
		t.Fatal(err)
	}
	w.until("a blocked source is dropped", func() bool { return dropped() == 1 })
	if passed() != 0 {
		t.Error("media of a blocked source passed")
	}
	blocked.Store(false)
	other := dialUDP(t, portsOf(t, res.body)["video"])
	send("another source becomes the source: the blocked one did not", 2, other, passed)
	blocked.Store(true)
	send("it is cut off when it is blocked while it sends", 3, other, dropped)
}
