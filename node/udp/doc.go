// Package udp is a UDP socket that moves runs of packets in one system call.
//
// On Linux, WriteRun hands a run of equal segments to the kernel at once (UDP_SEGMENT), and ReadRuns takes several
// messages in one recvmmsg, each of which may be a run that the kernel has put together (UDP_GRO). Where the kernel or
// the network card refuses, and on other systems, both fall back to one packet a call; the refusal is remembered, so it
// costs one failed call. Runs are written without the runtime's lock of one writer at a time, so several goroutines write to
// one socket at once. TryWriteRun is the write for media: it never waits for room in the socket's buffer, and marks its
// packets as those of a sender that answers to congestion marks, which ReadRuns reports, as it does how long packets were in the
// socket before they were read (SO_TIMESTAMPNS). A Conn is also an ordinary net.PacketConn, whose ReadFrom takes several packets
// in one call as well, but no runs: GRO is on for readers of runs alone.
//
// Files: conn.go (Listen, net.PacketConn, the portable way), batch_linux.go (GSO, GRO, recvmmsg, ReadFrom),
// send_linux.go (the write that never waits), batch_other.go (stubs).
//
// Who owns what: writes may come from any goroutine; ReadRuns keeps its buffers in the Conn, so one goroutine reads, and
// it must not mix ReadRuns with ReadFrom. Closing from any goroutine ends reads.
//
// Invariants: no allocation per packet; addresses handed out are unmapped (an IPv4 peer is IPv4, also on a dual-stack
// socket).
//
// System calls that cannot wait are made without the runtime's knowledge (docs/adr/0021-quiet-system-calls.md).
//
// What it does not do: no pacing, no path MTU; no ECN in WriteRun; no ECN and no waiting times on other systems, where TryWriteRun may wait; a run larger than 65,507 bytes or 64 segments is split.
package udp
