package media

import "time"

const (
	// keyframeInterval is the least time between two keyframe requests of one track: 2 a second.
	keyframeInterval = 500 * time.Millisecond
	// keyframeTries bounds how often a request is repeated while no packet of the track arrives. Later
	// requests come from the viewers themselves.
	keyframeTries = 20
)

// keygate decides when keyframe requests of one stream's tracks go upstream. Requests inside the interval are
// coalesced into one at its end and never lost: whoever asks after a keyframe was ordered may have missed it.
// Pure: time is a parameter. Owned by one goroutine. The zero value is ready.
//
//	        request, interval over: send
//	idle ───────────────────────────────▶ idle (last = now)
//	 │ request, interval running               ▲
//	 └─────────▶ pending ── due: send ─────────┘
type keygate struct {
	last    [MaxTracks]time.Time
	pending uint32 // tracks with a request that waits for its interval
}

// request notes that the tracks in mask want a keyframe.
func (g *keygate) request(mask uint32) { g.pending |= mask }

// sent notes that somebody else has just asked for the tracks in mask.
func (g *keygate) sent(now time.Time, mask uint32) {
	g.pending &^= mask
	for t := range g.last {
		if mask&(1<<t) != 0 {
			g.last[t] = now
		}
	}
}

// due returns the tracks to ask for now and marks them as asked.
func (g *keygate) due(now time.Time) uint32 {
	var mask uint32
	for t := range g.last {
		if g.pending&(1<<t) != 0 && (g.last[t].IsZero() || now.Sub(g.last[t]) >= keyframeInterval) {
			mask |= 1 << t
		}
	}
	g.sent(now, mask)
	return mask
}

// next returns how long until something pending is due; ok is false when nothing is pending.
func (g *keygate) next(now time.Time) (wait time.Duration, ok bool) {
	wait = keyframeInterval
	for t := range g.last {
		if g.pending&(1<<t) != 0 {
			ok = true
			wait = min(wait, max(0, g.last[t].Add(keyframeInterval).Sub(now)))
		}
	}
	return wait, ok
}

// asker decides which keyframe requests a node sends to its source for its viewers: those that viewers ask
// for, and repeats while a track that was asked for carries nothing at all. Pure, owned by one goroutine.
type asker struct {
	gate     keygate
	explicit uint32 // asked for by viewers, not sent yet
	repeat   uint32 // sent, nothing has flowed since
	tries    [MaxTracks]uint8
}

// expect notes that the source has just asked its publisher by itself for the tracks in mask.
func (a *asker) expect(now time.Time, mask uint32) {
	a.gate.sent(now, mask)
	a.repeat |= mask
	clear(a.tries[:])
}

// step takes the tracks newly asked for and the tracks that flow, and returns those to ask the source for now
// and how long until the next step, if one is due.
func (a *asker) step(now time.Time, asked, flow uint32) (send uint32, wait time.Duration, again bool) {
	a.explicit |= asked
	a.repeat &^= flow
	a.gate.pending = a.explicit | a.repeat
	send = a.gate.due(now)
	a.explicit &^= send
	for t := range a.tries {
		switch bit := uint32(1) << t; {
		case asked&bit != 0:
			a.tries[t] = 0
		case send&bit != 0:
			a.tries[t]++
		}
		if bit := uint32(1) << t; send&bit != 0 && flow&bit == 0 {
			a.repeat |= bit
		}
		if a.tries[t] >= keyframeTries {
			a.repeat &^= 1 << t
		}
	}
	a.gate.pending = a.explicit | a.repeat
	wait, again = a.gate.next(now)
	return send, wait, again
}
