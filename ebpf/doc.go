// Package ebpf is the packet filter: it drops hostile datagrams before the socket sees them, and says why. One set of
// Rules has two implementations with the same verdicts and reasons: an XDP program in the kernel, and its twin in Go,
// which is the reference model and the fallback.
//
// # Files, in packet order
//
//	bpf/filter.c      the XDP program
//	bpf/verdict.h     the numbers that C and Go share
//	frame.go          the twin: Ethernet, VLAN tags, IPv4, IPv6 with extension headers, UDP
//	table.go          the blocklist, cut into disjoint steps
//	steps.go          the steps, and the index that narrows a search
//	payload.go        the twin: what stands in a datagram of the mesh port and of the access port
//	bpf/guard.h       the live rules in the kernel: members, clients, rates
//	guard.go          the twin of guard.h
//	bpf/relay.h       path frames for other nodes, sent on without user space
//	ufrag.go          ICE user name fragments that the filter knows by their MAC
//	limits.go         rates, and the buckets that keep them
//	verdict.go        actions, classes, reasons
//	rules.go          the rules: validation, file form
//	filter.go         Filter: New, Run, Update, Allow, Stats
//	live.go           Filter: who is a member, which clients are admitted
//	live_linux.go     the same in the kernel's maps
//	relay.go          Filter: what the node's relay lets the kernel repeat, and what it has sent on
//	relay_linux.go    the same in the kernel's maps
//	kernel_linux.go   the loaded program, replacing its rules, test runs
//	attach_linux.go   interfaces: driver mode, else generic
//	drops.go          sampled drops and where they came from
//	quarantine.go     sources that meet their limits again and again
//	watch.go          the latest sampled drops
//	report.go         what people and tools read
//	image.go          the blocklist as the kernel's maps hold it
//	conn.go           a net.PacketConn behind the twin
//	judge.go          verdicts offline
//	bench_linux.go    what the program takes per packet
//	filter_bpfe*.go   generated with the objects by go generate; committed
//
// # Order of the checks
//
//  1. Headers up to UDP's that end too early: truncated; that contradict themselves: malformed; more than six IPv6
//     extension headers: ext_headers. All three drop for any port, since the port is not known yet.
//  2. Not UDP, or not for the mesh port or the access port: not_ours, passes untouched. This holds for blocked sources
//     too. Later fragments name no port and pass (fragment_rest).
//  3. For our ports: lengths that contradict each other or the frame, an IPv4-mapped IPv6 source: malformed. A first
//     fragment: fragment, unless Rules.PassFragments; nothing of ours is sent in fragments.
//  4. A source in the blocklist: blocklist, with the longest entry that matches, unless an entry of the allowlist is as
//     long or longer. Whom the allowlist names still has to keep to everything below.
//  5. The class by the first byte, then the form of its class. Bytes behind the end that a length field gives never
//     drop: a run of merged segments (GSO, GRO) looks like that.
//
// Mesh port:
//
//	4              gossip       at least 30 bytes: class, version, 12 of nonce, 16 of tag
//	5              path frame   at least 30; version 1; relays 0-2, hop index <= relays; kind (low nibble) not 0;
//	                            30 + 10 x relays + payload length fit; fence 0 only with kind 3 and no relay
//	64-127         QUIC         short header, at least 21 bytes (RFC 9000, 10.3)
//	192-255        QUIC         long header, at least 11 bytes (version negotiation is the smallest)
//
// Access port (RFC 7983):
//
//	0-3            STUN         at least 20 bytes, length a multiple of 4 that fits, magic cookie
//	20-63          DTLS         at least 13 bytes, one record header
//	128-191        RTP          at least 12 bytes and 4 for each contributing source
//	               RTCP         second byte 192-223 (RFC 5761), at least 8 bytes
//
// Everything else on these ports is bad_class; a datagram without payload is empty.
//
// # The live rules
//
// What is in order by its form and not blocked is held against what the node knows, where Config.GuardMesh and GuardAccess
// ask for it. The node says who is known: SetMembers, Peer, Admit, Forget.
//
// Mesh port. A known address is a member's, a configured joiner's, or one that Peer named within two hours: the node
// names what it dials, and whoever proved by certificate to be of its mesh.
//
//	known address     everything, within the rate per address (peer; gossip: peer_gossip)
//	unknown address   path frames never (not_member); QUIC and gossip: not from quarantine, within source_mesh and a budget
//
// That is how a mesh boots: a new node dials a joiner. At the new node the joiner is known before the first packet
// leaves. At the joiner the new node is unknown until its certificate is checked; its handshake, and what of its stream
// comes in the meantime, passes as a stranger's, or is sent again by QUIC when the rate cuts it. Members that gossip has
// not told yet treat the new node as a stranger: its gossip passes within the rate, its path frames once
// they know it. While a flood of made-up sources uses up the budget, nodes that nobody knows cannot join; members and
// configured joiners do not notice.
//
// Access port. A client is an address and a port.
//
//	admitted client   everything, within the rate per client (media: flow; STUN and DTLS: flow_control)
//	unknown           STUN with a ufrag of this node: ufrag, within source_ufrag and budget_ufrag
//	                  other STUN (answers to our own checks): not from quarantine, stranger, within source_stun and budget_stun
//	                  DTLS, RTP, RTCP: not_admitted
//
// Nothing races, because every session begins with a STUN request that carries a MAC (ufrag.go), which passes without
// state; the node admits the client when it has checked MESSAGE-INTEGRITY and before its answer leaves; and a client sends
// no DTLS over a pair before that answer. The same holds for candidates that trickle in, for a client whose NAT gives it
// another port (its next consent check admits the new one, the old one stays), and for ICE restarts. The MAC lives
// as long as the process and a week at most; an older ufrag counts as none, so that its holder meets lower
// rates and not a wall.
//
// Rates. A bucket is one number (GCRA, limits.go). Those of known senders stand with them in maps that only the node
// writes, so no flood can push one out. Unknown sources (IPv6: per /64) share a table of 65,536 places, four ways,
// under a secret hash; a packet must pass its source's rate and then the budget of its kind before it changes
// anything, so made-up sources change the table no faster than the budget.
//
// # Relaying in the kernel
//
// With Config.Relay, a path frame of a member that has passed all of the above may be sent on at once: the node's relay has sent
// one of the same source, hop before, hop behind and fence within a second and said so (SendOnward), and this one names the node as its
// hop, has a good MAC, is fresh and within its source's budget. Every other frame passes to the node as ever. Relayed says what was
// sent on, for the node's own counters. Verdicts do not change: a relayed frame counts as path ok. ADR 17 says why so.
//
// # Samples
//
// Of each class and reason the first drop and every 64th (on a processor) is a sample, at most 100 a second. The kernel
// hands over the frame's first 96 bytes through a ring buffer; Report says which sources stand behind most samples, Recent
// has the latest, and the log names each source once (ten lines at once, then one every six seconds).
//
// # Quarantine
//
// A source with 20 sampled drops in ten seconds for its rate or its malformed packets gets a strike and goes into
// quarantine: a minute, twice as long for each further strike within a day, twelve hours at most. IPv6 sources count by
// their /64. Sources can be forged, so quarantine stands before strangers alone: members and admitted clients never
// meet it, nor does STUN with a ufrag of this node. Who sends what a restart has made unwanted (media, path frames)
// gets no strike, nor does who meets a budget that all share. The node may tell others (OnQuarantine, Adopt, Recant).
//
// # The blocklist
//
// Up to MaxRules ranges, both families together. The address space is cut where the answer changes. An index of at most four
// levels follows the density of the rules: where they stand close together it cuts finer, so that usually no more than 16
// steps are left to search, and the search looks at three at once. The kernel has the same arrays, not an LPM trie: with
// 100,000 entries of mixed lengths the trie took 4.8 to 6.4 times a program that does nothing, the steps take 2.1 to
// 2.9 times, and 3.1 times in the midst of 30,000 single addresses of one IPv4 /16 or 20,000 of one IPv6 /64. A list
// made to defeat the index is still searched, in at most nine rounds. The maps have a fixed size: 3.7 MB for IPv4 and
// 6.8 MB for IPv6, absent while a family has no rules, doubled during an update.
//
// # State and who owns it
//
// Rules reach the kernel in two generations. Update fills the one that no packet reads, switches with one store, waits
// until every packet that was in the program has left it, and empties the other. So a packet is judged by all of the old
// rules or all of the new ones. Filter.mu guards the kernel's side; the twin reads an atomic pointer to a Table,
// which never changes. The live rules' state is guard, under its own mutex: each change goes to the twin and the
// loaded program, and a program gets all of it before it is attached. The twin and the kernel keep
// buckets of their own. The kernel's clock is its count of jiffies (1 to 10 ms each), which costs one load. The
// kernel's counters are per processor; Filter adds them up, and keeps them over detaching.
//
// # Invariants
//
//   - Both implementations give the same verdict on the same frame: the differential test feeds both.
//   - The program is attached only after it has the rules, and never replaces another program.
//   - Links are file descriptors of this process, pinned nowhere: when it dies, the kernel detaches.
//   - Filter.Mode names the kernel only while every interface of the Config carries the program. It is looked at again
//     every two seconds; when one is lost, the twin steps in, and the program is attached again if it comes back.
//   - Refused rules change nothing, anywhere.
//
// # What it does not do
//
// Members count by address, not port; so whoever can send from a member's address passes as that member, and what it sends
// still has to pass its own cryptography. The local address is no part of an admission. Rates of one sender whose
// packets several processors handle at once may let a few packets too many through. After a restart nothing is
// admitted: sessions end with their process. The plain RTP range has no rules. Quarantine does not outlive the
// process, and a stranger whose address somebody forges cannot join the mesh while that lasts: Release him, or name his
// address in mesh.join. The kernel relays IPv4 alone, and out of the interface by which a frame came.
//
// It matches ports on every address of the host, so it also judges datagrams that a host forwards to such a port
// elsewhere. It does not verify checksums, which the host's stack does. Frames with three or more VLAN tags, inside
// tunnels or IPsec pass. Interfaces without Ethernet headers (tunnels) are not attached to, and drivers that need
// multi-buffer programs for their MTU get generic mode. A veth pair without GRO frees its queue when the
// program is taken away, and may lose what another processor puts there at that instant (none of 1,128,529 packets over 200
// detachments); with GRO, and while programs are attached or rules replaced, nothing is lost. What arrives on an interface that the
// Config does not name is not filtered while Mode names the kernel. The network namespace is that of the thread
// that calls Run; an interface that comes back is looked for in the same one only if the caller has locked the
// thread or the process has one namespace.
package ebpf
