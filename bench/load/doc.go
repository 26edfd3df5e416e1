// Package load puts real WebRTC publishers and viewers on any WHIP and WHEP server and measures what the viewers got: one-way
// latency, loss, joins, and what a named server process used.
//
//	load.go     Config, Run: joins, warm-up, window, end
//	headers.go  viewers that read RTP headers alone
//	wire.go     their socket
//	raw.go      clients of a server without WebRTC
//	joins.go    newcomers in the window
//	books.go    what was sent and what arrived in the window
//	process.go  processor time and memory of a process (Linux)
//	result.go   the figures; JSON and text
//
// # Who owns what
//
// Run owns every session; all have ended when it returns. books.mu guards what publishers and viewers note.
//
// # How it measures
//
// Every packet carries its number and the instant of sending. Publishers and viewers are in this process, so one clock says
// how long a packet took, wherever the server is. The window begins when all have joined and the warm-up is over; packets
// sent in it count, and have tail to arrive. Processor time per packet is that of the named process in the window
// divided by the packets that viewers received in it.
//
// With Headers the clients are light: they join as others do, but RTP ends at their socket, where its header is read. A packet is
// then known by its sequence number, which the server must pass on as it was (Tern and the baselines do, for the first
// publisher of a stream); it took from right before the publisher's system call to the kernel's stamp of its arrival, so
// neither what clients do with a packet nor their waiting for a processor counts. Such viewers report what they got once a second
// and ask for nothing again: a packet that only RTX brings is lost. They send no transport-wide feedback.
//
// # What it does not do
//
// No decoding, no congestion control of the publishers (they send at the stated rate), no TLS options: https URLs need a
// certificate that this machine trusts. The generator shares the machine's processors with a server on it; its own
// processor time is in the result so that this can be seen.
package load
