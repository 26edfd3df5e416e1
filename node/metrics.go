package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ternmesh/tern/ebpf"
)

// collector turns the parts' own counters into Prometheus metrics at each scrape. Labels have few values: peers (nodes of
// the mesh), reasons and kinds; never sessions, channels, users or addresses of clients.
type collector struct{ node *Node }

// metric declares one metric once.
func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("tern_"+name, help, labels, nil)
}

var (
	descInfo       = metric("node_info", "Always 1; says which node, region and version this is.", "node", "region", "version", "filter")
	descFinding    = metric("findings", "Things that are not as they should be, as tern status lists them.", "name", "severity")
	descExpires    = metric("certificate_expires_seconds", "When the node's certificate ends, as seconds since 1970.")
	descLeaseEnd   = metric("lease_expires_seconds", "When the node's lease ends, as seconds since 1970; no series without authorities, or without a lease that can be read.")
	descLeaseGood  = metric("lease_good", "1 if the node's lease lets it take clients; no series without authorities.")
	descLeaseWarn  = metric("lease_warnings_total", "Looks at the lease that found less than five days left.")
	descRenewals   = metric("lease_renewals_total", "Rounds of renewal, by result (ok, failed).", "result")
	descReady      = metric("node_ready", "1 if clients should be sent here.")
	descPolicy     = metric("policy_version", "Version of the policy in force.")
	descUnrecorded = metric("control_unrecorded_total", "Denied admin actions that did not fit into the queue of the audit log.")
	descServed     = metric("control_copies_total", "Copies of the policy handed to peers.")
	descCopyBytes  = metric("control_copy_bytes_total", "Bytes of those copies: of their documents, or of the deltas that went instead.")
	descLeader     = metric("control_leader", "1 if this node leads raft.")
	descMembers    = metric("mesh_members", "Members that gossip knows.", "alive")
	descLinkRTT    = metric("link_latency_seconds", "One-way latency of a link from this node, as half the round trip.", "to")
	descLinkLoss   = metric("link_loss_ratio", "Share of packets lost on a link from this node.", "to")
	descLinkDown   = metric("link_down", "1 if the link answers no probes.", "to")
	descPort       = metric("port_packets_total", "Packets of the mesh port by what became of them.", "result")
	descFrames     = metric("braid_frames_total", "Path frames by what this node did with them.", "result")
	descPackets    = metric("braid_packets_total", "Media packets between this node and a peer.", "peer", "direction")
	descBraidDrop  = metric("braid_dropped_total", "Media packets and frames that did not leave for a peer.", "peer", "reason")
	descDup        = metric("braid_duplicates_total", "Copies that carried media and were dropped, because another had come first.", "peer")
	descUndeliv    = metric("braid_undelivered_total", "Media frames that no path delivered, repairs included.", "peer")
	descRepaired   = metric("braid_repaired_total", "Media frames that the repair delivered.", "peer")
	descRescued    = metric("braid_rescued_total", "Media frames that the best path lost and another delivered.", "peer")
	descCopies     = metric("braid_copies_per_frame", "Copies of a media frame that go out to a peer, over the last half second of media; the fewest of its fences.", "peer")
	descWithheld   = metric("braid_copies_withheld_total", "Copies of media frames that redundancy asked for and a budget refused.", "peer")
	descLimit      = metric("braid_limit_bits_per_second", "What may be sent to a peer at present, and what limits it (path, link, peer, node); no series while nothing does.", "peer", "by")
	descPath       = metric("braid_path_frames_total", "Path frames from a peer, by path in use (the relays, or direct) and what became of them.", "peer", "via", "result")
	descPathBursts = metric("braid_path_bursts_total", "Runs of media frames that a path from a peer lost in a row.", "peer", "via")
	descPathDelay  = metric("braid_path_queueing_seconds", "One-way delay of a path from a peer above its lowest of the last half minute.", "peer", "via")
	descPathJitter = metric("braid_path_jitter_seconds", "Mean difference between neighbouring frames' delays on a path from a peer.", "peer", "via")
	descPairs      = metric("braid_pair_frames_total", "Media frames that a peer sent on two paths, and those lost on both.", "peer", "a", "b", "result")
	descSessions   = metric("access_sessions", "Clients' sessions at this node.", "kind")
	descJoins      = metric("access_joins_total", "Requests to publish or watch, by result.", "kind", "result")
	descAccessPkt  = metric("access_packets_total", "RTP packets from and to clients.", "direction")
	descAccessDrop = metric("access_dropped_total", "RTP packets dropped at the clients' edge, by reason.", "reason")
	descKeySets    = metric("access_key_sets", "Sources of public keys that the policy names, by whether they have usable keys now.", "usable")
	descKeyReads   = metric("access_key_set_reads_total", "Readings of sources of public keys, by result.", "result")
	descAdminDeny  = metric("admin_requests_refused_total", "Requests to the admin API without a proof of who asks (401), or without the right (403).", "status")
	descRequests   = metric("access_repair_requests_total", "Packets of WebRTC publishers that were missing and asked for, each time.")
	descRepairs    = metric("access_repairs_total", "Packets that viewers missed and asked for, by what became of it.", "result")
	descAsks       = metric("access_bitrate_asks_total", "REMB sent to publishers whose stream the mesh does not carry whole, or whose app has a limit.")
	descFreezes    = metric("access_freezes_total", "Gaps in the frames written to WebRTC viewers, above three times the mean and 150 ms more than it.")
	descFrozen     = metric("access_frozen_seconds_total", "How long these gaps were.")
	descLayers     = metric("access_layer_changes_total", "Times that a viewer was moved to another simulcast layer.")
	descStreamed   = metric("access_event_streams", "Event streams that clients read now.")
	descMoves      = metric("access_moves_told_total", "Clients that were told to move to another node.")
	descEstimated  = metric("access_viewers_estimated", "Viewers whose last mile is known, by their feedback.")
	descEstimate   = metric("access_viewer_estimate_bits_per_second", "What viewers' last miles carry: the least, and the median; no series while none is known.", "of")
	descRefused    = metric("access_requests_refused_total", "Clients' HTTP requests that were refused, joins and all others, by reason.", "reason")
	descCrowded    = metric("connections_refused_total", "TCP connections closed because their source address had its share open.", "listener")
	descBlocked    = metric("access_requests_blocked_total", "HTTP requests of blocked sources.")
	descMediaDrop  = metric("media_dropped_total", "RTP packets not handed on, by reason.", "reason")
	descStreams    = metric("media_streams", "Streams published here, streams fetched from peers, and viewers' subscriptions.", "kind")
	descDirectory  = metric("media_directory_entries", "Registrations that this node keeps for the directory.")
	descLogged     = metric("log_lines_suppressed_total", "Lines that the log's limits left out, by level.", "level")
	descTraces     = metric("trace_spans_total", "Finished spans of traces: sent to the collector, dropped because the queue was full, or not taken by it (failed).", "result")
	descFilter     = metric("filter_packets_total", "Packets that the filter judged, where it did (xdp or go).", "where", "class", "reason")
)

