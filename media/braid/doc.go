// Package braid is the three-path transport between two nodes: every frame goes out on each path of the set, the first
// copy in is delivered, later ones are dropped. It is also the relay for other nodes' frames.
//
// One mutual-TLS QUIC connection per (peer, fence) gives identity, keys, reliable messages and feedback. Media rides
// beside it in frames sealed with keys from the connection's TLS exporter, outside its congestion control (or, with
// carrier Datagram, inside it, as QUIC DATAGRAMs). Both travel in path frames.
//
// # Path frame
//
// All integers big-endian; n = relays, 0 to 2.
//
//	0      1   class byte, 5
//	1      1   high nibble: version 1; low nibble: bit 0 congestion (relays may set it), bit 1 this is the first,
//	           lowest-cost path of the source's set, bits 2-3 relay-key epoch mod 4
//	2      1   bits 0-1: n; bits 2-3: next hop index (0 = first relay, n = egress); bits 4-7: path id
//	3      1   low nibble, kind: 1 QUIC packet (4 bytes source incarnation, packet), 2 media frame, 3 link probe,
//	           4 size probe (zeros; mtu.go);
//	           high nibble, copies: bit i = this payload goes out on the path in slot i of the set, too, where the slot is
//	           path id modulo 4; 0 = the source does not say
//	4      2   payload length
//	6      4   path sequence, per source, destination, fence and path id; begins at random
//	10     2   low 16 bits of Unix milliseconds at the source (clock.go)
//	12     4   fence id
//	16     4   source node id
//	20     4   destination node id
//	24     4n  relay node ids in order
//	24+4n  6n  a MAC per relay
//	24+10n 6   the egress's MAC
//	30+10n     payload; what lies behind the payload length is padding
//
// A MAC is the low 6 bytes, little-endian, of SipHash-2-4 over bytes 0-23 with congestion bit and hop index zero, the
// relay ids, and the send time as 64-bit milliseconds. It does not cover the payload: that is sealed, but for probes.
//
// A node drops frames of another version, so a new version needs a mesh that reads both before anybody writes it. Within
// version 1, relays look at nothing but class, version, n, hop, epoch, length, time, fence, node ids and their MAC, and pass
// everything else on as it is; an egress drops kinds that it does not know, and a source sends them, and copies bits, only
// to peers whose session speaks a protocol that has them.
//
// # Media frame
//
//	0  1  session tag
//	1  1  key epoch
//	2  6  frame sequence
//	8     AES-128-GCM of records, then a 16-byte tag; AAD = bytes 0-7, nonce = IV xor bytes 1-7 (right-aligned)
//
// Key and IV are 28 bytes of the exporter "EXPORTER-tern media" with context direction (0: from the dialing side),
// epoch. The tag is one byte of "EXPORTER-tern media tag". A record is u16 stream, u16 length (high bit: fragment),
// [u16 message, u8 index, u8 count], bytes.
//
// # QUIC
//
// The stack sees one net.PacketConn per Braid (virtual.go); a peer's address there is made of fence, node id and
// incarnation. ALPN settles the session's protocol, 1 or 2 (protocol.go). Each side opens one unidirectional stream: hello
// (u8 protocol, u32 incarnation), then messages, each a u32 length and bytes. DATAGRAMs begin with a type: 1 records (u48
// sequence, records), 2 report of protocol 1, 3 repair request (u8 count, u48 sequences), 4 report in sections, which may
// grow without a new protocol (report.go),
// 5 feedback for budgets (pacefeed.go). When both sides dial at once, the connection dialed by the smaller id stays (dial.go).
//
// # Files, in packet order
//
//	braid.go      configuration, Run, who exists
//	dial.go       sessions begin: glare, hello, identity
//	protocol.go   which protocol a session speaks
//	session.go    Send, Close, what a session runs
//	queue.go      send queue: audio first, video by turns, deadlines
//	send.go       the sender: moments, packing, sealing
//	shift.go      time-shifted copies
//	copies.go     on which paths a frame goes out: modes, grants
//	budget.go     what the node, its first hops, flows and paths may send (package pace)
//	records.go    records and fragments in a frame
//	mediaframe.go sealing and opening
//	repair.go     what was sent, kept for repair
//	flow.go       paths to a peer and their keys
//	clock.go      the time that frames carry: a wall clock that does not jump
//	mtu.go        what size of packet a path carries
//	replace.go    paths that died give way to others
//	keyring.go    relay keys of others, fetched in the background
//	prepare.go    the keys of a path before it is used
//	relaykey.go   relay keys of our own, derived; frame checks; relay budget
//	runs.go       frames into runs of equal segments, one copy per path
//	pathframe.go  path header and MACs
//	receive.go    HandleRun: what arrives, egress
//	relay.go      forwarding in runs, congestion bit
//	traffic.go    frames to and from neighbours, for measuring links
//	onward.go     what the packet filter may relay in this node's place
//	dedup.go      window of sequences seen
//	pathstats.go  what arrived per path
//	seals.go      what arrived changed per path
//	settle.go     per frame: rescued, undelivered, duplicates
//	joint.go      losses of two paths at once, bursts
//	missing.go    which frames to ask for again
//	fragments.go  packets put together again
//	rhythm.go     when a side reports
//	feedback.go   reports and repair requests, both directions
//	pacefeed.go   feedback for budgets and redundancy
//	report.go     their encoding
//	report_fixed.go the same for protocol 1
//	messages.go   reliable messages
//	virtual.go    the net.PacketConn under QUIC
//	reasons.go    why something was dropped
//	stats.go      snapshots
//
// # Who owns what
//
// The port's reader runs HandleFrame up to Handler.Packet, under flow.rxMu (path statistics, dedup, settling, holes) and
// then Session.deliverMu. A session's sender goroutine owns its frames, sequence and sealing key; flow.sendMu guards the
// paths and is held while runs are written. Lock order: refreshMu, deliverMu, repairMu, rxMu, sendMu, keyring.mu; flow.mu is taken
// alone, and budgets.mu innermost. Every goroutine runs under Run.
//
// # Invariants
//
//   - Nothing is counted for a source before this hop's MAC and the freshness have been checked.
//   - A frame counts once per path sequence at its egress; replays are dropped as such, and a replayed header with another
//     payload suppresses no media.
//   - A frame marks the dedup window only after it has opened: check, open, mark.
//   - No media leaves under a fence that policy keeps from this node or the peer, whatever Config.Paths says; after
//     Refresh, nothing does.
//   - A relay sends the bytes that it got, to a member that the frame's fence allows, or nothing.
//   - A path that brings nothing of what others bring is dead to its receiver after 150 ms, if chance does not explain it, and
//     in any case after 300 ms; its sender is told at once, and half a second later asks for another path in its place.
//   - A path counts what opened, or is a copy of what did. Of the copies every eighth is opened, and all of them on a path
//     that has brought a corrupt frame lately.
//   - A media sequence is sealed once; a repair is the same bytes again, at most once per frame.
//   - Extra copies give way to needed ones, and all media to what the paths and the node can carry without a queue (ADR 5).
//   - Send, SendMessage and HandleRun never wait for a network or a peer, only for short locks; what Wire has no room for is
//     dropped and counted.
//   - Statistics and feedback cost at most 1 % of the bytes while all is calm, of a lone audio stream as well (ADR 25). For ten seconds after
//     a session's first media or a sign of trouble (a queue or a mark of one, undelivered or corrupt frames, a path that fell silent) they come more
//     often. What is lost, queues or falls silent is told of at once either way.
//   - Relays may set the congestion bit: when an IP router marked the frame (ECN), when more than half a MiB waits in their
//     own socket or it has refused a run within a tenth of a second, and when little of the source's budget is left.
//
// # What it does not do
//
// Budgets need a peer of protocol 2; towards older ones nothing is limited, and adaptive redundancy sends two copies. A
// relay forwards in runs what arrived as one run (GRO); it gathers nothing else. With carrier Datagram nothing is repaired
// nor limited, and feedback waits behind media in QUIC's queue. Counts per path go on over the sessions of a pair; joint
// losses and bursts are counted per session. Media shrinks to the smallest path, QUIC's handshake does not: at least one path
// must carry UDP payloads of 1,334 bytes.
//
// Relays keep no record of sequences: whoever has captured a frame can have it relayed again while it is fresh, for ten
// seconds, at the cost of its source's relay budget; the egress drops it. A frame that is more than 4,096 path sequences
// late counts as a replay. A QUIC packet that a relay has changed is dropped by the QUIC stack, but counts as received on
// its path. A path that drops media and lets QUIC pass, or changes less than half of what it forwards, stays alive.
package braid
