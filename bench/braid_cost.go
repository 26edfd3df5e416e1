package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/sim"
)

const (
	costTime   = 30 * time.Second // of one measurement
	costWarm   = 15 * time.Second // before it: a session's first ten seconds are told of more often
	outageRate = 200              // packets a second
)

// outage is a stream during which paths are down.
type outage struct{ stream, from, until time.Duration }

var longOutage = outage{10 * time.Minute, time.Minute, 9 * time.Minute}

// costLoads are what statistics are held against: a packet's size in bytes and packets a second.
var costLoads = []struct {
	name       string
	size, rate int
}{
	{"video, 2,000/s of 1,150 B", 1150, 2000},
	{"video, 200/s of 1,150 B", 1150, 200},
	{"video with audio, 250/s of 950 B", 950, 250},
	{"one audio stream, 50/s of 160 B", 160, 50},
}

func init() {
	register(Benchmark{
		Name:  "braid-statistics",
		About: "What statistics, feedback and keep-alives of a braid cost on the wire, of the bytes of its media, in virtual time.",
		Run:   runBraidStatistics,
	})
	register(Benchmark{
		Name:  "braid-outage",
		About: "Packets lost while one or two of three paths are down for 8 of 10 minutes, in virtual time.",
		Run:   runBraidOutage,
	})
}

// runBraidStatistics counts all bytes that both sides send, copies included, over three clean paths.
func runBraidStatistics(ctx context.Context, r *Recorder) error {
	for _, l := range costLoads {
		if err := ctx.Err(); err != nil {
			return err
		}
		var share float64
		var err error
		if bubble := r.Bubble(func() { share, err = statisticsShare(l.size, l.rate) }); bubble != nil || err != nil {
			return fmt.Errorf("%s: %w", l.name, errors.Join(bubble, err))
		}
		r.Row(Row{Name: l.name, Unit: "% of media bytes", Must: 1}, 100*share)
	}
	r.Note("Reports, feedback for budgets, acknowledgements and keep-alives of both sides on all three paths, path headers included, divided by "+
		"the media frames of one side on all three paths, in %v of steady stream after %v.", costTime, costWarm)
	return nil
}

func statisticsShare(size, rate int) (share float64, err error) {
	n, err := newLossNet(lossCase{delays: [3]time.Duration{50e6, 60e6, 80e6}}, 7)
	if err != nil {
		return 0, err
	}
	var media, rest atomic.Int64
	pair, stop, err := n.braids(3, braid.Frames, func(_ int, run []byte, _ int) {
		if run[3]&0xf == 2 {
			media.Add(int64(len(run)))
		} else {
			rest.Add(int64(len(run)))
		}
	})
	if err != nil {
		return 0, err
	}
	s, err := pair.session()
	if err == nil {
		packet := make([]byte, size)
		for i := range int((costWarm + costTime).Seconds()) * rate {
			if i == int(costWarm.Seconds())*rate {
				media.Store(0)
				rest.Store(0)
			}
			s.Send(1, braid.Video, packet)
			time.Sleep(time.Second / time.Duration(rate))
		}
		share = float64(rest.Load()) / float64(media.Load())
	}
	return share, errors.Join(err, stop())
}

// runBraidOutage takes paths away, the fastest one among them.
func runBraidOutage(ctx context.Context, r *Recorder) error {
	for _, down := range []int{1, 2} {
		if err := ctx.Err(); err != nil {
			return err
		}
		var got lossResult
		var err error
		if bubble := r.Bubble(func() { got, err = longOutage.run(down) }); bubble != nil || err != nil {
			return fmt.Errorf("%d paths down: %w", down, errors.Join(bubble, err))
		}
		name := fmt.Sprintf("%d of 3 paths down", down)
		r.Row(Row{Name: name + ", packets lost", Unit: "packets"}, float64(got.undelivered))
		r.Row(Row{Name: name + ", packets repaired", Unit: "packets"}, float64(got.repaired))
		if got.undelivered > 0 {
			r.Note("%s: %d of %d packets are lost, none should be", name, got.undelivered, got.sent)
		}
	}
	r.Note("%d packets/s of %d B for %v; the paths are down from %v to %v, both ways, without a word to the braid.", outageRate, lossSize, longOutage.stream, longOutage.from, longOutage.until)
	return nil
}

func (o outage) run(down int) (r lossResult, err error) {
	n, err := newLossNet(lossCase{delays: [3]time.Duration{50e6, 60e6, 80e6}}, 7)
	if err != nil {
		return r, err
	}
	pair, stop, err := n.braids(3, braid.Frames, nil)
	if err != nil {
		return r, err
	}
	lose := func(share float64) {
		for path := range down {
			for side := range 2 {
				n.sim.UpdateLink(fmt.Sprintf("side%d-path%d", side, path), fmt.Sprintf("side%d-path%d", 1-side, path),
					func(l *sim.Link) { l.Loss = share })
			}
		}
	}
	s, err := pair.session()
	if err == nil {
		packets := uint64(o.stream.Seconds()) * outageRate
		got := &pair.got[1]
		got.expect(0, packets)
		packet := make([]byte, lossSize)
		for i := range packets {
			switch i {
			case uint64(o.from.Seconds()) * outageRate:
				lose(1)
			case uint64(o.until.Seconds()) * outageRate:
				lose(0)
			}
			stamp(packet, i)
			s.Send(1, braid.Video, packet)
			time.Sleep(time.Second / outageRate)
		}
		time.Sleep(lossTail)
		synctest.Wait()
		book := got.close()
		r.sent, r.undelivered = int(packets), book.missing()
		r.repaired = pair.nodes[1].Stats().Sessions[0].Repaired
	}
	return r, errors.Join(err, stop())
}
