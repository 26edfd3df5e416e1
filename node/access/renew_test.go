package access

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ternmesh/tern/bench/client"
	"github.com/ternmesh/tern/node/access/token"
)

// made makes a token of app demo as o wants it; unset fields get the usual.
func (w *world) made(o token.CreateOptions) string {
	w.t.Helper()
	o.Format, o.App, o.Now = token.FormatJWT, "demo", time.Now()
	if o.Certificate == "" {
		o.Certificate = "first-secret"
	}
	if o.TTL == 0 {
		o.TTL = 10 * time.Minute
	}
	tok, err := token.Create(o)
	if err != nil {
		w.t.Fatal(err)
	}
	return tok
}

func (w *world) setApp(app App) {
	w.mu.Lock()
	w.apps[app.ID] = app
	w.mu.Unlock()
}

func (w *world) demo(change func(*App)) App {
	w.mu.Lock()
	app := w.apps["demo"]
	w.mu.Unlock()
	change(&app)
	w.setApp(app)
	return app
}

var everything = []string{token.CanPublishAudio, token.CanPublishVideo, token.CanSubscribe}

// opened opens a session of a kind by hand and returns its URL.
func (w *world) opened(kind, tok string, header ...string) answer {
	w.t.Helper()
	header = append(header, "Authorization", "Bearer "+tok, "Content-Type")
	switch kind {
	case kindWHIP:
		return w.do("POST", "/whip/demo/room?stream=two", offerOf(w.t, peer(w.t), sendonly, videoT), append(header, typeSDP)...)
	case kindWHEP:
		return w.do("POST", "/whep/demo/room/cam", offerOf(w.t, peer(w.t), recvonly, videoT), append(header, typeSDP)...)
	}
	return w.do("POST", "/v1/apps/demo/channels/room/rtp", "{}", append(header, typeJSON)...)
}

func TestSessionsAreRenewedByPATCHWithANewToken(t *testing.T) {
	for _, kind := range []string{kindWHIP, kindWHEP, kindRTP} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t, nil)
			w.publish("/whip/demo/room?stream=cam", w.publisherToken("room"), client.Synthetic{PerSec: 50})
			res := w.opened(kind, w.made(token.CreateOptions{Channel: "room", User: "alice", Can: everything}))
			if res.code != 201 {
				t.Fatalf("%d %s", res.code, res.body)
			}
			url := res.header.Get("Location")
			patch := func(o token.CreateOptions) int {
				o.Channel = "room"
				return w.do("PATCH", url, "", "Authorization", "Bearer "+w.made(o)).code
			}
			for name, tc := range map[string]struct {
				o    token.CreateOptions
				want int
			}{
				"of another user":         {token.CreateOptions{User: "bob", Can: everything}, 403},
				"of nobody in particular": {token.CreateOptions{Can: everything}, 204}, // good for alice too
				"without the right":       {token.CreateOptions{User: "alice"}, 403},
				"of another certificate":  {token.CreateOptions{User: "alice", Certificate: "not-the-secret", Can: everything}, 401},
				"for an hour":             {token.CreateOptions{User: "alice", TTL: time.Hour, Can: everything}, 204},
				"for another hour, later": {token.CreateOptions{User: "alice", TTL: time.Hour + time.Second, Can: everything}, 204},
			} {
				if got := patch(tc.o); got != tc.want {
					t.Errorf("a token %s: %d, want %d", name, got, tc.want)
				}
			}
			if code := patch(token.CreateOptions{User: "alice", TTL: time.Hour, Can: everything}); code != 204 {
				t.Fatalf("renewal: %d", code)
			}
			s := w.a.session(kind, url[strings.LastIndexByte(url, '/')+1:])
			if s == nil {
				t.Fatalf("no session behind %s", url)
			}
			if left := time.Until(s.passport().expires); left < 59*time.Minute || s.passport().user != "alice" {
				t.Errorf("%s left for %q, want an hour for alice", left, s.passport().user)
			}
			if got := w.do("PATCH", url, "").code; got < 400 {
				t.Errorf("a PATCH of nothing: %d", got)
			}
		})
	}
}

