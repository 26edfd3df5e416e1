package probe

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ternmesh/tern/media"
)

// retry is how often a receiving end looks for a stream that is not there yet.
const retry = 200 * time.Millisecond

// end is one side of a probe; it implements media.Sink for the receiving one.
type end struct {
	request Request

	mu        sync.Mutex // guards everything below
	failed    error
	began     time.Time // of the sender's packet 0
	sent      uint64
	watching  bool
	records   []byte
	dropped   uint64
	foreign   uint64
	collected time.Time
}

func (r Request) key() media.Key { return media.Key{App: r.App, Channel: Channel, Stream: r.ID} }

// collect empties the end.
func (e *end) collect() (Answer, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.collected = time.Now()
	a := Answer{Sent: e.sent, Watching: e.watching, Records: e.records, Dropped: e.dropped, Foreign: e.foreign}
	if !e.began.IsZero() {
		a.Began = e.began.UnixNano()
	}
	e.records = nil
	return a, e.failed
}

func (e *end) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failed = err
}

// send publishes and sends until the time is over. A failure stays to be collected for a while.
func (p *Prober) send(ctx context.Context, e *end) {
	r := e.request
	pub, err := p.hub.Publish(r.key(), []media.Track{{ID: r.ID, Kind: media.KindAudio, Mime: "audio/opus", ClockRate: 48000}}, func(int) {})
	if err != nil {
		e.fail(fmt.Errorf("publish: %w", err))
		pause(ctx, abandoned)
		return
	}
	defer pub.Close()
	packet := make([]byte, r.Bytes)
	period := time.Second / time.Duration(r.PacketsPerSecond)
	began := time.Now()
	e.mu.Lock()
	e.began = began
	e.mu.Unlock()
	for n := uint64(0); ; n++ {
		at := time.Duration(n) * period
		if at >= r.For || !pause(ctx, at-time.Since(began)) {
			return
		}
		stamp(packet, n, time.Now())
		pub.Write(0, packet)
		e.mu.Lock()
		e.sent = n + 1
		e.mu.Unlock()
	}
}

// listen watches until nobody collects any more. What will not change by waiting fails it.
func (p *Prober) listen(ctx context.Context, e *end) {
	for ctx.Err() == nil && !e.left() {
		sub, err := p.hub.Subscribe(ctx, e.request.key(), e)
		if err == nil {
			e.setWatching(true)
			for e.isWatching() && !e.left() && pause(ctx, retry) {
			}
			sub.Close()
			continue
		}
		if errors.Is(err, media.ErrNotAllowed) || errors.Is(err, media.ErrInvalid) {
			e.fail(fmt.Errorf("watch: %w", err))
		}
		pause(ctx, retry)
	}
}

// left says whether nobody has collected for long.
func (e *end) left() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return time.Since(e.collected) > abandoned
}

func (e *end) setWatching(v bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.watching = v
}

func (e *end) isWatching() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.watching
}

// Write implements media.Sink.
func (e *end) Write(_ int, packet []byte) {
	a, ok := read(packet, time.Now())
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case !ok:
		e.foreign++
	case len(e.records) >= maxArrivals*recordBytes:
		e.dropped++
	default:
		e.records = a.append(e.records)
	}
}

// Ended implements media.Sink.
func (e *end) Ended(string) { e.setWatching(false) }

// pause waits; false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
