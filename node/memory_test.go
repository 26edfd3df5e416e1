package node

import (
	"testing"
	"time"

	"github.com/ternmesh/tern/mesh"
)

func TestMediaGoesOnToAMemberThatGossipHasJustDropped(t *testing.T) {
	var m memory
	now := time.Unix(1_800_000_000, 0)
	gone := mesh.Member{Node: "fra", Region: "eu", ID: 7, Alive: true}
	left := mesh.Member{Node: "iad", Region: "us", ID: 8, Alive: false} // said goodbye
	m.observe([]mesh.Member{gone, left}, now)
	m.observe(nil, now.Add(time.Second))
	for _, c := range []struct {
		id    uint32
		after time.Duration
		want  bool
	}{
		{7, time.Second, true},
		{7, believeFor, true},
		{7, believeFor + time.Second, false},
		{8, time.Second, false},
		{9, time.Second, false},
	} {
		if _, ok := m.recent(c.id, now.Add(c.after)); ok != c.want {
			t.Errorf("node %d, %v after it was last seen: believed %v, want %v", c.id, c.after, ok, c.want)
		}
	}
	if got := m.gone(nil); len(got) != 2 || got[0].Alive || got[1].Alive {
		t.Errorf("the status shows %+v", got)
	}
	if m.name(7) != "fra" || m.name(9) != "00000009" {
		t.Errorf("names: %q, %q", m.name(7), m.name(9))
	}
	m.observe(nil, now.Add(rememberFor+time.Second))
	if got := m.gone(nil); len(got) != 0 {
		t.Errorf("still remembered after %v: %+v", rememberFor, got)
	}
}
