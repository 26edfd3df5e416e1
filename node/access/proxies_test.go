package access

import (
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func TestClientsBehindTrustedProxiesHaveTheirOwnAddress(t *testing.T) {
	a := &Access{cfg: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}}}
	for _, tc := range []struct {
		remote string
		lines  []string
		want   string
	}{
		{"192.0.2.1:99", []string{"198.51.100.1"}, "192.0.2.1:99"}, // not a proxy of ours: the header means nothing
		{"10.0.0.1:99", nil, "10.0.0.1:99"},
		{"10.0.0.1:99", []string{"198.51.100.1"}, "198.51.100.1:0"},
		{"10.0.0.1:99", []string{"203.0.113.9, 198.51.100.1"}, "198.51.100.1:0"}, // the first is the client's own word
		{"10.0.0.1:99", []string{"198.51.100.1, 10.9.9.9"}, "198.51.100.1:0"},
		{"10.0.0.1:99", []string{"198.51.100.1", "10.9.9.9, 10.8.8.8"}, "198.51.100.1:0"},
		{"10.0.0.1:99", []string{"198.51.100.1:4711"}, "198.51.100.1:0"},
		{"10.0.0.1:99", []string{"::ffff:198.51.100.1"}, "198.51.100.1:0"},
		{"[2001:db8::1]:99", []string{"[2001:db9::5]:80"}, "[2001:db9::5]:0"},
		{"10.0.0.1:99", []string{"10.1.1.1"}, "10.0.0.1:99"},
		{"10.0.0.1:99", []string{"198.51.100.1, unknown"}, "10.0.0.1:99"},
		{"10.0.0.1:99", []string{"198.51.100.1" + strings.Repeat(",10.1.1.1", maxForwarded)}, "10.0.0.1:99"},
		{"@", []string{"198.51.100.1"}, "@"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = tc.remote
		for _, l := range tc.lines {
			r.Header.Add("X-Forwarded-For", l)
		}
		if got := a.source(r).RemoteAddr; got != tc.want {
			t.Errorf("from %s, forwarded for %q: %s, want %s", tc.remote, tc.lines, got, tc.want)
		}
	}
}

func TestLimitsCountClientsNotProxies(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		c.JoinRate, c.JoinBurst = 0.001, 1
	})
	get := func(client string) int {
		return w.do("GET", "/v1/apps/open/channels/room", "", "X-Forwarded-For", client).code
	}
	if a, b, c := get("198.51.100.1"), get("198.51.100.2"), get("198.51.100.1"); a != 200 || b != 200 || c != 429 {
		t.Errorf("%d, %d, then again %d: want 200, 200, 429", a, b, c)
	}
}
