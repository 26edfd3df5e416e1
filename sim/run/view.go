package run

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"

	"github.com/ternmesh/tern/media"
	"github.com/ternmesh/tern/sim/run/measure"
)

// view is one viewer of a flow; it implements media.Sink.
type view struct {
	flow    *flow
	to      *member
	viewer  int  // number at its destination
	allowed bool // by any policy of the scenario; a view that is not must get nothing

	mu        sync.Mutex // guards everything below
	meter     *measure.Meter
	player    *measure.Player
	last      int64 // instant of sending of the newest packet that arrived; -1 before the first
	total     uint64
	refused   uint64 // subscriptions that the policy refused
	ended     chan struct{}
	repeats   uint64 // of WebRTC: retransmissions of what had come
	sequences [4096]numbered
	askKey    atomic.Pointer[func()] // asks for a keyframe; nil while there is no source
	client    *client                // nil: the viewer is at the hub
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
	s, err := measure.Read(packet)
	v.arrived(s, err)
}

// received takes a packet from a WebRTC client. What comes twice under one RTP sequence number was sent again on the last
// mile because the client asked for it; players drop that, and so it is counted apart. Under two numbers it would be a duplicate.
func (v *view) received(p *rtp.Packet) {
	s, err := measure.ReadPayload(p.Payload)
	if err == nil && s.Stream == v.flow.index {
		v.mu.Lock()
		slot := &v.sequences[s.Number%uint64(len(v.sequences))]
		again := slot.number == s.Number+1 && slot.sequence == p.SequenceNumber
		*slot = numbered{number: s.Number + 1, sequence: p.SequenceNumber}
		if again {
			v.repeats++
		}
		v.mu.Unlock()
		if again {
			return
		}
	}
	v.arrived(s, err)
}

// numbered is a packet, counted from 1, and the RTP sequence number that it came under.
type numbered struct {
	number   uint64
	sequence uint16
}

// arrived notes a packet, or what came instead of one.
func (v *view) arrived(s measure.Stamp, err error) {
	now := int64(v.flow.clock.now())
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
		if v.client != nil {
			v.client.watch(ctx, n, v)
			wait(ctx, nil, retryEvery)
			continue
		}
		ended := make(chan struct{})
		v.mu.Lock()
		v.ended = ended
		v.mu.Unlock()
		limit, cancel := context.WithTimeout(ctx, askTimeout)
		sub, err := n.Hub().Subscribe(limit, v.flow.key, v)
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
		ask := func() { sub.RequestKeyframe(0) }
		v.askKey.Store(&ask)
		wait(ctx, ended, 0)
		v.askKey.Store(nil)
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
		if ask := v.askKey.Load(); needKey && ask != nil {
			(*ask)()
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

// repeated is explained at received.
func (v *view) repeated() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.repeats
}
