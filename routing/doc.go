// Package routing turns a graph of measured links and the operator's constraints into path sets: up to three paths of
// minimum total cost that share nothing, or as little as possible. It is pure: no clock, no I/O, no goroutine, the
// standard library alone.
//
// # What is computed
//
// A path has at most two relays. Among all sets of up to three different paths inside the constraints, PathSet picks
// by, in this order: most paths; fewest shared relays; fewest shared risks; least total cost; names. A shared risk
// (a string like "site:fra1") is one that relays of two paths have in common; risks of the two ends do not count, since
// no choice of relays avoids them.
//
// # Why it is fast and exact
//
// With at most two relays, a set of node-disjoint paths is a matching: a path s-x-y-t is an edge {x,y}, a path s-x-t is
// an edge from x to nowhere. For a matching of three edges, an edge that is not among the ten cheapest at its node, or
// not among the 41 cheapest of those, can be exchanged for a cheaper one that touches neither of the other two. So 42
// candidates (with the direct path) hold the optimum for any number of nodes, and all triples of them are tried
// (disjoint.go). If that set shares no risk, it is the answer.
//
// Otherwise sharing is weighed: branch and bound over all paths (shared.go). Without risks the same exchange argument
// keeps it exact at any size. With risks it is exact up to 40 nodes as long as the search ends within
// its budget of steps (searchBudget), which keeps one answer below some tens of milliseconds; a larger graph considers
// its 4,096 cheapest paths only. Where the budget runs out the best set found stands: valid, perhaps not the best.
//
// # Files, in the order of a question
//
//	graph.go       Node, Link, Graph
//	cost.go        what a link costs, in milliseconds
//	bounds.go      the operator's bounds: prefer, avoid, forbid, price
//	matrix.go      a Graph from CSV
//	export.go      a Graph to JSON and CSV, and back
//	pathset.go     Constraints, PathSet: the question and its answer
//	candidates.go  all paths between two nodes
//	disjoint.go    the cheapest set that shares no relay
//	shared.go      the least shared set, when something must be shared
//	explain.go     why this set and not the next best
//	table.go       all path sets of one node, kept up to date link by link
//	keeper.go      hysteresis: when a new path set replaces the one in use; patience, against herds
//
// # State and invariants
//
// A Graph never changes after NewGraph; its methods are safe for concurrent use (scratch memory comes from a pool).
// Equal inputs give equal answers: nodes are ordered by name, costs are whole nanoseconds, ties go to the names. No
// path ever leaves the fence, touches a forbidden node, uses a link that is down, or relays through a node marked
// Avoid or named in NoRelay; none that is new relays through one named in NoNewRelay.
// A Keeper belongs to one pair and fence and one caller.
//
// # What it does not do
//
// It knows nothing of the mesh or the policy: who feeds it decides what a load is and whom a bound means. Under builds the graph
// anew, so a Table on a bounded graph starts anew with every change.
package routing
