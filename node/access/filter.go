package access

import (
	"net"
	"net/netip"
	"reflect"

	"github.com/pion/webrtc/v4"
)

// Filter is the packet filter in front of the port of all WebRTC clients. Its methods must not block.
type Filter interface {
	Ufrag() string                               // a user name fragment that the filter lets through from anywhere
	Admit(session string, client netip.AddrPort) // a client's address, proved; again at every proof
	Forget(session string)                       // everything admitted for a session
}

// sessionMux is one session's view of the port: it tells the filter which addresses the session's client has proved to
// be its own. It lives as long as the session, across ICE restarts, so that the old pair works until the new one does.
type sessionMux struct {
	*portMux
	filter  Filter
	session string
}

// GetConn implements ice.UDPMux.
func (m sessionMux) GetConn(ufrag string, addr net.Addr) (net.PacketConn, error) {
	conn, err := m.portMux.GetConn(ufrag, addr)
	if err != nil {
		return nil, err
	}
	return proofConn{conn, m}, nil
}

// proofConn watches for Binding success responses: the library sends one only after it has checked MESSAGE-INTEGRITY, and
// until the client has one it sends nothing but STUN from that address. So the address is admitted in time, whether
// it is the first one, trickled in, or comes from a NAT that changed its mind.
type proofConn struct {
	net.PacketConn
	mux sessionMux
}

// WriteTo implements net.PacketConn.
func (c proofConn) WriteTo(p []byte, addr net.Addr) (int, error) {
	if len(p) >= 20 && p[0] == 1 && p[1] == 1 {
		if u, ok := addr.(*net.UDPAddr); ok {
			c.mux.filter.Admit(c.mux.session, u.AddrPort())
		}
	}
	return c.PacketConn.WriteTo(p, addr)
}

// filtered makes a session known to the filter: its ufrags are the filter's, and its proofs are told.
func (p *peerMaker) filtered(s *session, se *webrtc.SettingEngine) {
	if p.filter == nil {
		return
	}
	se.SetICEUDPMux(sessionMux{p.mux, p.filter, s.id})
	se.SetICECredentials(p.filter.Ufrag(), randomID(16))
	s.atEnd(func() { p.filter.Forget(s.id) })
}

// renewal returns what gives the next ICE generation of a session other credentials. The library restarts with the ones
// in the settings of the API that made the peer, where it offers no way to change them; so they are changed in place.
// Restarts and the making of the agent are all that reads them, and both hold the session's negotiation lock. If
// a later version of the library has no such field, sessions work, but their restarts repeat the credentials;
// a test guards against that.
func (p *peerMaker) renewal(api *webrtc.API) func() {
	if p.filter == nil {
		return func() {}
	}
	field := reflect.ValueOf(api).Elem().FieldByName("settingEngine")
	if !field.IsValid() || field.Type() != reflect.TypeFor[*webrtc.SettingEngine]() {
		return func() { p.log.Warn("ICE restart repeats its credentials: the WebRTC library has changed") }
	}
	se := (*webrtc.SettingEngine)(field.UnsafePointer())
	return func() { se.SetICECredentials(p.filter.Ufrag(), randomID(16)) }
}
