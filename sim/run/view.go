package run

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ternmesh/tern/media"
	"github.com/ternmesh/tern/sim/run/measure"
)

// view is one viewer of a flow; it implements media.Sink.
type view struct {
	flow    *flow
	to      *member
	viewer  int  // number at its destination
	allowed bool // by any policy of the scenario; a view that is not must get nothing

	mu      sync.Mutex // guards everything below
	meter   *measure.Meter
	player  *measure.Player
	last    int64 // instant of sending of the newest packet that arrived; -1 before the first
	total   uint64
	refused uint64 // subscriptions that the policy refused
	ended   chan struct{}
	sub     atomic.Pointer[media.Subscription]
}

func newView(f *flow, to *member, viewer int, allowed bool, from, end, step time.Duration) *view {
	v := &view{flow: f, to: to, viewer: viewer, allowed: allowed, last: -1}
	v.meter = measure.NewMeter(int64(from), int64(end), int64(f.Deadline), int64(step))
	v.player = measure.NewPlayer(int64(f.Deadline))
	return v
}

func (v *view) sent(number uint64, at time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.meter.Sent(number, int64(at))
}

// Write implements media.Sink.
func (v *view) Write(_ int, packet []byte) {
	now := int64(v.flow.clock.now())
	s, err := measure.Read(packet)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.total++
	switch {
	case err != nil:
		v.meter.Altered()
	case s.Stream != v.flow.index:
		v.meter.Foreign()
	case v.meter.Arrived(s, now):
		v.last = max(v.last, s.Sent)
		if v.viewer == 0 {
			v.player.Arrived(s)
		}
	}
}

// Ended implements media.Sink.
func (v *view) Ended(string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended != nil {
		close(v.ended)
		v.ended = nil
	}
}

// watch keeps the viewer subscribed while its node lives.
func (v *view) watch(ctx context.Context) {
	if !v.flow.clock.until(ctx, v.flow.Start) {
		return
	}
	for ctx.Err() == nil {
		n, up := v.to.living()
		if n == nil {
			wait(ctx, up, 0)
			continue
		}
		ended := make(chan struct{})
		v.mu.Lock()
		v.ended = ended
		v.mu.Unlock()
		ask, cancel := context.WithTimeout(ctx, askTimeout)
		sub, err := n.Hub().Subscribe(ask, v.flow.key, v)
		cancel()
		if err != nil {
			if errors.Is(err, media.ErrNotAllowed) {
				v.mu.Lock()
				v.refused++
				v.mu.Unlock()
			}
			wait(ctx, nil, retryEvery)
			continue
		}
		v.sub.Store(sub)
		wait(ctx, ended, 0)
		v.sub.Store(nil)
		sub.Close()
	}
}

// play shows frames, each one deadline after its last packet was sent, from the first whole one that figures cover.
func (v *view) play(ctx context.Context) {
	f := v.flow
	frame, index, _ := f.frameOf(f.first(v.from()))
	if index > 0 {
		frame++
	}
	for ; ; frame++ {
		last := f.at(f.begin(frame+1) - 1)
		if last >= min(f.Stop, f.end) || !f.clock.until(ctx, last+f.Deadline) {
			return
		}
		v.mu.Lock()
		needKey := v.player.Due(uint32(frame), int64(last))
		v.mu.Unlock()
		if sub := v.sub.Load(); needKey && sub != nil {
			sub.RequestKeyframe(0)
		}
	}
}

// from is when figures start.
func (v *view) from() time.Duration { return time.Duration(v.meter.From()) }

// newest is the instant of sending of the newest packet that arrived.
func (v *view) newest() time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	return time.Duration(v.last)
}

// result closes the books.
func (v *view) result() (measure.Result, measure.Player) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f := v.flow
	return v.meter.Result(f.first(v.from()), f.first(min(f.Stop, f.end))), *v.player
}
