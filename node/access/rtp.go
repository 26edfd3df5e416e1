package access

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/ternmesh/tern/media"
	"github.com/ternmesh/tern/node/fair"
)

// openRTP opens a plain RTP ingest: a pair of UDP ports for each track, named by an SDP.
func (a *Access) openRTP(w http.ResponseWriter, r *http.Request) *problem {
	j, body, p := a.enterRTP(r)
	if p != nil {
		return p
	}
	defer a.leave()
	req, err := parseRTP(body)
	if err != nil {
		return badRTP(err)
	}
	if p := a.pinned(r, &req); p != nil {
		return p
	}
	need := publishRights(req.codecs)
	until, p := a.require(j.grant, need)
	if p != nil {
		return p
	}
	s, p := a.sessionRTP(r, kindRTP, j, need, until)
	if p != nil {
		return p
	}
	if s.stream = req.Stream; s.stream == "" {
		s.stream = randomID(8)
	}
	s.hear(a.now())
	text, p := a.ingest(r, s, req)
	if p != nil {
		s.end("refused")
		return p
	}
	return answerRTP(w, a, s, text)
}

// enterRTP lets a request for plain RTP in, with its body, and reserves its place; each success needs one leave.
func (a *Access) enterRTP(r *http.Request) (j join, body []byte, p *problem) {
	if j, p = a.enter(r); p != nil {
		return j, nil, p
	}
	if a.cfg.ListenRTP == nil {
		return j, nil, &problem{status: http.StatusNotFound, detail: "no such resource", reason: "no_rtp"}
	}
	if body, p = optionalJSON(r); p == nil {
		p = a.reserve()
	}
	return j, body, p
}

// sessionRTP prepares a session of plain RTP within the quota of app and source.
func (a *Access) sessionRTP(r *http.Request, kind string, j join, need right, until time.Time) (*session, *problem) {
	source := fair.SourceOf(r.RemoteAddr)
	if p := a.ingests.take(j.app, source); p != nil {
		return nil, p
	}
	s := a.newSession(kind, j, need, until)
	s.trace = traceOf(r)
	s.trace.next("answer")
	s.atEnd(func() { a.ingests.give(j.app, source) }) // the first, so done last: after the ports
	return s, nil
}

// optionalJSON reads a body if there is one.
func optionalJSON(r *http.Request) ([]byte, *problem) {
	if r.ContentLength == 0 { // not unknown, which is -1
		return nil, nil
	}
	body, _, p := readBody(r, typeJSON)
	return body, p
}

// badRTP tells what is wrong: who asks holds a good token, and the error is our own text.
func badRTP(err error) *problem { return bad("bad_rtp_request", clip(err.Error()), err) }

// pinned says who may send where no key proves it: the address that the request names,
// or the one that it comes from.
func (a *Access) pinned(r *http.Request, req *rtpRequest) *problem {
	if req.suite.name != "" || req.pin.IsValid() {
		return nil
	}
	asks, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return bad("rtp_source", "name the sender's address as source", err)
	}
	if req.pin = asks.Addr().Unmap().WithZone(""); req.pin.Is4() != a.cfg.RTPHost.Unmap().Is4() {
		return bad("rtp_family", fmt.Sprintf("RTP is taken at %s: name the sender's address as source", a.cfg.RTPHost), nil)
	}
	return nil
}

// ingest opens the ports, announces the stream and begins to read.
func (a *Access) ingest(r *http.Request, s *session, req rtpRequest) (string, *problem) {
	var all []*rtpIn
	var tracks []media.Track
	d := sdpOf{session: uint64(a.now().Unix()), host: a.cfg.RTPHost, direction: "recvonly"}
	for i, c := range req.codecs {
		t, line, p := a.ingestTrack(r, s, req, c, i)
		if p != nil {
			return "", p
		}
		all, tracks, d.media = append(all, t), append(tracks, c.track()), append(d.media, line)
	}
	pub, err := s.publish(tracks, func(i int) { all[i].keyframe() })
	if err != nil {
		return "", hubProblem(err)
	}
	for _, t := range all {
		t.pub = pub
		a.spawn(func() { t.read(t.rtp) })
		a.spawn(func() { t.read(t.rtcp) })
	}
	return d.text(), nil
}

// ingestTrack opens one track's pair of ports.
func (a *Access) ingestTrack(r *http.Request, s *session, req rtpRequest, c codec, index int) (*rtpIn, sdpMedia, *problem) {
	line := sdpMedia{codec: c}
	conn, control, err := a.cfg.ListenRTP(r.Context())
	if err != nil {
		return nil, line, portProblem(err)
	}
	s.atEnd(func() { _, _ = conn.Close(), control.Close() })
	if line.port, err = portOf(conn); err != nil {
		return nil, line, internal(err)
	}
	t := &rtpIn{s: s, index: index, codec: c, rtp: conn, rtcp: control, pin: req.pin, ssrc: rand.Uint32()}
	if req.suite.name != "" {
		key := req.suite.newSecret()
		line.crypto = key.line()
		if t.in, t.out, err = key.contexts(); err != nil {
			return nil, line, internal(err)
		}
	}
	return t, line, nil
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
