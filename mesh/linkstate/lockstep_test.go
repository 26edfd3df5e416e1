package linkstate

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// lockstep is a mesh of cores in one goroutine: virtual time, delays, losses, and nothing but the seed is random.
type lockstep struct {
	rng    *rand.Rand
	now    time.Duration
	queue  flights
	cores  []*Core
	rows   []Row
	writer []Writer
	said   []uint32 // counter of each node's newest item
	bytes  uint64   // of messages sent
	loss   float64
	base   []time.Duration // each node's share of a packet's delay
	serial int
	trace  hash.Hash64
}

type flight struct {
	at     time.Duration
	serial int
	to     int
	msg    []byte
}

type flights []flight

func (f flights) Len() int { return len(f) }
func (f flights) Less(i, j int) bool {
	return f[i].at < f[j].at || f[i].at == f[j].at && f[i].serial < f[j].serial
}
func (f flights) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *flights) Push(x any)   { *f = append(*f, x.(flight)) }
func (f *flights) Pop() any {
	last := (*f)[len(*f)-1]
	*f = (*f)[:len(*f)-1]
	return last
}

// tick is the pace of Core.Tick in a node.
const tick = 120 * time.Millisecond

func newLockstep(t testing.TB, seed uint64, n int, loss float64) *lockstep {
	l := &lockstep{
		rng: rand.New(rand.NewPCG(seed, uint64(n))), loss: loss, cores: make([]*Core, n), rows: make([]Row, n),
		writer: make([]Writer, n), said: make([]uint32, n), base: make([]time.Duration, n), trace: fnv.New64a(),
	}
	for i := range n {
		l.cores[i] = NewCore(uint32(i))
		l.base[i] = time.Duration(5+l.rng.IntN(55)) * time.Millisecond
		l.rows[i] = Row{Links: make(map[uint32]Link)}
		for range 44 { // 32 chosen, and some that others chose
			l.change(i)
		}
	}
	for i := range n {
		l.sayCard(t, i)
		l.sayRow(t, i)
	}
	return l
}

// peersOf is everybody but i.
func (l *lockstep) peersOf(i int) []uint32 {
	out := make([]uint32, 0, len(l.cores))
	for j := range l.cores {
		if j != i {
			out = append(out, uint32(j))
		}
	}
	return out
}

// change moves one link of a node's row, a new one or an old one.
func (l *lockstep) change(i int) {
	row := Row{Vitals: l.rows[i].Vitals, Links: make(map[uint32]Link, len(l.rows[i].Links)+1)}
	to := l.rng.Uint32N(uint32(len(l.cores)))
	for id, link := range l.rows[i].Links {
		row.Links[id] = link
	}
	if len(row.Links) >= 44 {
		ids := make([]uint32, 0, len(row.Links))
		for id := range row.Links {
			ids = append(ids, id)
		}
		slices.Sort(ids) // maps have no order, the replay must
		to = ids[l.rng.IntN(len(ids))]
	}
	row.Links[to] = Link{To: to, Latency: QuantDelay(time.Duration(l.rng.Int64N(2e8))), LossOut: uint8(l.rng.IntN(30))}
	l.rows[i] = row
}

func (l *lockstep) sayCard(t testing.TB, i int) {
	l.said[i]++
	body := append(AppendHead(nil, Head{Kind: Card, Origin: uint32(i), Version: Version{1, l.said[i]}}), make([]byte, 120)...)
	it, err := Seal(body, make([]byte, 600), testSignature) // the size of a real one
	if err != nil {
		t.Fatal(err)
	}
	l.cores[i].Put(it, true)
}

func (l *lockstep) sayRow(t testing.TB, i int) {
	l.said[i]++
	l.cores[i].Put(sealed(t, l.writer[i].Write(uint32(i), Version{1, l.said[i]}, l.rows[i])), true)
}

func (l *lockstep) send(from int, packets []Packet) {
	for _, p := range packets {
		l.bytes += uint64(len(p.Message))
		if l.rng.Float64() < l.loss {
			continue
		}
		l.serial++
		heap.Push(&l.queue, flight{l.now + l.base[from] + l.base[p.To], l.serial, int(p.To), p.Message})
	}
}

// run goes on for d; each calls f at every tick, at its start.
func (l *lockstep) run(t testing.TB, d time.Duration, f func()) {
	peers := make([][]uint32, len(l.cores))
	for i := range peers {
		peers[i] = l.peersOf(i)
	}
	for end := l.now + d; l.now < end; {
		f()
		for i, c := range l.cores {
			l.send(i, c.Tick(l.rng, peers[i]))
		}
		next := l.now + tick
		for len(l.queue) > 0 && l.queue[0].at < next {
			fl := heap.Pop(&l.queue).(flight)
			l.now = fl.at
			_, _ = l.trace.Write(append(binary.BigEndian.AppendUint64(nil, uint64(fl.at)), byte(fl.to>>8), byte(fl.to)))
			_, _ = l.trace.Write(fl.msg)
			items, answers, err := l.cores[fl.to].Handle(fl.msg)
			if err != nil {
				t.Fatal(err)
			}
			for _, it := range items {
				l.cores[fl.to].Put(it, true)
			}
			l.send(fl.to, answers)
		}
		l.now = next
	}
}

