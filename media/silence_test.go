package media

import (
	"maps"
	"testing"
	"time"
)

// allCalls is how many directory requests there were.
func (n *memNet) allCalls() (sum int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range maps.Values(n.calls) {
		sum += c
	}
	return sum
}

// A node dies, its publisher is at another one, and the session to the dead node lives on for as long as QUIC waits.
func TestAPublisherThatLeftADeadNodeIsFollowedWhileTheSessionToItLasts(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		b, _, v := fromAtoB(t, n)
		n.setMute(true, "a") // it hears of no later claim, and sends nothing
		settle(4 * time.Second)
		young := mustPublish(t, n.nodes["c"].hub, key("cam"), nil)
		settle(directoryTimeout + 2*silenceTick)
		if !flows(young, v) || v.switched != 1 || v.end() != "" {
			t.Fatalf("the viewer stays with the dead node: switched %d, ended %q, %+v", v.switched, v.end(), b.Stats())
		}
	})
}

// A publisher that pauses keeps its place, an older claim elsewhere does not take it, and the directory is not asked for ever.
func TestASourceThatPausesIsKept(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		older := mustPublish(t, n.nodes["c"].hub, key("cam"), nil)
		settle(time.Second)
		n.setMute(true, "c") // hears of no later claim, and stays
		p := mustPublish(t, n.nodes["a"].hub, key("cam"), nil)
		settle(5 * time.Second)
		_, v := mustSubscribe(t, n.nodes["b"].hub, key("cam"))
		if !flows(p, v) {
			t.Fatal("the later claim is not what a viewer gets")
		}
		asked := func(d time.Duration) int {
			before := n.allCalls()
			settle(d)
			return n.allCalls() - before
		}
		looking, resting, later := asked(time.Minute), asked(time.Minute), asked(time.Minute)
		if flows(older, v) || !flows(p, v) || v.switched != 0 {
			t.Errorf("after three silent minutes the viewer has another source: switched %d", v.switched)
		}
		if looking <= resting || resting != later {
			t.Errorf("%d, %d and %d directory requests in three silent minutes; want more in the first than in the others", looking, resting, later)
		}
	})
}
