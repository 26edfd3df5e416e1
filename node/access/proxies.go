package access

import (
	"net/http"
	"net/netip"
	"strings"
)

// maxForwarded bounds how many hops of X-Forwarded-For are looked at, from the nearest.
const maxForwarded = 16

// source returns the request with the address of its client in RemoteAddr. Behind
// proxies of Config.TrustedProxies that is the last address in X-Forwarded-For that is
// none of theirs: what stands before it, the client may have written itself. From
// anybody else the header means nothing.
func (a *Access) source(r *http.Request) *http.Request {
	if len(a.cfg.TrustedProxies) == 0 {
		return r
	}
	near, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !a.trusted(near.Addr()) {
		return r
	}
	client, ok := a.forwardedFor(r.Header.Values("X-Forwarded-For"))
	if !ok {
		return r // a proxy that does not say: its clients share its limits
	}
	out := *r // shallow: the rest is the same request
	out.RemoteAddr = netip.AddrPortFrom(client, 0).String()
	return &out
}

func (a *Access) forwardedFor(lines []string) (netip.Addr, bool) {
	hops := strings.Split(strings.Join(lines, ","), ",")
	for i := len(hops) - 1; i >= 0 && i >= len(hops)-maxForwarded; i-- {
		hop := strings.TrimSpace(hops[i])
		addr, err := netip.ParseAddr(hop)
		if withPort, err2 := netip.ParseAddrPort(hop); err != nil && err2 == nil {
			addr, err = withPort.Addr(), nil
		}
		if err != nil {
			return netip.Addr{}, false
		}
		if !a.trusted(addr) {
			return addr.Unmap().WithZone(""), true
		}
	}
	return netip.Addr{}, false
}

func (a *Access) trusted(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, p := range a.cfg.TrustedProxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
