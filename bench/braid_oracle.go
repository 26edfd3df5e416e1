package bench

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"time"
)

const (
	// oracleFrames is how many frames may be under way at once, a power of two.
	oracleFrames = 1 << 16
	// oracleSlack is how much later than its path's delay a first copy may arrive: the emulated network keeps packets apart.
	oracleSlack = time.Millisecond
)

// oracle sees what leaves one side of an emulated network and what arrives at the other: which frames of media all their first
// copies lost, before any repair, and when the first of those that arrived did. It reads headers alone and asks no braid.
type oracle struct {
	ways [3]time.Duration
	turn sync.Mutex // the ports' readers take turns, so that what first said of a frame holds until it is delivered

	mu      sync.Mutex
	counts  bool   // the warm-up is over
	next    uint64 // one past the highest frame
	frames  []oracleFrame
	best    delays // per frame, of the first copy that arrived
	sent    int    // frames
	reached int    // of those, by a first copy
	jointly int    // of those, that met a joint loss
	copies  [3]int // first copies on each path
	arrived [3]int // of those
}

// oracleFrame is a frame on its way.
type oracleFrame struct {
	seq     uint64
	at      time.Time // when its first copies left; zero: it does not count
	reached bool
}

func newOracle(ways [3]time.Duration) *oracle {
	return &oracle{ways: ways, frames: make([]oracleFrame, oracleFrames)}
}

// begin: what leaves from now on counts.
func (o *oracle) begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.counts = true
}

// mediaSeq is the sequence of a media frame.
func mediaSeq(frame []byte) (seq uint64, ok bool) {
	head := 30 + 10*int(frame[2]&3)
	if frame[3]&0xf != 2 || len(frame) < head+8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(frame[head:]) & (1<<48 - 1), true
}

// written notes a run that leaves on a path; lost: it meets a joint loss.
func (o *oracle) written(run []byte, segment, path int, lost bool) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	for at := 0; at < len(run); at += segment {
		seq, ok := mediaSeq(run[at:min(at+segment, len(run))])
		if !ok {
			continue
		}
		fresh := seq >= o.next // and not sent again
		o.next = max(o.next, seq+1)
		if !o.counts {
			continue
		}
		f := &o.frames[seq%oracleFrames]
		if fresh {
			*f = oracleFrame{seq: seq, at: now}
			o.sent++
			if lost {
				o.jointly++
			}
		}
		if f.seq == seq && !f.at.IsZero() && f.at.Equal(now) {
			o.copies[path]++
		}
	}
}

// first takes a frame that arrives and says whether it is a first copy, and not one that was sent again.
func (o *oracle) first(frame []byte, path int) bool {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	seq, ok := mediaSeq(frame)
	f := &o.frames[seq%oracleFrames]
	if !ok || f.seq != seq || f.at.IsZero() {
		return true
	}
	way := now.Sub(f.at)
	if way > o.ways[path]+oracleSlack {
		return false
	}
	o.arrived[path]++
	if !f.reached {
		f.reached = true
		o.reached++
		o.best.add(way)
	}
	return true
}

// lost is how many frames no first copy brought. Frames under way count as lost.
func (o *oracle) lost() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sent - o.reached
}

// share of the first copies that a path lost.
func (o *oracle) share(path int) float64 {
	return 1 - float64(o.arrived[path])/float64(max(1, o.copies[path]))
}

// runHandler takes a run that a port has read, as braid.HandleRun does.
type runHandler = func(run []byte, segment int, from netip.AddrPort, marked bool, waited time.Duration)

// beside is handle, with got told of each frame whether it was sent again.
func (o *oracle) beside(got *arrivals, handle runHandler) runHandler {
	return func(run []byte, segment int, from netip.AddrPort, marked bool, waited time.Duration) {
		o.turn.Lock()
		defer o.turn.Unlock()
		got.resent(!o.first(run, pathOf(run)))
		handle(run, segment, from, marked, waited)
		got.resent(false)
	}
}
