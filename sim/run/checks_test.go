package run

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/sim/run/measure"
	"github.com/ternmesh/tern/sim/run/scenario"
)

// watched makes checkers for three nodes, one of them outside the fence of the only app.
func watched(t *testing.T) *checkers {
	t.Helper()
	g := &ground{parsed: []control.Policy{{
		Regions: []control.Region{{ID: "eu"}, {ID: "us"}}, Apps: []control.App{{ID: "a", Fence: []string{"eu"}}}, Blocklist: []netip.Prefix{},
	}}}
	m := &mesh{ground: g, clock: &clock{t0: time.Now()}}
	for _, n := range []scenario.Node{{Name: "fra", Region: "eu"}, {Name: "lhr", Region: "eu"}, {Name: "iad", Region: "us"}} {
		m.members = append(m.members, &member{Node: n})
	}
	return newCheckers(m)
}

func (c *checkers) said(check string) string {
	for _, v := range c.verdicts() {
		if v.Name == check && !v.OK {
			return strings.Join(v.First, "; ")
		}
	}
	return ""
}

func pathFrame(fence uint32) []byte {
	f := make([]byte, 100)
	f[0], f[3] = pathClass, pathKindMedia
	binary.BigEndian.PutUint32(f[pathFenceOffset:], fence)
	return f
}

func TestTheFenceCheckerSeesAFrameThatLeaves(t *testing.T) {
	c := watched(t)
	eu := uint32(braid.FenceOf([]string{"eu"}))
	c.tap("fra", "lhr", pathFrame(eu))
	c.tap("fra", "iad", pathFrame(0))       // a link probe
	c.tap("outside", "fra", pathFrame(eu))  // a flood
	c.tap("fra", "iad", []byte{4, 1, 2, 3}) // gossip
	if said := c.said(CheckFence); said != "" {
		t.Errorf("what is allowed was held against it: %s", said)
	}
	c.tap("fra", "iad", pathFrame(eu))
	if said := c.said(CheckFence); !strings.Contains(said, "from fra (eu) to iad (us)") {
		t.Errorf("a frame left the fence and the checker said %q", said)
	}
	c.tap("fra", "lhr", pathFrame(12345))
	if said := c.said(CheckFence); !strings.Contains(said, "which no policy has") {
		t.Errorf("a frame of an unknown fence: %q", said)
	}
}

func TestThePolicyCheckerSeesAHistoryThatForks(t *testing.T) {
	v := func(n uint64, app string) control.Policy {
		return control.Policy{Version: n, Apps: []control.App{{ID: app}}}
	}
	c := watched(t)
	c.policySeen("fra", 1, v(1, "a"))
	c.policySeen("lhr", 1, v(1, "a"))
	c.policySeen("fra", 1, v(2, "b"))
	c.policySeen("fra", 2, v(1, "a")) // restarted: may catch up
	if said := c.said(CheckPolicy); said != "" {
		t.Errorf("a linear history was refused: %s", said)
	}
	c.policySeen("lhr", 1, v(2, "c"))
	if said := c.said(CheckPolicy); !strings.Contains(said, "another version 2") {
		t.Errorf("two policies of one version: %q", said)
	}
	c = watched(t)
	c.policySeen("fra", 1, v(2, "b"))
	c.policySeen("fra", 1, v(1, "a"))
	if said := c.said(CheckPolicy); !strings.Contains(said, "went back from version 2 to 1") {
		t.Errorf("a policy that goes back: %q", said)
	}
}

func TestTheViewerCheckersSeeDuplicatesAlterationsAndStrangers(t *testing.T) {
	c := watched(t)
	st := &stage{check: c}
	f := &flow{Stream: scenario.Stream{Name: "cam", PacketsPerSecond: 100, Kind: scenario.Audio}, index: 3, period: 10 * time.Millisecond, clock: c.mesh.clock}
	v := newView(f, c.mesh.members[2], 0, false, 0, time.Second, time.Second)
	packet := make([]byte, 100)
	write := func(s measure.Stamp) {
		s.Write(packet)
		v.Write(0, packet)
	}
	write(measure.Stamp{Stream: 3, Number: 1})
	write(measure.Stamp{Stream: 3, Number: 1})
	write(measure.Stamp{Stream: 4, Number: 2})
	packet[50] ^= 1
	v.Write(0, packet)
	res, _ := v.result()
	st.checkView(v, res)
	for check, want := range map[string]string{
		CheckDuplicates: "got 1 packets more than once", CheckIntact: "altered", CheckUnauthorised: "of another stream",
	} {
		if said := c.said(check); !strings.Contains(said, want) {
			t.Errorf("%s: said %q, want %q", check, said, want)
		}
	}
	if said := c.said(CheckUnauthorised); !strings.Contains(said, "the policy keeps the app from there") {
		t.Errorf("packets at a node outside the fence: %q", said)
	}
}

func TestCopiesAreCountedPerFrame(t *testing.T) {
	c := newCopyCounter()
	c.measure(true)
	frame := pathFrame(7)
	binary.BigEndian.PutUint32(frame[16:], 1)
	binary.BigEndian.PutUint32(frame[20:], 2)
	for sequence := range 10 {
		frame[pathHeaderBytes+6+7] = byte(sequence)
		for range 3 {
			c.add(frame)
		}
	}
	c.add(frame) // a repair
	if got := c.ratio(7, 1, 2); got != 3.1 {
		t.Errorf("%v copies of each frame, want 3.1", got)
	}
	c.add(frame[:20]) // too short to look into
}

func FuzzTap(f *testing.F) {
	f.Add(pathFrame(1))
	f.Add([]byte{5})
	f.Fuzz(func(t *testing.T, packet []byte) {
		c := watched(t)
		c.copies.measure(true)
		c.ids["fra"] = 0 // a zero source id takes frames to the counter
		c.tap("fra", "lhr", packet)
	})
}
