package run

import (
	"testing"
	"time"
)

// The whole mesh loses its power and comes back, with a configuration that would found a voter set of one node if founding
// counted a second time. Every node enforces the last policy before there is a leader, then there is one, and changes go on from
// the version where they ended.
func TestAWholeMeshStartsFromCold(t *testing.T) {
	inMesh(t, parse(t, cutVoters), func(m *mesh) {
		untilApplied(t, m, 1)
		n, _ := m.members[0].living()
		last := n.Policy().Version
		for _, one := range m.members {
			m.end(one, false)
		}
		begun := time.Now()
		for _, one := range m.members {
			one.cfg.Control.Expect = min(one.cfg.Control.Expect, 1)
			if err := m.restart(one); err != nil {
				t.Error(err)
				return
			}
			n, _ := one.living()
			if v, leader := n.Policy().Version, n.Status().Control.Leader; v != last || leader != "" && one == m.members[0] {
				t.Errorf("%s starts with version %d and leader %q, want %d from its disk, alone", one.Name, v, leader, last)
			}
		}
		if _, ok := untilApplied(t, m, 2); ok {
			t.Logf("a change is in force everywhere %v after the first node's start", time.Since(begun))
		}
		n, _ = m.members[0].living()
		if v, voters := n.Policy().Version, n.Status().Control.Voters; v != last+1 || len(voters) != 3 {
			t.Errorf("version %d and voters %v after the first change, want %d and the three that were", v, voters, last+1)
		}
	})
}
