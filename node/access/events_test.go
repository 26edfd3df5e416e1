package access

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// events opens a session's event stream; what comes is read line by line until it ends.
func (w *world) events(ctx context.Context, url string) (lines <-chan string, code int) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		_ = res.Body.Close()
		return nil, res.StatusCode
	}
	if got := res.Header.Get("Content-Type"); got != typeEvents {
		w.t.Errorf("an event stream of type %q", got)
	}
	out := make(chan string, 100)
	go func() {
		defer close(out)
		defer res.Body.Close()
		for s := bufio.NewScanner(res.Body); s.Scan(); {
			out <- s.Text()
		}
	}()
	return out, res.StatusCode
}

// next returns the next line that is neither empty nor a comment; "" when the stream has ended.
func (w *world) next(lines <-chan string) string {
	w.t.Helper()
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				return ""
			}
			if line != "" && !strings.HasPrefix(line, ":") {
				return line
			}
		case <-time.After(15 * time.Second):
			w.t.Fatalf("nothing came for 15 s\nlog:\n%s", w.log)
		}
	}
}

// departing is a world whose sessions have somewhere to go.
func departing(t *testing.T) (*world, *atomic.Bool) {
	there := new(atomic.Bool)
	there.Store(true)
	return newWorld(t, func(c *Config) {
		c.Elsewhere = func(app string) (string, bool) { return "https://b.example", there.Load() && app == "demo" }
	}), there
}

// listening opens a viewer's session beside a publisher's; it returns their event streams' addresses.
func (w *world) listening() (whip, whep string) {
	w.t.Helper()
	publisher := peer(w.t)
	pub := w.post("/whip/demo/my%20room?stream=cam&user=somebody-secret", w.publisherToken("my room"), offerOf(w.t, publisher, sendonly, videoT))
	w.accept(publisher, pub)
	w.live("demo", "my room", 1)
	view := w.post("/whep/demo/my%20room?user=somebody-secret", w.viewerToken("my room"), offerOf(w.t, peer(w.t), recvonly, videoT))
	link := func(a answer) string {
		w.t.Helper()
		want := "<" + a.header.Get("Location") + `/events>; rel="urn:ietf:params:whep:ext:core:server-sent-events"; events="reconnect"`
		if got := a.header.Get("Link"); a.code != http.StatusCreated || got != want {
			w.t.Fatalf("%d %s, Link %q; want %q", a.code, a.body, got, want)
		}
		return w.http.URL + a.header.Get("Location") + "/events"
	}
	return link(pub), link(view)
}

func TestADepartingNodeTellsEachClientItsOwnWay(t *testing.T) {
	w, _ := departing(t)
	whip, whep := w.listening()
	publisher, _ := w.events(t.Context(), whip)
	viewer, _ := w.events(t.Context(), whep)
	w.until("both listen", func() bool { return w.a.Stats().EventStreams == 2 })
	w.a.Depart(w.a.now().Add(10*time.Minute + 900*time.Millisecond))
	for _, c := range []struct {
		lines <-chan string
		data  string
	}{
		{publisher, `data: {"url":"https://b.example/whip/demo/my%20room?stream=cam\u0026user=somebody-secret","deadline_seconds":600}`},
		{viewer, `data: {"url":"https://b.example/whep/demo/my%20room/cam?user=somebody-secret","deadline_seconds":600}`},
	} {
		if name, data := w.next(c.lines), w.next(c.lines); name != "event: reconnect" || data != c.data {
			t.Errorf("%q, %q; want %q", name, data, c.data)
		}
	}
	late, _ := w.events(t.Context(), whep) // who comes back is told again
	if name := w.next(late); name != "event: reconnect" {
		t.Errorf("a later reader gets %q", name)
	}
	w.until("three moves are counted", func() bool { return w.a.Stats().MovesTold == 3 })
	if strings.Contains(w.log.String(), "somebody-secret") {
		t.Error("the log tells users")
	}
}

func TestAnEventStreamEndsWithItsSession(t *testing.T) {
	w, _ := departing(t)
	_, whep := w.listening()
	lines, _ := w.events(t.Context(), whep)
	w.do("DELETE", strings.TrimSuffix(strings.TrimPrefix(whep, w.http.URL), "/events"), "")
	if line := w.next(lines); line != "" {
		t.Errorf("%q after the session's end", line)
	}
	if _, code := w.events(t.Context(), whep); code != http.StatusNotFound {
		t.Errorf("events of a session that has ended: %d", code)
	}
	w.until("nobody listens", func() bool { return w.a.Stats().EventStreams == 0 })
}

func TestAFarewellEndsEveryEventStream(t *testing.T) {
	w, there := departing(t)
	whip, whep := w.listening()
	publisher, _ := w.events(t.Context(), whip)
	viewer, _ := w.events(t.Context(), whep)
	w.a.Depart(time.Time{})
	if name, data := w.next(publisher), w.next(publisher); name != "event: reconnect" || strings.Contains(data, "deadline") {
		t.Errorf("without a deadline: %q %q", name, data)
	}
	w.next(viewer)
	w.next(viewer)
	w.a.Remain() // taken back: nothing is said of it
	there.Store(false)
	w.a.Farewell()
	w.a.Remain() // comes too late
	for _, lines := range []<-chan string{publisher, viewer} {
		if line := w.next(lines); line != "" {
			t.Errorf("%q, want the end: there is nowhere to go", line)
		}
	}
}

