// Package mesh is layer 2 of a node: who is in the mesh, what they say of themselves, and how good the links are. It puts
// memberlist (SWIM gossip) on the node's mesh port and probes links, and makes a routing.Graph of both.
//
// # Two clocks
//
// memberlist says who is alive; that takes seconds (timers in run.go), and nothing on the media path waits for it. Link probes
// say what is good: five a second on the links that matter, and a link is down after three of them were not seen by the other
// side, 660 ms, in the end probed every 40 ms so that it is not chance; later where probes are known to be lost. A node's own
// links are in its Graph at once, those between others as fast as linkstate spreads them. A node that several others lost while it
// said nothing itself has fallen: its links with others are down before those that probe it slowly have noticed.
//
// # Cards and rows
//
// What memberlist itself says of a member (name, address) is encrypted but not signed. Everything else a node says of itself is
// signed with its node certificate, so that no member can speak for another: a card (who and where it is) and a row (load and
// links); package mesh/linkstate has their layout and spreads them. A node is a Member here only when its card was verified;
// region and voter right come from the certificate, and the card's address must be the one that memberlist has. Older items are
// refused as stale, also of a node that was gone meanwhile. The content of a card (its signature's context is "node card", a
// row's "link state"):
//
//	text node, u32 incarnation, u8 4|16 and the address, u16 port, text access URL, text state, u8 voter,
//	u8 count of risks, each a text
//	text: u8 length, UTF-8 without control characters
//
// A card is said when it changes. A row is said when a link went up or down, at once; when a link, load or policy version moved
// by more than a threshold, at most every 200 ms to 2.4 s (3 ms per member); never otherwise.
//
// # Neighbours and probes
//
// A node chooses at most 32 neighbours: those in use (Use), the nearest, one of every region and risk that these leave out, one
// drawn anew every ten minutes, and those whose ids are near its own by exclusive or. The first 16 are probed five times a second,
// the others once. A node also probes, once a second, up to 24 others that chose it: a link counts in the Graph only if both of
// its ends measure it, and then as the worse of what they say, so that nobody can talk its links up alone. All probes and
// replies of a node keep to Config.ProbeRate, which also bounds how many neighbours there are.
//
//	u8 kind (0x11 request, 0x12 reply; 2 more: counts follow; 6: transit, too; 14: passing, too), u32 epoch of the sender, u32 number,
//	u32 epoch of the other as heard, u32 highest number of its requests received, u32 how many;
//	counts: u64 frames that the sender sent to the other, u64 the newest such number heard from it, u64 its frames arrived by then
//	transit: i32 lowest of the other's frames in the last one to two seconds, u32 its mean change, µs; all ones: none came
//	passing: u32 source of frames that the sender passes on to the other (0: none), u8 span: bits 10 to 15 of their time, i32 lowest
//	transit in that span until they came to the sender, u32 its mean change, µs
//
// Replies give round trips (latency is half the smallest of the last 5 to 10 s); the tallies give the loss of each direction,
// over the last 100 probes, or the last 20 if many of those were lost.
//
// # Live traffic
//
// Where both ends count the frames that go straight between them (Config.Traffic: what a node sends, relays and gets), probes
// carry the counts, and the differences between two probes are the loss of either direction, over 20 s. A path over relays so
// is measured link by link. With 20 frames a second each way the frames take the place of fast probes: the link is probed
// once a second until nothing has come for 160 ms. Probes overrule counts that say much less of a loss: who sends the frames
// could count too few. A node that has counts to say says them once in ten seconds beside a request, and with every probe
// from the answer on; older nodes drop what they do not know, and their links stay with the probes.
//
// Frames that a node makes itself carry the time of their sending, in milliseconds, so whoever gets them straight knows their
// transit: how long they took, off by what the clocks differ by. Each end says the other's in its probes. What transits have grown
// by since the smallest round trip was seen is added to that, each direction by itself, so a link that gets slower is known in
// seconds instead of when the smallest is forgotten; they never make it less. Jitter is that of the transits, if both directions
// have them. A relay's link towards the egress carries frames that others made. The relay knows what they took until they came to
// it, and says so of one source and each 1,024 ms of its time; the other end takes that from what the same frames took until they
// came to it. What the packet filter passes on has no such times, and jitter that they came to the relay with hides the link's:
// there the probes measure.
//
// # Rest
//
// When nobody in the whole mesh has had a client for 30 s, as rows tell, and no frames have gone, its nodes rest: fast links are probed
// once a second, all at one moment, and linkstate's ticks are 0.48 s apart (rest.go). A link that dies then is down after 2 s. The
// first client anywhere ends it for everybody within 2 s.
//
// # Gossip keys
//
// Three keys decrypt: the one before, the one in use, the next. A key carries the time of its making, and the newest that is a
// minute old encrypts, so that everybody has it before anybody uses it. Three more may be from the future: they only decrypt, for the
// node whose clock is wrong sends with them, until somebody is thrown out; a node whose clock is ahead and that makes three in a row
// knows nobody else's any more, until its clock is right. Keys are exchanged over layer 1 at every join and, with
// one member, in every round of rejoining (Config.Keys); rings are united, of which the newest three stay; a ring that changed
// is handed to all members, so halves that were started apart merge. A node that joins takes the mesh's keys; one that finds
// nobody draws one. RotateKey draws a new one, and so does the member of the lowest id when the newest is a day old
// or a node was thrown out (Expel); what that one knew is given up two minutes after the new key was made.
//
// # Files, in the order of a node's life
//
//	mesh.go       Config, Mesh, New, and what layer 1 and the braid hand in
//	run.go        Run: timers, start, beat, goodbye
//	keys.go       the ring of gossip keys and its exchange
//	join.go       join addresses, rejoining
//	transport.go  memberlist's packets and streams
//	logging.go    memberlist's log, rate-limited
//	guard.go      second nodes of one name or id
//	members.go    the table of members
//	accused.go    members that gossip says failed, and links do not
//	card.go       cards: layout
//	publish.go    what this node says: cards, rows, when
//	gossip.go     what others say: checked, stored
//	graph.go      the graph, drawn and mended; the choice of neighbours from it
//	neighbours.go whom to probe, how fast: pure
//	probe.go      link probes: layout
//	link.go       one link: a pure state machine
//	live.go       what live traffic says of a link's loss: pure
//	transit.go    what it says of round trip and jitter: pure
//	relayed.go    what frames of third nodes say of them: pure
//	fallen.go     nodes that many others have lost
//	prober.go     all links: sending, watching, the cap
//	rest.go       when nodes of an idle mesh rest
//	stats.go      counters
//
// # State and invariants
//
// Mesh.drawing guards the graph, Mesh.mu the tables, prober.mu the links, keys.mu the ring, dirt.mu what changed since the last
// graph. drawing is taken before the others, dirt.mu after them; of mu, prober.mu and keys.mu no two are ever held together,
// and none while calling out of the package or into memberlist (which calls back with its own lock held). All tables are
// bounded. Queues: packets 512, streams 16, fresh items 1,024; what does not fit is dropped and counted (Stats).
//
// # What it does not do
//
// Two nodes that lie together about the link between them are believed. A member can gossip a wrong address for a node
// that nobody knows yet, which makes that one's card be refused; of one that lives by its links neither another address nor that
// it failed is believed. Several that lie together can take a node's links with others away until that one speaks. A node that is
// thrown out reads gossip for a minute more, and a member can make keys as it likes. A node that is restarted within the two
// minutes after a revocation keeps the keys from before until the third rotation. Measured latency is half a round trip, so an
// asymmetric route is seen as symmetric; a neighbour that guesses when it will be asked can answer early and seem nearer than it is.
// Floods of joins meet
// the limits of layer 1, packets from addresses of no member a rate of 500 a second, those from a member's, forged or not, the same for
// each, made-up names, which take a member's key, the bound on nodes without a card: while such a flood lasts, newcomers may be late, a
// member whose address is forged is not heard by gossip where the forger sends, and memberlist checks names that are nobody. Links, and so
// media, do not depend on it.
package mesh
