package fair

import "net/netip"

// SourceOf is whom a remote address ("host:port") counts as: an IPv4 address, an IPv6 /64, which is what one subscriber usually
// has. Zero for what is no address, such as the other end of a Unix socket.
func SourceOf(remote string) netip.Prefix {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	a, bits := ap.Addr().Unmap().WithZone(""), 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}
