// Package lease is a node's right to be in the mesh for the next seven days: the file, what it is worth now, how it is
// renewed, and when an authority may give one. It is pure: no clock, no network, no file; callers hand bytes and times in.
//
//	lease.go      the file: layout, signature of the authority, local seal of what the node itself writes
//	verdict.go    what a file is worth: the first of eight conditions that holds
//	renew.go      the client: authorities in turn, once a day, and what failures mean
//	exchange.go   what a machine asks an authority, and what it answers
//	invitation.go  what an operator hands to a machine for its first lease
//	book.go       which machines an authority gives leases to
//	authority.go  when an authority may serve: its own right, which a root gives
//
// # The file
//
// JSON, at most MaxFileBytes, unknown fields refused. Its signed part names mesh, node, machine fingerprint, issuer, times
// and a nonce, and carries the node's certificate, which lives a seventh longer so that running media can end in peace; an
// Ed25519 key that the mesh's CA has certified signs it. Two fields belong to the node: last_seen, the highest time at which the file was found good, and void, which a clock
// that goes backwards sets for good. They are under a MAC with a key of the node, so that the file cannot be edited.
//
// # Invariants
//
// Only a fresh lease from an authority clears void. last_seen never moves past the lease's end: a clock that jumps forward
// and is put right again is an expired lease meanwhile, not a rollback. A failed renewal changes nothing.
//
// # What it does not do
//
// The exchange, the disk and the clock are node/authority's and node/enrol's.
//
// Between two looks a clock may be frozen unseen, unless the caller has another one (Reckon). Somebody who has the
// node's key and its file can run a second node on a machine with the same fingerprint; the authority sees an older lease than
// its last one and says so.
package lease
