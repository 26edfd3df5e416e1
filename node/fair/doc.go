// Package fair says whom a remote address counts as, and shares the connections of a listener among those who connect.
//
//	source.go  whom a remote address counts as
//	listen.go  the listener: how many at once, in all and of one source
//
// Connections beyond all wait in the kernel's queue; those of a source beyond its share are closed at once, without an answer,
// before TLS: what refuses a flood must cost less than the flood. So one address that opens and keeps whatever it gets takes its
// share, and nobody waits for it.
//
// A Listener's counts are guarded by its lock; a connection gives its place back when it is closed.
//
// Not here: rates, requests, and who is exempt: callers say so.
package fair