func TestRenewalOutlivesTheFirstToken(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("/whip/demo/room?stream=cam", w.publisherToken("room"), client.Synthetic{PerSec: 50})
	res := w.opened(kindRTP, w.made(token.CreateOptions{Channel: "room", Can: everything}))
	url := res.header.Get("Location")
	if got := w.do("PATCH", url, "", "Authorization", "Bearer "+w.made(token.CreateOptions{Channel: "room", TTL: time.Hour, Can: everything})); got.code != 204 {
		t.Fatalf("renewal: %d %s", got.code, got.body)
	}
	for _, s := range w.a.all() {
		if s.kind == kindRTP {
			s.hear(time.Now().Add(11 * time.Minute)) // it sends all the time
			s.connected.Store(true)
		}
	}
	w.a.round(time.Now().Add(11 * time.Minute))
	if n := w.a.Stats().Sessions[kindRTP]; n != 1 {
		t.Errorf("%d sessions after the first token's end, want 1", n)
	}
	w.skew.Store(int64(11 * time.Minute))
	w.a.Reauthorise() // asks the new token, not the old one
	if n := w.a.Stats().Sessions[kindRTP]; n != 1 {
		t.Errorf("a policy that changed nothing ended the renewed session")
	}
	w.a.round(time.Now().Add(time.Hour + time.Second))
	if s := w.a.Stats(); s.Sessions[kindRTP] != 0 || s.Ended[Event{kindRTP, "expired"}] != 1 || s.Renewed != 1 {
		t.Errorf("after the second token's end: %+v", s)
	}
}

func TestRePOSTWithANewTokenTakesTheStreamOver(t *testing.T) {
	w := newWorld(t, nil)
	first := w.publish("/whip/demo/room?stream=cam", w.publisherToken("room"), client.Synthetic{PerSec: 100})
	v := w.view("/whep/demo/room/cam", w.viewerToken("room"), client.Config{})
	w.until("media", func() bool { return v.Stats().Packets["video"] > 10 })
	w.publish("/whip/demo/room?stream=cam", w.publisherToken("room"), client.Synthetic{PerSec: 100})
	<-first.Done()
	count := v.Stats().Packets["video"]
	w.until("media of the second session, at the viewer of the first", func() bool { return v.Stats().Packets["video"] > count+10 })
}

func TestRevocationsEndSessions(t *testing.T) {
	for reason, change := range map[string]func(*App){
		"disabled":      func(a *App) { a.Disabled = true },
		"banned":        func(a *App) { a.Banned = []string{"mallory"} },
		"bad_signature": func(a *App) { a.Certificates = []string{"second-secret"} },
		"not_granted":   func(a *App) { a.Key = "another" }, // which the network's owner does not list
	} {
		t.Run(reason, func(t *testing.T) {
			w := newWorld(t, nil)
			tok := w.made(token.CreateOptions{Channel: "room", User: "mallory", Can: everything})
			if res := w.opened(kindRTP, tok, DefaultAppKeysHeader, "demo"); res.code != 201 {
				t.Fatalf("%d %s", res.code, res.body)
			}
			w.demo(change)
			w.a.Reauthorise()
			if s := w.a.Stats(); s.Sessions[kindRTP] != 0 || s.Ended[Event{kindRTP, "revoked: " + reason}] != 1 {
				t.Errorf("sessions %v, ended %v", s.Sessions, s.Ended)
			}
			if res := w.opened(kindRTP, tok, DefaultAppKeysHeader, "demo"); res.code != 403 && res.code != 401 {
				t.Errorf("and back in: %d", res.code)
			}
		})
	}
}

