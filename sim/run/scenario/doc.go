// Package scenario reads scenario files: which nodes, what the network between them does, who sends what to whom, and
// what happens when. docs/simulator.md describes the format for people, docs/scenario.schema.json for editors.
//
//	scenario.go   Scenario, as the runner gets it: checked, complete, with every default filled in
//	file.go       the file as written
//	parse.go      Parse: decode, then section by section; times, nodes, policy
//	links.go      matrix, default and pairs into one setting for each direction; shared risks
//	loss.go       ways of losing packets: share, bursts, profiles, traces
//	streams.go    streams
//	events.go     events, repetitions written out, impossible ones refused
//	company.go    what stands in an event and means nothing there
//	values.go     values with units
//	words.go      the YAML library's words in those of the file
//	link.go       ParseLink: the settings of one link by themselves
//	problems.go   what is wrong, with lines, all at once
//
// Pure, but for ParseLink, which may read a trace, and the Open function with which the caller reads the files that a scenario names. Everything that
// comes from a file is bounded. A value without its unit is a fault, never a guess.
package scenario
