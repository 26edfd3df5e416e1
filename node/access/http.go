package access

import (
	"encoding/json"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

const (
	maxBody  = 64 << 10
	maxWaste = 16 << 20 // of a body that is too large, read so that its sender comes to read the answer
	typeSDP  = "application/sdp"
	typeFrag = "application/trickle-ice-sdpfrag"
	typeJSON = "application/json"
)

// problem is a refusal. Status and detail go to the client, reason to the log and the
// counters; err is logged beside it.
type problem struct {
	status     int
	detail     string // never tells why exactly
	reason     string
	err        error
	fault      bool   // the node's own: logged as an error
	retryAfter int    // seconds; 0: no header
	accept     string // Accept-Post or Accept-Patch for 415
	location   string // for 307
}

// handler answers a request, or says why not.
type handler func(w http.ResponseWriter, r *http.Request) *problem

// methods of one path.
type methods map[string]handler

// routes builds the mux. Paths are matched without their method, so that another
// method gets a problem answer with Allow instead of the library's text.
func (a *Access) routes() http.Handler {
	mux := http.NewServeMux()
	add := func(path, accept string, m methods) { mux.HandleFunc(path, a.serve(accept, m)) }
	empty := func(w http.ResponseWriter, _ *http.Request) *problem { w.WriteHeader(http.StatusOK); return nil }
	player := func(w http.ResponseWriter, _ *http.Request) *problem {
		w.Header().Set("Content-Type", typeSDP)
		w.WriteHeader(http.StatusOK)
		return nil
	}
	add("/whip/{app}/{channel}", typeSDP, methods{"POST": a.opens(kindWHIP, a.openWHIP), "GET": empty, "HEAD": empty})
	add("/whep/{app}/{channel}", typeSDP, methods{"POST": a.postWHEP, "GET": player, "HEAD": player})
	add("/whep/{app}/{channel}/{stream}", typeSDP, methods{"POST": a.postWHEP, "GET": player, "HEAD": player})
	add("/whip/s/{id}", "", a.sessionMethods(kindWHIP))
	add("/whep/s/{id}", "", a.sessionMethods(kindWHEP))
	for _, kind := range []string{kindWHIP, kindWHEP} {
		add("/"+kind+"/s/{id}/events", typeJSON, methods{"GET": a.onEvents(kind, (*session).readEvents), "POST": a.onEvents(kind, (*session).makeEvents)})
		add("/"+kind+"/s/{id}/events/{stream}", "", methods{"GET": a.onEvents(kind, (*session).readEvents), "DELETE": a.onEvents(kind, (*session).dropEvents)})
	}
	add("/v1/rtp/{id}", "", methods{"DELETE": a.deleteSession(kindRTP), "PATCH": a.renewSession(kindRTP), "GET": a.showSession(kindRTP), "HEAD": a.showSession(kindRTP)})
	add("/v1/rtp-out/{id}", "", methods{"DELETE": a.deleteSession(kindRTPOut), "PATCH": a.renewSession(kindRTPOut), "GET": a.showSession(kindRTPOut), "HEAD": a.showSession(kindRTPOut)})
	add("/v1/apps/{app}/channels/{channel}", "", methods{"GET": a.listChannel, "HEAD": a.listChannel})
	add("/v1/apps/{app}/channels/{channel}/rtp", typeJSON, methods{"POST": a.opens(kindRTP, a.openRTP)})
	add("/v1/apps/{app}/channels/{channel}/rtp/out", typeJSON, methods{"POST": a.opens(kindRTPOut, a.openRTPOut)})
	if a.cfg.Nearest != nil {
		add("/v1/nearest", "", methods{"GET": func(w http.ResponseWriter, r *http.Request) *problem { a.cfg.Nearest(w, r); return nil }})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, &problem{status: http.StatusNotFound, detail: "no such resource"})
	})
	return mux
}

// gate turns away addresses that Config.Allow refuses: no body, no log line (the filter
// samples what it drops), and the connection ends.
func (a *Access) gate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = a.source(r)
		if from, err := netip.ParseAddrPort(r.RemoteAddr); err == nil && !a.allowed(from.Addr()) {
			a.counts.blocked.Add(1)
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// allowed asks for the address itself: a zone or the IPv6 form of IPv4 would match no
// prefix.
func (a *Access) allowed(addr netip.Addr) bool {
	return a.cfg.Allow(addr.Unmap().WithZone(""))
}

// serve picks the method, answers OPTIONS and writes problems.
func (a *Access) serve(acceptPost string, m methods) http.HandlerFunc {
	allow := []string{}
	for _, name := range []string{"GET", "HEAD", "POST", "PATCH", "DELETE"} {
		if m[name] != nil {
			allow = append(allow, name)
		}
	}
	allowed := strings.Join(append(allow, "OPTIONS"), ", ")
	return func(w http.ResponseWriter, r *http.Request) {
		cors(w.Header())
		if r.Method == http.MethodOptions {
			answerOptions(w, acceptPost, allowed)
			return
		}
		h := m[r.Method]
		if h == nil {
			w.Header().Set("Allow", allowed)
			writeProblem(w, &problem{status: http.StatusMethodNotAllowed, detail: "method not allowed"})
			return
		}
		if p := h(w, r); p != nil {
			a.refuse(w, r, p)
		}
	}
}

// cors lets pages of any origin use the API: the token is in a header that the page
// sets, never in a cookie, so no origin gains anything from another's login.
func cors(h http.Header) {
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "Location, ETag, Link, Retry-After, Accept-Patch")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
}

