package braid

import (
	"context"
	"io"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

// control is what signalling and raft do beside a braid: small questions and answers on a QUIC connection of their own, on the
// direct way between nodes 1 and 2.
type control struct {
	mu    sync.Mutex
	trips map[time.Time]time.Duration // by when the question was asked
	stop  func()
}

// newControl asks one question each interval, until stop.
func newControl(t *testing.T, n *testNet, every time.Duration) *control {
	t.Helper()
	a, b := newCrossPair(n)
	ta, tb := &quic.Transport{Conn: a}, &quic.Transport{Conn: b}
	serve := withALPN(n.nodes[2].config(1).ServerTLS(), []string{"control"})
	dial := withALPN(n.nodes[1].config(1).ClientTLS(2), []string{"control"})
	conf := &quic.Config{DisablePathMTUDiscovery: true, MaxIdleTimeout: time.Minute, MaxIncomingStreams: 1000}
	l, err := tb.Listen(serve, conf)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &control{trips: map[time.Time]time.Duration{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		conn, err := l.Accept(ctx)
		for err == nil {
			var s *quic.Stream
			if s, err = conn.AcceptStream(ctx); err == nil {
				wg.Go(func() { _, _ = io.Copy(s, s); _ = s.Close() })
			}
		}
	})
	conn, err := ta.Dial(ctx, b.LocalAddr(), dial, conf)
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				wg.Go(func() { c.ask(ctx, conn) })
			}
		}
	})
	c.stop = func() {
		cancel()
		_ = conn.CloseWithError(0, "")
		pause(time.Second)
		wg.Wait()
		_, _ = a.Close(), b.Close()
		_, _ = ta.Close(), tb.Close()
	}
	return c
}

func (c *control) ask(ctx context.Context, conn *quic.Conn) {
	began := time.Now()
	s, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return
	}
	_, _ = s.Write(make([]byte, 200))
	_ = s.Close()
	if answer, err := io.ReadAll(s); err == nil && len(answer) == 200 {
		c.mu.Lock()
		c.trips[began] = time.Since(began)
		c.mu.Unlock()
	}
}

// asked returns the round trips of the questions asked since from and before to, sorted.
func (c *control) asked(from, to time.Time) (trips []time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at, took := range c.trips {
		if !at.Before(from) && at.Before(to) {
			trips = append(trips, took)
		}
	}
	slices.Sort(trips)
	return trips
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[int(q*float64(len(sorted)-1))]
}

// flood sends rate Mbit/s of media for d, a millisecond's worth at a time.
func flood(s *Session, rate float64, d time.Duration) {
	packet := testPacket(0, 1150)
	owed := 0.0
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for owed += rate * 1e6 / 8 / 1000; owed >= 1150; owed -= 1150 {
			s.Send(7, Video, packet)
		}
	}
}

// constrict gives node 1 one way out of rate Mbit/s, or one of its own to each neighbour.
func constrict(n *testNet, rate float64, buffer time.Duration, shared bool) {
	each := map[NodeID]*bottleneck{}
	for _, hop := range []NodeID{2, 3, 4} {
		each[hop] = mbits(rate, buffer)
		if shared {
			each[hop] = each[2]
		}
	}
	n.set(func() {
		n.narrow = func(from, to NodeID) *bottleneck {
			if from == 1 {
				return each[to]
			}
			return nil
		}
	})
}

