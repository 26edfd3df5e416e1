// Package bench holds harnesses that measure Tern against the alternatives, as ratios inside one run: absolute times depend
// on the machine, ratios much less. Everything here is a Go benchmark; nothing runs in plain `go test`.
//
//	braid_report_test.go  tables of the braid's reports: Markdown on stdout, JSON to a file
//	braid_nodes_test.go   two braids (or QUIC connections) over real loopback sockets, or over an emulated network
//	braid_cpu_test.go     processor time per delivered packet: braid, three copies, against plain QUIC DATAGRAMs, one copy
//	braid_loss_test.go    undelivered packets and latency under loss, in virtual time
//	edge_latency_test.go  latency that two nodes add between WHIP and WHEP
//	client/               the WHIP and WHEP client that the latency harness drives
//
//	go test -run '^$' -bench Braid ./bench
//	TERN_BENCH_JSON=out.json go test -run '^$' -bench BraidCPU ./bench
//
// Targets stand in the reports. No test fails because a machine is slow: timed tests that fail now and then teach people to
// ignore them.
//
// What the figures do not say: loopback keeps GSO runs whole from end to end, so a network card gains less from GRO;
// virtual time has infinitely fast processors, so its results say nothing about capacity.
package bench
