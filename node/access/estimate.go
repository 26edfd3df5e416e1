package access

import (
	"math"
	"time"

	"github.com/pion/rtcp"
)

// What the mesh can carry of a stream reaches its publisher as REMB, which caps what the client's own estimate of
// its last mile allows.
const (
	askEvery  = 500 * time.Millisecond
	askShare  = 0.95 // of what fits: the rest lets queues drain
	askGrow   = 1.08 // each time, while the mesh has a limit and all fits
	askFaster = 1.3  // each time, once it has none
	askLeast  = 64e3 // bit/s
	askMost   = 1e9  // bit/s: as good as no cap
	askFreely = 3    // times the cap is lifted, for RTCP may be lost
)

// fitter is a publication that knows which share of it fits through the mesh.
type fitter interface{ Fit() float64 }

// asking is the cap that a publisher has been told of. The zero value has told none.
type asking struct {
	cap  float64 // bit/s; 0 = none
	free int     // times that lifting it is still to be said
}

// next says what to ask of a publisher that sends rate bit/s of which the share fit fits, 0 for nothing.
func (a *asking) next(rate, fit float64) (bps float64) {
	switch {
	case fit < 1:
		bps = max(askLeast, askShare*rate*fit)
		if a.cap > 0 { // the client has not followed yet, or the mesh has become narrower
			bps = min(bps, max(a.cap, askLeast))
		}
		a.cap, a.free = bps, askFreely
		return bps
	case a.cap > 0 && (!math.IsInf(fit, 1) || a.cap < 2*rate):
		if math.IsInf(fit, 1) {
			a.cap *= askFaster
		} else {
			a.cap = min(a.cap*askGrow, max(askLeast, rate*fit))
		}
		return a.cap
	case a.free > 0:
		a.cap = 0
		a.free--
		return askMost
	}
	return 0
}

// ask tells the publisher what fits until the publication ends.
func (p *publisher) ask(pub publication) {
	f, ok := pub.(fitter)
	if !ok {
		return
	}
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	var (
		a    asking
		last = p.bytes.Load()
	)
	for {
		select {
		case <-pub.Done():
			return
		case <-tick.C:
		}
		now := p.bytes.Load()
		rate := float64(now-last) * 8 / askEvery.Seconds()
		last = now
		most := float64(p.s.rate.limit.Load())
		if most > 0 {
			a.free = askFreely // said every time: reports may be lost; and when the limit goes
		}
		bps := a.next(rate, f.Fit())
		if most > 0 {
			bps = min(bps, most)
		}
		if bps > 0 && p.s.connected.Load() {
			if p.s.pc.WriteRTCP([]rtcp.Packet{&rtcp.ReceiverEstimatedMaximumBitrate{Bitrate: float32(bps), SSRCs: p.sources()}}) == nil {
				p.s.a.counts.asks.Add(1)
			}
		}
	}
}

// sources are the SSRCs of the tracks that have arrived.
func (p *publisher) sources() (out []uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ssrc := range p.ssrcs {
		out = append(out, ssrc)
	}
	return out
}