func TestStreamsThatAClientMakes(t *testing.T) {
	w, _ := departing(t)
	_, whep := w.listening()
	path := strings.TrimPrefix(whep, w.http.URL)
	made := w.do("POST", path, `["reconnect","layers"]`, "Content-Type", typeJSON)
	at := made.header.Get("Location")
	if made.code != http.StatusCreated || !strings.HasPrefix(at, path+"/") {
		t.Fatalf("%d, Location %q", made.code, at)
	}
	mute := w.do("POST", path, `["layers"]`, "Content-Type", typeJSON).header.Get("Location")
	w.a.Depart(time.Time{})
	lines, _ := w.events(t.Context(), w.http.URL+at)
	if name := w.next(lines); name != "event: reconnect" {
		t.Errorf("%q", name)
	}
	w.next(lines)
	again, _ := w.events(t.Context(), w.http.URL+at)
	if line := w.next(lines); line != "" {
		t.Errorf("the first reader of a stream stays beside the second: %q", line)
	}
	w.next(again)
	w.next(again)
	if res := w.do("DELETE", at, ""); res.code != http.StatusOK || w.next(again) != "" {
		t.Errorf("a stream that is deleted goes on (%d)", res.code)
	}
	if _, code := w.events(t.Context(), w.http.URL+at); code != http.StatusNotFound {
		t.Errorf("a deleted stream: %d", code)
	}
	quiet, _ := w.events(t.Context(), w.http.URL+mute)
	w.do("POST", path, "") // the limit is two: the third and fourth let the older go
	w.do("POST", path, "")
	if line := w.next(quiet); line != "" {
		t.Errorf("%q to a client that wants no such event", line)
	}
	for _, c := range []struct {
		method, path, body, kind string
		want                     int
	}{
		{"POST", path, "{", typeJSON, 400}, {"POST", path, "[]", "text/plain", 415}, {"POST", path, strings.Repeat(" ", maxBody+1), typeJSON, 413},
		{"DELETE", path + "/nothing", "", "", 404}, {"GET", "/whip/s/nothing/events", "", "", 404}, {"PUT", path, "", "", 405},
		{"GET", strings.Replace(path, "/whep/", "/whip/", 1), "", "", 404}, {"OPTIONS", path, "", "", 204},
	} {
		if res := w.do(c.method, c.path, c.body, "Content-Type", c.kind); res.code != c.want {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, res.code, c.want)
		}
	}
}

// TestABodyThatIsTooLargeIsAnswered also to clients that send all of it before they read.
func TestABodyThatIsTooLargeIsAnswered(t *testing.T) {
	w, _ := departing(t)
	whip, _ := w.listening()
	for _, c := range []struct {
		says string
		sent int // bytes of those that Content-Length names
	}{{"10000000", 10_000_000}, {"100000000", 2}} {
		conn, err := net.Dial("tcp", w.http.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %s\r\n\r\n%s",
			strings.TrimPrefix(whip, w.http.URL), c.says, strings.Repeat(" ", c.sent))
		if err != nil {
			t.Fatalf("%s bytes: the connection was reset: %v", c.says, err)
		}
		if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != 413 {
			t.Errorf("%s bytes: %v, %v", c.says, res, err)
		}
	}
}

// TestReadersThatNeverRead hold up neither the others nor the end of their sessions, and there are never more than two.
func TestReadersThatNeverRead(t *testing.T) {
	w, _ := departing(t)
	_, whep := w.listening()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 5 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, whep, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = io.Copy(io.Discard, res.Body); _ = res.Body.Close() }()
		if !res.Close {
			t.Error("a reader that gives way would keep its connection")
		}
	}
	w.until("two are left", func() bool { return w.a.Stats().EventStreams == sessionStreams })
	w.a.Depart(time.Time{})
	w.until("both are told", func() bool { return w.a.Stats().MovesTold == sessionStreams })
	w.a.EndAll("over")
	w.until("all have gone", func() bool { return w.a.Stats().EventStreams == 0 })
}

// deadlined is a response that remembers its deadline, as a connection does.
type deadlined struct {
	*httptest.ResponseRecorder
	until, written time.Time
}

func (d *deadlined) SetWriteDeadline(at time.Time) error { d.until = at; return nil }

func (d *deadlined) Write(b []byte) (int, error) {
	d.written = d.until
	return d.ResponseRecorder.Write(b)
}

// A deadline that stayed would reset the stream of an HTTP/2 client seconds later, although nobody is late with anything.
func TestOnlyAWriteOfAnEventStreamHasADeadline(t *testing.T) {
	d := &deadlined{ResponseRecorder: httptest.NewRecorder()}
	e := &eventReader{w: d, ctl: http.NewResponseController(d)}
	if !e.write("text") || d.Body.String() != "text" || !d.Flushed {
		t.Errorf("sent %q, at once %v", d.Body.String(), d.Flushed)
	}
	if d.written.IsZero() || !d.until.IsZero() {
		t.Errorf("a deadline of %v in the write and %v after it; want one in it alone", d.written, d.until)
	}
}

func TestANodeBoundsItsEventStreams(t *testing.T) {
	w, _ := departing(t)
	_, whep := w.listening()
	w.a.counts.reading.Store(nodeStreams)
	res := w.do("GET", strings.TrimPrefix(whep, w.http.URL), "")
	if res.code != http.StatusServiceUnavailable || res.header.Get("Retry-After") == "" {
		t.Errorf("%d, Retry-After %q", res.code, res.header.Get("Retry-After"))
	}
	w.a.counts.reading.Store(0)
}
