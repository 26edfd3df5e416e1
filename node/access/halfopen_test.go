package access

import (
	"net/netip"
	"testing"

	"github.com/pion/webrtc/v4"
)

func TestHalfOpenSessionsAreBounded(t *testing.T) {
	here, there := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32")
	a := &Access{cfg: Config{MaxSessions: 1000}, sessions: map[string]*session{}}
	add := func(n int, from netip.Prefix, connected bool) {
		for range n {
			s := &session{pc: new(webrtc.PeerConnection), source: from}
			s.connected.Store(connected)
			a.sessions[randomID(8)] = s
		}
	}
	ask := func(from netip.Prefix) string {
		if p := a.halfOpen(&session{pc: new(webrtc.PeerConnection), source: from}); p != nil {
			return p.reason
		}
		return ""
	}
	add(600, here, true) // who is connected does not count
	add(maxHalfOpen-1, here, false)
	if got := ask(here); got != "" {
		t.Errorf("the last one that may be: %s", got)
	}
	add(1, here, false)
	if got, other := ask(here), ask(there); got != "half_open_source" || other != "" {
		t.Errorf("one source has all it may: %q; another is refused %q", got, other)
	}
	add(500-maxHalfOpen, there, false)
	if got := ask(netip.MustParsePrefix("192.0.2.3/32")); got != "half_open" {
		t.Errorf("half of all places wait: %q", got)
	}
	if p := a.halfOpen(&session{}); p != nil {
		t.Errorf("plain RTP: %s", p.reason)
	}
}
