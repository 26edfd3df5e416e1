package run

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/ternmesh/tern/sim"
)

// cutVoters is a mesh of three voters and two nodes; the voters' links to each other are cut later.
const cutVoters = `
name: cut-voters
duration: 5s
seed: 6
nodes:
  fra: {region: eu, voter: true}
  iad: {region: us, voter: true}
  sin: {region: ap, voter: true}
  lhr: {region: eu}
  nrt: {region: ap}
links:
  default: {delay: 60ms, jitter: 1ms}
`

// All direct links between the voters are cut; two other nodes reach all of them. There is a leader again, by way of those, and
// policies spread; one of the two dies, and there still is; the links come back, and nothing is carried any more.
func TestVotersThatReachEachOtherOnlyThroughOthersHaveALeader(t *testing.T) {
	inMesh(t, parse(t, cutVoters), func(m *mesh) {
		if carried(m) != 0 {
			t.Error("streams are carried although all links work")
		}
		cutBetween(m, true, "fra", "iad", "sin")
		time.Sleep(2 * time.Second) // raft learns that nobody answers
		if d, ok := untilApplied(t, m, 1); ok {
			t.Logf("applied and enforced everywhere %v after all links between voters were cut", 2*time.Second+d)
		}
		time.Sleep(10 * time.Second) // what was open over the dead links has ended
		for i := range 2 {
			if d, ok := untilApplied(t, m, 2+i); ok && d > 3*time.Second {
				t.Errorf("with carried streams a change takes %v", d)
			}
		}
		if carried(m) == 0 {
			t.Error("no node counts a carried stream")
		}
		m.end(m.byName["lhr"], false)
		time.Sleep(2 * time.Second)
		untilApplied(t, m, 7)
		cutBetween(m, false, "fra", "iad", "sin")
		time.Sleep(25 * time.Second)
		before := carried(m)
		untilApplied(t, m, 8)
		if after := carried(m); after != before {
			t.Errorf("%d streams were carried after the links came back", after-before)
		}
	})
}

// cutBetween cuts or mends all links among some nodes.
func cutBetween(m *mesh, down bool, names ...string) {
	for _, a := range names {
		for _, b := range names {
			if a != b {
				m.net.UpdateLink(a, b, func(l *sim.Link) { l.Down = down })
			}
		}
	}
}

// carried counts the streams that living nodes carried for others.
func carried(m *mesh) (sum uint64) {
	for _, one := range m.members {
		if n, _ := one.living(); n != nil {
			sum += n.Status().Direct.Carried
		}
	}
	return sum
}

// untilApplied asks for a change until it is made, and waits until all living nodes enforce it: at most half a minute.
func untilApplied(t *testing.T, m *mesh, i int) (time.Duration, bool) {
	begun := time.Now()
	n, _ := m.byName["nrt"].living()
	doc := []byte("regions: [{id: eu}, {id: us}, {id: ap}]\napps: [{id: demo, auth: app_id, name: change " + string(rune('a'+i)) + "}]\n")
	var err error
	for time.Since(begun) < 30*time.Second {
		want := n.Policy().Version + 1
		if err = n.ApplyPolicy(context.Background(), doc, "test"); err != nil {
			continue // it waited for a leader
		}
		for time.Since(begun) < 30*time.Second {
			if !slices.ContainsFunc(m.members, func(one *member) bool {
				n, _ := one.living()
				return n != nil && n.Policy().Version < want
			}) {
				return time.Since(begun), true
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	t.Errorf("change %d is not in force everywhere after %v: %v", i, time.Since(begun), err)
	return 0, false
}
