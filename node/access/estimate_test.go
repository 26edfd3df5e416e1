package access

import (
	"math"
	"sync/atomic"
	"testing"

	"github.com/ternmesh/tern/bench/client"
	"github.com/ternmesh/tern/media"
)

// A publisher is asked for what fits, given more step by step while all fits, and let go when nothing limits the stream.
func TestAskingFollowsWhatFits(t *testing.T) {
	var a asking
	free := math.Inf(1)
	if got := a.next(2e6, free); got != 0 {
		t.Errorf("nothing limits the stream, asked for %v", got)
	}
	if got := a.next(2e6, 0.5); got != 0.95e6 {
		t.Errorf("half fits: asked for %v of 2 Mbit/s, want 0.95", got)
	}
	if got := a.next(2e6, 0.6); got != 0.95e6 {
		t.Errorf("the client has not followed yet: asked for %v, want 0.95 Mbit/s still", got)
	}
	if got := a.next(0.95e6, 1.05); got <= 0.95e6 || got > 0.95e6*1.05+1 {
		t.Errorf("a little more fits: asked for %v", got)
	}
	if got := a.next(10, 0.1); got != askLeast {
		t.Errorf("never less than %v is asked for, got %v", askLeast, got)
	}
	var got float64
	for range 100 {
		if got = a.next(1e6, free); got == askMost {
			break
		}
	}
	if got != askMost || a.next(1e6, free) != askMost || a.next(1e6, free) != askMost || a.next(1e6, free) != 0 {
		t.Errorf("the cap is not lifted, and said so three times: %v", got)
	}
}

// tightHub is a real hub whose publications say that a share fits.
type tightHub struct {
	hub
	fit atomic.Uint64 // bits of a float64
}

type tightPublication struct {
	publication
	h *tightHub
}

func (p tightPublication) Fit() float64 { return math.Float64frombits(p.h.fit.Load()) }

func (h *tightHub) publish(key media.Key, tracks []media.Track, keyframe func(int)) (publication, error) {
	p, err := h.hub.publish(key, tracks, keyframe)
	return tightPublication{p, h}, err
}

func TestPublisherIsAskedForLess(t *testing.T) {
	w := newWorld(t, nil)
	tight := &tightHub{hub: w.a.hub}
	tight.fit.Store(math.Float64bits(0.7))
	w.a.hub = tight
	p := w.publish("/whip/demo/room", w.publisherToken("room"), client.Synthetic{Size: 1150, PerSec: 200, Burst: 4, AudioHz: 50})
	w.until("a request for less", func() bool { m := p.Stats().MaxBitrate; return m > 0 && m < 1_500_000 })
	w.until("it is counted", func() bool { return w.a.Stats().BitrateAsks > 0 })
	tight.fit.Store(math.Float64bits(math.Inf(1)))
	w.until("the cap is lifted", func() bool { return p.Stats().MaxBitrate >= askMost*0.99 })
}
