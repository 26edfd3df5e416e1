package access

import (
	"context"
	"io"
	"net/http"

	"github.com/pion/webrtc/v4"

	"github.com/ternmesh/tern/media"
)

// postWHEP opens a viewer's session: token, subscription, answer or counter-offer.
func (a *Access) postWHEP(w http.ResponseWriter, r *http.Request) *problem {
	r, t := a.traceJoin(r, kindWHEP)
	countered, p := a.openWHEP(w, r)
	t.answered(p)
	if countered && p == nil {
		a.counts.join(kindWHEP, "counter_offer")
		return nil
	}
	a.countJoin(kindWHEP, p)
	return p
}

func (a *Access) openWHEP(w http.ResponseWriter, r *http.Request) (countered bool, p *problem) {
	j, p := a.enter(r)
	if p != nil {
		return false, p
	}
	until, p := a.require(j.grant, rightJoin|rightSubscribe)
	if p != nil {
		return false, p
	}
	stream := r.PathValue("stream")
	if stream != "" && !validStream(stream) {
		return false, bad("bad_stream", "the stream's name is not valid", nil)
	}
	o, p := readOffer(r)
	if p != nil {
		return false, p
	}
	if p := a.reserve(); p != nil {
		return false, p
	}
	defer a.leave()
	s := a.newSession(kindWHEP, j, rightJoin|rightSubscribe, until)
	s.trace, s.named = traceOf(r), r.URL.Query().Get("user")
	s.trace.next("answer")
	v, p := a.subscribeViewer(r, s, stream)
	if p == nil {
		countered, p = v.reply(w, r, o)
	}
	if p != nil {
		s.end("refused")
	}
	return countered, p
}

// subscribeViewer finds the stream. What it sends before the peer is up is dropped.
func (a *Access) subscribeViewer(r *http.Request, s *session, stream string) (*viewer, *problem) {
	v := newViewer(s)
	ctx, cancel := context.WithTimeout(r.Context(), hubFor)
	defer cancel()
	sub, err := a.hub.subscribe(ctx, media.Key{App: s.app, Channel: s.channel, Stream: stream}, v)
	if err != nil {
		return nil, hubProblem(err)
	}
	v.sub, s.viewer = sub, v
	s.stream = sub.Key().Stream
	s.atEnd(sub.Close)
	return v, nil
}

// reply answers the offer, or makes one of our own if it cannot be answered.
func (v *viewer) reply(w http.ResponseWriter, r *http.Request, o offer) (countered bool, p *problem) {
	tracks := v.sub.Tracks()
	if matched, ok := o.viewed(tracks); ok {
		v.answers = true
		if p := v.build(tracks, matched); p != nil {
			return false, p
		}
		answer, p := v.s.negotiate(r, o)
		if p != nil {
			return false, p
		}
		return false, created(w, v.s.a, v.s, answer)
	}
	if p := v.build(tracks, counterCodecs(tracks)); p != nil {
		return true, p
	}
	return true, v.counterOffer(w, r)
}

// build makes the peer with one sender for each matched track.
func (v *viewer) build(tracks []media.Track, matched []*codec) *problem {
	var codecs []codec
	for i, c := range matched {
		if c != nil && firstLayer(tracks, i) == i {
			codecs = append(codecs, *c)
		}
	}
	pc, err := v.s.a.peers.make(v.s, false, codecs)
	if err != nil {
		return internal(err)
	}
	v.s.attach(pc, v.connected)
	pc.SCTP().Transport().ICETransport().OnSelectedCandidatePairChange(v.moved)
	v.tracks = append(v.near[:0], make([]*viewerTrack, len(matched))...)
	for i, c := range matched {
		if c == nil {
			continue
		}
		if first := firstLayer(tracks, i); first != i { // one sender for all layers
			v.tracks[i] = v.tracks[first]
			v.tracks[i].layers = append(v.tracks[i].layers, i)
			continue
		}
		if err := v.addTrack(pc, i, *c, tracks[i].ClockRate); err != nil {
			return internal(err)
		}
	}
	v.s.a.attend(v)
	v.s.atEnd(func() { v.s.a.quit(v) })
	return nil
}

// addTrack adds one sender and listens to its RTCP.
func (v *viewer) addTrack(pc *webrtc.PeerConnection, index int, c codec, rate uint32) error {
	track := &viewerTrack{id: c.track().Kind, picture: c.codecType() == webrtc.RTPCodecTypeVideo, stream: v.s.stream, codec: c, rate: rate, trip: firstTrip}
	t, err := pc.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	if err != nil {
		return err
	}
	track.begin(v.sub.Tracks(), index)
	v.tracks[index] = track
	v.s.a.spawn(func() { v.listen(track, t.Sender()) })
	return nil
}

// counterOffer answers 406 with an offer of ours; the client has 30 s to answer it by
// PATCH.
func (v *viewer) counterOffer(w http.ResponseWriter, r *http.Request) *problem {
	s := v.s
	own, err := s.pc.CreateOffer(nil)
	if err != nil {
		return internal(err)
	}
	text, err := s.a.peers.settle(r.Context(), s.pc, own)
	if err != nil {
		return slowOr(r, err, internal(err))
	}
	s.counter = true // not shared yet
	if p := s.a.register(s); p != nil {
		return p
	}
	h := w.Header()
	h.Set("Content-Type", typeSDP)
	h.Set("Location", s.url())
	h.Set("ETag", s.etag)
	h.Set("Accept-Patch", typeSDP+", "+typeFrag)
	s.link(h)
	w.WriteHeader(http.StatusNotAcceptable)
	_, _ = io.WriteString(w, text)
	return nil
}