func TestRoomTokensOpenOneSessionEach(t *testing.T) {
	w := newWorld(t, nil)
	w.demo(func(a *App) { a.RoomTokens = true })
	make := func(session, id string) string {
		return w.made(token.CreateOptions{Channel: "room", User: "alice", Session: session, ID: id, Can: everything})
	}
	first := make("s1", "t1")
	if res := w.do("POST", "/v1/apps/demo/channels/room/rtp", "no JSON", "Authorization", "Bearer "+first, "Content-Type", typeJSON); res.code != 400 {
		t.Fatalf("%d", res.code)
	}
	res := w.opened(kindRTP, first)
	if res.code != 201 {
		t.Fatalf("a request that failed used the token up: %d %s", res.code, res.body)
	}
	if again := w.opened(kindRTP, first); again.code != 403 {
		t.Errorf("the same token again: %d", again.code)
	}
	if plain := w.opened(kindRTP, w.publisherToken("room")); plain.code != 401 {
		t.Errorf("an ordinary token: %d", plain.code)
	}
	url := res.header.Get("Location")
	patch := func(tok string) int { return w.do("PATCH", url, "", "Authorization", "Bearer "+tok).code }
	second := make("s1", "t2")
	for i, tc := range []struct {
		what, tok string
		want      int
	}{
		{"another session's", make("s2", "t3"), 403}, {"its own, new", second, 204}, {"its own, sent twice", second, 204}, {"the first one", first, 403},
	} {
		if got := patch(tc.tok); got != tc.want {
			t.Errorf("%d, renewed with %s: %d, want %d", i, tc.what, got, tc.want)
		}
	}
	if again := w.opened(kindRTP, second); again.code != 403 {
		t.Errorf("a token that renewed opens a session: %d", again.code)
	}
	w.a.Reauthorise()
	if n := w.a.Stats().Sessions[kindRTP]; n != 1 {
		t.Errorf("asking again takes a used token for a replay: %d sessions", n)
	}
	w.a.used.prune(time.Now().Add(time.Hour))
	if n := len(w.a.used.by); n != 0 {
		t.Errorf("%d used tokens are remembered past their end", n)
	}
}

func TestUsedTokensAreBounded(t *testing.T) {
	u := usedTokens{by: map[usedToken]time.Time{}}
	for i := range maxUsed {
		u.by[usedToken{"a", strconv.Itoa(i)}] = time.Time{}
	}
	if u.take("b", "t", time.Now()) {
		t.Error("a full memory accepts a token that it could not remember")
	}
}

func TestNetworkOwnersDecideOnJoinsAndRestarts(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.TenantsHeader = "X-Tenants" })
	w.demo(func(a *App) { a.Tenants = []string{"t1"} })
	tok := w.publisherToken("room")
	for _, tc := range []struct {
		header []string
		want   int
	}{
		{nil, 201}, {[]string{DefaultAppKeysHeader, "demo"}, 201}, {[]string{DefaultAppKeysHeader, "other"}, 403},
		{[]string{"X-Tenants", "demo:t1"}, 201}, {[]string{"X-Tenants", "demo:t9"}, 403},
		{[]string{DefaultTenantsHeader, "demo:t9"}, 201}, // not its name here
	} {
		if res := w.opened(kindWHIP, tok, tc.header...); res.code != tc.want {
			t.Errorf("%v: %d, want %d", tc.header, res.code, tc.want)
		}
	}
	res := w.opened(kindWHIP, tok)
	restart := []string{"Content-Type", typeFrag, "If-Match", res.header.Get("ETag"), DefaultAppKeysHeader, "other"}
	if got := w.do("PATCH", res.header.Get("Location"), "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n", restart...); got.code != 403 {
		t.Errorf("a restart from a network that does not list the app: %d", got.code)
	}
	if r := w.a.Stats().Refused; r["owner_app_key"] != 2 || r["owner_tenant"] != 1 {
		t.Errorf("counted %v", r)
	}
}

func TestUnknownKeyAsksForTheKeySetOnce(t *testing.T) {
	asked := 0
	w := newWorld(t, func(c *Config) {
		c.UnknownKey = func(context.Context, string) bool { asked++; return false }
	})
	// ES256 by its header; nobody has a key for it.
	if res := w.opened(kindRTP, "eyJhbGciOiJFUzI1NiJ9.e30.AAAA"); res.code != 401 || asked != 1 {
		t.Errorf("%d, asked %d times", res.code, asked)
	}
	if res := w.opened(kindRTP, "eyJhbGciOiJIUzI1NiJ9.e30.AAAA"); res.code != 401 || asked != 1 {
		t.Errorf("HS256 asks too: %d, asked %d times", res.code, asked)
	}
}
