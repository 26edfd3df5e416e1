// Package report turns what was seen of one stream into the figures of `tern demo --headless`. It is pure: callers hand in
// instants, counters and events; nothing here reads a clock, opens a file or starts a goroutine.
//
// # Files, in packet order
//
//	stream.go  Stream: packets sent and delivered, matched by track kind and RTP sequence number; latency
//	paths.go   Paths: counters of every path that was used, dead ones too
//	report.go  Report: the document that is written
//
// A Stream may be used by the sender's and the receiver's goroutine at once (it has its own lock); Paths belongs to one goroutine.
//
// Sequence numbers are matched because SSRC and payload type are rewritten on the last hop to a viewer, while sequence numbers
// cross the mesh unchanged. Packets sent during the warm-up are remembered but count nowhere.
package report
