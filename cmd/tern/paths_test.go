package main

import (
	"strings"
	"testing"

	"github.com/ternmesh/tern/node"
)

// tern paths shows what each path did there and back, whichever of the two nodes answers.
func TestPathsShowsWhatEachPathDid(t *testing.T) {
	out := []node.PathStatus{
		{ID: 0, Hops: []string{"fra1", "sin1"}, Active: true, Alive: true, LossShare: 0.0123, Bursts: 4, LongestBurst: 9, OverFloorMS: 1.5, JitterMS: 0.7, FirstShare: 0.91, Rescued: 3},
		{ID: 1, Hops: []string{"fra1", "lon1", "sin1"}, Active: true, Rescued: 77},
		{ID: 2, Hops: []string{"fra1", "old1", "sin1"}},
	}
	in := []node.PathStatus{{ID: 0, Hops: []string{"sin1", "fra1"}, Active: true, Alive: true, LossShare: 0.5}}
	pairs := []node.PairStatus{{A: 0, B: 1, Sent: 1000, LostBoth: 6, Joint: 0.006, Expected: 0.0001}, {A: 0, B: 2, Sent: 1}}
	b := node.BraidStatus{Peer: "sin1", Fence: "0badcafe", Out: out, In: in, OutPairs: pairs}
	here := node.PathsReport{From: "fra1", To: "sin1", Braids: []node.BraidStatus{b}}
	b.Peer, b.Out, b.In, b.OutPairs, b.InPairs = "fra1", in, out, nil, pairs
	there := node.PathsReport{From: "fra1", To: "sin1", Braids: []node.BraidStatus{b}}
	var text [2]strings.Builder
	printPathStatistics(&text[0], here)
	printPathStatistics(&text[1], there)
	if text[0].String() != text[1].String() {
		t.Errorf("one end says\n%s\nthe other\n%s", text[0].String(), text[1].String())
	}
	for _, want := range []string{"fence 0badcafe", "1.230 %", "91.0 %", "1.5 ms", "dead", "77", "sin1 > fra1", "50.000 %",
		"both fra1 > sin1 and fra1 > lon1 > sin1 lost 6 of 1000 frames (0.6000 %; independent losses: 0.0100 %)"} {
		if !strings.Contains(text[0].String(), want) {
			t.Errorf("%q is missing in\n%s", want, text[0].String())
		}
	}
	if strings.Contains(text[0].String(), "old1") {
		t.Errorf("a path that was replaced is shown:\n%s", text[0].String())
	}
}
