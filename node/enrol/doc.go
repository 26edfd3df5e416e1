// Package enrol is a machine's side of its lease: the fingerprint, the file, the questions to authorities, and the keeper that
// runs in a node.
//
//	fingerprint.go  what tells one machine from another
//	file.go         the lease file: one writer at a time, whole or not at all, mode 0600
//	client.go       one question to one authority
//	first.go        the first lease of a machine
//	keeper.go       in a node: a look every minute, a renewal every day
//
// What a lease is worth is package lease's, pure; this package has the clock, the disk and the network.
//
// # State and invariants
//
// The lease file belongs to whoever holds its lock (FILE.lock), for one change at a time: the keeper and `tern lease renew` may
// run at once. The keeper's own fields belong to its Run; State is one immutable snapshot behind an atomic pointer. A failed
// renewal leaves the file alone. Looking makes no network call: a node starts, or does not, by the file alone.
//
// # What it does not do
//
// It does not decide what a verdict means to clients: node does.
package enrol
