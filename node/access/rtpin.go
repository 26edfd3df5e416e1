package access

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/srtp/v3"
)

// rtpIn is one track of a plain RTP ingest: a pair of ports, and who may send to them.
//
// Without SRTP the sender's address is pinned when the session opens; of that address,
// the first port that sends RTP is the source. With SRTP the key decides: a packet
// that authenticates is the source's, from wherever it comes.
type rtpIn struct {
	s         *session
	pub       publication
	index     int
	codec     codec
	rtp, rtcp net.PacketConn
	pin       netip.Addr // zero: any
	ssrc      uint32     // ours, in reports

	mu      sync.Mutex // guards the rest
	in, out *srtp.Context
	source  netip.AddrPort
	back    netip.AddrPort // where the source's RTCP comes from, and ours goes to
	heard   reception
}

// read moves packets from one of the two ports until the session closes it.
func (t *rtpIn) read(conn net.PacketConn) {
	buf, plain := make([]byte, packetBuffer), make([]byte, 0, packetBuffer)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			if t.s.ended.Load() || errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(time.Millisecond) // e.g. an ICMP error; never a busy loop
			continue
		}
		at, ok := addrPortOf(from)
		switch {
		case ok && !t.s.a.allowed(at.Addr()): // later too: a source may be blocked while it sends
			t.s.a.counts.blockedRTP.Add(1)
		case n > maxPacket:
			t.s.a.counts.size.Add(1)
		case !ok || (t.pin.IsValid() && at.Addr() != t.pin):
			t.s.a.counts.ingest.Add(1)
		case isRTCP(buf[:n]):
			t.control(buf[:n], at, conn)
		default:
			t.media(buf[:n], plain, at)
		}
	}
}

// media hands on one packet. plain is room for what is decrypted.
func (t *rtpIn) media(b, plain []byte, at netip.AddrPort) {
	counts := &t.s.a.counts
	now := t.s.a.now()
	t.mu.Lock()
	ok := plainRTP(b, t.codec.payload) && (t.in != nil || !t.source.IsValid() || t.source == at)
	if ok && t.in != nil {
		var err error
		b, err = t.in.DecryptRTP(plain, b, nil)
		ok = err == nil && len(b) >= 12
	}
	if ok {
		t.source = at
		t.heard.packet(b, now, t.codec.clockRate)
	}
	t.mu.Unlock()
	if !ok {
		counts.ingest.Add(1)
		return
	}
	if !t.s.connected.Swap(true) {
		t.s.trace.end("")
	}
	t.s.hear(now)
	if !t.s.mayPublish(len(b)) {
		return
	}
	counts.in.Add(1)
	t.pub.Write(t.index, b)
}

// control reads the source's RTCP: a sender report is answered by a receiver report, a
// BYE ends the session.
func (t *rtpIn) control(b []byte, at netip.AddrPort, conn net.PacketConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.in != nil {
		var err error
		if b, err = t.in.DecryptRTCP(nil, b, nil); err != nil {
			t.s.a.counts.ingest.Add(1)
			return
		}
	} else if !t.source.IsValid() || t.source.Addr() != at.Addr() {
		return // RTP first: it says who the source is
	}
	all, err := rtcp.Unmarshal(b)
	if err != nil {
		return
	}
	for _, p := range all {
		switch p := p.(type) {
		case *rtcp.SenderReport:
			now := t.s.a.now()
			t.back = at
			t.heard.sender(p, now)
			if t.heard.started {
				t.send(conn, &rtcp.ReceiverReport{SSRC: t.ssrc, Reports: []rtcp.ReceptionReport{t.heard.report(now)}})
			}
		case *rtcp.Goodbye:
			t.s.end("bye")
		}
	}
}

// keyframe asks the source by PLI, if it sends RTCP: many encoders behind plain RTP do
// not listen, and keyframes come when they like.
func (t *rtpIn) keyframe() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.back.IsValid() && t.heard.started {
		t.send(t.rtcp, &rtcp.ReceiverReport{SSRC: t.ssrc}, &rtcp.PictureLossIndication{SenderSSRC: t.ssrc, MediaSSRC: t.heard.ssrc})
		t.s.a.counts.sent.Add(1)
	}
}

// send writes RTCP back to the source, at most one answer for each of its own. Called
// with mu held.
func (t *rtpIn) send(conn net.PacketConn, packets ...rtcp.Packet) {
	b, err := rtcp.Marshal(packets)
	if err == nil && t.out != nil {
		b, err = t.out.EncryptRTCP(nil, b, nil)
	}
	if err == nil {
		_, _ = conn.WriteTo(b, net.UDPAddrFromAddrPort(t.back)) // lost reports are not missed
	}
}

func addrPortOf(a net.Addr) (netip.AddrPort, bool) {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	at := u.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port()), true
}

// plainRTP says whether b is RTP of the payload type; the header is in clear in SRTP too.
func plainRTP(b []byte, payload uint8) bool {
	return len(b) >= 12 && b[0]>>6 == 2 && b[1]&0x7f == payload
}
