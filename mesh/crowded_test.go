package mesh

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/routing"
)

// checkedOnce lets many nodes in one process check each signature once between them.
func checkedOnce() func(n *node) {
	var mu sync.Mutex
	checked := make(map[[32]byte]identity.Peer)
	return func(n *node) {
		verify := n.cfg.Identity.Verify
		n.verify = func(context string, msg, certificate, sig []byte) (identity.Peer, error) {
			sum := sha256.Sum256(slices.Concat([]byte(context), msg, certificate, sig))
			mu.Lock()
			peer, ok := checked[sum]
			mu.Unlock()
			if ok {
				return peer, nil
			}
			peer, err := verify(context, msg, certificate, sig)
			if err == nil {
				mu.Lock()
				checked[sum] = peer
				mu.Unlock()
			}
			return peer, err
		}
	}
}

// pathsFrom counts the members to whom a node has a path, and those to whom it has three.
func pathsFrom(n *node) (one, three int) {
	g := n.Graph()
	for _, m := range n.Members() {
		if m.Node == n.name || !m.Alive {
			continue
		}
		switch set := g.PathSet(n.name, m.Node, routing.Constraints{AnyRegion: true}); {
		case len(set.Paths) >= 3:
			one, three = one+1, three+1
		case len(set.Paths) > 0:
			one++
		}
	}
	return one, three
}

// All of a node but its sockets: memberlist, cards, rows, probes, graphs, as many nodes as the machine bears; layer 1 is a stream in
// memory. They start at the same moment and know two addresses. TERN_CROWD=200 go test ./mesh -run Crowd -v -timeout 1h says it for 200.
func TestCrowd(t *testing.T) {
	if testing.Short() {
		t.Skip("a crowd takes some seconds")
	}
	n := sized(t, "TERN_CROWD", crowd)
	bubble(t, func(t *testing.T, w *world) {
		w.set(func(string, string) (time.Duration, float64, bool) { return 50 * time.Millisecond, 0.01, false })
		once := checkedOnce()
		var nodes []*node
		for i := range n {
			added := w.add(fmt.Sprintf("n%03d", i), i+1, nil)
			once(added)
			nodes = append(nodes, added.start("10.0.0.1:7000", "10.0.0.2:7000"))
		}
		took := within(t, time.Minute, "all nodes see each other", allSee(nodes, n))
		watched := nodes[:min(n, 8)]
		routed := within(t, 20*time.Second, "there are three paths to everybody", func() bool {
			time.Sleep(90 * time.Millisecond)
			for _, one := range watched {
				if _, three := pathsFrom(one); three < n-1 {
					return false
				}
			}
			return true
		})
		time.Sleep(time.Duration(max(n/3, 5)) * time.Second) // what is said of newcomers is said several times
		before := nodes[7].Stats()
		time.Sleep(10 * time.Second)
		after := nodes[7].Stats()
		rate := (after.BytesOut - before.BytesOut + 29*(after.PacketsOut-before.PacketsOut)) / 10 // IP, UDP and the class byte
		t.Logf("%d members after %v, three paths everywhere %v later; then %d gossip packets/s and %d bytes/s with headers out of a node, %d probes/s; %d items published by it in 10 s", n,
			took, routed, (after.PacketsOut-before.PacketsOut)/10, rate, (after.ProbesOut-before.ProbesOut)/10, after.RecordsPublished-before.RecordsPublished)
		if most := uint64(32_000 + 32_000*min(n, 200)/200); rate > most {
			t.Errorf("%d bytes/s of gossip out of a node of a mesh of %d", rate, n)
		}
		dead, rest := nodes[n-1], nodes[:min(n-1, 30)]
		dead.kill()
		took = within(t, 5*time.Second, "the links of a dead node are down everywhere", func() bool {
			for _, n := range rest {
				for _, l := range n.Graph().Links() {
					if l.To == dead.name && !l.Down {
						return false
					}
				}
			}
			return true
		})
		t.Logf("links of a dead node down everywhere after %v", took)
	})
}