// How long a flood out of silence is felt by control: a buffer of 500 ms is full before anybody can know, and takes as long to drain.
// TERN_FLOOD=60s runs more ways, for so long, and says how the whole time went.
func TestAFloodIsFeltBrieflyFromItsBeginning(t *testing.T) {
	type way struct {
		rate   float64
		buffer time.Duration
		shared bool
	}
	ways, long := []way{{6, 500 * time.Millisecond, true}}, 1500*time.Millisecond
	if said := os.Getenv("TERN_FLOOD"); said != "" {
		var err error
		if long, err = time.ParseDuration(said); err != nil {
			t.Fatal(err)
		}
		const short = 200 * time.Millisecond
		ways = append(ways, way{6, 500 * time.Millisecond, false}, way{2, short, true}, way{6, short, true}, way{20, short, true})
	}
	for _, w := range ways {
		inBubble(t, func(t *testing.T, n *testNet) {
			a, _, _, _ := four(n)
			s := a.session(2)
			c := newControl(t, n, 10*time.Millisecond)
			constrict(n, w.rate, w.buffer, w.shared)
			quiet := time.Now()
			pause(time.Second)
			began := time.Now()
			flood(s, 10*w.rate, long)
			pause(time.Second)
			c.stop()
			alone := quantile(c.asked(quiet, began), 0.5)
			all := c.asked(began, began.Add(long))
			fine, _ := slices.BinarySearch(all, alone+50*time.Millisecond)
			felt := time.Duration(len(all)-fine) * 10 * time.Millisecond
			t.Logf("%+v, %v: 50 ms and more for %v in all; p50 %v, p99 %v, at most %v longer than alone; %.1f Mbit/s of media arrive",
				w, long, felt, quantile(all, 0.5)-alone, quantile(all, 0.99)-alone, quantile(all, 1)-alone, perSecond(int64(s.Stats().PeerReceived)*1150, long))
			if w.buffer+300*time.Millisecond < felt && w.rate > 2 {
				t.Errorf("%+v: control's round trips are 50 ms longer for %v, want at most 300 ms beyond the buffer", w, felt)
			}
		})
	}
}

// Media of ten times what the way carries, copies not counted: control that shares the wire, and nothing else, waits little.
// The first queue, which is there before anybody can know of it, is gone within half a second.
func TestAMediaFloodHardlyDelaysControl(t *testing.T) {
	for name, shared := range map[string]bool{"one uplink for all paths": true, "a bottleneck on each path": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *testNet) {
				a, _, _, _ := four(n)
				s := a.session(2)
				c := newControl(t, n, 10*time.Millisecond)
				constrict(n, 6, 200*time.Millisecond, shared)
				quiet := time.Now()
				pause(time.Second)
				began := time.Now()
				flood(s, 60, 5*time.Second)
				pause(time.Second)
				c.stop()
				settled := began.Add(500 * time.Millisecond)
				alone, first, later := c.asked(quiet, began), c.asked(began, settled), c.asked(settled, began.Add(5*time.Second))
				more := quantile(later, 0.99) - quantile(alone, 0.5)
				t.Logf("round trip alone %v; in the flood p50 %v, p99 %v, at most %v; in its first half second at most %v",
					quantile(alone, 0.5), quantile(later, 0.5), quantile(later, 0.99), quantile(later, 1), quantile(first, 1))
				if more >= 50*time.Millisecond || len(later) < 430 {
					t.Errorf("a flood delays control by %v at p99, want less than 50 ms (%d round trips)", more, len(later))
				}
				if got := float64(s.Stats().PeerReceived) * 1150 * 8 / 1e6 / 5; got < 4 {
					t.Errorf("%.1f Mbit/s of media arrived, of 6 or 18 that fit", got)
				}
			})
		})
	}
}

// A buffer so deep that a flood's own queue outlasts the silence that paths die of: the caps hold on, though no path seems to live.
func TestAFloodIntoADeepBufferEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		deep := mbits(6, 2*time.Second)
		a, _, _, _ := four(n)
		s := a.session(2)
		n.set(func() {
			n.narrow = func(from, _ NodeID) *bottleneck {
				if from == 1 {
					return deep
				}
				return nil
			}
		})
		flood(s, 60, 4*time.Second)
		drops := deep.drops
		flood(s, 60, 4*time.Second)
		pause(3 * time.Second)
		t.Logf("the uplink dropped %d, then %d frames", drops, deep.drops-drops)
		if deep.drops-drops > 260 {
			t.Errorf("after four seconds of flood the uplink still drops %d frames in four more, a tenth of what it carries at most", deep.drops-drops)
		}
	})
}
