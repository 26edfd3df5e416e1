// Package run makes scenarios happen: whole nodes, the same code as in production, over the emulated network of
// package sim, in virtual or real time, with synthetic streams, faults, checkers and a report.
//
//	library.go        built-in scenarios, and files
//	swarm.go          scenarios drawn from a seed
//	large.go          a scenario of 200 nodes
//	run.go            Run: on which clock, how far it is, how it is broken off
//	stage.go          one run: form the mesh, play the timeline, heal, watch it recover
//	bubble.go         virtual time in an ordinary program
//	ground.go         certificates, configurations and policy of the nodes
//	mesh.go           nodes: start, death, restart, formation
//	clientnet.go      the side towards clients without a real socket
//	flow.go, view.go  a synthetic stream: publisher and viewers
//	client.go         real WebRTC clients behind a last mile
//	faults.go         events
//	checks.go         checkers apart from scenarios: safety, then liveness
//	copies.go         copies of a packet, counted on the wire
//	sample.go         what each path carried, from the receiving end
//	probe.go          the same figures from two nodes of a live mesh
//	profile.go        processor time by node
//	report.go         the JSON report and the summary
//	page.go, plots.go, map.go   the HTML report
//
// Sub-packages: scenario (the file format), measure (figures; pure).
//
// # Time
//
// t=0 is when all nodes are ready, enforce the policy and know a path for every stream; formation is reported apart.
// In virtual time everything lives in one synctest bubble, whose processors are infinitely fast: figures say nothing about
// load. The network's draws come from the seed, but goroutines that wake at one instant run in no fixed order, so two
// runs of one seed agree closely and not to the packet; docs/simulator.md says how closely.
//
// # Who owns what
//
// The goroutine that walks the timeline owns faults and sampler. member.mu guards a node's life, view.mu a viewer's books,
// checkers.mu the verdicts, copyCounter.mu its counts; Progress is atomic, for whoever asks from outside the bubble. The network's tap runs with the network locked and calls only the last two.
//
// # What it does not do
//
// Processors that are slow (a slow node is one whose links are slow), clocks that run fast or slow
// (they are set), and tokens of clients under a clock that is wrong. Publishers and viewers that are not WebRTC
// clients enter at the hub, past the admission that clients meet.
package run
