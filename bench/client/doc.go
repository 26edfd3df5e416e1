// Package client is a real WebRTC client for WHIP and WHEP, for the demo, load tests
// and benchmarks: it publishes a clip or synthetic packets, or views a stream and hands
// every packet to a function.
//
// # Reading order
//
//	client.go     Config, and a leg: one join over HTTP, one connection
//	session.go    what both sides share: one leg, two while the session moves to another node
//	events.go     what a server asks of a session; pure
//	publish.go    Publish: a Source's packets out
//	view.go       View: packets in
//	passage.go    packets of two legs, each once; pure
//	source.go     Source, and what a track is
//	synthetic.go  packets of a given size, rate and shape, stamped with their send time
//	clip.go       an IVF (VP8) and Ogg (Opus) pair, looped
//	ogg.go        Ogg pages into Opus packets; pure
//
// # Who owns what
//
// A session owns its legs, a leg its PeerConnection; both own goroutines. Close ends them all and waits. The
// context given to Publish and View bounds the join, not the session.
//
// # Invariants
//
// Only loopback addresses are candidates unless Config.Setting says otherwise. Packets
// handed to OnPacket are valid during the call. A session that is asked to move leaves its old leg
// only when the new one has taken over.
//
// # What it does not do
//
// No decoding, no jitter buffer, no event but "reconnect", no ICE restart, no trickle, no answer to a 406
// counter-offer: View returns it as a StatusError.
package client
