package braid

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

// What a braid does to others and to itself where there is less room than it would use: real braids, a real QUIC bulk
// flow, emulated bottlenecks, virtual time.

// bottleneck is a rate with a drop-tail queue. Guarded by testNet.mu.
type bottleneck struct {
	rate  float64 // bytes/s
	queue time.Duration
	free  time.Time
	drops int
	bytes int
	runs  func(at time.Time) time.Time // if not nil: when what is due at an instant is worked on
}

func mbits(n float64, queue time.Duration) *bottleneck {
	return &bottleneck{rate: n * 1e6 / 8, queue: queue}
}

func (b *bottleneck) carry(now time.Time, size int) (wait time.Duration, ok bool) {
	if b.free.Before(now) {
		b.free = now
	}
	if b.free.Sub(now) > b.queue {
		b.drops++
		return 0, false
	}
	b.bytes += size
	if b.runs != nil {
		b.free = b.runs(b.free)
	}
	b.free = b.free.Add(time.Duration(float64(size) / b.rate * 1e9))
	return b.free.Sub(now), true
}

// media sends packets of 1,150 bytes at a rate until d has passed, and remembers when each was sent.
type media struct {
	s     *Session
	next  uint64
	sent  map[uint64]time.Time
	class Class // beside Video
}

func (m *media) run(mbit float64, d time.Duration) {
	gap := time.Duration(1150 * 8 / mbit * 1000)
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(gap) {
		m.sent[m.next] = time.Now()
		m.s.Send(7, Video|m.class, testPacket(m.next, 1150))
		m.next++
	}
}

// outcome of the packets numbered from first to last: how many did not arrive, and the latency of the slowest that did.
func (m *media) outcome(r *recorder, first, last uint64) (lost int, slowest time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := first; n < last; n++ {
		if at, ok := r.at[n]; ok {
			slowest = max(slowest, at.Sub(m.sent[n]))
		} else {
			lost++
		}
	}
	return lost, slowest
}

// crossConn is a net.PacketConn of a QUIC connection that takes the direct way between nodes 1 and 2.
type crossConn struct {
	n      *testNet
	self   NodeID
	peer   *crossConn
	in     chan []byte
	closed chan struct{}
	once   sync.Once

	mu      sync.Mutex
	expired chan struct{}
}

func newCrossPair(n *testNet) (a, b *crossConn) {
	a = &crossConn{n: n, self: 1, in: make(chan []byte, 4096), closed: make(chan struct{}), expired: make(chan struct{})}
	b = &crossConn{n: n, self: 2, in: make(chan []byte, 4096), closed: make(chan struct{}), expired: make(chan struct{})}
	a.peer, b.peer = b, a
	return a, b
}

func (c *crossConn) WriteTo(p []byte, _ net.Addr) (int, error) {
	c.n.mu.Lock()
	wait, ok := c.n.carry(c.self, c.peer.self, len(p))
	c.n.mu.Unlock()
	if ok {
		packet := append([]byte(nil), p...)
		time.AfterFunc(wait, func() {
			select {
			case c.peer.in <- packet:
			default:
			}
		})
	}
	return len(p), nil
}

