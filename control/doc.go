// Package control holds the mesh's policy: which regions carry media, which apps there are and who may enter them,
// what is blocked. A few nodes (voters, 3 or 5) agree on it by raft; every other node keeps a signed copy. A policy
// has a version that only rises; a node enforces the highest one that it has seen proof of.
//
// # A change's way, file by file
//
//	parse.go      document (YAML or JSON) -> Policy, all problems at once, each with its line
//	sections.go   the parts beside regions, apps and blocklist: voters, limits, filter, alarms, audit
//	schema.go     the JSON Schema of the document, made from the types
//	admission.go  what an app's policy says of its clients: bans, old formats, key sets, tenants
//	clients.go    which addresses are near which region
//	bounds.go     the operator's bounds on routes: prefer, avoid, forbid, price
//	validate.go   ids, references, modes, prefixes, limits; the text of problems
//	policy.go     Policy; secrets shown as fingerprints (Redact) and put back (Merge); encoded forms
//	nodes.go      node states, revocations: types, reading, checks
//	admins.go     tokens of the admin API
//	owner.go      what somebody who owns some apps may change
//	diff.go       how two policies differ; apps that a change would strand
//	explain.go    by which lines an app's media may go from one region to another
//	proposal.go   Propose: who asks for which change; the leader judges it and proposes
//	protocol.go   from any node to the leader, at most two hops; Serve answers peers; Committed
//	raft.go       timers; start and stop of raft
//	guard.go      between raft and its disk: a write that fails ends raft, not the node
//	seal.go       node keys, fence keys, sealed certificates
//	vault.go      who may read which fence's key; how it gets there
//	command.go    the log entry, byte by byte
//	history.go    what is kept of older versions
//	mixed.go      versions of this program side by side: who knows which fields
//	delta.go      from one document to the next, in few bytes
//	fsm.go        entry -> state: version, document, history, audit log; snapshots
//	audit.go      the audit log: a hash chain, its bounds, its verification
//	record.go     denied actions on their way into the audit log; what every node remembers of it
//	enforcers.go  who enforces which version, asked of all
//	freshen.go    a newer signature under the version in force, before the old one's certificate ends
//	copies.go     news of a version from node to node; voters sign what they applied; everybody else fetches, verifies, stores, enforces
//	control.go    Config, New, Run, Status
//	voters.go     which nodes vote: the policy's rule, one safe step at a time; rival groups
//	backup.go     snapshot files: save, check, restore
//	bootstrap.go  how a voter gets into raft the first time, or again after it lost its disk
//	storage.go    raft's log, votes and snapshots on disk, checked before raft sees them
//	disk.go       checked files, node.id, the lock
//	heartbeat.go  heartbeats that keep their distance
//	log.go        raft's log lines to slog
//
// # On disk
//
//	DIR/node.id              {"mesh":..., "node":...}: another node's or mesh's directory is refused
//	DIR/lock                 held while Run runs
//	DIR/node.key             the node's own key, unless Config.KeyFile says otherwise
//	DIR/keys.bin             the fence keys that it holds, sealed to its own
//	DIR/policy.bin           the signed copy, on every node; certificates sealed
//	DIR/raft/*.wal           log segments (raft-wal), every entry with a checksum of ours
//	DIR/raft/meta.bin        segments, term, vote
//	DIR/raft/end.bin         where the log ended; tells damage from a write that a crash cut short
//	DIR/raft/bootstrap.bin   the voter set that this node promised to found, once and for ever
//	DIR/raft/snapshots/      the last two snapshots
//
// Everything is mode 0600 in directories of mode 0700, or below one.
//
// # Certificates
//
// An app's certificate is any 16 to 256 visible ASCII characters, which includes the 32 hex digits of common token
// formats. It may not begin with "sha256:" or "sealed:". No error, log line or answer holds one; a request to apply does,
// between the node that took it and the leader. On disk they are sealed to the voters and to the nodes inside the app's
// fence (seal.go says how, vault.go who).
//
// # Who owns what
//
// state is owned by fsm, under its lock; raft's goroutine writes it. The copy in force (Control.copy, policy) is
// written only under installMu: by install, from publishLoop (voters) and fetchLoop, and the copy's signature by
// freshenLoop; so Enforce sees rising versions, one at a time. Proposals and membership changes hold Control.turn. Run starts all goroutines but those of raft
// and its log, and returns after all of them ended.
//
// # Invariants
//
//   - A version is acknowledged only when a majority of voters has it on disk.
//   - The log's meaning depends on nothing but the log: validation happens before proposing, never while applying.
//     An entry that cannot be read stops the node's log (Status.LastError), it is not skipped; a leader in that state
//     hands over, and the node goes on enforcing what it has.
//   - A copy counts only with a voter's signature over version and document, and only if its version is higher.
//   - Without a majority, everything goes on with the policy in force, over restarts too; writes fail with ErrNoLeader.
//   - Damaged data is never used: New or Run fail with a CorruptError that names the file and the remedy.
//
// # Bounds
//
// Document 5 MiB; message 8 MiB; history 1,000 changes and 2 MiB of deltas to their documents; audit log 20,000 entries or
// 4 MiB or the policy's retention; 256 different denied actions wait to be recorded, more are counted and dropped; raft
// streams 64, the next is closed; a write waits 8 s for a leader. Channels have capacity 1 and carry no data.
//
// # What it does not do
//
// Without a count of voters in the policy, dead ones stay in the configuration until an operator acts. Raft's log holds whole
// documents; copies travel as deltas where that is shorter. Who may apply is decided by the caller; mesh peers are trusted to
// forward honestly, including the author's name. The configuration inside a snapshot's meta.json has no checksum (the
// library's format); damage that leaves it valid JSON is not seen. An entry that the disk damages after it was checked at
// start makes the raft library panic.
package control
