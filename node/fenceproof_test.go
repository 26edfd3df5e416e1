package node

import (
	"fmt"
	"testing"
)

// Every row is one node's answer about the fence [eu us] and what is wrong with it.
func TestFenceEvidenceIsJudged(t *testing.T) {
	fence := []string{"eu", "us"}
	good := FenceEvidence{Region: "eu", Fence: "1", Regions: fence, Inside: true, Admits: true, Relays: true, InDirectory: true, HoldsSecrets: true}
	outside := FenceEvidence{Region: "asia", Fence: "1", Regions: fence}
	for name, c := range map[string]struct {
		change func(*FenceEvidence)
		base   FenceEvidence
		want   string
	}{
		"inside":                {func(*FenceEvidence) {}, good, "[]"},
		"outside":               {func(*FenceEvidence) {}, outside, "[]"},
		"outside, relays":       {func(e *FenceEvidence) { e.Relays = true }, outside, "[is outside the fence and takes its frames]"},
		"outside, admits":       {func(e *FenceEvidence) { e.Admits = true }, outside, "[is outside the fence and lets clients in]"},
		"outside, directory":    {func(e *FenceEvidence) { e.InDirectory = true }, outside, "[is outside the fence and keeps its directory]"},
		"outside, certificates": {func(e *FenceEvidence) { e.HoldsSecrets = true }, outside, "[is outside the fence and holds its certificates]"},
		"an older fence":        {func(e *FenceEvidence) { e.Regions = []string{"eu"}; e.PolicyVersion = 3 }, good, "[enforces the fence [eu] (version 3), not [eu us]]"},
		"a path that leaves it": {func(e *FenceEvidence) {
			e.Paths = []FencePath{{Hops: []string{"a", "r", "b"}, Regions: []string{"eu", "asia", "us"}, Active: true}}
		}, good, "[uses the path [a r b], where r is in asia]"},
		"a former path that left it": {func(e *FenceEvidence) {
			e.Paths = []FencePath{{Hops: []string{"a", "r", "b"}, Regions: []string{"eu", "asia", "us"}}}
		}, good, "[]"},
		"no answer": {func(e *FenceEvidence) { e.Error = "timeout" }, FenceEvidence{Region: "asia"}, "[]"},
	} {
		e := c.base
		c.change(&e)
		e.judge(fence)
		if got := fmt.Sprint(e.Violations); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
