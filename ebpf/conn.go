package ebpf

import (
	"net"
	"net/netip"
)

// guarded drops what the twin drops before its reader sees it. It holds no state of its own.
type guarded struct {
	net.PacketConn
	direct directReader // nil: PacketConn has no such read
	filter *Filter
	port   uint16
}

// directReader reads without making a net.Addr, which a flood would have the collector clear away again.
type directReader interface {
	ReadFromUDPAddrPort(p []byte) (int, netip.AddrPort, error)
}

// WrapPacketConn returns conn with the twin in front of ReadFrom, for a socket bound to port (the MeshPort or the
// AccessPort of the rules; other ports pass untouched). While the kernel filters every interface it was told to,
// ReadFrom adds one atomic load and no check. A reader of batches calls Allow itself. Deadlines and
// concurrency are those of conn.
func (f *Filter) WrapPacketConn(conn net.PacketConn, port uint16) net.PacketConn {
	direct, _ := conn.(directReader)
	return &guarded{PacketConn: conn, direct: direct, filter: f, port: port}
}

// ReadFrom returns the next datagram that passes.
func (g *guarded) ReadFrom(p []byte) (int, net.Addr, error) {
	for g.direct != nil {
		n, from, err := g.direct.ReadFromUDPAddrPort(p)
		if err != nil {
			return 0, nil, err
		}
		if !g.filter.TwinActive() || g.filter.AllowPacket(from, g.port, p[:n]).Action == Pass {
			return n, net.UDPAddrFromAddrPort(from), nil
		}
	}
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
