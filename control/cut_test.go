package control

import (
	"context"
	"testing"
	"time"
)

// A link between the leader and a follower is cut; both still reach the third voter. The leader keeps its majority, the
// follower's wish for an election moves nobody (pre-vote), writes go on through every node, the follower too, and the
// follower and a subscriber that reaches no voter at all get every policy from whichever peer has it.
func TestACutLinkBetweenTwoVotersStopsNothing(t *testing.T) {
	bubble(t, 75*time.Millisecond, func(t *testing.T, m *mesh) {
		startSix(m)
		m.until(15*time.Second, "led", func() bool { return m.leader() != nil })
		apply(t, m.get("v1"), numbered(0))
		m.until(5*time.Second, "enforced", m.everyoneAt(1))
		leader := m.leader().name
		victim := otherVoter(leader, "")
		pairs := [][2]string{{leader, victim}}
		for _, v := range []string{"v1", "v2", "v3"} {
			pairs = append(pairs, [2]string{"f3", v})
		}
		term := m.leader().c.Status().Term
		m.cut(pairs...)
		var slowest, spread time.Duration
		for i := range 12 {
			n := m.get([]string{"f1", leader, victim, otherVoter(leader, victim)}[i%4])
			begun := time.Now()
			p, err := n.c.change(context.Background(), numbered(i+1), nil)
			if err != nil {
				t.Fatalf("through %s: %v\n%s", n.name, err, m.describe())
			}
			slowest = max(slowest, time.Since(begun))
			spread = max(spread, m.until(5*time.Second, "enforced everywhere, "+victim+" and f3 too", m.everyoneAt(p.Version)))
			time.Sleep(time.Second)
		}
		s := m.leader().c.Status()
		t.Logf("cut between %s (leader) and %s: a write takes at most %v, and %v more to be enforced everywhere; terms %d to %d", leader, victim, slowest, spread, term, s.Term)
		if s.Leader != leader || s.Term != term {
			t.Errorf("the cut follower disturbed the others: leader %s in term %d, was %s in term %d", s.Leader, s.Term, leader, term)
		}
		if slowest > 2*time.Second {
			t.Errorf("a write took %v", slowest)
		}
		m.cut()
		m.until(20*time.Second, "a follower with the whole log", func() bool {
			s := m.get(victim).c.Status()
			return s.Role == "follower" && s.Leader == leader && s.Applied >= m.leader().c.Status().Commit
		})
	})
}
