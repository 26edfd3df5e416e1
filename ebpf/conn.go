package ebpf

import (
	"net"
	"net/netip"
)

// guarded drops what the twin drops before its reader sees it. It holds no state of its own.
type guarded struct {
	net.PacketConn
	filter *Filter
	port   uint16
}

// WrapPacketConn returns conn with the twin in front of ReadFrom, for a socket bound to port (the MeshPort or the
// AccessPort of the rules; other ports pass untouched). While the kernel filters every interface it was told to,
// ReadFrom adds one atomic load and no check. A reader of batches calls Allow itself. Deadlines and
// concurrency are those of conn.
func (f *Filter) WrapPacketConn(conn net.PacketConn, port uint16) net.PacketConn {
	return &guarded{PacketConn: conn, filter: f, port: port}
}

// ReadFrom returns the next datagram that passes.
func (g *guarded) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, addr, err := g.PacketConn.ReadFrom(p)
		if err != nil || !g.filter.TwinActive() {
			return n, addr, err
		}
		if g.filter.AllowPacket(source(addr), g.port, p[:n]).Action == Pass {
			return n, addr, nil
		}
	}
}

// source reads an address without allocating where it can. An address of another kind has no source to block.
func source(addr net.Addr) netip.AddrPort {
	if u, ok := addr.(interface{ AddrPort() netip.AddrPort }); ok {
		return u.AddrPort()
	}
	ap, _ := netip.ParseAddrPort(addr.String())
	return ap
}
