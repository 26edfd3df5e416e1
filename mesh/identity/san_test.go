package identity

import (
	"net/url"
	"strings"
	"testing"
)

func TestParseSANRefuses(t *testing.T) {
	for _, s := range []string{
		"", "tern://", "tern://demo", "tern://demo/eu", "tern://demo/eu/", "tern://demo/eu/n1/x", "tern:demo/eu/n1",
		"https://demo/eu/n1", "tern://demo:1/eu/n1", "tern://u@demo/eu/n1", "tern://demo/eu/n1?x", "tern://demo/eu/n1#x",
		"tern://demo/eu/n%31", "tern://Demo/eu/n1", "tern://demo/../n1", "tern://demo/eu/n_1",
		"tern://demo/role/", "tern:///eu/n1", "tern://demo/eu/" + strings.Repeat("n", 64),
	} {
		u, err := url.Parse(s)
		if err != nil {
			continue // the certificate would not even parse
		}
		if got, err := parseSAN(u); err == nil {
			t.Errorf("%q was read as %+v", s, got)
		}
	}
}

func TestPeerFromURIs(t *testing.T) {
	const node, other, voter = "tern://demo/eu/n1", "tern://demo/eu/n2", "tern://demo/role/voter"
	for _, c := range []struct {
		uris []string
		want Peer
		err  string
	}{
		{[]string{node}, Peer{Mesh: "demo", Region: "eu", Node: "n1"}, ""},
		{[]string{voter, node}, Peer{Mesh: "demo", Region: "eu", Node: "n1", Voter: true}, ""},
		{[]string{node, "tern://demo/role/later-role"}, Peer{Mesh: "demo", Region: "eu", Node: "n1"}, ""},
		{[]string{node, other}, Peer{}, "two nodes"},
		{[]string{voter}, Peer{}, "not a node certificate"},
		{nil, Peer{}, "not a node certificate"},
		{[]string{node, "tern://other/role/voter"}, Peer{}, `claims a role in mesh "other"`},
		{[]string{node, "http://x/"}, Peer{}, "does not start with"},
	} {
		var uris []*url.URL
		for _, s := range c.uris {
			u, err := url.Parse(s)
			if err != nil {
				t.Fatal(err)
			}
			uris = append(uris, u)
		}
		got, err := peerFromURIs(uris)
		if c.err != "" {
			wantError(t, err, c.err)
		} else if err != nil || got != c.want {
			t.Errorf("%v: got %+v, %v; want %+v", c.uris, got, err, c.want)
		}
	}
}

// Whatever parses has one spelling: writing it again gives the same URI.
func FuzzParseSAN(f *testing.F) {
	for _, s := range []string{"tern://demo/eu/n1", "tern://demo/role/voter", "tern://demo/eu/n%31", "tern://demo:1/eu/n1", "tern://a/b/c?"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.Parse(s)
		if err != nil {
			return
		}
		parsed, err := parseSAN(u)
		if err != nil {
			return
		}
		if again := parsed.uri().String(); again != u.String() {
			t.Fatalf("%q was read as %+v, which is written %q", s, parsed, again)
		}
		for _, name := range []string{parsed.mesh, parsed.region + parsed.role, parsed.node + parsed.role} {
			if len(name) == 0 || strings.ContainsAny(name, "/%:?#@ ") {
				t.Fatalf("%q gave the name %q", s, name)
			}
		}
	})
}
