package mesh

import (
	"encoding/binary"
	"math"
	"time"
)

const (
	// transitWindow: the lowest transit is over one to two of these.
	transitWindow = time.Second
	// transitFresh is for how long what frames took says something.
	transitFresh = 2500 * time.Millisecond
	// transitWeight of the moving average of its changes: a new one counts a sixteenth.
	transitWeight = 16
	// transitStep is what frames must take longer than before to be believed: they carry milliseconds, and clocks drift.
	transitStep = 3 * time.Millisecond
	// transitMost is more than a link changes by: a clock was set.
	transitMost = time.Second
	// tookSlack: round trips that are so near to the smallest are as good.
	tookSlack = time.Millisecond
	// Jitter of the probes is believed against the frames' when it is more than twice theirs, and this more.
	jitterOverrules = 2 * newsDelay
)

// transit is what frames took in one direction, by the clocks of both ends: only its changes mean something.
type transit struct {
	at          time.Time // of the newest; zero: none
	low, jitter time.Duration
}

func (t transit) fresh(now time.Time) bool { return !t.at.IsZero() && now.Sub(t.at) <= transitFresh }

// append writes a transit: i32 low and u32 jitter in microseconds, or all ones for none.
func (t transit) append(b []byte) []byte {
	low, jitter := uint32(math.MaxUint32), uint32(math.MaxUint32)
	if us := t.low.Microseconds(); !t.at.IsZero() && us == int64(int32(us)) {
		low, jitter = uint32(int32(us)), uint32(min(t.jitter.Microseconds(), transitMost.Microseconds()))
	}
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, low), jitter)
}

// parseTransit is the inverse of append; jitter that cannot be is none.
func parseTransit(b []byte) (t transit) {
	low, jitter := int32(binary.BigEndian.Uint32(b)), time.Duration(binary.BigEndian.Uint32(b[4:]))*time.Microsecond
	if jitter > transitMost {
		return transit{}
	}
	return transit{time.Unix(0, 0), time.Duration(low) * time.Microsecond, jitter}
}

// clocked is the transit of the frames that come from the other end, a sample of them every probeTick. Pure.
type clocked struct {
	transit
	looked time.Time
	count  uint64 // frames that were timed when we last looked
	last   time.Duration
	lows   [2]time.Duration // of the running window and the one before
	turn   time.Time        // when the running one began
}

// look takes the newest frame's transit in, if it is one not seen before.
func (c *clocked) look(now time.Time, count uint64, took time.Duration) {
	c.looked = now
	if count <= c.count {
		return
	}
	c.count = count
	if !c.fresh(now) || (took-c.last).Abs() > transitMost {
		c.turn, c.lows, c.last, c.jitter = now, [2]time.Duration{took, took}, took, 0
	}
	if now.Sub(c.turn) >= transitWindow {
		c.turn, c.lows = now, [2]time.Duration{took, c.lows[0]}
	}
	c.lows[0] = min(c.lows[0], took)
	c.low = min(c.lows[0], c.lows[1])
	c.jitter += ((took - c.last).Abs() - c.jitter) / transitWeight
	c.last, c.at = took, now
}

// look takes what this node has counted of the link's frames.
func (l *link) look(now time.Time, t Traffic) {
	l.live.look(now, frames{t.Sent, t.Arrived})
	l.back.look(now, t.Timed, t.Transit)
	l.passed.look(now, t.Passed, true)
	l.brought.look(now, t.Brought, false)
}

// came is what frames take from the other end to here: its own, or else those that it relays.
func (l *link) came(now time.Time) transit {
	switch {
	case l.back.fresh(now):
		return l.back.transit
	case l.via.fresh(now):
		return l.via
	}
	return transit{}
}

// ways is what frames take there and back, as far as it is known.
func (l *link) ways(now time.Time) (ways [2]transit) {
	if l.there.fresh(now) {
		ways[0] = l.there
	}
	ways[1] = l.came(now)
	return ways
}

// delays are the link's round trip and jitter. Probes say what the smallest round trip of late was, and frames how much more they
// take now than then, each direction by itself, so that no two clocks need to agree; a fall the probes see as soon. Jitter is that
// of the frames if those of both ends carry time, unless the probes contradict; one direction alone says what it is at least.
func (l *link) delays(now time.Time) (rtt, jitter time.Duration) {
	rtt, jitter = l.rtt.low(), l.rtt.jitter
	then := l.rtt.took[l.rtt.lowest()]
	var more, shakes time.Duration
	timed := 0
	for i, way := range l.ways(now) {
		if way.at.IsZero() {
			continue
		}
		if way.jitter >= 0 {
			timed++
			shakes += way.jitter
		}
		if !then[i].at.IsZero() {
			more += way.low - then[i].low
		}
	}
	if rtt > 0 && more > transitStep && more < transitMost {
		rtt += more
	}
	if shakes > jitter || timed == 2 && jitter <= 2*shakes+jitterOverrules {
		jitter = shakes
	}
	return rtt, jitter
}
