// Package node assembles one Tern process and is the only place that knows everyone: it opens the sockets, wires the
// layers, turns policy into decisions, and ends them in order.
//
// Files, from the outside in:
//
//	config.go, environment.go   the configuration file and its TERN_* overrides
//	node.go                     New, Run: the stages in the order of their start
//	build.go                    how each part is made from those beneath it
//	wiring.go                   who answers which kind of stream between nodes
//	port.go                     the mesh port, told apart by class
//	routes.go                   graph and fences into path sets, with hysteresis
//	admission.go                what a policy means to an app's clients, and their keys
//	enforce.go                  policy into admission, fences and filter rules: the one place
//	operate.go                  changes of one part of the policy: drain, cordon
//	revoke.go                   nodes and certificates that the policy takes out of the mesh
//	probing.go                  one end of tern probe (the work is in node/probe)
//	drain.go                    what a node does while it is drained or cordoned
//	adminauth.go                who may call what of the admin API; tokens of operators
//	admin.go, status.go         the private listener and what it shows
//	clocks.go                   whose clock is wrong
//	findings.go                 what is not as it should be, and what to do; pure
//	channels.go, history.go     who publishes and watches where in the mesh; the node's last hour
//	console_state.go            what the console shows (the page is in node/console)
//	doctor.go                   tern doctor: the host and the peers, before the node runs
//	keys.go, reload.go          every key described once; what changes without a restart
//	refusals_linux.go           plain RTP learns that its receiver is gone
//	load.go                     how busy this node is: clients, processor, relaying
//	memory.go                   members that are gone, for those who ask
//	filter.go                   the packet filter: ports, members, its part of the admin API
//	onward.go, nexthop_linux.go the braid's relay decisions for the kernel, and its counts back
//	quarantine.go               sources in quarantine, told to the other nodes
//	traces.go                   spans of policy changes, path changes and calls between nodes
//	metrics.go, metrics_paths.go  counters of the parts as Prometheus metrics
//	lifecycle.go, state.go      start, readiness, shutdown order
//	secret.go                   the relay secret
//	logging.go, loglimit.go     the logger, and what it leaves out of a flood
//
// Ownership: a Node's parts are set by assemble before ready closes and never change after. The current policy is one
// immutable snapshot behind an atomic pointer. No part starts a goroutine outside its own Run.
//
// Shutdown, within ShutdownTimeout: readiness fails, the HTTP listener stops, sessions say goodbye, media withdraws its
// streams, raft hands leadership over, gossip leaves, peers are closed, the port closes, the filter detaches.
//
// Not here: anything that could be decided without knowing two parts at once.
package node
