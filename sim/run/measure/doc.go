// Package measure turns packets into figures: what a viewer of a synthetic stream got, how late, and what a
// person would have thought of it. The simulator and a probe of a live mesh share it.
//
//	packet.go   the synthetic RTP packet: number, instant and frame stamped into it, with a checksum
//	meter.go    Meter: one viewer's arrivals into loss, latency, gaps, duplicates, and a series over time
//	player.go   Player: a video player with a fixed playout deadline; freezes as W3C defines them
//	mos.go      the E-model proxy
//
// Pure: no clock, no goroutine, no lock; instants are nanoseconds handed in. One owner each. Memory grows by a bit for
// each packet and by a fixed amount for each bucket of the series.
//
// Figures cover packets sent within a window; a packet counts where it was sent, however late it arrives.
package measure
