// Package demo is `tern demo`: six real nodes in six cities, in one process, over the emulated network, each with real HTTP and
// UDP on loopback for clients. A page lets a person publish, watch and break things; a headless run does the same
// without a browser and writes figures.
//
// # Files, in the order of a run
//
//	demo.go      Options, Run: the whole show and its lifetime
//	cities.go    the cities, the round trips between them, the emulated links
//	setup.go     CA, certificates, policy and tokens, made on the fly
//	cluster.go   the six nodes: start, kill, revive, formation
//	clients.go   what is needed of WHIP and WHEP clients; playing the test stream
//	headless.go  the script of a headless run
//	flows.go     what nodes say of their braids, as flows with paths; pure
//	stage.go     the mesh as the page sees and breaks it
//
// Beneath it: clip (the test stream), report (figures, pure), page (the page and its API).
//
// # Who owns what
//
// Run owns everything; goroutines belong to its errgroup. cluster.mu guards which nodes live, stage.mu what the page shows.
// stage.acting lets one action run at a time. stage.mu may be held when cluster.mu is taken, not the other way round.
//
// # Killing
//
// A node is cut off from the network first and ended second, so no goodbye gets out: to the rest of the mesh it dies as a
// machine without power does. It is the node object that ends, not a process. A revived node keeps its directory and its HTTP address.
//
// # What it does not do
//
// The emulated WAN has the delays of a provider's backbone and independent losses; joint losses, congestion and outages of whole
// regions are the simulator's, not the demo's. All nodes share this machine's processors.
package demo
