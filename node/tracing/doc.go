// Package tracing sends spans to an OpenTelemetry collector by OTLP over HTTP, and carries the identity of a trace between
// nodes.
//
//	tracing.go  Tracing: sampling, the queue of finished spans, the batches that leave
//	wire.go     a span's identity as 25 bytes (streams between nodes) or as a W3C traceparent (text)
//	otlp.go     spans as OTLP's JSON; pure
//
// The OpenTelemetry SDK makes and samples spans. The encoding is our own, because the SDK's exporter links gRPC, which costs
// every node memory, whether it traces or not (docs/adr/0019-traces.md).
//
// Ownership: the queue is a channel of QueueSize finished spans; OnEnd never blocks and drops, counted, what does not fit.
// Run owns the one goroutine that sends. A batch that the collector does not take is tried once more and then dropped,
// counted: traces help an operator and never hold anything up.
//
// Invariants: without an endpoint nothing is recorded and nothing is sent; a peer's decision to sample is kept, so that a trace
// is whole or absent; no attribute holds a token, a key or a client's address.
//
// Not here: which spans there are (node, node/access and media make them), metrics and logs by OTLP.
package tracing
