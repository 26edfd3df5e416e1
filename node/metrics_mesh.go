package node

import "github.com/prometheus/client_golang/prometheus"

var (
	descGossip   = metric("mesh_gossip_bytes_total", "Gossip packets, payload bytes.", "direction")
	descUnheard  = metric("mesh_gossip_dropped_total", "Gossip that came and was not looked at, by why.", "reason")
	descItems    = metric("mesh_items_total", "Cards and rows of link state, by what became of them.", "result")
	descOverfull = metric("mesh_strangers_refused_total", "Nodes that gossip named and that were refused because too many had shown no card.")
	descLoad     = metric("node_load", "How busy this node is, as a share of what makes it full; the highest is what the others are told.", "by")
	descLinks    = metric("mesh_links", "Neighbours, by what their link is measured by.", "by")
	descCarried  = metric("direct_carried_streams_total", "Streams between voters that a third node carries, by what became of them.", "result")
	descCarriedB = metric("direct_carried_bytes_total", "Bytes that this node carried for others.")
	descCarriers = metric("direct_voters_carried", "Voters that this node reaches only by way of another node.")
	descProbes   = metric("mesh_probes_total", "Link probes and replies, by what became of them.", "result")
)

// collectGossip adds what the mesh counts of its own traffic.
func (c *collector) collectGossip(gauge func(*prometheus.Desc, float64, ...string), counter func(*prometheus.Desc, uint64, ...string)) {
	s := c.node.mesh.Stats()
	counter(descGossip, s.BytesIn, "in")
	counter(descGossip, s.BytesOut, "out")
	counter(descUnheard, s.PacketsDropped, "queue")
	counter(descUnheard, s.PacketsStrange, "strangers")
	counter(descUnheard, s.PacketsExcess, "member")
	counter(descUnheard, s.StreamsDropped, "streams")
	counter(descItems, s.RecordsPublished, "published")
	counter(descItems, s.RecordsAccepted, "accepted")
	counter(descItems, s.RecordsDropped, "late")
	for why, v := range s.RecordsRefused {
		counter(descItems, v, why)
	}
	for result, v := range map[string]uint64{
		"sent": s.ProbesOut, "received": s.ProbesIn, "failed": s.ProbesFailed, "capped": s.ProbesCapped,
		"malformed": s.ProbesBad, "unknown": s.ProbesUnknown,
	} {
		counter(descProbes, v, result)
	}
	counter(descOverfull, s.Overfull)
	d := c.node.direct.Stats()
	for result, v := range map[string]uint64{"dialed": d.Dialed, "failed": d.Failed, "taken": d.Taken, "carried": d.Carried, "refused": d.Refused} {
		counter(descCarried, v, result)
	}
	counter(descCarriedB, d.Bytes)
	gauge(descCarriers, float64(len(d.Carriers)))
	by := map[string]int{"traffic": 0, "fast_probes": 0, "slow_probes": 0}
	for _, l := range c.node.mesh.Links() {
		switch {
		case l.Carries:
			by["traffic"]++
		case l.Fast:
			by["fast_probes"]++
		default:
			by["slow_probes"]++
		}
	}
	for what, n := range by {
		gauge(descLinks, float64(n), what)
	}
}
