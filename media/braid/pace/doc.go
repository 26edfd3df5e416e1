// Package pace decides how much a node may send where, and how many copies of what: the law of ADR 5 as pure state.
// Times come from the caller; nothing here reads a clock, sends, logs or starts anything.
//
//	receiver's report -> Control.Feedback (per path: sample, floor, queue, loss)
//	every 50 ms       -> Control.Step (which bottleneck: cut or grow; then the deal of grants)
//	per frame         -> Path.Grant filled into a Bucket; Choose and Trial for adaptive copies
//
// # Files, in that order
//
//	path.go     samples of one path: floor of the delay, queue, evidence
//	rate.go     the cap of one bottleneck
//	control.go  paths, flows, first hops, node: who is cut
//	deal.go     shares: needed copies first, then extra ones, max-min fair
//	bucket.go   a grant as tokens
//	loss.go     loss of a path in three windows
//	copies.go   adaptive redundancy: which paths a frame needs; residual loss
//
// # Who owns what
//
// One Control per node; its caller guards it and all its Flows and Paths with one lock. Buckets are values of whoever
// sends. Rates are bytes per second with path headers, +Inf where nothing limits.
//
// # Invariants
//
//   - Loss alone never lowers a cap.
//   - Needed copies are dealt before extra copies; an extra copy never takes room from a needed one of any flow.
//   - The sum of the grants on a path, a first hop, a flow or the node is at most its cap, but where the needed copy fits:
//     then it is not paced, so that a keyframe leaves at once.
//   - Wanted copies do not enter a cap: asking for more never gets more.
//
// # What it does not do
//
// It does not tell a policer's loss from a lossy path's. It knows nothing of simulcast layers: the estimate tells the edge.
package pace
