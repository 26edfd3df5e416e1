package access

import (
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/pion/webrtc/v4"
)

// opens is what opens sessions of a kind, traced and counted.
func (a *Access) opens(kind string, open handler) handler {
	return func(w http.ResponseWriter, r *http.Request) *problem {
		r, t := a.traceJoin(r, kind)
		p := open(w, r)
		t.answered(p)
		a.countJoin(kind, p)
		return p
	}
}

func (a *Access) countJoin(kind string, p *problem) {
	if p == nil {
		a.counts.join(kind, "ok")
		return
	}
	a.counts.join(kind, p.reason)
}

// openWHIP opens a publisher's session: token, offer, answer. The announcement follows once its client has
// been heard.
func (a *Access) openWHIP(w http.ResponseWriter, r *http.Request) *problem {
	j, p := a.enter(r)
	if p != nil {
		return p
	}
	o, p := readOffer(r)
	if p != nil {
		return p
	}
	if p := a.reserve(); p != nil {
		return p
	}
	defer a.leave()
	codecs, err := o.published()
	if err != nil {
		return sdpProblem(err)
	}
	need := publishRights(codecs)
	until, p := a.require(j.grant, need)
	if p != nil {
		return p
	}
	stream, p := chosenStream(r)
	if p != nil {
		return p
	}
	s := a.newSession(kindWHIP, j, need, until)
	s.stream, s.named = stream, r.URL.Query().Get("user")
	s.trace = traceOf(r)
	s.trace.next("answer")
	answer, p := a.acceptPublisher(r, s, o, codecs)
	if p != nil {
		s.end("refused")
		return p
	}
	return created(w, a, s, answer)
}

// readOffer reads and parses the body.
func readOffer(r *http.Request) (offer, *problem) {
	body, _, p := readBody(r, typeSDP)
	if p != nil {
		return offer{}, p
	}
	o, err := parseOffer(body)
	if err != nil {
		return o, sdpProblem(err)
	}
	if o.passive() {
		return o, unprocessable("setup_passive", "the offer cannot be served", nil)
	}
	return o, nil
}

func sdpProblem(err error) *problem {
	if errors.Is(err, errUnprocessable) {
		return unprocessable("unprocessable_sdp", "the offer cannot be served", err)
	}
	return bad("bad_sdp", "the SDP is not valid", err)
}

// publishRights are what a publisher of these codecs needs.
func publishRights(codecs []codec) right {
	need := rightJoin
	for _, c := range codecs {
		if c.codecType() == webrtc.RTPCodecTypeAudio {
			need |= rightAudio
		} else {
			need |= rightVideo
		}
	}
	return need
}

// chosenStream is the stream id that the client wants, or a random one.
func chosenStream(r *http.Request) (string, *problem) {
	stream := r.URL.Query().Get("stream")
	if stream == "" {
		return randomID(8), nil
	}
	if !validStream(stream) {
		return "", bad("bad_stream", "the stream's name is not valid", nil)
	}
	return stream, nil
}

// acceptPublisher makes the peer and the answer. Media is asked before, so that its refusal reaches the client; it learns of the
// stream when checks of the client's have come: offers alone must cost the mesh nothing and take no stream over. The DTLS
// handshake that follows is time for the announcement to travel.
func (a *Access) acceptPublisher(r *http.Request, s *session, o offer, codecs []codec) (string, *problem) {
	p := &publisher{s: s, ssrcs: map[int]uint32{}}
	for _, c := range codecs {
		p.tracks = append(p.tracks, o.tracksOf(c)...)
	}
	if err := a.hub.mayPublish(s.key(), p.tracks); err != nil {
		return "", hubProblem(err)
	}
	pc, err := a.peers.make(s, true, codecs)
	if err != nil {
		return "", internal(err)
	}
	s.attach(pc, func() {})
	var heard sync.Once
	pc.OnICEConnectionStateChange(func(state webrtc.ICEConnectionState) {
		if state == webrtc.ICEConnectionStateConnected {
			heard.Do(p.announce)
		}
	})
	pc.OnTrack(p.arrived)
	return s.negotiate(r, o)
}

// negotiate answers the first offer of a session.
func (s *session) negotiate(r *http.Request, o offer) (string, *problem) {
	text, err := o.text()
	if err != nil {
		return "", bad("bad_sdp", "the SDP is not valid", err)
	}
	answer, err := s.a.peers.answerOffer(r.Context(), s.pc, text)
	if err != nil {
		// Nothing of ours is unusual here, so it is the offer that the library refuses.
		return "", slowOr(r, err, bad("bad_sdp", "the SDP is not valid", err))
	}
	s.remote, s.ufrag = o, o.ufrag
	return o.named(answer), nil
}

// slowOr says what became of a description that was not made ours: the client left, this machine was too busy, or else.
func slowOr(r *http.Request, err error, otherwise *problem) *problem {
	switch {
	case r.Context().Err() != nil:
		return bad("gone", "", err)
	case errors.Is(err, errSlow):
		return &problem{status: http.StatusServiceUnavailable, reason: "busy", err: err, detail: "try again", retryAfter: 2}
	}
	return otherwise
}

// created registers the session and answers 201.
func created(w http.ResponseWriter, a *Access, s *session, answer string) *problem {
	if p := a.register(s); p != nil {
		return p
	}
	h := w.Header()
	h.Set("Content-Type", typeSDP)
	h.Set("Location", s.url())
	h.Set("ETag", s.etag)
	h.Set("Accept-Patch", typeFrag)
	s.link(h)
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, answer) // a client that is gone will not connect either
	return nil
}
