package access

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Event is a kind of session ("whip", "whep", "rtp", "rtp_out") with a result or reason.
type Event struct{ Kind, Reason string }

// Stats is a snapshot. Counters only grow; they count since New.
type Stats struct {
	Sessions map[string]int    // open now, by kind
	Joins    map[Event]uint64  // by kind and "ok", "counter_offer" or the reason of refusal
	Ended    map[Event]uint64  // by kind and why
	Refused  map[string]uint64 // requests by reason: joins and all others

	PacketsIn    uint64 // RTP packets from publishers that went to media
	PacketsOut   uint64 // RTP packets written to viewers
	DropsQueue   uint64 // the viewer's queue was full
	DropsEarly   uint64 // the viewer was not connected yet
	DropsSize    uint64 // longer than 1,500 bytes, either way
	DropsBitrate uint64 // of publishers far above their app's bit rate
	DropsIngest  uint64 // plain RTP: not RTP, another payload type, or another source
	DropsWrite   uint64 // the library or the network refused a packet to a viewer
	DropsBlocked uint64 // plain RTP from an address that Config.Allow refuses
	DropsStale   uint64 // late packets of a source that the stream no longer comes from

	Renewed         uint64 // sessions that showed a new token
	RequestsBlocked uint64 // requests from an address that Config.Allow refuses

	Repaired      uint64 // packets sent again because a viewer asked
	Requested     uint64 // packets of publishers that were missing and asked for, each time
	RepairLimited uint64 // not sent again: the viewer asks for more than it may
	RepairGone    uint64 // not sent again: no longer kept

	KeyframesAsked uint64 // PLI and FIR from viewers, and one for each that joins
	KeyframesSent  uint64 // PLI to publishers
	BitrateAsks    uint64 // REMB to publishers whose stream the mesh does not carry whole, or whose app has a limit

	EventStreams int    // event streams that clients read now
	MovesTold    uint64 // events that told a client to move to another node

	Freezes uint64        // gaps in the frames written to WebRTC viewers; see Watched
	Frozen  time.Duration // how long these were

	LayerChanges   uint64  // simulcast layers that viewers were moved to
	Estimated      int     // viewers whose last mile is known
	EstimateLeast  float64 // bit/s, of the viewer with the narrowest; 0: none is known
	EstimateMedian float64 // bit/s
}

// counters are the live ones.
type counters struct {
	mu     sync.Mutex // guards the maps
	joins  map[Event]uint64
	endeds map[Event]uint64

	in, out, queue, early, size, ingest, write, stale, asked, sent, blocked, blockedRTP, renewed, asks, bitrate, switches, repaired, repairLimit, repairGone, nacked, moves, freezes, frozen atomic.Uint64

	reading atomic.Int64 // event streams
}

func (c *counters) init() {
	c.joins, c.endeds = map[Event]uint64{}, map[Event]uint64{}
}

func (c *counters) join(kind, result string) {
	c.mu.Lock()
	c.joins[Event{kind, result}]++
	c.mu.Unlock()
}

func (c *counters) ended(kind, reason string) {
	c.mu.Lock()
	c.endeds[Event{kind, reason}]++
	c.mu.Unlock()
}

// Stats returns a snapshot. Safe at any time.
func (a *Access) Stats() Stats {
	c := &a.counts
	s := Stats{
		Sessions:  map[string]int{kindWHIP: 0, kindWHEP: 0, kindRTP: 0, kindRTPOut: 0},
		PacketsIn: c.in.Load(), PacketsOut: c.out.Load(),
		DropsQueue: c.queue.Load(), DropsEarly: c.early.Load(), DropsSize: c.size.Load(),
		DropsBitrate: c.bitrate.Load(), DropsIngest: c.ingest.Load(), DropsWrite: c.write.Load() + a.peers.conn.failed.Load(), DropsStale: c.stale.Load(),
		DropsBlocked: c.blockedRTP.Load(), RequestsBlocked: c.blocked.Load(),
		Renewed: c.renewed.Load(), Repaired: c.repaired.Load(), RepairLimited: c.repairLimit.Load(), RepairGone: c.repairGone.Load(), Requested: c.nacked.Load(),
		KeyframesAsked: c.asked.Load(), KeyframesSent: c.sent.Load(),
		Freezes: c.freezes.Load(), Frozen: time.Duration(c.frozen.Load()),
		BitrateAsks: c.asks.Load(), LayerChanges: c.switches.Load(),
		EventStreams: int(c.reading.Load()), MovesTold: c.moves.Load(),
	}
	var miles []uint64
	for _, one := range a.all() {
		s.Sessions[one.kind]++
		if one.viewer != nil && one.viewer.estimate.Load() > 0 {
			miles = append(miles, one.viewer.estimate.Load())
		}
	}
	if s.Estimated = len(miles); s.Estimated > 0 {
		slices.Sort(miles)
		s.EstimateLeast, s.EstimateMedian = float64(miles[0]), float64(miles[len(miles)/2])
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Refused = a.refused.counted()
	s.Joins, s.Ended = maps.Clone(c.joins), maps.Clone(c.endeds)
	return s
}
