// Package authority gives leases: it is the server of `tern authority serve`, a process of its own beside the nodes.
//
// Files in the order of a request's way:
//
//	limits.go     connections at once and requests a second, in all and of one source
//	handler.go    one request: decoded, judged, answered
//	issue.go      the lease: certificate, grant, signature
//	store.go      the book of machines, on disk, shared with the operator's commands
//	audit.go      the chained log of what was given and changed
//	authority.go  New and Run: its own right to serve, revocations of the policy
//	operator.go   what the operator's commands change
//
// # Who is who
//
// A client proves its key in the TLS handshake (any certificate will do); the book knows that key's machine. So an ended
// certificate can still be renewed, and a request cannot be replayed by who saw it. Which machine may have a lease is decided by
// lease.Book alone.
//
// # State
//
// The book and the audit log live in one folder, under one file lock (book.lock) that the server and the operator's commands
// take for each change: either may be stopped at any time. A lease is given only once its line is on disk. Authorities share
// nothing: one takes over another's machine by the lease that it shows.
//
// # What it does not do
//
// It does not hand leases to who is denied or revoked, but it cannot take one back: nodes refuse a revoked certificate by the
// policy. Authorities do not tell each other of denials; those that follow the policy learn of revocations from it.
package authority
