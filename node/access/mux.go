package access

import (
	"net"
	"net/netip"

	"github.com/pion/ice/v4"
)

// portMux is the one UDP port of all WebRTC clients. The library's mux finds the
// session of a packet by its source address, and of a first STUN packet by the ufrag
// that only the session's client knows; everything else is dropped there. This type
// adds the addresses that candidates name, which need not be the socket's own.
type portMux struct {
	*ice.UDPMuxDefault
	advertise []net.Addr
	bound     bool // the socket has one address: the mux demands that very address
}

func newPortMux(conn net.PacketConn, advertise []netip.AddrPort, log pionLog) *portMux {
	m := &portMux{UDPMuxDefault: ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: conn, Logger: log.NewLogger("mux")})}
	for _, a := range advertise {
		m.advertise = append(m.advertise, net.UDPAddrFromAddrPort(a))
	}
	if local, ok := conn.LocalAddr().(*net.UDPAddr); ok {
		m.bound = !local.IP.IsUnspecified()
	}
	return m
}

// GetListenAddresses are the addresses of the host candidates.
func (m *portMux) GetListenAddresses() []net.Addr { return m.advertise }

// GetConn returns the session's share of the port. Only the address family of addr
// matters where the socket is bound to every address.
func (m *portMux) GetConn(ufrag string, addr net.Addr) (net.PacketConn, error) {
	if m.bound {
		addr = m.LocalAddr()
	}
	return m.UDPMuxDefault.GetConn(ufrag, addr)
}