// knows is the share of nodes that hold what a node said last.
func (l *lockstep) knows(origin int) float64 {
	count := 0
	for _, c := range l.cores {
		if _, row := c.Held(uint32(origin)); row.Counter >= l.said[origin] {
			count++
		}
	}
	return float64(count) / float64(len(l.cores))
}

// settled tells whether every core holds the newest of everybody.
func (l *lockstep) settled() bool {
	for i := range l.cores {
		if l.knows(i) < 1 {
			return false
		}
	}
	return true
}

// outcome is what a mesh of cores was seen to do.
type outcome struct {
	spread []time.Duration // from a change to 99 % of nodes, one per change watched
	rate   float64         // bytes/s out of a node, while every node changes a link every changeEvery
	trace  uint64          // of all that arrived: when, where, what
}

const changeEvery = 20 * time.Second

// measure starts a mesh, lets links change at a steady pace and watches some changes spread.
func measure(t testing.TB, seed uint64, n int, loss float64, watched int) (o outcome) {
	l := newLockstep(t, seed, n, loss)
	var everything []Item
	for _, c := range l.cores {
		everything = append(everything, c.All()...) // its own, so far
	}
	for _, c := range l.cores { // everybody has joined
		for _, it := range everything {
			c.Put(it, false)
		}
		c.queue, c.hot = nil, make(map[hotKey]hotItem)
	}
	due := 0.0
	noise := func() {
		for due += float64(n) * float64(tick) / float64(changeEvery); due >= 1; due-- {
			i := 1 + l.rng.IntN(n-1)
			l.change(i)
			l.sayRow(t, i)
		}
	}
	l.run(t, 3*time.Second, noise)
	began, sent := l.now, l.bytes
	for range watched {
		start := l.now
		l.change(0)
		l.sayRow(t, 0)
		for l.knows(0) < 0.99 && l.now-start < time.Minute {
			l.run(t, tick, noise)
		}
		o.spread = append(o.spread, l.now-start)
	}
	o.trace = l.trace.Sum64()
	o.rate = float64(l.bytes-sent) / (l.now - began).Seconds() / float64(n)
	slices.Sort(o.spread)
	return o
}

func TestLinkStateConverges(t *testing.T) {
	for _, loss := range []float64{0, 0.3} {
		o := measure(t, 1, 60, loss, 5)
		if slowest := o.spread[len(o.spread)-1]; slowest > 2*time.Second*time.Duration(1+10*loss) {
			t.Errorf("loss %.0f %%: a change is at 99 %% of the nodes after up to %v", 100*loss, slowest)
		}
	}
}

// TERN_REPLAY=1000 go test ./mesh/linkstate -run Replays -v -timeout 1h shows it for 1,000 nodes.
func TestLockstepReplaysFromItsSeed(t *testing.T) {
	n, watched := 30, 3
	if said := os.Getenv("TERN_REPLAY"); said != "" {
		var err error
		if n, err = strconv.Atoi(said); err != nil || n < 2 || n > 2000 {
			t.Fatalf("TERN_REPLAY=%q; want 2 to 2000 nodes", said)
		}
		watched = 1
	}
	a, b := measure(t, 7, n, 0.05, watched), measure(t, 7, n, 0.05, watched)
	t.Logf("%d nodes, twice: %+v, %+v", n, a, b)
	if a.trace != b.trace || fmt.Sprint(a) != fmt.Sprint(b) {
		t.Errorf("one seed, two runs:\n%+v\n%+v", a, b)
	}
	if c := measure(t, 8, 30, 0.05, watched); a.trace == c.trace {
		t.Error("two seeds, one run; the test has lost its point")
	}
}

// Two halves that were apart for long agree soon after they meet.
func TestHalvesAgree(t *testing.T) {
	l := newLockstep(t, 3, 40, 0)
	for i, c := range l.cores { // each half has the other's cards only
		for j := range l.cores {
			if i%2 == j%2 {
				for _, it := range l.cores[j].All() {
					c.Put(it, false)
				}
			}
		}
	}
	l.run(t, 10*time.Second, func() {})
	if !l.settled() {
		t.Error("not everything is known everywhere 10 s after the halves met")
	}
}

// Convergence and traffic of whole meshes in virtual time: 1 % loss, one-way delays of 10 to 120 ms, every node changes a link
// every 20 s. The figures are virtual seconds and bytes; they repeat exactly.
func BenchmarkLinkState200(b *testing.B)  { benchmarkLinkState(b, 200, 20) }
func BenchmarkLinkState1000(b *testing.B) { benchmarkLinkState(b, 1000, 3) }

func benchmarkLinkState(b *testing.B, n, watched int) {
	for b.Loop() {
		o := measure(b, 1, n, 0.01, watched)
		b.ReportMetric(o.spread[len(o.spread)/2].Seconds(), "spread99_p50_s")
		b.ReportMetric(o.spread[len(o.spread)-1].Seconds(), "spread99_max_s")
		b.ReportMetric(o.rate/1000, "kB/s_out")
	}
}
