// Package sim is an emulated network: hosts with virtual addresses that exchange UDP packets over links with
// delay, jitter, loss, reordering, duplication, corruption, a rate with a queue, and an MTU, each per direction.
// Nodes take their network from an interface; a Host satisfies it, so the same node code runs here and in
// production. It works in real time and inside a testing/synctest bubble, where hours pass in seconds.
//
// # Files, in packet order
//
//	network.go   Network and Host: addresses, ports, the way of one packet
//	faults.go    what may be changed while it runs: links, kill, partition, joint loss; counters
//	nat.go       address translators in front of hosts
//	risks.go     shared risks: directions that fail together; the tap
//	link.go      Link: what one direction does to packets; its settings and counters
//	lane.go      the pure core: one packet's fate and arrival instant from (settings, state, now, size)
//	jitter.go    shapes of jitter, as quantile functions; loss traces
//	schedule.go  packets in flight: a heap of arrivals and the one goroutine that delivers them
//	conn.go      Conn: the net.PacketConn that a node holds; its bounded receive queue
//	stream.go    connections in memory, and listeners for them: TCP's place in virtual time
//
// # Who owns what
//
// Network.mu guards hosts, ports, links with their state, translators, faults and the heap. Conn.mu guards one receive queue;
// it may be taken while Network.mu is held, never the other way round. The delivery goroutine starts with
// the first ListenPacket and ends with Close, which waits for it; there is no other goroutine.
//
// # Time
//
// A packet's arrival instant is fixed when it is sent. No two packets of a network arrive at one instant (they are
// set 1 ns apart), because goroutines that wake at the same virtual instant run in no particular order. Where the
// clock stands still while code runs (a bubble), every arrival gets its own wake-up at exactly its
// instant. In real time arrivals that lie close together share one, so a packet may be up to coalesce late.
// In the bubble processors are infinitely fast: nothing seen there says anything about CPU or queue overflow.
//
// # Randomness
//
// The fate of the k-th packet of a direction is a hash of (seed, from, to, k, purpose). So it does not depend on
// other links' traffic, and changing a link's loss does not change its jitter. Joint loss is a hash of (seed, host, slot).
// Replays are exact as far as the callers send the same packets in the same order; goroutines may not.
//
// # Bounds
//
// inFlightPackets for a network (newest dropped, Stats.FlightDrops), receiveQueuePackets for a Conn (newest dropped,
// Conn.Drops and Stats.ReceiveDrops), Link.Queue for a link with a rate (drop-tail, LinkStats.QueueDrops),
// natPorts mappings for a translator (the oldest port is taken over).
//
// # What it does not do
//
// TCP, ICMP, multicast, IP fragmentation and ECN. A packet for which nobody listens vanishes. Sub-packages,
// which may import anything of ours: demo (the browser demonstration), run (scenarios), link (real UDP through one emulated link).
package sim
