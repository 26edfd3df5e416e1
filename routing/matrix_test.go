package routing

import (
	"strings"
	"testing"
	"time"
)

func TestReadMatrix(t *testing.T) {
	g, err := ReadMatrix(strings.NewReader("from,to,rtt_ms,loss\n# comment\na,b,80\nb,a,90,0.01\na,c, 10.5 \na,a,0\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []Link{
		{From: "a", To: "b", Latency: 40 * time.Millisecond},
		{From: "b", To: "a", Latency: 45 * time.Millisecond, Loss: 0.01},
		{From: "a", To: "c", Latency: 5250 * time.Microsecond},
		{From: "c", To: "a", Latency: 5250 * time.Microsecond}, // not in the file: the other direction's
	} {
		if got, _ := g.Link(want.From, want.To); got != want {
			t.Errorf("link %s-%s is %+v, want %+v", want.From, want.To, got, want)
		}
	}
	if len(g.Nodes()) != 3 || len(g.Links()) != 4 || !g.Has("c") || g.Has("d") {
		t.Errorf("read %d nodes and %d links; want 3 and 4", len(g.Nodes()), len(g.Links()))
	}
}

func TestReadMatrixRefuses(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "no links"},
		{"from,to,rtt_ms\n", "no links"},
		{"a,b\n", "line 1: 2 columns"},
		{"a,b,1,0,5\n", "line 1: 5 columns"},
		{"a,b,1\nb,c,-1\n", "line 2: rtt_ms \"-1\" is out of range"},
		{"a,b,NaN\n", "out of range"},
		{"a,b,1e9\n", "out of range"},
		{"a,b,+Inf\n", "out of range"},
		{"a,b,fast\n", "line 1: rtt_ms \"fast\" is not a number"},
		{"a,b,1,1.5\n", "loss \"1.5\" is out of range"},
		{"a,b,1,NaN\n", "loss"},
		{",b,1\n", "node name"},
		{"a,b,1\na,b,2\n", "line 2: link a to b is there twice"},
		{"a,\"b,1\n", "line 1"},
		{"a,b,-1\nb,c,2\nc,d,inf\n", "line 1: rtt_ms \"-1\" is out of range; want 0 to 600000\nline 3: rtt_ms \"inf\""},
		{strings.Repeat("a,b,-1\n", 100), "line 10: rtt_ms \"-1\" is out of range; want 0 to 600000\nperhaps more"},
	} {
		_, err := ReadMatrix(strings.NewReader(c.in))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want %q", c.in, err, c.want)
		}
	}
}

// Whatever is read answers questions without panic, and no path costs nothing.
func FuzzReadMatrix(f *testing.F) {
	f.Add("from,to,rtt_ms\na,b,80\nb,c,5,0.1\nc,a,7\n")
	f.Add("a,b,1e300\n")
	f.Add("a,\"b\n\",1,\n")
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) > 2000 {
			return
		}
		g, err := ReadMatrix(strings.NewReader(in))
		if err != nil {
			return
		}
		nodes := g.Nodes()
		set := g.PathSet(nodes[0].Name, nodes[len(nodes)-1].Name, anywhere)
		for _, p := range set.Paths {
			if !(p.CostMS > 0) {
				t.Fatalf("path %v costs %v", p.Nodes, p.CostMS)
			}
		}
	})
}
