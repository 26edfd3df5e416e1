package access

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/pion/webrtc/v4"
)

// sessionMethods are those of a WebRTC session's URL. The URL cannot be guessed, so
// whoever has it may use it, as older clients send no token here.
func (a *Access) sessionMethods(kind string) methods {
	return methods{"GET": a.showSession(kind), "HEAD": a.showSession(kind), "PATCH": a.patchSession(kind), "DELETE": a.deleteSession(kind)}
}

// of finds the session that a request names.
func (a *Access) of(kind string, r *http.Request) (*session, *problem) {
	s := a.session(kind, r.PathValue("id"))
	if base, ok := a.homeOf(r.PathValue("id")); s == nil && ok {
		return nil, &problem{status: http.StatusTemporaryRedirect, reason: "other_node", detail: "go to the session's node", location: base + r.URL.RequestURI()}
	}
	if s == nil {
		return nil, &problem{status: http.StatusNotFound, detail: "no such session", reason: "no_session"}
	}
	return s, nil
}

// showSession answers 200 without a body; to who asks a viewer's for JSON, with what is
// known of its last mile.
func (a *Access) showSession(kind string) handler {
	return func(w http.ResponseWriter, r *http.Request) *problem {
		s, p := a.of(kind, r)
		if p != nil {
			return p
		}
		if s.pc != nil {
			s.negotiation.Lock()
			w.Header().Set("ETag", s.etag)
			s.negotiation.Unlock()
		}
		if kind == kindWHEP {
			if accepts(r, typeJSON) {
				w.Header().Set("Content-Type", typeJSON)
				_ = json.NewEncoder(w).Encode(s.viewer.state(a.now()))
				return nil
			}
			w.Header().Set("Content-Type", typeSDP)
		}
		w.WriteHeader(http.StatusOK)
		return nil
	}
}

// accepts says whether a request names a media type that it would like.
func accepts(r *http.Request, mediaType string) bool {
	for _, part := range strings.Split(r.Header.Get("Accept"), ",") {
		name, _, _ := strings.Cut(part, ";")
		if strings.TrimSpace(name) == mediaType {
			return true
		}
	}
	return false
}

// deleteSession ends a session; entity tags do not matter.
func (a *Access) deleteSession(kind string) handler {
	return func(w http.ResponseWriter, r *http.Request) *problem {
		s, p := a.of(kind, r)
		if p != nil {
			return p
		}
		s.end("deleted")
		w.WriteHeader(http.StatusOK)
		return nil
	}
}

// patchSession takes candidates, an ICE restart, the answer to a counter-offer, or a new
// token, alone or along with one of these.
func (a *Access) patchSession(kind string) handler {
	return func(w http.ResponseWriter, r *http.Request) *problem {
		s, p := a.of(kind, r)
		if p != nil {
			return p
		}
		if !a.patches.allow(r.RemoteAddr, a.now()) {
			return &problem{status: http.StatusTooManyRequests, detail: "too many requests", reason: "patch_rate", retryAfter: 1}
		}
		if reason := a.ownerOf(r.Header).refusal(a.app(s.app)); reason != "" {
			return ownerProblem(reason)
		}
		renewed, p := s.renewed(r)
		switch {
		case p != nil:
			return p
		case renewed && r.ContentLength == 0:
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		types := []string{typeFrag}
		if s.awaitsAnswer() {
			types = append(types, typeSDP)
		}
		body, got, p := readBody(r, types...) // before the lock: a slow client holds up itself only
		if p != nil {
			return p
		}
		s.negotiation.Lock()
		defer s.negotiation.Unlock()
		switch {
		case got == typeSDP && s.awaitsAnswer():
			return s.counterAnswer(w, body)
		case got == typeSDP: // another answer came while this one was read
			return unprocessable("answered_already", "the counter-offer has its answer", nil)
		}
		f, err := parseFrag(body)
		if err != nil {
			return bad("bad_frag", "the SDP fragment is not valid", err)
		}
		return s.patch(w, r, f)
	}
}

func (s *session) awaitsAnswer() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counter
}

