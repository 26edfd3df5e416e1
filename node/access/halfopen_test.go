package access

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/ternmesh/tern/bench/client"
	"github.com/ternmesh/tern/node/access/token"
)

func TestHalfOpenSessionsAreBounded(t *testing.T) {
	a := &Access{cfg: Config{MaxSessions: 1000}, sessions: map[string]*session{}}
	start := time.Unix(1e9, 0)
	add := func(n int, from string, h holder, opened time.Duration, connected bool) {
		for range n {
			s := &session{pc: new(webrtc.PeerConnection), source: netip.MustParsePrefix(from), holder: h, opened: start.Add(opened)}
			s.connected.Store(connected)
			a.sessions[randomID(8)] = s
		}
	}
	ask := func(from string, h holder, now time.Duration) string {
		yields, p := a.halfOpen(&session{pc: new(webrtc.PeerConnection), source: netip.MustParsePrefix(from), holder: h, opened: start.Add(now)})
		switch {
		case p != nil:
			return p.reason
		case yields != nil:
			return fmt.Sprintf("%s of %s", yields.opened.Sub(start), yields.holder.token)
		}
		return ""
	}
	crowd, honest := holder{"demo", "crowd"}, holder{"demo", "honest"}
	add(600, "192.0.2.1/32", crowd, 0, true) // who is connected does not count
	add(maxHalfOpen-1, "192.0.2.1/32", crowd, time.Second, false)
	if got := ask("192.0.2.1/32", crowd, 2*time.Second); got != "" {
		t.Errorf("the last one that may be: %s", got)
	}
	add(1, "192.0.2.1/32", crowd, 0, false)
	if got, other := ask("192.0.2.1/32", honest, 2*time.Second), ask("192.0.2.2/32", crowd, 2*time.Second); got != "half_open_source" || other != "" {
		t.Errorf("one source has all it may: %q; another is refused %q", got, other)
	}
	add(500-maxHalfOpen-10, "192.0.2.2/32", crowd, 2*time.Second, false)
	add(10, "192.0.2.3/32", holder{"demo", "other"}, -time.Second, false)
	for _, c := range []struct {
		says string
		h    holder
		now  time.Duration
		want string
	}{
		{"who has most waits for those that may still connect", crowd, 4 * time.Second, "half_open"},
		{"and then takes its own oldest place", crowd, 5 * time.Second, "0s of crowd"},
		{"anybody else takes that place at once", honest, 2 * time.Second, "0s of crowd"},
	} {
		if got := ask("192.0.2.4/32", c.h, c.now); got != c.want {
			t.Errorf("%s: %q, want %q", c.says, got, c.want)
		}
	}
	if yields, p := a.halfOpen(&session{}); yields != nil || p != nil {
		t.Errorf("plain RTP: %v %v", yields, p)
	}
}

func TestAHolderIsAToken(t *testing.T) {
	a := &Access{cfg: Config{App: func(id string) (App, bool) {
		return App{App: token.App{ID: id, Auth: map[string]string{"open": token.AuthAppID, "demo": token.AuthToken}[id]}}, true
	}}}
	of := func(app, bearer string) holder { return a.holderOf(join{app: app, pass: pass{bearer: bearer}}) }
	if of("open", "1") != of("open", "2") {
		t.Error("a made-up token makes another holder of who needs none")
	}
	if of("demo", "h.1.s") == of("demo", "h.2.s") {
		t.Error("two tokens share a place")
	}
	if of("demo", "h.1.s") != of("demo", "h.1.t") {
		t.Error("another spelling of a token makes another holder")
	}
}

func TestAHalfOpenSessionGivesWay(t *testing.T) {
	at := time.Now().Add(time.Minute) // and stays: a slow machine makes no session old
	w := newWorld(t, func(c *Config) { c.MaxSessions, c.Now = 4, func() time.Time { return at } })
	offer := func(path, tok string) answer { return w.post(path, tok, offerOf(t, peer(t), sendonly, videoT)) }
	for range 2 {
		if res := offer("/whip/open/room", ""); res.code != 201 {
			t.Fatalf("%d %s", res.code, res.body)
		}
	}
	if res := offer("/whip/open/room", ""); res.code != 503 || res.header.Get("Retry-After") == "" {
		t.Errorf("one more of those that need no token: %d %s", res.code, res.body)
	}
	if res := offer("/whip/demo/room", w.publisherToken("room")); res.code != 201 {
		t.Errorf("a publisher with a token: %d %s", res.code, res.body)
	}
	w.until("one gave way", func() bool {
		return len(w.a.all()) == 2 && strings.Contains(w.log.String(), "reason=half_open_yielded")
	})
}

func TestAStreamIsAnnouncedWhenItsPublisherIsHeard(t *testing.T) {
	w := newWorld(t, nil)
	first := w.publish("/whip/open/room?stream=cam", "", client.Synthetic{PerSec: 50})
	w.live("open", "room", 1)
	silent := peer(t)
	for _, stream := range []string{"cam", "mic"} { // one that is there and one that is not
		res := w.post("/whip/open/room?stream="+stream, "", offerOf(t, peer(t), sendonly, videoT))
		if res.code != 201 {
			t.Fatalf("%d %s", res.code, res.body)
		}
	}
	streams, err := w.a.hub.list(t.Context(), "open", "room")
	if err != nil || len(streams) != 1 || first.PeerConnection().ConnectionState() != webrtc.PeerConnectionStateConnected {
		t.Errorf("offers alone changed what is live: %v, %v", streams, err)
	}
	res := w.post("/whip/open/room?stream=mic", "", offerOf(t, silent, sendonly, videoT))
	w.accept(silent, res)
	w.live("open", "room", 2) // without a packet
	if res := w.post("/whip/fenced/room", "", offerOf(t, peer(t), sendonly, videoT)); res.code != 403 {
		t.Errorf("what media refuses is answered at once: %d %s", res.code, res.body)
	}
}

func TestABodyThatIsSlowHoldsNoPlace(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxSessions = 1 })
	for _, path := range []string{"/whip/open/room", "/v1/apps/open/channels/room/rtp"} {
		body, slow := io.Pipe()
		defer slow.Close()
		req, err := http.NewRequest(http.MethodPost, w.http.URL+path, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", map[bool]string{true: typeJSON, false: typeSDP}[strings.HasSuffix(path, "rtp")])
		go func() {
			if res, err := direct.Do(req); err == nil {
				_ = res.Body.Close()
			}
		}()
		if _, err := io.WriteString(slow, " "); err != nil { // the request is on its way
			t.Fatal(err)
		}
	}
	w.until("one has been let in, and waits for its body", func() bool {
		w.a.joins.mu.Lock()
		defer w.a.joins.mu.Unlock()
		return w.a.joins.recent.Len() == 1
	})
	if res := w.post("/whip/open/room", "", offerOf(t, peer(t), sendonly, videoT)); res.code != 201 {
		t.Errorf("%d %s", res.code, res.body)
	}
}
