package node

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/mesh"
	"github.com/ternmesh/tern/routing"
)

func TestNearestRanks(t *testing.T) {
	member := func(name, region string, load float64) mesh.Member {
		return mesh.Member{Node: name, Region: region, Alive: true, Health: mesh.Health{State: mesh.StateServing, AccessURL: "https://" + name, Load: load}}
	}
	members := []mesh.Member{member("fra", "eu", 0.1), member("ams", "eu", 0.9), member("iad", "us", 0), member("sfo", "us", 1.2), member("nrt", "ap", 0)}
	dead, leaving := member("dead", "eu", 0), member("leaving", "eu", 0)
	dead.Alive, leaving.Health.State = false, mesh.StateDraining
	members = append(members, dead, leaving, member("cord", "eu", 0))
	states := map[string]control.NodeState{"cord": {State: control.NodeCordoned}}
	link := func(from, to string, ms int) routing.Link {
		return routing.Link{From: from, To: to, Latency: time.Duration(ms) * time.Millisecond}
	}
	graph := routing.NewGraph(
		[]routing.Node{{Name: "fra", Region: "eu"}, {Name: "iad", Region: "us"}, {Name: "nrt", Region: "ap"}},
		[]routing.Link{link("fra", "iad", 45), link("iad", "nrt", 70), link("iad", "fra", 45)})
	var d distances
	apart := d.between(time.Now(), func() *routing.Graph { return graph })
	anyRegion := func(string) bool { return true }
	for _, c := range []struct {
		query  string
		admits func(string) bool
		want   string
	}{
		{"", anyRegion, "[iad nrt fra ams sfo]"},                     // by load alone, full ones last
		{"region=eu", anyRegion, "[fra iad nrt ams sfo]"},            // eu-us 45, eu-us-ap 115, ams by its load 180
		{"region=us&limit=2", anyRegion, "[iad fra]"},                // 45 ms away
		{"rtt=nrt:10,us:200", anyRegion, "[nrt iad fra ams sfo]"},    // supplied round trips
		{"rtt=fra:10&region=us", anyRegion, "[iad fra nrt ams sfo]"}, // what was not measured: from the region
		{"region=eu", func(r string) bool { return r == "us" }, "[iad sfo]"},
	} {
		v, _ := url.ParseQuery(c.query)
		q, err := parseNearest(v)
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(members) // the order in which they are known makes no difference
		var names []string
		for _, n := range rankNearest(members, apart, c.admits, states, q) {
			names = append(names, n.Node)
		}
		if got := fmt.Sprint(names); got != c.want {
			t.Errorf("%q: %s, want %s", c.query, got, c.want)
		}
	}
}

func TestNearestRefusesNonsense(t *testing.T) {
	v, _ := url.ParseQuery("rtt=fra,iad:-1,nrt:NaN,sin:1e9&limit=0&colour=red")
	_, err := parseNearest(v)
	for _, want := range []string{`"fra"`, `"iad:-1"`, `"nrt:NaN"`, `"sin:1e9"`, "limit", `"colour"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
}

func TestClientsAreFoundByTheLongestPrefix(t *testing.T) {
	p := placesOf([]control.ClientPlace{
		{Region: "eu", From: []netip.Prefix{netip.MustParsePrefix("192.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}},
		{Region: "us", From: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
	})
	for addr, want := range map[string]string{"192.0.2.9": "us", "192.1.2.9": "eu", "10.0.0.1": "", "2001:db8::1": "eu", "2001:db9::1": ""} {
		if got := p.find(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s is in %q, want %q", addr, got, want)
		}
	}
}
