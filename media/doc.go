// Package media moves live streams through a node: from the publisher that enters here to the viewers that
// watch here and to the nodes that subscribed, and from other nodes to the viewers here. It also finds streams:
// three nodes of every channel hold its directory.
//
// # Files, in the order of a packet
//
//	stream.go        keys, tracks, limits, errors
//	hub.go           Config, Hub, Run, Refresh (policy change), List
//	publication.go   a stream that enters here; Write is the packet path
//	fanout.go        copy-on-write list of a publication's receivers
//	serve.go         subscriptions of other nodes at our publications
//	link.go          one session to a peer, as this package uses it; receive path
//	room.go          what the mesh can carry of a publication
//	braidlink.go     the same over package braid
//	upstream.go      our subscription at another node: find, subscribe, deliver, end
//	watch.go         a node's interest in one stream; survives the loss of its source
//	handover.go      a publisher that moves to another node: from one source to the next without a gap
//	silence.go       a source from which nothing comes: whether its publisher is at another node by now
//	subscription.go  a viewer
//	keyframe.go      rate limit and coalescing of keyframe requests; pure
//	message.go       messages of a session
//	rendezvous.go    which nodes hold a channel's directory; pure
//	directory.go     registrations, their table, union and order; pure
//	dirwire.go       requests and answers of the directory
//	register.go      writes our publications to the directory
//	lookup.go        reads the directory, and answers as a directory node
//	stats.go         counters
//	trace.go         spans of lookups and subscriptions, and their way to the source
//	inventory.go     what this node has, for operators
//
// # Wire
//
// Session messages are JSON, one per message, at most 32 KiB (message.go lists them). The subscriber chooses ref,
// a u32 that names the subscription on that session; the source answers with one packet id (u16) per track, and
// sends the track's RTP packets under it, unchanged. Ids of one sender on one session are unique among its
// running subscriptions and are given out in a circle, so that late packets of an ended one hit nothing.
//
// Directory requests and answers are JSON of at most 256 KiB: {put, drop, get} and {entries, refused, cut,
// error}. A registration is renewed every 5 s and lives 15 s.
//
// # Who owns which state
//
// Hub.mu guards publications, watches, viewers and the tables of every session. The packet path takes no lock:
// it reads atomic pointers to immutable lists, which changes replace. Each watch and each publication has one
// goroutine, which owns its state machine or keyframe gate. The registrar has a lock of its own, taken after
// Hub.mu if both are held; so has the directory table. No function of Config is called with a lock held.
//
// # Invariants
//
//   - A packet reaches a viewer as it came from the publisher; order and loss are the network's.
//   - A node has at most one subscription per stream at a source, however many viewers it has.
//   - Media leaves on a session only if that session's fence is the fence of the stream's app. The subscriber
//     dials that fence, the source checks it, both check again when the policy changes.
//   - A registration names the authenticated node that sent it, or it is refused.
//   - No answer from the directory is not an absence. Without any directory node, running media goes on; a lost
//     source is looked for while viewers remain, for two minutes.
//   - A publication with a later claim elsewhere goes on until nobody takes it any more and the claim still stands; those who took
//     it have then seen the stream flow from the other node. Meanwhile they get packets from both.
//   - At most two keyframe requests a second and track go upstream; a request inside that interval is sent at
//     its end.
//   - Of two claims to one stream id the higher generation wins, then the higher origin name. Generations are Unix
//     milliseconds at the start of the publication, so the later publisher wins while clocks agree.
//   - Nothing here names a user.
//
// # Bounds and what happens beyond
//
// Publications 4,096, viewers 65,536, watched streams 4,096, subscriptions per session 4,096 each way, tracks 16,
// packets 1,500 bytes, directory 1,024 registrations a channel, 16,384 a node, 65,536 in all. Beyond them the
// newcomer is refused with a reason and counted. There are no packet queues here: a packet is handed on within the
// call that brought it, to sessions that never block and to sinks that must not. The one queue is of messages that a
// session refused and a peer must not miss: 4,096 a session, tried again every 5 s, then counted as lost.
//
// # What it does not do
//
// It does not relay a remote stream to third nodes: only the ingress serves (depth 0), though the directory carries
// depth. It does not buffer, reorder or repair; packets that arrive before the answer to our subscription are
// counted as unknown and lost, and the keyframe request that a viewer's arrival causes makes up for them. Whether two claims to
// one stream are one publisher that moves or two that quarrel it cannot tell. It does not know who a directory request's sender
// may ask about: any authenticated member may read. When a stream continues from another source, RTP sequence numbers start anew
// unless its publisher says otherwise; a Sink that minds is a Switcher.
package media
