// Package bench measures Tern against the alternatives, as ratios inside one run: absolute times depend on the machine, ratios
// much less. tern bench runs what is registered here; benchmarks of one package's inner loops are Go benchmarks beside the code.
//
//	bench.go         Benchmark, register, Execute: what there is and how it is run
//	gate.go          stable rows against the committed ones (bench/gate.json), for CI
//	steps.go, steps_linux_amd64.go, steps_other.go   instructions of a Go benchmark, counted by stepping through it
//	scenarios.go     whole nodes in virtual time: the gated figures
//	growth.go        cost against nodes, viewers, streams and apps
//	curves.go        curves: exponents, tables, plots
//	result.go        rows with spread, baseline and ratio; JSON and Markdown
//	arrivals.go      which packets arrived, and how late
//	braid_nodes.go   two braids (or QUIC connections) over real loopback sockets, or over an emulated network
//	braid_cpu.go     processor time per delivered packet: braid, three copies, against plain QUIC DATAGRAMs, one copy
//	braid_memory.go  heap of a session: idle and at full rate
//	braid_relay.go   processor time of a relay, against one recv and one send
//	braid_net.go     three emulated paths that lose, together and each for itself
//	braid_oracle.go  what their first copies did, seen from outside
//	braid_loss.go    undelivered packets and latency under loss, in virtual time, against theory and the oracle
//	braid_cost.go    bytes of statistics, packets lost while paths are down
//	braid_brownout.go  gap closed against copies sent under brownouts: off, full, adaptive
//	peers_transport.go  a braid, librist and SRT over the same emulated paths
//	edge_latency.go  latency that a second node adds between WHIP and WHEP
//	edge_servers.go  one node, a bare pion fan-out and bare UDP under the same loads
//	edge_apart_linux.go  a processor for the server alone
//	client/          the WHIP and WHEP client
//	load/            the load generator that drives many of them
//	fanout/          the least WHIP and WHEP server, a baseline
//
//	tern bench list
//	tern bench run braid-cpu --json out.json
//
// A new benchmark is a file whose init calls register. Its Run records rows: one value for each repetition, the name of the row
// that it is divided by, and what the ratio must be and should be. No benchmark fails because a machine is slow: timed
// tests that fail now and then teach people to ignore them. Rows marked Gate are those that do not depend on speed.
//
// The list of benchmarks is written by init functions alone; a Recorder belongs to one Run. No other state is shared.
//
// What the figures do not say: loopback keeps GSO runs whole from end to end, so a network card gains less from GRO;
// virtual time has infinitely fast processors, so its results say nothing about capacity.
package bench