// patch tells trickle from restart by the ufrag and checks the entity tag:
//
//	If-Match    same ufrag or none   other ufrag with password
//	absent      trickle, or 428 if strict   428
//	"etag"      trickle              restart
//	* or "*"    trickle              restart
//	other       412                  412
//
// Trickle without If-Match is safe: the ufrag names the generation as well.
func (s *session) patch(w http.ResponseWriter, r *http.Request, f frag) *problem {
	restart := f.ufrag != "" && f.ufrag != s.ufrag
	match := r.Header.Get("If-Match")
	switch {
	case match == "" && (restart || s.a.cfg.StrictIfMatch):
		return &problem{status: http.StatusPreconditionRequired, detail: "If-Match is required", reason: "no_if_match"}
	case match != "" && !matches(match, s.etag):
		return &problem{status: http.StatusPreconditionFailed, detail: "the session has changed", reason: "if_match"}
	case s.awaitsAnswer():
		return unprocessable("no_answer_yet", "the counter-offer has no answer yet", nil)
	case restart && f.pwd == "":
		return bad("bad_frag", "the SDP fragment is not valid", fmt.Errorf("ice-pwd is missing"))
	case restart && s.remote.desc == nil:
		return unprocessable("restart_of_counter_offer", "this session cannot restart", nil)
	case restart && !s.restarts.AllowN(s.a.now(), 1):
		return &problem{status: http.StatusTooManyRequests, detail: "too many restarts of this session", reason: "restart_rate", retryAfter: 2}
	case restart:
		return s.restart(w, r, f)
	}
	s.trickle(f)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// matches reads If-Match as clients write it: *, "*", a list of tags, weak or unquoted.
func matches(header, etag string) bool {
	for tag := range strings.SplitSeq(header, ",") {
		tag = strings.Trim(strings.TrimSpace(tag), `"`)
		if tag == "*" || tag == strings.Trim(etag, `"`) {
			return true
		}
	}
	return false
}

// trickle adds candidates; those that ICE will not have are ignored, and those beyond maxCandidates of one generation.
func (s *session) trickle(f frag) {
	for _, c := range f.candidates {
		if s.trickled[c.line] || len(s.trickled) == maxCandidates {
			continue
		}
		s.trickled[c.line] = true
		_ = s.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: "candidate:" + c.line, SDPMid: &c.mid})
	}
}

// A restart costs as much as a join, and begins a generation with candidates to probe. A client needs one when its network
// changes. The limit is the session's: one of addresses says nothing to who has many.
const (
	restartRate  = 0.5 // a second
	restartBurst = 5
)

// restart begins a new ICE generation: the client's description with its new
// credentials is applied again, and our new ones go back. Media flows on over the old
// pair until then; whatever fails, the session stays.
func (s *session) restart(w http.ResponseWriter, r *http.Request, f frag) *problem {
	text, err := s.remote.withCredentials(f)
	if err != nil {
		return internal(err)
	}
	s.renew()
	answer, err := s.a.peers.answerOffer(r.Context(), s.pc, text)
	if err != nil {
		return slowOr(r, err, unprocessable("restart_failed", "the restart failed", err))
	}
	s.ufrag, s.etag = f.ufrag, newETag()
	clear(s.trickled)
	h := w.Header()
	h.Set("Content-Type", typeFrag)
	h.Set("ETag", s.etag)
	w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(w, fragOf(answer))
	return nil
}

// counterAnswer applies the client's answer to our offer.
func (s *session) counterAnswer(w http.ResponseWriter, body []byte) *problem {
	o, err := parseOffer(body)
	if err != nil {
		return sdpProblem(err)
	}
	text, err := o.text()
	if err != nil {
		return bad("bad_sdp", "the SDP is not valid", err)
	}
	if err := s.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: text}); err != nil {
		return unprocessable("unprocessable_sdp", "the answer cannot be served", err)
	}
	s.ufrag = o.ufrag
	s.mu.Lock()
	s.counter, s.since = false, s.a.now()
	s.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
	return nil
}
