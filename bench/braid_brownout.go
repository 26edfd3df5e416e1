package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing/synctest"
	"time"

	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/sim"
)

// Brownouts: every path loses 1 to 5 %, both ways, for 30 seconds, a tenth of the time, independently of the others; otherwise
// nothing.
const (
	brownRate  = 500 // packets a second
	brownTime  = 40 * time.Minute
	brownLast  = 30 * time.Second
	brownShare = 0.1
	brownCheck = 100 * time.Millisecond // how exactly they begin and end
	brownSeed  = 11
)

// brownout is one of them.
type brownout struct {
	path     int
	from, to time.Duration
	loss     float64
}

// brownouts draws them for three paths.
func brownouts(seed uint64) (out []brownout) {
	rng := rand.New(rand.NewPCG(seed, 1))
	pause := float64(brownLast) * (1 - brownShare) / brownShare
	for path := range 3 {
		for at := time.Duration(rng.ExpFloat64() * pause); at < brownTime; {
			out = append(out, brownout{path, at, at + brownLast, 0.01 + 0.04*rng.Float64()})
			at += brownLast + time.Duration(rng.ExpFloat64()*pause)
		}
	}
	return out
}

// brownResult is what one redundancy made of it.
type brownResult struct {
	sent, undelivered, repaired int
	copies                      float64 // of a frame, on average over the whole time
	latency                     delays
}

// before is the share of packets that no copy brought, before repair.
func (r brownResult) before() float64 { return float64(r.undelivered+r.repaired) / float64(r.sent) }

// brownRun sends for brownTime in the given number of copies.
func brownRun(class braid.Class, paths int, seed uint64) (r brownResult, err error) {
	n, err := newLossNet(lossCase{delays: [3]time.Duration{50e6, 60e6, 80e6}}, seed)
	if err != nil {
		return r, err
	}
	var frames uint64 // of media, on all paths
	pair, stop, err := n.braids(paths, braid.Frames, func(side int, run []byte, segment int) {
		if side == 0 && run[3]&0xf == 2 { // media; one goroutine at a time writes it
			frames += uint64((len(run) + segment - 1) / segment)
		}
	})
	if err != nil {
		return r, err
	}
	s, err := pair.session()
	if err == nil {
		r = brownSend(n, s, &pair.got[1], class)
		r.copies = float64(frames) / float64(s.Stats().FramesSent)
		r.repaired = int(pair.nodes[1].Stats().Sessions[0].Repaired)
	}
	return r, errors.Join(err, stop())
}

// brownSend streams while the brownouts come and go.
func brownSend(n *lossNet, s *braid.Session, got *arrivals, class braid.Class) (r brownResult) {
	plan := brownouts(brownSeed)
	packets := uint64(brownTime.Seconds() * brownRate)
	got.expect(0, packets)
	packet := make([]byte, lossSize)
	every := uint64(brownCheck.Seconds() * brownRate)
	for k := range packets {
		if k%every == 0 {
			at := time.Duration(k) * time.Second / brownRate
			for path := range 3 {
				loss := 0.0
				for _, b := range plan {
					if b.path == path && b.from <= at && at < b.to {
						loss = b.loss
					}
				}
				for side := range 2 {
					n.sim.UpdateLink(fmt.Sprintf("side%d-path%d", side, path), fmt.Sprintf("side%d-path%d", 1-side, path),
						func(l *sim.Link) { l.Loss = loss })
				}
			}
		}
		stamp(packet, k)
		s.Send(1, braid.Video|class, packet)
		time.Sleep(time.Second / brownRate)
	}
	time.Sleep(lossTail)
	synctest.Wait()
	book := got.close()
	r.sent, r.undelivered, r.latency = int(packets), book.missing(), book.latency
	return r
}

func init() {
	register(Benchmark{
		Name:  "braid-adaptive",
		About: "Gap closed between one path and three against copies sent, under brownouts, in virtual time.",
		Run:   runBrownouts,
	})
}

func runBrownouts(ctx context.Context, r *Recorder) error {
	modes := []struct {
		name  string
		class braid.Class
		paths int
	}{
		{"off: one copy", braid.OneCopy, 1},
		{"full over two paths", 0, 2},
		{"full: three paths", 0, 3},
		{"adaptive, target 0.01 %", braid.Adaptive(0), 3},
		{"adaptive, target 0.1 %", braid.Adaptive(1e-3), 3},
	}
	results := make([]brownResult, len(modes))
	for i, m := range modes {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if bubble := r.Bubble(func() { results[i], err = brownRun(m.class, m.paths, 7) }); bubble != nil || err != nil {
			return fmt.Errorf("%s: %w", m.name, errors.Join(bubble, err))
		}
	}
	one, all := results[0].before(), results[2].before()
	table := Table{
		Title: fmt.Sprintf("%d x %d B/s for %v over paths of 50/60/80 ms; each path loses 1-5 %% for %v, %.0f %% of the time",
			brownRate, lossSize, brownTime, brownLast, 100*brownShare),
		Columns: []string{"redundancy", "copies", "lost before repair", "share", "undelivered", "gap closed", "p99 ms"},
		Notes:   []string{"Gap closed: (one path - this) / (one path - three paths), of the share lost before repair, as work on dissemination graphs has it."},
	}
	for i, m := range modes {
		got := results[i]
		gap := (one - got.before()) / (one - all)
		table.Rows = append(table.Rows, []string{
			m.name, fmt.Sprintf("%.2f", got.copies), fmt.Sprint(got.undelivered + got.repaired), fmt.Sprintf("%.5f %%", 100*got.before()),
			fmt.Sprint(got.undelivered), fmt.Sprintf("%.2f %%", 100*gap),
			fmt.Sprintf("%.1f", got.latency.at(0.99)),
		})
	}
	r.Table(table)
	adaptive := results[3]
	r.Row(Row{Name: "adaptive: gap not closed", Unit: "%", Must: 1}, 100*(adaptive.before()-all)/(one-all))
	r.Row(Row{Name: "adaptive: copies a frame", Unit: "copies", Must: 1.5}, adaptive.copies)
	return nil
}
