package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ternmesh/tern/node/access"
)

// collectEdge adds the clients' side and the streams.
func (c *collector) collectEdge(s Status, a access.Stats, gauge func(*prometheus.Desc, float64, ...string), counter func(*prometheus.Desc, uint64, ...string)) {
	for kind, k := range a.Sessions {
		gauge(descSessions, float64(k), kind)
	}
	for e, k := range a.Joins {
		counter(descJoins, k, e.Kind, e.Reason)
	}
	for reason, k := range a.Refused {
		counter(descRefused, k, reason)
	}
	counter(descBlocked, a.RequestsBlocked)
	counter(descCrowded, c.node.crowded.http.Load(), "access")
	counter(descCrowded, c.node.crowded.ice.Load(), "ice_tcp")
	counter(descCrowded, c.node.crowded.admin.Load(), "admin")
	counter(descAdminDeny, c.node.denials.unknown.Load(), "401")
	counter(descAdminDeny, c.node.denials.forbidden.Load(), "403")
	counter(descRequests, a.Requested)
	counter(descRepairs, a.Repaired, "sent")
	counter(descRepairs, a.RepairLimited, "limited")
	counter(descRepairs, a.RepairGone, "gone")
	sets := c.node.keysets.Stats()
	gauge(descKeySets, float64(sets.Sources-sets.Empty), "true")
	gauge(descKeySets, float64(sets.Empty), "false")
	counter(descKeyReads, sets.Reads-sets.Failures, "ok")
	counter(descKeyReads, sets.Failures, "failed")
	counter(descAccessPkt, a.PacketsIn, "in")
	counter(descAccessPkt, a.PacketsOut, "out")
	counter(descAsks, a.BitrateAsks)
	counter(descLayers, a.LayerChanges)
	counter(descFreezes, a.Freezes)
	gauge(descStreamed, float64(a.EventStreams))
	counter(descMoves, a.MovesTold)
	gauge(descEstimated, float64(a.Estimated))
	if a.Estimated > 0 {
		gauge(descEstimate, a.EstimateLeast, "least")
		gauge(descEstimate, a.EstimateMedian, "median")
	}
	for reason, k := range map[string]uint64{
		"queue_full": a.DropsQueue, "not_connected": a.DropsEarly, "too_long": a.DropsSize,
		"not_ingest": a.DropsIngest, "write": a.DropsWrite, "stale": a.DropsStale,
		"blocked": a.DropsBlocked, "bitrate": a.DropsBitrate,
	} {
		counter(descAccessDrop, k, reason)
	}
	gauge(descStreams, float64(s.Media.Publications), "published")
	gauge(descStreams, float64(s.Media.Upstreams), "fetched")
	gauge(descStreams, float64(s.Media.Serving), "served_to_peers")
	gauge(descStreams, float64(s.Media.Subscriptions), "watched")
	gauge(descDirectory, float64(s.Media.DirectoryEntries))
	for reason, k := range s.Media.Drops {
		counter(descMediaDrop, k, reason)
	}
}
