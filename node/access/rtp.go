package access

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/ternmesh/tern/media"
)

// postRTP opens a plain RTP ingest: a UDP port for each track, named by an SDP.
func (a *Access) postRTP(w http.ResponseWriter, r *http.Request) *problem {
	p := a.openRTP(w, r)
	a.countJoin(kindRTP, p)
	return p
}

func (a *Access) openRTP(w http.ResponseWriter, r *http.Request) *problem {
	j, p := a.enter(r)
	if p != nil {
		return p
	}
	defer a.leave()
	if a.cfg.ListenRTP == nil {
		return &problem{status: http.StatusNotFound, detail: "no such resource", reason: "no_rtp"}
	}
	var body []byte
	if r.ContentLength != 0 { // unknown (-1) included
		if body, _, p = readBody(w, r, typeJSON); p != nil {
			return p
		}
	}
	stream, codecs, err := parseRTP(body)
	if err != nil {
		return bad("bad_rtp_request", "the request is not valid", err)
	}
	need := publishRights(codecs)
	until, p := a.require(j.grant, need)
	if p != nil {
		return p
	}
	source := sourceOf(r.RemoteAddr)
	if p := a.ingests.take(j.app, source); p != nil {
		return p
	}
	s := a.newSession(kindRTP, j, need, until)
	s.atEnd(func() { a.ingests.give(j.app, source) }) // the first, so done last: after the ports
	if s.stream = stream; stream == "" {
		s.stream = randomID(8)
	}
	s.heard.Store(a.now().UnixNano())
	text, p := a.ingest(r, s, codecs)
	if p != nil {
		s.end("refused")
		return p
	}
	if p := a.register(s); p != nil {
		return p
	}
	w.Header().Set("Content-Type", typeSDP)
	w.Header().Set("Location", s.url())
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, text)
	return nil
}

// ingest opens the ports, announces the stream and begins to read.
func (a *Access) ingest(r *http.Request, s *session, codecs []codec) (string, *problem) {
	var conns []net.PacketConn
	var ports []uint16
	var tracks []media.Track
	for _, c := range codecs {
		conn, err := a.cfg.ListenRTP(r.Context())
		if err != nil {
			return "", portProblem(err)
		}
		s.atEnd(func() { _ = conn.Close() })
		port, err := portOf(conn)
		if err != nil {
			return "", internal(err)
		}
		conns, ports, tracks = append(conns, conn), append(ports, port), append(tracks, c.track())
	}
	// There is no way back to a plain RTP sender: keyframes come when it likes.
	pub, err := a.hub.publish(media.Key{App: s.app, Channel: s.channel, Stream: s.stream}, tracks, func(int) {})
	if err != nil {
		return "", hubProblem(err)
	}
	s.atEnd(pub.Close)
	a.spawn(func() {
		<-pub.Done()
		s.end("stream_" + pub.Reason())
	})
	for i, conn := range conns {
		a.spawn(func() { s.readRTP(conn, i, codecs[i].payload, pub) })
	}
	return rtpSDP(uint64(a.now().Unix()), a.cfg.RTPHost, codecs, ports), nil
}

// portProblem tells a full range, which passes, from a system that refuses the port, which
// an operator must hear of and a client need not.
func portProblem(err error) *problem {
	p := &problem{status: http.StatusServiceUnavailable, reason: "rtp_ports", err: err, retryAfter: 5}
	if !errors.Is(err, syscall.EADDRINUSE) {
		p.reason, p.fault = "rtp_listen", true
	}
	return p
}

func portOf(conn net.PacketConn) (uint16, error) {
	addr, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return 0, errors.New("RTP port without a UDP address")
	}
	return uint16(addr.Port), nil
}

// readRTP moves one track's packets into media. The first source that sends RTP of the
// right payload type is the source; others are dropped from then on. It ends when the
// session closes the port.
func (s *session) readRTP(conn net.PacketConn, track int, payload uint8, pub publication) {
	counts := &s.a.counts
	buf := make([]byte, packetBuffer)
	var source netip.AddrPort
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			if s.ended.Load() || errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(time.Millisecond) // e.g. an ICMP error; never a busy loop
			continue
		}
		at, ok := addrPortOf(from)
		switch {
		case ok && !s.a.allowed(at.Addr()): // later too: a source may be blocked while it sends
			counts.blockedRTP.Add(1)
			continue
		case n > maxPacket:
			counts.size.Add(1)
			continue
		case !ok || !plainRTP(buf[:n], payload) || (source.IsValid() && source != at):
			counts.ingest.Add(1)
			continue
		}
		source = at
		s.connected.Store(true)
		s.heard.Store(s.a.now().UnixNano())
		counts.in.Add(1)
		pub.Write(track, buf[:n])
	}
}

func addrPortOf(a net.Addr) (netip.AddrPort, bool) {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	return u.AddrPort(), true
}

// plainRTP says whether b is RTP of the payload type. RTCP on the same port has other
// values there.
func plainRTP(b []byte, payload uint8) bool {
	return len(b) >= 12 && b[0]>>6 == 2 && b[1]&0x7f == payload
}