// Describe implements prometheus.Collector: the set is fixed, but which peers exist is not.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { ch <- descInfo }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	n := c.node
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	s := n.status(n.mesh.Own)
	gauge(descInfo, 1, s.Node, s.Region, s.Version, s.Filter)
	gauge(descReady, truth(s.State == StateServing && s.PolicyVersion > 0))
	collectFindings(s, gauge)
	gauge(descExpires, float64(s.CertificateExpires.Unix()))
	if l := s.Lease; l != nil {
		if !l.Expires.IsZero() {
			gauge(descLeaseEnd, float64(l.Expires.Unix()))
		}
		gauge(descLeaseGood, truth(l.Good))
		counter(descLeaseWarn, l.Warned)
		counter(descRenewals, l.Renewed, "ok")
		counter(descRenewals, l.Failed, "failed")
	}
	gauge(descPolicy, float64(s.PolicyVersion))
	counter(descUnrecorded, s.Control.Unrecorded)
	counter(descServed, s.Control.Served)
	counter(descCopyBytes, s.Control.ServedBytes)
	gauge(descLeader, truth(s.Control.Leader == s.Node))
	collectMesh(s, gauge)
	gauge(descLoad, s.Load.Clients, "clients")
	gauge(descLoad, s.Load.Processor, "processor")
	gauge(descLoad, s.Load.Relaying, "relaying")
	c.collectGossip(gauge, counter)
	collectBraids(s, counter)
	collectBudgets(s, gauge, counter)
	collectPaths(s, gauge, counter)
	p := n.port.stats()
	for result, v := range map[string]uint64{"received": p.Received, "unknown_class": p.Unknown, "filtered": p.Filtered, "queue_full": p.QueueFull} {
		counter(descPort, v, result)
	}
	b := n.braid.Stats()
	for result, v := range b.Frames {
		counter(descFrames, v, result)
	}
	counter(descRelayRuns, b.RelayRuns)
	counter(descRelayMark, b.Congested)
	counter(descReplaced, b.Replaced)
	counter(descBlackHole, b.BlackHoles)
	if n.logged != nil {
		for level, v := range n.logged.suppressed() {
			counter(descLogged, v, level)
		}
	}
	t := n.tracing.Stats()
	for result, v := range map[string]uint64{"sent": t.Sent, "dropped": t.Dropped, "failed": t.Failed} {
		counter(descTraces, v, result)
	}
	a := n.access.Stats()
	c.collectEdge(s, a, gauge, counter)
	ch <- prometheus.MustNewConstMetric(descFrozen, prometheus.CounterValue, a.Frozen.Seconds())
	c.collectFilter(gauge, counter)
	f := n.filter.Stats()
	for where, counts := range map[string][]ebpf.Count{"xdp": f.XDP, "go": f.Go} {
		for _, c := range counts {
			counter(descFilter, c.Packets, where, c.Class.String(), c.Reason.String())
		}
	}
}

