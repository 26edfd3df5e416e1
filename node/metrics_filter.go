package node

import "github.com/prometheus/client_golang/prometheus"

var (
	descFilterKnown    = metric("filter_entries", "Addresses and rules that the packet filter holds.", "table")
	descFilterNoRoom   = metric("filter_no_room_total", "Entries that found a table of the packet filter full, or made room for others; each is an alarm.", "table")
	descFilterSamples  = metric("filter_samples_total", "Drops that were sampled, and samples lost.", "result")
	descFilterWalls    = metric("filter_quarantine_total", "Sources put into quarantine: seen here, told by another node, and news that was not told for want of room.", "origin")
	descFilterUpdates  = metric("filter_updates_total", "Rule sets put in force, and refused ones.", "result")
	descFilterRelayed  = metric("filter_relayed_total", "Path frames that the kernel sent on for other nodes; braid_frames_total counts them too, as relayed.")
	descFilterDetached = metric("filter_detached_total", "Times that an interface was found without the XDP program it had.")
)

func (c *collector) collectFilter(gauge func(*prometheus.Desc, float64, ...string), counter func(*prometheus.Desc, uint64, ...string)) {
	f := c.node.filter
	live, stats, report := f.LiveStats(), f.Stats(), f.Report()
	gauge(descFilterKnown, float64(live.Peers), "peers")
	gauge(descFilterKnown, float64(live.Flows), "clients")
	gauge(descFilterKnown, float64(live.Walls), "quarantine")
	gauge(descFilterKnown, float64(stats.Rules), "blocklist")
	onward := f.OnwardTotals()
	gauge(descFilterKnown, float64(onward.Decisions), "onward")
	counter(descFilterRelayed, onward.Frames)
	counter(descFilterNoRoom, live.PeersRefused, "peers")
	counter(descFilterNoRoom, onward.Refused, "onward")
	counter(descFilterNoRoom, live.FlowsEvicted, "clients")
	counter(descFilterNoRoom, live.WallsEvicted, "quarantine")
	counter(descFilterNoRoom, live.KernelErrors, "kernel")
	counter(descFilterSamples, report.Samples, "taken")
	counter(descFilterSamples, report.SamplesLost, "lost")
	counter(descFilterWalls, live.Strikes, "here")
	counter(descFilterWalls, live.Adopted, "told")
	counter(descFilterWalls, c.node.quarantine.lost.Load(), "untold")
	counter(descFilterUpdates, stats.Updates, "ok")
	counter(descFilterUpdates, stats.UpdateFailures, "refused")
	counter(descFilterDetached, stats.Lost)
}
