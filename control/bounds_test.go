package control

import (
	"strings"
	"testing"
	"time"
)

func TestRouteBoundsAreReadAndChecked(t *testing.T) {
	p := mustParse(t, "regions: [{id: eu}, {id: us}]\nroutes:\n"+
		"  - {from: fra1, to: 'region:us', price_ms: 2.5}\n  - {relay: nrt1, use: avoid}\n  - {to: iad1, use: forbid}\n")
	got := p.RouteBounds()
	if len(got) != 3 || got[0].Price != 2500*time.Microsecond || got[0].To != "region:us" || got[1].Relay != "nrt1" || got[2].Use != "forbid" {
		t.Fatalf("bounds were read as %+v", got)
	}
	for _, c := range []struct{ bound, want string }{
		{"{relay: a, from: b, use: avoid}", "line 3: routes[0]: names a relay and a link's ends"},
		{"{use: avoid}", "names no place"},
		{"{from: a}", "does nothing"},
		{"{from: a, use: prefr}", `did you mean "prefer"?`},
		{"{from: 'region:mars', use: avoid}", `region "mars" is not in regions`},
		{"{from: 'a b', use: avoid}", "routes[0].from"},
		{"{from: a, price_ms: -1}", "out of range"},
		{"{from: a, price_ms: 1e9}", "out of range"},
		{"{from: a, price_ms: .nan}", "routes[0].price_ms"},
		{"{from: a, price_ms: much}", "is not a number of milliseconds"},
		{"{from: a, cost: 1}", "unknown key"},
	} {
		_, err := Parse([]byte("regions: [{id: eu}]\nroutes:\n  - " + c.bound + "\n"))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.bound, err, c.want)
		}
	}
}

func TestClientPlacesAreReadAndChecked(t *testing.T) {
	p := mustParse(t, "regions: [{id: eu}]\nclients:\n  - {region: eu, from: [192.0.2.0/24, 0.0.0.0/0, '2001:db8::1']}\n")
	if len(p.Clients) != 1 || len(p.Clients[0].From) != 3 || p.Clients[0].From[2].Bits() != 128 {
		t.Fatalf("places were read as %+v", p.Clients)
	}
	for _, c := range []struct{ place, want string }{
		{"{region: us, from: [192.0.2.0/24]}", `region "us" is not in regions`},
		{"{region: eu, from: [192.0.2.1/24]}", "did you mean 192.0.2.0/24?"},
		{"{region: eu, from: [192.0.2.0/24, 192.0.2.0/24]}", "already at clients[0].from[0]"},
		{"{region: eu, from: [somewhere]}", "neither an address nor a prefix"},
	} {
		_, err := Parse([]byte("regions: [{id: eu}]\nclients:\n  - " + c.place + "\n"))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.place, err, c.want)
		}
	}
}