func (c *crossConn) ReadFrom(p []byte) (int, net.Addr, error) {
	c.mu.Lock()
	expired := c.expired
	c.mu.Unlock()
	select {
	case b := <-c.in:
		return copy(p, b), c.peer.LocalAddr(), nil
	case <-c.closed:
		return 0, nil, net.ErrClosed
	case <-expired:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

func (c *crossConn) Close() error { c.once.Do(func() { close(c.closed) }); return nil }
func (c *crossConn) LocalAddr() net.Addr {
	return &net.UDPAddr{IP: net.IPv4(10, 1, 0, byte(c.self)), Port: 9}
}
func (c *crossConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }
func (c *crossConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !t.IsZero() && !t.After(time.Now()) {
		close(c.expired) // the one use: the transport ends its reader
	}
	return nil
}
func (c *crossConn) SetWriteDeadline(time.Time) error { return nil }
func (c *crossConn) SetReadBuffer(int) error          { return nil }
func (c *crossConn) SetWriteBuffer(int) error         { return nil }

// bulk is a QUIC stream that always has something to send.
type bulk struct {
	got  atomic.Int64
	stop func()
}

func newBulk(t *testing.T, n *testNet) *bulk {
	t.Helper()
	a, b := newCrossPair(n)
	ta, tb := &quic.Transport{Conn: a}, &quic.Transport{Conn: b}
	serve := withALPN(n.nodes[2].config(1).ServerTLS(), []string{"bulk"})
	dial := withALPN(n.nodes[1].config(1).ClientTLS(2), []string{"bulk"})
	conf := &quic.Config{DisablePathMTUDiscovery: true, MaxIdleTimeout: time.Minute}
	l, err := tb.Listen(serve, conf)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	x := &bulk{}
	var wg sync.WaitGroup
	wg.Go(func() {
		conn, err := l.Accept(ctx)
		if err != nil {
			return
		}
		in, err := conn.AcceptUniStream(ctx)
		if err != nil {
			return
		}
		buf := make([]byte, 64<<10)
		for {
			k, err := in.Read(buf)
			x.got.Add(int64(k))
			if err != nil {
				return
			}
		}
	})
	conn, err := ta.Dial(ctx, b.LocalAddr(), dial, conf)
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		out, err := conn.OpenUniStream()
		if err != nil {
			return
		}
		_, _ = io.Copy(out, endless{})
	})
	x.stop = func() {
		_ = conn.CloseWithError(0, "")
		pause(time.Second)
		cancel()
		wg.Wait()
		_, _ = a.Close(), b.Close()
		_, _ = ta.Close(), tb.Close()
	}
	return x
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func perSecond(bytes int64, d time.Duration) float64 { return float64(bytes) * 8 / 1e6 / d.Seconds() }

// 20 Mbit/s of media in three copies, of which one comes to a bottleneck of 10 Mbit/s where a bulk flow is.
func TestABulkFlowKeepsItsShareAndTheMediaLosesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		narrow := mbits(10, 100*time.Millisecond)
		n.narrow = func(from, to NodeID) *bottleneck {
			if from == 1 && to == 2 {
				return narrow
			}
			return nil
		}
		a, b, _, _ := four(n)
		s := a.session(2)
		x := newBulk(t, n)
		time.Sleep(2 * time.Second)
		before := x.got.Load()
		time.Sleep(8 * time.Second)
		solo := perSecond(x.got.Load()-before, 8*time.Second)

		m := &media{s: s, sent: map[uint64]time.Time{}}
		before = x.got.Load()
		m.run(20, 8*time.Second)
		beside := perSecond(x.got.Load()-before, 8*time.Second)
		pause(time.Second)
		lost, slowest := m.outcome(b.rec, 0, m.next)
		st := s.Stats()
		t.Logf("bulk %.1f Mbit/s alone, %.1f beside the media: %.0f %%; media lost %d of %d, slowest %v; limited by %s",
			solo, beside, 100*beside/solo, lost, m.next, slowest, st.LimitedBy)
		if beside < 0.4*solo {
			t.Errorf("the bulk flow keeps %.0f %% of its rate, want at least 40 %%", 100*beside/solo)
		}
		if lost > 0 {
			t.Errorf("%d media packets lost", lost)
		}
		x.stop()
		narrow.rate *= 10
		m.run(20, 16*time.Second)
		sent := sentOn(s.Stats().Out, 0)
		m.run(20, time.Second)
		if got := sentOn(s.Stats().Out, 0) - sent; got < 2000 {
			t.Errorf("16 s after the load was gone the path carries %d frames a second, want 2,174", got)
		}
	})
}