// collectFindings shows every name, so that an alert can tell "none" from "not asked".
func collectFindings(s Status, gauge func(*prometheus.Desc, float64, ...string)) {
	type key struct{ name, severity string }
	counts := make(map[key]int)
	for _, f := range s.Findings {
		counts[key{f.Name, f.Severity}]++
	}
	for _, name := range findingNames {
		for _, severity := range []string{SeverityWarning, SeverityCritical} {
			gauge(descFinding, float64(counts[key{name, severity}]), name, severity)
		}
	}
}

func collectMesh(s Status, gauge func(*prometheus.Desc, float64, ...string)) {
	alive := 0
	for _, m := range s.Members {
		if m.Alive {
			alive++
		}
	}
	gauge(descMembers, float64(alive), "true")
	gauge(descMembers, float64(len(s.Members)-alive), "false")
	for _, l := range s.Links {
		if l.From == s.Node {
			gauge(descLinkRTT, l.LatencyMS/1000, l.To)
			gauge(descLinkLoss, l.Loss, l.To)
			gauge(descLinkDown, truth(l.Down), l.To)
		}
	}
}

// collectBraids adds the sessions of one peer (one per fence) up.
func collectBraids(s Status, counter func(*prometheus.Desc, uint64, ...string)) {
	type sums struct {
		sent, delivered, duplicates, undelivered, repaired, rescued uint64
		dropped                                                     map[string]uint64
	}
	peers := make(map[string]*sums)
	for _, b := range s.Braids {
		p := peers[b.Peer]
		if p == nil {
			p = &sums{dropped: make(map[string]uint64)}
			peers[b.Peer] = p
		}
		p.sent += b.PacketsSent
		p.delivered += b.PacketsDelivered
		for reason, n := range b.Dropped {
			p.dropped[reason] += n
		}
		p.duplicates += b.Duplicates
		p.undelivered += b.Undelivered
		p.repaired += b.Repaired
		for _, in := range b.In {
			p.rescued += in.Rescued
		}
	}
	for peer, p := range peers {
		counter(descPackets, p.sent, peer, "sent")
		counter(descPackets, p.delivered, peer, "delivered")
		for reason, n := range p.dropped {
			counter(descBraidDrop, n, peer, reason)
		}
		counter(descDup, p.duplicates, peer)
		counter(descUndeliv, p.undelivered, peer)
		counter(descRepaired, p.repaired, peer)
		counter(descRescued, p.rescued, peer)
	}
}

// collectBudgets shows, of the fences of one peer, the one with the fewest copies and the tightest limit.
func collectBudgets(s Status, gauge func(*prometheus.Desc, float64, ...string), counter func(*prometheus.Desc, uint64, ...string)) {
	type worst struct {
		copies, limit float64
		by            string
		withheld      uint64
	}
	peers := make(map[string]worst)
	for _, b := range s.Braids {
		w := peers[b.Peer]
		if c := b.Budget.Copies; c > 0 && (w.copies == 0 || c < w.copies) {
			w.copies = c
		}
		if l := b.Budget.LimitKbps; l > 0 && (w.limit == 0 || l < w.limit) {
			w.limit, w.by = l, b.Budget.LimitedBy
		}
		w.withheld += b.Budget.Withheld
		peers[b.Peer] = w
	}
	for peer, w := range peers {
		gauge(descCopies, w.copies, peer)
		counter(descWithheld, w.withheld, peer)
		if w.limit > 0 {
			gauge(descLimit, w.limit*1000, peer, w.by)
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
