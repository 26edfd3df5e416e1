package client

import (
	"bytes"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestEventsOfLinkHeaders(t *testing.T) {
	base, err := url.Parse("https://a.example/whep/demo/room")
	if err != nil {
		t.Fatal(err)
	}
	for want, headers := range map[string][]string{
		"https://a.example/whep/s/1/events": {`</whep/s/1/events>; rel="urn:ietf:params:whep:ext:core:server-sent-events"; events="reconnect"`},
		"https://b.example/e":               {`<stun:x>; rel="ice-server"`, `<https://b.example/e>; events="layers,reconnect"; REL=urn:ietf:params:whep:ext:core:server-sent-events`},
		"https://c.example/e":               {`<turn:x>; rel="ice-server"; username="a,b", <https://c.example/e>; rel="urn:ietf:params:whep:ext:core:server-sent-events"`},
		"":                                  {`nonsense`, `<`, `>a<`, `<x>; rel="other"`, `<:>; rel="urn:ietf:params:whep:ext:core:server-sent-events"`},
	} {
		if got := eventsOf(base, headers); got != want {
			t.Errorf("%q: %q, want %q", headers, got, want)
		}
	}
}

func TestReadMoves(t *testing.T) {
	const stream = ": hello\n\nevent: viewercount\ndata: {\"viewercount\":3}\n\nevent: reconnect\r\ndata: {\"url\":\"https://b.example/x\",\"deadline_seconds\":5}\r\n\r\n" +
		"event:reconnect\n\nevent: reconnect\ndata: {\n\ndata: {\"url\":\"https://c.example\"}\n\nevent: reconnect\ndata: {\"url\":\ndata: \"https://d.example\"}\n\nevent: reconnect\ndata: {\"url\":\"cut off\"}\n"
	var got []string
	if err := readMoves(strings.NewReader(stream), func(m move) { got = append(got, m.URL) }); err != nil {
		t.Fatal(err)
	}
	if want := []string{"https://b.example/x", "", "https://d.example"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if err := readMoves(strings.NewReader("data: "+strings.Repeat("x", maxEventLine)), func(move) {}); err == nil {
		t.Error("a line without an end is read")
	}
}

func TestAMoveNeverLeadsFromHTTPSToHTTP(t *testing.T) {
	for _, c := range []struct{ from, url, want string }{
		{"https://a/whep", "", "https://a/whep"},
		{"https://a/whep", "https://b/whep", "https://b/whep"},
		{"https://a/whep", "/other", "https://a/other"},
		{"https://a/whep", "http://b/whep", ""},
		{"http://a/whep", "http://b/whep", "http://b/whep"},
		{"http://a/whep", "https://b/whep", "https://b/whep"},
		{"http://a/whep", "file:///etc/passwd", ""},
		{"http://a/whep", "http://", ""},
		{"http://a/whep", ":", ""},
	} {
		if got := (move{c.url}).target(c.from); got != c.want {
			t.Errorf("from %s to %q: %q, want %q", c.from, c.url, got, c.want)
		}
	}
}

func FuzzEvents(f *testing.F) {
	f.Add([]byte("event: reconnect\ndata: {\"url\":\"https://b\"}\n\n"), `<https://c/e>; rel="`+relEvents+`"`)
	f.Add([]byte(":\n\n"), `<a>, <b>; rel=x`)
	f.Fuzz(func(t *testing.T, stream []byte, link string) {
		_ = readMoves(bytes.NewReader(stream), func(m move) {
			if at := m.target("https://a/whep"); at != "" && !strings.HasPrefix(at, "https://") {
				t.Fatalf("%q leads to %q", m.URL, at)
			}
		})
		base := &url.URL{Scheme: "https", Host: "a"}
		_ = eventsOf(base, []string{link})
	})
}
