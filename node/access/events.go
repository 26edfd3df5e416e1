package access

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// relEvents names a session's event stream in a Link header. The drafts of WHEP define it. WHIP has none of its own; the
	// stream is the same, so publishers are given the same name.
	relEvents = "urn:ietf:params:whep:ext:core:server-sent-events"
	// eventMove is the one event there is: join at another node, and leave this session once media flows there.
	eventMove  = "reconnect"
	typeEvents = "text/event-stream"

	// sessionStreams a session may have: one, and the one that comes in its place. The oldest gives way.
	sessionStreams = 2
	// nodeStreams may be read at once: half of the connections that a node's listener holds.
	nodeStreams = 2048
	// pingEvery keeps translators and proxies from forgetting a stream, and finds readers that are gone.
	pingEvery = 20 * time.Second
	// writeWithin is what a reader may take for what it is sent.
	writeWithin = 5 * time.Second
	// askAgain is how long a stream waits when there is no other node to name.
	askAgain = 5 * time.Second
)

// eventStream is one of a session's streams. There is no queue behind it: what is to be told is the departure that holds.
type eventStream struct {
	id   string        // "" if it came with its reader and goes with it
	mute bool          // the client wants no event that there is
	cut  chan struct{} // closed when its reader must go; nil while it has none
}

// eventStreams are those of one session, oldest first. The zero value is ready.
type eventStreams struct {
	mu  sync.Mutex
	all []*eventStream
}

// add keeps a stream, and lets the oldest go when there are too many.
func (e *eventStreams) add(st *eventStream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.all) == sessionStreams {
		e.all[0].free()
		e.all = slices.Delete(e.all, 0, 1)
	}
	e.all = append(e.all, st)
}

// find returns a stream that POST has made, nil if there is none of that id.
func (e *eventStreams) find(id string) *eventStream {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, st := range e.all {
		if st.id == id && id != "" {
			return st
		}
	}
	return nil
}

// attach gives a stream a reader, who leaves when cut closes. The one before leaves now.
func (e *eventStreams) attach(st *eventStream) (cut chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	st.free()
	st.cut = make(chan struct{})
	if !slices.Contains(e.all, st) { // it gave way meanwhile
		close(st.cut)
	}
	return st.cut
}

// drop forgets a stream, and sends its reader away.
func (e *eventStreams) drop(st *eventStream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	st.free()
	e.all = slices.DeleteFunc(e.all, func(o *eventStream) bool { return o == st })
}

// free sends the reader away.
func (st *eventStream) free() {
	select {
	case <-st.cut: // closed already; nil never is
	default:
		if st.cut != nil {
			close(st.cut)
		}
	}
}

// link tells the client of a new session where its events are.
func (s *session) link(h http.Header) {
	h.Set("Link", fmt.Sprintf("<%s/events>; rel=%q; events=%q", s.url(), relEvents, eventMove))
}

// onEvents finds the session whose events a request is about, and lets f answer.
func (a *Access) onEvents(kind string, f func(s *session, w http.ResponseWriter, r *http.Request) *problem) handler {
	return func(w http.ResponseWriter, r *http.Request) *problem {
		s, p := a.of(kind, r)
		switch {
		case p != nil:
			return p
		case !a.patches.allow(r.RemoteAddr, a.now()):
			return &problem{status: http.StatusTooManyRequests, detail: "too many requests", reason: "event_rate", retryAfter: 1}
		}
		return f(s, w, r)
	}
}

// makeEvents makes a stream of the events that the body lists, of all without a body.
func (s *session) makeEvents(w http.ResponseWriter, r *http.Request) *problem {
	st := &eventStream{id: randomID(8)}
	if r.ContentLength != 0 {
		body, _, p := readBody(r, typeJSON)
		if p != nil {
			return p
		}
		var wanted []string
		if err := json.Unmarshal(body, &wanted); err != nil {
			return bad("bad_events", "send a JSON list of event names", err)
		}
		st.mute = !slices.Contains(wanted, eventMove)
	}
	s.streams.add(st)
	w.Header().Set("Location", s.url()+"/events/"+st.id)
	w.WriteHeader(http.StatusCreated)
	return nil
}

// dropEvents forgets a stream.
func (s *session) dropEvents(w http.ResponseWriter, r *http.Request) *problem {
	st := s.streams.find(r.PathValue("stream"))
	if st == nil {
		return noStream
	}
	s.streams.drop(st)
	w.WriteHeader(http.StatusOK)
	return nil
}

