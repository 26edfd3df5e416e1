package mesh

import (
	"slices"
	"testing"
	"time"
)

// A node is thrown out: without anybody's command the others change the gossip key, send with the new one a minute later, and
// two minutes later accept no key that the revoked node knows. It is nobody's member then, and nobody is lost.
func TestARevokedNodeLosesTheGossipKey(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nodes := sixNodes(t, w)
		out, rest := nodes[5], nodes[:5]
		known := out.keys.list()
		for _, n := range rest {
			n.cfg.Identity.Revoke(func(node, _ string) bool { return node == out.name })
			if got := n.Expel(); !slices.Equal(got, []string{out.name}) {
				t.Fatalf("%s expels %v", n.name, got)
			}
		}
		foreign := func(key []byte) bool {
			return !slices.ContainsFunc(known, func(k []byte) bool { return string(k) == string(key) })
		}
		within(t, 10*time.Second, "everybody has one new key", func() bool {
			for _, n := range rest {
				if ring := n.keys.list(); len(ring) != len(known)+1 || !foreign(ring[len(ring)-1]) {
					return false
				}
			}
			return true
		})
		within(t, keySettle+5*time.Second, "everybody sends with it", func() bool {
			return !slices.ContainsFunc(rest, func(n *node) bool { return n.sendsWith() != string(n.keys.list()[len(known)]) })
		})
		within(t, condemnedKept, "the old keys are gone", func() bool {
			return !slices.ContainsFunc(rest, func(n *node) bool {
				return slices.ContainsFunc(n.keys.list(), func(k []byte) bool { return !foreign(k) })
			})
		})
		rest[0].learnKeys(known)
		if len(rest[0].keys.list()) != 1 {
			t.Error("a key that was given up is taken back")
		}
		if slices.ContainsFunc(out.keys.list(), foreign) {
			t.Error("the revoked node has the new key")
		}
		within(t, time.Minute, "gossip forgets the revoked node", func() bool {
			return !slices.ContainsFunc(rest, func(n *node) bool {
				n.mu.Lock()
				defer n.mu.Unlock()
				return n.peers[out.name] != nil && n.peers[out.name].alive
			})
		})
		if !allSee(rest, 5)() {
			t.Error("a member was lost over it")
		}
	})
}
