package node

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descRelayRuns = metric("braid_relay_runs_total", "Writes in which frames for others left: frames relayed per write is the mean run.")
	descRelayMark = metric("braid_relay_congested_total", "Frames relayed with the congestion bit: the network, this node's socket or the source's budget was short.")
	descBlackHole = metric("braid_mtu_black_holes_total", "Paths from this node found to drop large packets silently.")
	descReplaced  = metric("braid_paths_replaced_total", "Paths from this node that died and for which others were asked.")
)

// pathLabels tell one path from a peer apart; fences are added up.
type pathLabels struct{ peer, via string }

// collectPaths adds what each path in use brought from a peer, and what pairs of them lost together. Paths that were replaced
// leave: their series end, and those of the paths that are there do not grow without bound.
func collectPaths(s Status, gauge func(*prometheus.Desc, float64, ...string), counter func(*prometheus.Desc, uint64, ...string)) {
	counts := make(map[pathLabels]map[string]uint64)
	bursts, worst := make(map[pathLabels]uint64), make(map[pathLabels]PathStatus)
	pairs := make(map[[3]string][2]uint64)
	for _, b := range s.Braids {
		via := make(map[uint8]string)
		for _, p := range b.In {
			if !p.Active {
				continue
			}
			l := pathLabels{b.Peer, viaOf(p.Hops)}
			via[p.ID] = l.via
			if counts[l] == nil {
				counts[l] = make(map[string]uint64)
			}
			for result, n := range map[string]uint64{
				"received": p.Received, "lost": p.Lost, "corrupt": p.Corrupt, "congested": p.Congested, "first": p.First, "rescued": p.Rescued,
			} {
				counts[l][result] += n
			}
			bursts[l] += p.Bursts
			w := worst[l]
			w.OverFloorMS, w.JitterMS = max(w.OverFloorMS, p.OverFloorMS), max(w.JitterMS, p.JitterMS)
			worst[l] = w
		}
		for _, p := range b.InPairs {
			if via[p.A] != "" && via[p.B] != "" {
				k := [3]string{b.Peer, min(via[p.A], via[p.B]), max(via[p.A], via[p.B])}
				pairs[k] = [2]uint64{pairs[k][0] + p.Sent, pairs[k][1] + p.LostBoth}
			}
		}
	}
	for l, results := range counts {
		for result, n := range results {
			counter(descPath, n, l.peer, l.via, result)
		}
		counter(descPathBursts, bursts[l], l.peer, l.via)
		gauge(descPathDelay, worst[l].OverFloorMS/1000, l.peer, l.via)
		gauge(descPathJitter, worst[l].JitterMS/1000, l.peer, l.via)
	}
	for k, n := range pairs {
		counter(descPairs, n[0], k[0], k[1], k[2], "sent")
		counter(descPairs, n[1], k[0], k[1], k[2], "lost_both")
	}
}

// viaOf names a path by its relays.
func viaOf(hops []string) string {
	if len(hops) <= 2 {
		return "direct"
	}
	return strings.Join(hops[1:len(hops)-1], ",")
}