var noStream = &problem{status: http.StatusNotFound, detail: "no such event stream", reason: "no_event_stream"}

// readEvents streams events until the client goes, the session ends, or another reader comes. Without a stream's id it
// makes one for the time, as EventSource on the Link's address expects.
func (s *session) readEvents(w http.ResponseWriter, r *http.Request) *problem {
	st, reading := s.streams.find(r.PathValue("stream")), &s.a.counts.reading
	switch {
	case st == nil && r.PathValue("stream") != "":
		return noStream
	case reading.Add(1) > nodeStreams:
		reading.Add(-1)
		return &problem{status: http.StatusServiceUnavailable, reason: "event_streams", detail: "try again", retryAfter: 30}
	}
	defer reading.Add(-1)
	if st == nil {
		st = new(eventStream)
		s.streams.add(st)
		defer s.streams.drop(st)
	}
	h := w.Header()
	h.Set("Content-Type", typeEvents)
	h.Set("X-Accel-Buffering", "no") // reverse proxies that keep answers back
	if r.ProtoMajor == 1 {
		h.Set("Connection", "close") // a reader that gave way must not keep its connection, idle
	}
	reader := &eventReader{s: s, w: w, ctl: http.NewResponseController(w), mute: st.mute}
	reader.run(r, s.streams.attach(st))
	return nil
}

// eventReader writes one stream to one client.
type eventReader struct {
	s    *session
	w    http.ResponseWriter
	ctl  *http.ResponseController
	mute bool
}

// run is the reader's whole life, on the goroutine of its request.
func (e *eventReader) run(r *http.Request, cut <-chan struct{}) {
	_ = e.ctl.SetReadDeadline(time.Time{}) // the server's bound is for requests; not every writer has one
	e.w.WriteHeader(http.StatusOK)
	if !e.write(": events of this session\n\n") {
		return
	}
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	now, changed := e.s.a.departures.current()
	due := e.due(now)
	for {
		select {
		case <-r.Context().Done():
			return
		case <-e.s.gone:
			return
		case <-cut:
			return
		case <-changed:
			now, changed = e.s.a.departures.current()
			due = e.due(now)
		case <-ping.C:
			if !e.write(":\n\n") {
				return
			}
		case <-due:
			due = nil
			if !e.mute && !e.move(now) {
				due = time.After(askAgain)
			}
			if now.final {
				return
			}
		}
	}
}

// due is when this client's turn comes to be told of a departure.
func (e *eventReader) due(d *departure) <-chan time.Time {
	if d == nil {
		return nil
	}
	return time.After(rand.N(d.spread + 1)) // not all clients at once
}

// move tells the client where to go; false if there is no other node. Who could not be told is found out by the next ping.
func (e *eventReader) move(d *departure) bool {
	s := e.s
	base, ok := s.a.cfg.Elsewhere(s.app)
	if !ok {
		return false
	}
	data := struct {
		URL     string `json:"url"`
		Seconds *int   `json:"deadline_seconds,omitempty"` // from now; absent: the session does not end by itself
	}{URL: base + s.endpoint()}
	if !d.by.IsZero() {
		left := max(0, int(d.by.Sub(s.a.now()).Seconds()))
		data.Seconds = &left
	}
	text, err := json.Marshal(data)
	if err == nil && e.write("event: "+eventMove+"\ndata: "+string(text)+"\n\n") {
		s.a.counts.moves.Add(1)
	}
	return true
}

// write sends text at once; false when the client does not take it. The deadline goes with the write: HTTP/2 resets a stream at its
// deadline though nothing is being written.
func (e *eventReader) write(text string) bool {
	_ = e.ctl.SetWriteDeadline(time.Now().Add(writeWithin))
	defer func() { _ = e.ctl.SetWriteDeadline(time.Time{}) }()
	if _, err := e.w.Write([]byte(text)); err != nil {
		return false
	}
	return e.ctl.Flush() == nil
}

// endpoint is the path and query at which this session could be opened elsewhere: its own stream, not just its channel.
func (s *session) endpoint() string {
	path := []string{"", s.kind, url.PathEscape(s.app), url.PathEscape(s.channel)}
	query := url.Values{}
	if s.kind == kindWHEP {
		path = append(path, url.PathEscape(s.stream))
	} else {
		query.Set("stream", s.stream)
	}
	if s.named != "" {
		query.Set("user", s.named)
	}
	out := strings.Join(path, "/")
	if len(query) > 0 {
		out += "?" + query.Encode()
	}
	return out
}
