package ebpf

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

const (
	// maxWatchers bounds how many may watch at once.
	maxWatchers = 8
	// watchQueue is how many drops wait for a watcher; later ones are lost to it, and counted.
	watchQueue = 256
)

// ErrWatchers is returned when maxWatchers watch already.
var ErrWatchers = errors.New("8 watch the packet filter's drops already: end one of them")

// Dropped is one sampled drop. The source may be forged.
type Dropped struct {
	Time   time.Time    `json:"time"`
	Where  string       `json:"where"`  // xdp or go
	Source netip.Addr   `json:"source"` // the zero Addr when the frame ended before it
	Class  Class        `json:"class"`
	Reason Reason       `json:"reason"`
	Rule   netip.Prefix `json:"rule"`             // of the blocklist; the zero Prefix when none matched
	Missed uint64       `json:"missed,omitempty"` // samples that this watcher was too slow for, since the last one
}

// watcher is one call of Watch. drops.mu guards missed.
type watcher struct {
	queue  chan Dropped
	missed uint64
}

// Watch hands over the sampled drops as they come (samples: see the package comment) until ctx ends or see returns an
// error, which it then returns. A slow see misses samples, which the next one says.
func (f *Filter) Watch(ctx context.Context, see func(Dropped) error) error {
	w := &watcher{queue: make(chan Dropped, watchQueue)}
	if !f.drops.watch(w) {
		return ErrWatchers
	}
	defer f.drops.unwatch(w)
	for {
		select {
		case <-ctx.Done():
			return nil
		case d := <-w.queue:
			if err := see(d); err != nil {
				return err
			}
		}
	}
}

func (d *drops) watch(w *watcher) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.watchers) >= maxWatchers {
		return false
	}
	if d.watchers == nil {
		d.watchers = make(map[*watcher]bool)
	}
	d.watchers[w] = true
	return true
}

func (d *drops) unwatch(w *watcher) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.watchers, w)
}

// show hands a drop to all watchers and waits for none. The caller holds mu.
func (d *drops) show(x Dropped) {
	for w := range d.watchers {
		x.Missed = w.missed
		select {
		case w.queue <- x:
			w.missed = 0
		default:
			w.missed++
		}
	}
}
