// Package probe is a node's part in tern probe: on request it publishes a synthetic stream, or watches one and tells what arrived
// when. Who asks puts the two ends together.
//
//	probe.go     requests and answers; Prober, Serve, Run
//	ends.go      the sending and the receiving end
//	packet.go    a packet's stamp, and the record of an arrival; pure
//
// A packet: RTP header (12 bytes), magic u32, number u64, instant of sending i64 (Unix nanoseconds of the sender's clock), filling.
// A record of an arrival: number u64, sent i64, arrived i64 (the receiver's clock). Big-endian.
//
// # Who owns what
//
// Prober.mu guards the ends. Every end's goroutine runs under Run. Clocks of two nodes differ; nothing here corrects that.
//
// # Bounds
//
// maxEnds at once (more are refused), MaxPacketsPerSecond, MaxBytes, MaxFor; maxArrivals wait to be collected (newest dropped,
// counted). An end that nobody collects from ends after abandoned; a sender ends by itself.
//
// # What it does not do
//
// Any member of the mesh may ask, as any member may publish; it is no way around the policy: the app must exist, and its fence
// holds.
package probe
