package media

import (
	"crypto/sha256"
	"encoding/binary"
	"sort"
)

// directoryNodes is how many nodes hold a channel's soft state.
const directoryNodes = 3

// rendezvous returns the nodes that hold the directory of a channel: the directoryNodes with the highest
// random weight, heaviest first. Every node that sees the same members computes the same answer, and a member
// that comes or goes moves only the channels that it is chosen for. Pure.
//
// SHA-256 rather than FNV-1a: node names mostly differ in their last byte, which FNV-1a hardly mixes into the
// high bits, and so a few nodes would win most channels.
func rendezvous(app, channel string, nodes []string) []string {
	type ranked struct {
		node   string
		weight uint64
	}
	all := make([]ranked, len(nodes))
	buf := make([]byte, 0, 256)
	buf = append(append(append(append(buf, app...), '/'), channel...), '/')
	for i, n := range nodes {
		sum := sha256.Sum256(append(buf, n...))
		all[i] = ranked{n, binary.BigEndian.Uint64(sum[:8])}
	}
	sort.Slice(all, func(i, j int) bool {
		if all[i].weight != all[j].weight {
			return all[i].weight > all[j].weight
		}
		return all[i].node > all[j].node
	})
	chosen := make([]string, 0, directoryNodes)
	for _, r := range all {
		if len(chosen) == directoryNodes {
			break
		}
		// A member listed twice (an old and a new incarnation) must not fill two places.
		if len(chosen) == 0 || chosen[len(chosen)-1] != r.node {
			chosen = append(chosen, r.node)
		}
	}
	return chosen
}
