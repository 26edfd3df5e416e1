// Package mesh is layer 2 of a node: who is in the mesh, what they say of themselves, and how good the links are. It puts
// memberlist (SWIM gossip) on the node's mesh port and probes links, and makes a routing.Graph of both.
//
// # Two clocks
//
// memberlist says who is alive; that takes seconds (timers in run.go), and nothing on the media path waits for it. Link probes
// say what is good: five a second to every member, and a link is down after three of them were not seen by the other side,
// 660 ms. A node's own links are in its Graph at once, those between others as fast as gossip carries them.
//
// # Health records
//
// What memberlist itself says of a member (name, address) is encrypted but not signed. Everything else a node says of itself
// travels in a health record, signed with its node certificate, so that no member can speak for another. A node is a Member
// here only when its record was verified; region and voter right come from the certificate, and the record's address must be
// the one that memberlist has. Records are ordered by (epoch, counter): older ones are refused as stale, also for a node that
// was gone meanwhile. A sealed record is at most 1,200 bytes:
//
//	u16 length, body, u16 length, certificate (DER), signature (context "health record")
//
//	body: u8 version 1, u32 epoch, u64 counter, text node, u32 incarnation, u8 4|16 and the address, u16 port,
//	      text access URL, text state, float32 load, uvarint policy version, u8 voter, uvarint sessions,
//	      u8 count of risks, each a text; u8 count of links, each:
//	      u32 id of the other, uvarint latency, uvarint jitter (10 us, one-way), u8 loss out, u8 loss in (255*sqrt(p)), u8 down
//	text: u8 length, UTF-8 without control characters
//
// Records go out every second (in a mesh of more than ten nodes: n/10 s), and within 100 ms of news: to up to 64 members
// directly, and on from each of them by gossip.
//
// # Link probes
//
//	u8 kind (0x11 request, 0x12 reply), u32 epoch of the sender, u32 number, u32 epoch of the other as heard,
//	u32 highest number of its requests received, u32 how many
//
// Replies give round trips (latency is half the smallest of the last 5 to 10 s); the tallies give the loss of each direction.
// A link is believed as the worse of what its two ends say.
//
// # Gossip keys
//
// All of a ring's keys decrypt, the smallest encrypts. Keys are exchanged over layer 1 at every join (Config.Keys), rings are
// united, and a ring that grew is handed to all members, so halves that were started apart merge. A node that joins takes the
// mesh's keys; one that finds nobody draws one.
//
// # Files, in the order of a node's life
//
//	mesh.go      Config, Mesh, New, and what layer 1 and the braid hand in
//	run.go       Run: timers, start, beat, goodbye
//	keys.go      the ring of gossip keys and its exchange
//	join.go      join addresses, rejoining
//	transport.go memberlist's packets and streams
//	logging.go   memberlist's log, rate-limited
//	guard.go     second nodes of one name or id
//	members.go   the table of members, and the graph
//	record.go    health records: layout, sealing
//	gossip.go    records in and out
//	probe.go     link probes: layout
//	link.go      one link: a pure state machine
//	prober.go    all links: sending, watching
//	stats.go     counters
//
// # State and invariants
//
// Mesh.mu guards the tables, prober.mu the links, keys.mu the ring; no two are ever held together, and none while calling out
// of the package or into memberlist (which calls back with its own lock held). All tables are bounded. Queues: packets 512,
// streams 16, records one per node; what does not fit is dropped and counted (Stats).
//
// # What it does not do yet
//
// The certificate is in every record, and link state is not sent as deltas: traffic per node is meant for meshes of some 30
// nodes. At most 64 nodes are probed by each, and a record carries some 40 links (those that are down, then the nearest);
// links that neither end reports are absent from the graph. A member can gossip a wrong address for another, which makes that
// one's record be refused, or declare others dead; they refute it. Keys are never taken out of the ring: a node that is thrown
// out keeps the gossip key, though not the certificate's right to join. Measured latency is half a round trip, so an asymmetric
// route is seen as symmetric.
package mesh
