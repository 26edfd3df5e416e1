package braid

import "testing"

// warmUp is rounds after which a source's tables are there.
const warmUp = 10

// One frame through a relay, from what the socket read to what it is given to write.
func BenchmarkRelay(b *testing.B) {
	_, _, pass := relaying(b, &nullWire{})
	for range warmUp {
		pass()
	}
	b.ReportAllocs()
	for b.Loop() {
		pass()
	}
}

// One packet with its two later copies. The frames are made before, in lots, and are fresh for seconds.
func BenchmarkReceive(b *testing.B) {
	const lot = 1000
	h := &nullHandler{}
	var take func()
	left := 0
	refill := func() {
		_, take = receiving(b, h, lot+warmUp)
		for range warmUp {
			take()
		}
		h.packets, left = 0, lot
	}
	refill()
	b.ReportAllocs()
	for b.Loop() {
		if left == 0 {
			b.StopTimer()
			if h.packets != lot {
				b.Fatalf("%d of %d packets delivered", h.packets, lot)
			}
			refill()
			b.StartTimer()
		}
		take()
		left--
	}
}

// Ten packets of one moment, three copies of each.
func BenchmarkSend(b *testing.B) {
	moment := sender(b, &nullWire{})
	b.ReportAllocs()
	for b.Loop() {
		moment()
	}
}
