// Package fanout is the least that a WHIP and WHEP server can be: pion/webrtc, one track in, the same packets out to each viewer, one
// write each. It is a baseline for benchmarks, run as a process of its own, and a server that is not Tern for tests of the load
// generator.
//
//	fanout.go   Server: POST /whip/STREAM, POST /whep/STREAM, DELETE of what they return
//	raw.go      ServeRaw: no WebRTC at all, RTP to whoever said hello; the floor under any server
//
// Server.mu guards streams and sessions; pion's goroutines call in. Close ends all sessions.
//
// # What it does not do
//
// Tokens, keyframe requests (RTCP from viewers is read and dropped), simulcast, trickle, more than one publisher of a stream.
// Only loopback candidates.
package fanout