// answerOptions serves preflights, without a token, and clients that look around.
func answerOptions(w http.ResponseWriter, acceptPost, allowed string) {
	h := w.Header()
	h.Set("Allow", allowed)
	h.Set("Access-Control-Allow-Methods", allowed)
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, If-Match")
	h.Set("Access-Control-Max-Age", "86400")
	if acceptPost != "" {
		h.Set("Accept-Post", acceptPost)
	}
	w.WriteHeader(http.StatusNoContent)
}

// refuse logs the precise reason, unless there were too many of it, and writes the vague
// answer.
func (a *Access) refuse(w http.ResponseWriter, r *http.Request, p *problem) {
	if a.refused.note(p.reason, a.now()) {
		a.logRefusal(r, p)
	}
	writeProblem(w, p)
}

func (a *Access) logRefusal(r *http.Request, p *problem) {
	level := slog.LevelInfo
	if p.fault || (p.status >= 500 && p.status != http.StatusServiceUnavailable) {
		level = slog.LevelError
	}
	attrs := []slog.Attr{slog.Int("status", p.status), slog.String("reason", p.reason), slog.String("method", r.Method),
		slog.String("app", clip(r.PathValue("app"))), slog.String("channel", clip(r.PathValue("channel"))), slog.String("remote", r.RemoteAddr)}
	if p.err != nil {
		attrs = append(attrs, slog.String("error", clip(p.err.Error())))
	}
	a.log.LogAttrs(r.Context(), level, "request refused", attrs...)
}

// clip bounds what strangers can write into the log.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}

// writeProblem writes an RFC 9457 body.
func writeProblem(w http.ResponseWriter, p *problem) {
	h := w.Header()
	switch p.status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
	case http.StatusUnsupportedMediaType:
		if strings.Contains(p.accept, "sdpfrag") {
			h.Set("Accept-Patch", p.accept)
		} else {
			h.Set("Accept-Post", p.accept)
		}
	}
	if p.location != "" {
		h.Set("Location", p.location)
	}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	h.Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.status)
	// The client may be gone; there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail,omitempty"`
	}{"about:blank", http.StatusText(p.status), p.status, p.detail})
}

// readBody checks the content type (parameters are allowed) and reads at most maxBody.
func readBody(r *http.Request, types ...string) ([]byte, string, *problem) {
	accept := strings.Join(types, ", ")
	got, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	ok := false
	for _, t := range types {
		ok = ok || (err == nil && got == t)
	}
	if !ok {
		return nil, "", &problem{status: http.StatusUnsupportedMediaType, detail: "send " + accept, reason: "content_type", accept: accept}
	}
	if r.ContentLength > maxBody {
		waste(r)
		return nil, "", bodyTooLarge
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case len(body) > maxBody:
		waste(r)
		return nil, "", bodyTooLarge
	case err != nil:
		return nil, "", &problem{status: http.StatusBadRequest, detail: "the body could not be read", reason: "body_unreadable", err: err}
	}
	return body, got, nil
}

var bodyTooLarge = &problem{status: http.StatusRequestEntityTooLarge, detail: "the body is too large", reason: "body_too_large"}

// waste reads on in a body that is too large: a client that sends all before it reads would find its connection reset instead of
// the answer. One that says it has more than that, or that waits to be told to go on, is answered at once.
func waste(r *http.Request) {
	if r.ContentLength <= maxWaste && r.Header.Get("Expect") == "" {
		_, _ = io.CopyN(io.Discard, r.Body, maxWaste) // the server's deadline for requests bounds it
	}
}

func bad(reason, detail string, err error) *problem {
	return &problem{status: http.StatusBadRequest, reason: reason, detail: detail, err: err}
}

func unprocessable(reason, detail string, err error) *problem {
	return &problem{status: http.StatusUnprocessableEntity, reason: reason, detail: detail, err: err}
}

func internal(err error) *problem {
	return &problem{status: http.StatusInternalServerError, reason: "internal", err: err}
}
