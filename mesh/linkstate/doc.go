// Package linkstate spreads what every node says of itself and of its links to all nodes of a mesh, and lets them agree on it
// after any loss. It is pure: no clock, no I/O, no goroutine; a caller hands in randomness, verified items and messages, and
// sends what comes out.
//
// # Items
//
// A node says two things, each signed by it: its card (who and where it is; rare) and its row (load and links; often).
//
//	card     all of it, each time
//	full     a whole row
//	delta    everything of the row that changed since the last full one: it takes the place of earlier deltas
//
// Items of one node are ordered by (epoch, counter): a run of the node, and a counter over cards and rows alike. A delta
// applies to the full row whose counter it names. A new epoch in a card makes rows of older epochs void.
//
// # Wire
//
// All integers are big-endian. A sealed item is at most MaxItem bytes:
//
//	u16 length, body, u16 length, certificate (cards only), signature
//	body: u8 version 2, u8 kind, u32 origin, u32 epoch, u32 counter, u32 base (delta: counter of its full row; else 0), content
//	content of a row: u16 load (1/1000), uvarint policy version, uvarint sessions, u8 count of links, each:
//	    u32 other, uvarint latency, uvarint jitter (10 us, one-way), u8 loss out, u8 loss in (255*sqrt(p)), u8 1 down | 2 gone
//
// A message is at most MaxMessage bytes: u8 kind, u32 sender (where answers go; not authenticated, the gossip key alone
// vouches for it), then
//
//	0x21 items    { u16 length, sealed item }
//	0x22 digest   u32 lowest, u32 highest id, { u32 origin, u32 epoch, uvarint card counter, uvarint row counter }
//	0x23 want     { as above }
//
// # How it spreads
//
// Push: a fresh item goes to three random peers (its origin tells nine), within a tick. That reaches some 94 % of a mesh of any
// size. Anti-entropy: every other tick a node sends slices of a digest of all it knows to random peers, all of it in about a
// second; they answer with what is newer there, and ask for what is newer here. So no loss and no partition lasts.
//
// # Files
//
//	item.go   items: layout, order
//	row.go    rows: load and links, their layout and quantisation, and the writer of a node's own
//	core.go   Core: what is held, what is pushed
//	digest.go digests: what differs between two nodes
//
// # Invariants
//
// A Core holds at most one card, one full row and one delta of a node, and of at most MaxOrigins nodes. It stores only what Put
// is given: whoever calls it has checked the signature. Messages that answer a digest are at most answerMost. Equal inputs and
// randomness give equal outputs.
//
// # What it does not do
//
// It does not know who is alive (peers are handed to Tick), and it does not check signatures or the sanity of cards.
package linkstate
