package run

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ternmesh/tern/media"
	"github.com/ternmesh/tern/sim/run/measure"
	"github.com/ternmesh/tern/sim/run/scenario"
)

const (
	// retryEvery is how often a publisher or viewer tries again.
	retryEvery = 250 * time.Millisecond
	// askTimeout bounds one attempt to subscribe.
	askTimeout = 5 * time.Second
	// keyframeEvery is the time between the keyframes of a video stream that nobody asks for.
	keyframeEvery = 2 * time.Second
)

// flow is one synthetic stream: a publisher, which goes on when its node dies and publishes again when there is one, and
// its viewers. Instants are relative to t=0.
type flow struct {
	scenario.Stream
	index   uint32
	key     media.Key
	period  time.Duration
	end     time.Duration // of what is measured
	from    *member
	views   []*view
	current atomic.Pointer[outlet] // nil while nobody takes packets
	client  *client                // nil: the publisher enters at the hub
	wantKey atomic.Bool
	clock   *clock

	lastKey uint64 // frame number; only the sender's goroutine
	isKey   bool
}

// outlet takes a flow's packets.
type outlet struct{ write func(measure.Stamp) }

// clock is the scenario's time; set once, before any flow starts.
type clock struct{ t0 time.Time }

func (c *clock) now() time.Duration { return time.Since(c.t0) }

// until waits for an instant; false if the context ended first.
func (c *clock) until(ctx context.Context, at time.Duration) bool {
	wait := at - c.now()
	if wait <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// at is the instant of a packet. Streams are set nanoseconds apart, for instants that coincide run in no order.
func (f *flow) at(number uint64) time.Duration {
	return f.Start + time.Duration(number)*f.period + time.Duration(f.index)
}

// first is the first packet at or after an instant.
func (f *flow) first(at time.Duration) uint64 {
	if at <= f.at(0) {
		return 0
	}
	return uint64((at - f.at(0) + f.period - 1) / f.period)
}

// frameOf says where in which frame a packet is. Frames are evenly spread over packets.
func (f *flow) frameOf(number uint64) (frame uint64, index, count uint16) {
	if f.Kind != scenario.Video {
		return 0, 0, 0
	}
	fps, pps := uint64(f.FPS), uint64(f.PacketsPerSecond)
	frame = number * fps / pps
	begin, next := f.begin(frame), f.begin(frame+1)
	return frame, uint16(number - begin), uint16(next - begin)
}

// begin is the first packet of a frame.
func (f *flow) begin(frame uint64) uint64 {
	fps, pps := uint64(f.FPS), uint64(f.PacketsPerSecond)
	return (frame*pps + fps - 1) / fps
}

// send writes the packets of the stream until its stop, or until ctx ends if it runs to the scenario's end: then it goes on
// while the mesh is watched recovering.
func (f *flow) send(ctx context.Context) {
	for n := uint64(0); ; n++ {
		at := f.at(n)
		if f.Stop < f.end && at >= f.Stop || !f.clock.until(ctx, at) {
			return
		}
		for _, v := range f.views {
			v.sent(n, at)
		}
		stamp := f.stamp(n, at)
		if out := f.current.Load(); out != nil {
			out.write(stamp)
		}
	}
}

// stamp makes the packet's, and decides at each frame's beginning whether it is a keyframe.
func (f *flow) stamp(n uint64, at time.Duration) measure.Stamp {
	s := measure.Stamp{Stream: f.index, Number: n, Sent: int64(at)}
	frame, index, count := f.frameOf(n)
	if count == 0 {
		return s
	}
	if index == 0 {
		due := frame == 0 || frame-f.lastKey >= uint64(f.FPS)*uint64(keyframeEvery/time.Second)
		if f.isKey = f.wantKey.Swap(false) || due; f.isKey {
			f.lastKey = frame
		}
	}
	s.Frame, s.Index, s.Count, s.Key = uint32(frame), index, count, f.isKey
	return s
}

// publish keeps the stream published while its node lives.
func (f *flow) publish(ctx context.Context) {
	if !f.clock.until(ctx, f.Start) {
		return
	}
	kind, mime := media.KindVideo, "video/VP8"
	if f.Kind == scenario.Audio {
		kind, mime = media.KindAudio, "audio/opus"
	}
	tracks := []media.Track{{ID: f.Name, Kind: kind, Mime: mime, ClockRate: 90000}}
	for ctx.Err() == nil {
		n, up := f.from.living()
		if n == nil {
			wait(ctx, up, 0)
			continue
		}
		if f.client != nil {
			f.client.publish(ctx, n, f)
			wait(ctx, nil, retryEvery)
			continue
		}
		p, err := n.Hub().Publish(f.key, tracks, func(int) { f.wantKey.Store(true) })
		if err != nil {
			wait(ctx, nil, retryEvery)
			continue
		}
		packet := make([]byte, f.Size)
		f.current.Store(&outlet{func(s measure.Stamp) {
			s.Write(packet)
			p.Write(0, packet)
		}})
		select {
		case <-p.Done():
		case <-ctx.Done():
		case <-f.stopped():
		}
		f.current.Store(nil)
		p.Close()
		if f.Stop < f.end && f.clock.now() >= f.Stop {
			return
		}
	}
}

// stopped fires when the stream's time is over; nil if it runs on to the end.
func (f *flow) stopped() <-chan time.Time {
	if f.Stop >= f.end {
		return nil
	}
	return time.After(f.Stop - f.clock.now())
}

// wait for a channel, a time (0: for ever) or the end of ctx.
func wait(ctx context.Context, c <-chan struct{}, d time.Duration) {
	var timeout <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		timeout = t.C
	}
	select {
	case <-c:
	case <-timeout:
	case <-ctx.Done():
	}
}

// run lives until ctx ends.
func (f *flow) run(ctx context.Context, group *sync.WaitGroup) {
	group.Go(func() { f.publish(ctx) })
	group.Go(func() { f.send(ctx) })
	for _, v := range f.views {
		group.Go(func() { v.watch(ctx) })
		if f.Kind == scenario.Video && v.viewer == 0 {
			group.Go(func() { v.play(ctx) })
		}
	}
}
