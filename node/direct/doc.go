// Package direct is layer L1 of a node: mutual-TLS QUIC between two mesh addresses, and streams with a kind.
//
// It needs a certificate and an address and nothing else: gossip, raft, the policy, relay keys and the
// directory all ride its streams, and media never does. That is what lets a mesh boot without circles.
//
// Files in the order of a stream's way:
//
//	layer.go   the QUIC transport, its start and its end
//	dial.go    outgoing connections and their cache
//	accept.go  incoming connections, and what strangers may cost
//	stream.go  one stream as a net.Conn, and its header: one byte of length, then the kind; with the byte's highest bit set,
//	           25 bytes of a trace's identity follow (protocol 2 alone, see package tracing)
//	relayed.go the ends of a stream between two voters that a third node carries, where there is no direct way
//	carry.go   the third node: whom it carries, how much, how fast
//	call.go    one request, one answer over a stream of its own
//
// Ownership: Layer.mu guards the cache of outgoing connections; an accepted connection belongs to the
// goroutine that accepted it. Run waits for every goroutine, dials included.
//
// A carried stream has a header of its own kind towards the carrier ("carry", then one byte of length and the name of the node that
// is wanted) and towards that node ("carried"); what follows is TLS between the two ends, and inside it the stream as above.
//
// Invariants: a connection exists only between certificates of one mesh; Dial reaches the node that was
// named or fails; kinds that nobody handles are reset, not ignored.
//
// Not here: retries and which address a node has (the caller resolves), and anything about media.
package direct
