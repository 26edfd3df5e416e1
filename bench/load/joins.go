package load

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ternmesh/tern/bench/client"
)

// maxNewcomers bounds the joins under way; one that comes due beyond them has failed: the server is no longer keeping up.
const maxNewcomers = 128

// newcomers join evenly over the window, one attempt each, and leave as soon as media can flow. It returns when the last
// has left; failed counts those who could not join.
func (r *run) newcomers(ctx context.Context) (failed int64) {
	if r.cfg.Joins == 0 {
		return 0
	}
	var (
		group  sync.WaitGroup
		places = make(chan struct{}, maxNewcomers)
		every  = r.cfg.For / time.Duration(r.cfg.Joins)
		misses atomic.Int64
		begin  = time.Now()
	)
	defer func() { group.Wait(); failed = misses.Load() }()
	for i := range r.cfg.Joins {
		if pause(ctx, time.Until(begin.Add(time.Duration(i)*every))) != nil {
			return
		}
		select {
		case places <- struct{}{}:
		default:
			misses.Add(1)
			continue
		}
		group.Go(func() {
			defer func() { <-places }()
			if r.newcomer(ctx, i%r.cfg.Publishers) != nil {
				misses.Add(1)
			}
		})
	}
	return
}

// newcomer joins one stream and leaves.
func (r *run) newcomer(ctx context.Context, stream int) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	v, err := client.View(ctx, client.Config{URL: numbered(r.cfg.WHEP, stream), Token: r.cfg.ViewToken, Setting: reach(r.cfg.WHEP)})
	if err != nil {
		return err
	}
	r.books.joined("newcomer", v.Timing().Connected)
	return v.Close()
}