// Everything that node 1 sends leaves by one uplink of 20 Mbit/s; 10 Mbit/s of media, three copies asked.
func TestCopiesFallToWhatTheUplinkCarries(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		up := mbits(20, 100*time.Millisecond)
		n.narrow = func(from, _ NodeID) *bottleneck {
			if from == 1 {
				return up
			}
			return nil
		}
		a, b, _, _ := four(n)
		m := &media{s: a.session(2), sent: map[uint64]time.Time{}}
		m.run(10, time.Second)
		second, drops := m.next, up.drops
		m.run(10, 10*time.Second)
		st := m.s.Stats()
		pause(time.Second)
		early, _ := m.outcome(b.rec, 0, second)
		lost, slowest := m.outcome(b.rec, second, m.next)
		t.Logf("first second lost %d, after it %d of %d, slowest %v; %.2f copies; the uplink dropped %d, then %d; limited by %s to %.1f Mbit/s",
			early, lost, m.next-second, slowest, st.Copies, drops, up.drops-drops, st.LimitedBy, st.Limit*8/1e6)
		if lost > 0 {
			t.Errorf("%d packets lost after the first second", lost)
		}
		if st.Copies < 1.2 || st.Copies > 2 {
			t.Errorf("%.2f copies per frame, want what fits", st.Copies)
		}
		if st.LimitedBy != "peer" || st.Withheld == 0 || st.Limit == 0 {
			t.Errorf("it does not say so: limited by %q, %d withheld, %v bytes/s", st.LimitedBy, st.Withheld, st.Limit)
		}
	})
}

// Three paths of 4 Mbit/s and 20 Mbit/s of media: the sender learns what there is, and what arrives is not old.
func TestSenderLearnsTheRateWhenAllPathsAreNarrow(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		paths := map[[2]NodeID]*bottleneck{}
		for _, hop := range []NodeID{2, 3, 4} {
			paths[[2]NodeID{1, hop}] = mbits(4, 200*time.Millisecond)
		}
		n.narrow = func(from, to NodeID) *bottleneck { return paths[[2]NodeID{from, to}] }
		a, b, _, _ := four(n)
		m := &media{s: a.session(2), sent: map[uint64]time.Time{}}
		m.run(20, 3*time.Second)
		first := m.next
		m.run(20, 8*time.Second)
		rate, by := m.s.Estimate()
		st := m.s.Stats()
		pause(time.Second)
		lost, slowest := m.outcome(b.rec, first, m.next)
		arrived := perSecond(int64(int(m.next-first)-lost)*1150, 8*time.Second)
		t.Logf("%.1f of 12 Mbit/s arrive, the estimate is %.1f by %s, the slowest packet took %v; drops %v", arrived, rate*8/1e6, by, slowest, st.Drops)
		if arrived < 8 {
			t.Errorf("%.1f Mbit/s arrive of 12", arrived)
		}
		if rate*8/1e6 < 7 || rate*8/1e6 > 13 {
			t.Errorf("the estimate is %.1f Mbit/s by %s", rate*8/1e6, by)
		}
		if slowest > 300*time.Millisecond {
			t.Errorf("a packet took %v", slowest)
		}
		// The edge asks the publisher for what fits; then nothing is lost, but where two paths that are tried beyond their limits queue at
		// the same time: they are taken for one bottleneck, and for some hundred milliseconds the flow is held to less (ADR 5).
		m.run(rate*8/1e6*0.85, 3*time.Second)
		settled := m.next
		m.run(rate*8/1e6*0.85, 4*time.Second)
		pause(time.Second)
		lost, _ = m.outcome(b.rec, settled, m.next)
		t.Logf("at 85 %% of the estimate %d of %d packets are lost", lost, m.next-settled)
		if lost > int(m.next-settled)/50 {
			t.Errorf("at 85 %% of the estimate %d of %d packets are lost", lost, m.next-settled)
		}
	})
}
