package mesh

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// Somebody with the gossip key names 20,000 nodes that are not there. What is kept of them is bounded, members do not notice, no
// address of theirs is tried, and when they have been given up a real node joins as ever.
func TestAFloodOfMadeUpNodes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nodes := sixNodes(t, w)
		victim := nodes[0]
		events := delegate{victim.Mesh}
		var taken []*memberlist.Node
		for i := range 20_000 {
			fake := &memberlist.Node{Name: fmt.Sprintf("fake-%d", i), Addr: net.IPv4(10, 9, byte(i>>8), byte(i)).To4(), Port: 7000}
			if events.NotifyAlive(fake) == nil {
				events.NotifyJoin(fake)
				taken = append(taken, fake)
			}
		}
		if len(taken) > maxUnverified || victim.Stats().Overfull < 20_000-maxUnverified {
			t.Errorf("%d of 20,000 made-up nodes were taken, %d refused; want %d at most", len(taken), victim.Stats().Overfull, maxUnverified)
		}
		for _, m := range nodes[1:] {
			known := &memberlist.Node{Name: m.name, Addr: m.addr.Addr().AsSlice(), Port: m.addr.Port()}
			if err := events.NotifyAlive(known); err != nil {
				t.Errorf("a member is refused meanwhile: %v", err)
			}
		}
		pause(t.Context(), 10*time.Second)
		if !allSee(nodes, 6)() {
			t.Error("members were lost")
		}
		if links := len(victim.Links()); links != 5 {
			t.Errorf("%d links; want those to the five members", links)
		}
		for _, fake := range taken {
			events.NotifyLeave(fake)
		}
		victim.mu.Lock()
		lost := len(victim.lost)
		victim.mu.Unlock()
		if lost > 0 {
			t.Errorf("%d made-up addresses are kept for joining", lost)
		}
		all := append(nodes, w.add("new", 9, nil).start(victim.addr.String()))
		within(t, 5*time.Second, "a real node joins", allSee(all, 7))
	})
}
