// Package lease is a node's right to be in the mesh for the next seven days: the file, what it is worth now, how it is
// renewed, and when an authority may give one. It is pure: no clock, no network, no file; callers hand bytes and times in.
//
//	lease.go      the file: layout, signature of the authority, local seal of what the node itself writes
//	verdict.go    what a file is worth: the first of eight conditions that holds
//	renew.go      the client: authorities in turn, once a day, and what failures mean
//	authority.go  when an authority may serve: its own right, which a root gives
//
// # The file
//
// JSON, at most MaxFileBytes, unknown fields refused. Its signed part names mesh, node, machine fingerprint, issuer, times
// and a nonce, and carries the node's certificate for the same time; an Ed25519 key that the mesh's CA has certified signs
// it. Two fields belong to the node: last_seen, the highest time at which the file was found good, and void, which a clock
// that goes backwards sets for good. They are under a MAC with a key of the node, so that the file cannot be edited.
//
// # Invariants
//
// Only a fresh lease from an authority clears void. last_seen never moves past the lease's end: a clock that jumps forward
// and is put right again is an expired lease meanwhile, not a rollback. A failed renewal changes nothing.
//
// # What it does not do
//
// No node asks for a lease yet: this is the core alone, without the exchange between nodes and authorities. Certificates of
// `tern ca issue` admit nodes until then.
//
// Between two looks a clock may be frozen unseen. Somebody who has the node's key and its file can run a second node on a
// machine with the same fingerprint; the authority sees one fingerprint from two addresses and says so.
package lease
