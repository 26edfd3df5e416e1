// Package client is a real WebRTC client for WHIP and WHEP, for the demo, load tests
// and benchmarks: it publishes a clip or synthetic packets, or views a stream and hands
// every packet to a function.
//
// # Reading order
//
//	client.go     Config, the join over HTTP, what both sides share
//	publish.go    Publish: a Source's packets out
//	view.go       View: packets in
//	source.go     Source, and what a track is
//	synthetic.go  packets of a given size, rate and shape, stamped with their send time
//	clip.go       an IVF (VP8) and Ogg (Opus) pair, looped
//	ogg.go        Ogg pages into Opus packets; pure
//
// # Who owns what
//
// A session owns its PeerConnection and goroutines; Close ends them all and waits. The
// context given to Publish and View bounds the join, not the session.
//
// # Invariants
//
// Only loopback addresses are candidates unless Config.Setting says otherwise. Packets
// handed to OnPacket are valid during the call.
//
// # What it does not do
//
// No decoding, no jitter buffer, no ICE restart, no trickle, no answer to a 406
// counter-offer: View returns it as a StatusError.
package client
