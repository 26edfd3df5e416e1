package routing

import (
	"bytes"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestExportIsReadAgain(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 2))
		g := randomGraph(rng, 8, 0.7, 1)
		var b bytes.Buffer
		if err := g.Export(&b); err != nil {
			t.Fatal(err)
		}
		h, err := ReadGraph(&b)
		if err != nil || !reflect.DeepEqual(h.Links(), g.Links()) || len(h.Nodes()) != len(g.Nodes()) {
			t.Fatalf("seed %d: read again as %+v, %v", seed, h, err)
		}
	}
	g := relayMesh(map[string]int{"a": 10, "b": -1})
	var b bytes.Buffer
	if err := g.ExportMatrix(&b); err != nil {
		t.Fatal(err)
	}
	if want := "from,to,rtt_ms,loss\na,t,20,0\ns,a,20,0\n"; b.String() != want {
		t.Errorf("matrix %q, want %q", b.String(), want)
	}
}

func TestReadGraphRefuses(t *testing.T) {
	two := `{"nodes":[{"name":"a","region":"r"},{"name":"b","region":"r"}],"links":[`
	for _, c := range []struct{ in, want string }{
		{"", "no links"},
		{" \n", "no links"},
		{two + `]}`, "no links"},
		{two + `{"from":"a","to":"c","latency_ms":1}]}`, `"a" to "c": both must be among nodes`},
		{two + `{"from":"a","to":"b","latency_ms":-1}]}`, "cannot be a measurement"},
		{two + `{"from":"a","to":"b","latency_ms":1e9}]}`, "cannot be a measurement"},
		{two + `{"from":"a","to":"b","latency_ms":1,"loss":2}]}`, "cannot be a measurement"},
		{two + `{"from":"a","to":"b","latncy_ms":1}]}`, "line 1"},
		{`{"nodes":[{"name":"a"},{"name":"a"}]}`, "twice"},
		{`{"nodes":[{"name":""}]}`, "name"},
		{`{"nodes":[{"name":"a","load":-1}]}`, "load"},
		{`{`, "line 1"},
	} {
		if _, err := ReadGraph(strings.NewReader(c.in)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want %q", c.in, err, c.want)
		}
	}
}

func FuzzReadGraph(f *testing.F) {
	f.Add(`{"nodes":[{"name":"a","region":"r"},{"name":"b","region":"r"}],"links":[{"from":"a","to":"b","latency_ms":1,"loss":0.5}]}`)
	f.Fuzz(func(t *testing.T, in string) {
		g, err := ReadGraph(strings.NewReader(in))
		if err != nil || len(in) > 2000 {
			return
		}
		for _, l := range g.Links() {
			if l.usable() && !(l.CostMS() > 0) {
				t.Fatalf("link %+v costs %v", l, l.CostMS())
			}
		}
	})
}

// The rival is the second best of all sets: brute force agrees.
func TestNextBestIsSecondBest(t *testing.T) {
	rivals := 0
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 17))
		g := randomGraph(rng, 5, 0.8, 0)
		set := g.PathSet(name(0), name(1), anywhere)
		rival, ok := g.NextBest(name(0), name(1), anywhere, set)
		if !ok {
			continue
		}
		rivals++
		want := score{}
		for _, p := range set.Paths {
			s := bruteBestWithout(g, p.Nodes)
			if s.better(want) {
				want = s
			}
		}
		if got := resultScore(g, rival.PathSet); got != want {
			t.Fatalf("seed %d: rival %+v, brute force %+v", seed, got, want)
		}
	}
	if rivals < 100 {
		t.Fatalf("%d graphs had a rival; the test has lost its point", rivals)
	}
}

// bruteBestWithout tries all sets of up to three paths but the banned one.
func bruteBestWithout(g *Graph, banned []string) (best score) {
	all := slices.DeleteFunc(brutePaths(g, name(0), name(1), anywhere), func(p []string) bool { return slices.Equal(p, banned) })
	for i := range all {
		for j := i; j < len(all); j++ {
			for k := j; k < len(all); k++ {
				paths := [][]string{all[i]}
				if j > i {
					paths = append(paths, all[j])
				}
				if k > j {
					paths = append(paths, all[k])
				}
				if s := scoreOf(g, paths); s.better(best) {
					best = s
				}
			}
		}
	}
	return best
}

func TestPartsAddUp(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	g := encumber(rng, randomGraph(rng, 8, 0.9, 0))
	for _, p := range g.PathSet(name(0), name(1), anywhere).Paths {
		sum := 0.0
		for _, part := range g.Parts(p) {
			sum += part.DelayMS + part.JitterMS + part.LossMS + part.RestMS
		}
		if math.Abs(sum-p.CostMS) > 1e-3 {
			t.Errorf("the parts of %v make %v ms, the path costs %v", p.Nodes, sum, p.CostMS)
		}
	}
}
