package braid

// DropReason says why a packet or frame went no further. Every drop is counted under its reason (Stats.Frames,
// SessionStats.Drops).
type DropReason uint8

// Reasons for packets that Send or the sender dropped.
const (
	DropNone       DropReason = iota // not dropped
	DropClosed                       // the session has ended
	DropTooLarge                     // larger than MaxPacket, or empty
	DropQueueFull                    // the stream's or the session's queue is at its bound
	DropStale                        // waited in the queue past its deadline
	DropNoPath                       // no path with keys and addresses at this moment
	DropNoKey                        // this one path was skipped: a relay's key has not arrived yet
	DropNoAddress                    // this one path was skipped: its first hop has no address now
	DropWrite                        // the socket refused a run
	DropPathSize                     // this one path was skipped: it is known not to carry packets of that size
	DropRepair                       // a repair that the budgets have no room for: what is new goes first
	DropPathFenced                   // a path was refused: policy keeps the fence away from one of its relays

	// Reasons for frames that arrived.
	DropMalformed    // not a path frame, media frame or record
	DropVersion      // another version of the path frame
	DropNotForUs     // neither the next hop nor the destination is this node
	DropNotMember    // source or next hop is no member of the mesh
	DropEpoch        // relay-key epoch outside previous, current, next
	DropBadMAC       // the hop's MAC is wrong
	DropNotFresh     // sent too long ago, or in the future
	DropFence        // policy keeps the fence away from this node
	DropNextFence    // policy keeps the fence away from the next hop
	DropBudget       // the source's relay budget is used up
	DropRelayWrite   // the socket refused the forwarded frame
	DropNoSession    // media for a session that does not exist (any more)
	DropBadSeal      // a media frame that does not open
	DropKeyEpoch     // a media key epoch that is neither previous, current nor next
	DropInboxFull    // QUIC packets waiting for the QUIC stack are at their bound
	DropTooManyFlows // peers times fences are at their bound
	DropReplay       // the source's frame with this path sequence has been here already
	DropSessions     // a connection was refused: the peer has too many under this fence
	dropReasons
)

var reasonNames = [dropReasons]string{
	DropNone: "none", DropClosed: "closed", DropTooLarge: "too_large", DropQueueFull: "queue_full", DropStale: "stale",
	DropNoPath: "no_path", DropNoKey: "no_key", DropNoAddress: "no_address", DropWrite: "write_failed",
	DropRepair: "repair_withheld", DropPathFenced: "path_fenced", DropMalformed: "malformed", DropVersion: "version", DropNotForUs: "not_for_us",
	DropNotMember: "not_member", DropEpoch: "relay_epoch", DropBadMAC: "bad_mac", DropNotFresh: "not_fresh",
	DropFence: "fence", DropNextFence: "next_hop_fence", DropBudget: "budget", DropRelayWrite: "relay_write_failed",
	DropNoSession: "no_session", DropBadSeal: "bad_seal", DropKeyEpoch: "key_epoch", DropInboxFull: "inbox_full",
	DropTooManyFlows: "too_many_flows", DropReplay: "replay", DropSessions: "too_many_sessions",
	DropPathSize: "path_size",
}

// String is the reason as metrics name it.
func (r DropReason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "unknown"
}
