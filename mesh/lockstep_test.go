package mesh

import (
	"bytes"
	"container/heap"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/mesh/linkstate"
	"github.com/ternmesh/tern/routing"
)

// lockstep is a mesh of Mesh cores in one goroutine: probes, link measurement, cards, rows, gossip, neighbours and graphs are
// real, driven step by step in virtual time. memberlist is not there: the test says who joined and who is gone. Layer 1 is not
// there either, so a join costs no handshake. Signatures have the size of real ones and are no more than a list of what was signed,
// for real ones are drawn by chance: so a seed's run is the same every time, byte by byte.
type lockstep struct {
	t      testing.TB
	rng    *rand.Rand
	now    time.Time
	queue  events
	serial int
	nodes  []*stepper
	byID   map[uint32]*stepper
	byAddr map[netip.AddrPort]*stepper
	signed map[[32]byte]identity.Peer
	bytes  uint64 // of gossip messages
	probes uint64
	trace  hash.Hash64 // of all that arrived: when, from whom, where, what
}

// certificateBytes is the size of a node's certificate.
const certificateBytes = 420

// stepper is one node; index is its place in the matrices.
type stepper struct {
	*Mesh
	l       *lockstep
	index   int
	name    string
	addr    netip.AddrPort
	dead    bool
	ticks   int
	at      [2]float64            // where it is: a unit square 80 ms wide
	extra   map[int]time.Duration // to others, while a link is degraded
	loss    map[int]float64
	run     uint32
	started time.Time

	sessions int // of clients

	traffic map[uint32]*Traffic   // of streams, by the other's id
	shake   map[int]time.Duration // to others: packets take up to so much longer, each by chance
	clock   time.Duration         // ahead of the others'
	knows   int                   // the largest probe that its version knows; 0: all
}

type event struct {
	at     time.Time
	serial int
	do     func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at.Before(e[j].at) || e[i].at.Equal(e[j].at) && e[i].serial < e[j].serial
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	(*e)[len(*e)-1] = event{}
	*e = (*e)[:len(*e)-1]
	return last
}

func (l *lockstep) after(d time.Duration, do func()) {
	l.serial++
	heap.Push(&l.queue, event{l.now.Add(d), l.serial, do})
}

// until runs everything up to a time.
func (l *lockstep) until(end time.Time) {
	for len(l.queue) > 0 && !l.queue[0].at.After(end) {
		e := heap.Pop(&l.queue).(event)
		l.now = e.at
		e.do()
	}
	l.now = end
}

// within runs on, 100 ms at a time, until ok; it returns how long that took.
func (l *lockstep) within(limit time.Duration, ok func() bool) time.Duration {
	start := l.now
	for l.now.Sub(start) < limit && !ok() {
		l.until(l.now.Add(100 * time.Millisecond))
	}
	return l.now.Sub(start)
}

func newMeshLockstep(t testing.TB, seed uint64, n int) *lockstep {
	l := &lockstep{
		t: t, rng: rand.New(rand.NewPCG(seed, seed)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), byID: make(map[uint32]*stepper),
		byAddr: make(map[netip.AddrPort]*stepper), signed: make(map[[32]byte]identity.Peer), trace: fnv.New64a(),
	}
	ca := filepath.Join(t.TempDir(), "ca")
	if err := identity.InitCA(ca, "demo", time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		s := &stepper{
			l: l, index: i, name: fmt.Sprintf("n%03d", i), addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 7000),
			at: [2]float64{l.rng.Float64(), l.rng.Float64()}, extra: make(map[int]time.Duration), loss: make(map[int]float64), run: 1,
			traffic: make(map[uint32]*Traffic), shake: make(map[int]time.Duration),
		}
		s.Mesh = l.mesh(ca, s)
		l.nodes = append(l.nodes, s)
		l.byID[s.id], l.byAddr[s.addr] = s, s
	}
	return l
}

// mesh makes the core of a node whose packets go through the lockstep.
func (l *lockstep) mesh(ca string, s *stepper) *Mesh {
	dir := l.t.TempDir()
	region := fmt.Sprintf("r%d%d", int(s.at[0]*4), int(s.at[1]*4))
	if err := identity.Issue(ca, dir, identity.IssueOptions{Node: s.name, Region: region, NotBefore: time.Now().Add(-time.Hour)}); err != nil {
		l.t.Fatal(err)
	}
	id, err := identity.Load(filepath.Join(ca, "ca.crt"), filepath.Join(dir, s.name+".crt"), filepath.Join(dir, s.name+".key"))
	if err != nil {
		l.t.Fatal(err)
	}
	m, err := New(Config{
		Identity: id, Packets: &memConn{}, Dial: (&node{}).dial, Keys: (&node{}).exchange, Logger: slog.New(slog.DiscardHandler),
		Self: func() Health {
			return Health{Incarnation: s.run, Mesh: s.addr, State: StateServing, AccessURL: "https://" + s.name, Sessions: s.sessions}
		},
		Probe: func(to uint32, payload []byte) error {
			l.probes++
			payload = bytes.Clone(payload)
			for _, end := range []*stepper{s, l.byID[to]} {
				if end.knows > 0 && len(payload) > end.knows {
					return nil // not made, or malformed
				}
			}
			l.carry(s, l.byID[to], payload, func(dest *stepper) { dest.HandleProbe(s.id, payload) })
			return nil
		},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	m.now = func() time.Time { return l.now }
	m.rng, m.links.rng = rand.New(rand.NewPCG(uint64(s.index), 1)), rand.New(rand.NewPCG(uint64(s.index), 2))
	m.sign = func(context string, msg []byte) (certificate, sig []byte, err error) {
		certificate = append(make([]byte, 0, certificateBytes), s.name...)[:certificateBytes]
		sum := sha256.Sum256(slices.Concat([]byte(context), msg, certificate))
		l.signed[sum] = identity.Peer{Node: s.name, Region: region}
		return certificate, append(sum[:], make([]byte, linkstate.MaxSignature-len(sum))...), nil
	}
	m.verify = func(context string, msg, certificate, sig []byte) (identity.Peer, error) {
		sum := sha256.Sum256(slices.Concat([]byte(context), msg, certificate))
		peer, ok := l.signed[sum]
		if !ok || !bytes.Equal(sig[:len(sum)], sum[:]) {
			return identity.Peer{}, identity.ErrSignature
		}
		return peer, nil
	}
	m.sendBy(func(to peerAddr, message []byte) {
		l.bytes += uint64(len(message)) + 60 // memberlist's label and encryption, the class byte
		l.carry(s, l.byAddr[to.addr], message, func(dest *stepper) { dest.receive(message) })
	})
	return m
}

// latency of a link as it is now; loss likewise.
func (l *lockstep) latency(from, to *stepper) time.Duration {
	dx, dy := from.at[0]-to.at[0], from.at[1]-to.at[1]
	return 2*time.Millisecond + time.Duration(80e6*(dx*dx+dy*dy)) + from.extra[to.index]
}

func (l *lockstep) carry(from, to *stepper, payload []byte, f func(*stepper)) {
	if to == nil || from.dead || to.dead || l.rng.Float64() < from.loss[to.index]+0.002 {
		return
	}
	run, more := to.run, time.Duration(0)
	if most := from.shake[to.index]; most > 0 {
		more = time.Duration(l.rng.Int64N(int64(most)))
	}
	l.after(l.latency(from, to)+more+time.Duration(l.rng.IntN(800))*time.Microsecond, func() {
		if !to.dead && to.run == run {
			head := binary.BigEndian.AppendUint64(nil, uint64(l.now.UnixNano()))
			_, _ = l.trace.Write(append(append(head, byte(from.index>>8), byte(from.index), byte(to.index>>8), byte(to.index)), payload...))
			f(to)
		}
	})
}

// count lets a node count the frames of streams.
func (s *stepper) count() {
	s.cfg.Traffic = func(to uint32) Traffic { return *s.counts(to) }
}

// counts are the frames between a node and another.
func (s *stepper) counts(other uint32) *Traffic {
	if s.traffic[other] == nil {
		s.traffic[other] = &Traffic{}
	}
	return s.traffic[other]
}

// stream sends frames of a node over others to the last, at an even pace, while on says so. They carry the first one's time in
// milliseconds.
func (l *lockstep) stream(every time.Duration, on *bool, over ...*stepper) {
	if *on {
		l.hop(over, 0, l.now.Add(over[0].clock).UnixMilli())
	}
	l.after(every, func() { l.stream(every, on, over...) })
}

// hop takes a frame that left at a time to the node behind over[at], and on.
func (l *lockstep) hop(over []*stepper, at int, left int64) {
	from, to := over[at], over[at+1]
	mark := func(r *Relayed, by *stepper) {
		*r = Relayed{r.Count + 1, over[0].id, uint16(left), time.Duration(l.now.Add(by.clock).UnixMilli()-left) * time.Millisecond}
	}
	out := from.counts(to.id)
	if out.Sent++; at > 0 {
		mark(&out.Passed, from)
	}
	l.carry(from, to, nil, func(dest *stepper) {
		in := dest.counts(from.id)
		if in.Arrived++; at > 0 {
			mark(&in.Brought, dest)
		} else {
			in.Timed++
			in.Transit = time.Duration(l.now.Add(dest.clock).UnixMilli()-left) * time.Millisecond
		}
		if at+2 < len(over) {
			l.hop(over, at+1, left)
		}
	})
}

// start lets a node step, and makes it known to the others, and them to it.
func (l *lockstep) start(s *stepper) {
	s.started = l.now
	for _, other := range l.nodes {
		if other != s && !other.started.IsZero() && !other.dead {
			other.joinedBy(s.name, s.addr)
			s.joinedBy(other.name, other.addr)
		}
	}
	for _, other := range l.nodes { // the state that a join brings, from one node
		if other != s && !other.started.IsZero() && !other.dead {
			for _, it := range other.core.All() {
				s.offer(it, false)
			}
			break
		}
	}
	run := s.run
	var step func()
	step = func() {
		if s.dead || s.run != run {
			return
		}
		s.step(l.now, s.ticks)
		n := s.restTicks(l.now, s.ticks)
		s.ticks += n
		l.after(time.Duration(n)*probeTick, step)
	}
	l.after(time.Duration(l.rng.Int64N(int64(probeTick))), step)
}

// truth is the graph as it is, of the links that anybody could use: all of them.
func (l *lockstep) truth() *routing.Graph {
	var nodes []routing.Node
	var links []routing.Link
	for _, a := range l.nodes {
		if a.dead || a.started.IsZero() {
			continue
		}
		nodes = append(nodes, routing.Node{Name: a.name, Region: a.cfg.Identity.Region})
		for _, b := range l.nodes {
			if a != b && !b.dead && !b.started.IsZero() {
				links = append(links, routing.Link{From: a.name, To: b.name, Latency: l.latency(a, b), Loss: a.loss[b.index] + 0.002})
			}
		}
	}
	return routing.NewGraph(nodes, links)
}

// routed tells whether every one of the nodes has a path set to all others that are alive whose paths pass only through those.
func (l *lockstep) routed(from []*stepper, least int) bool {
	for _, a := range from {
		g := a.Graph()
		for _, b := range l.nodes {
			if a == b || b.dead || b.started.IsZero() {
				continue
			}
			if l.lives(g.PathSet(a.name, b.name, routing.Constraints{AnyRegion: true})) < least {
				return false
			}
		}
	}
	return true
}

// lives counts the paths of a set that really work.
func (l *lockstep) lives(set routing.PathSet) (count int) {
	for _, p := range set.Paths {
		ok := true
		for _, name := range p.Nodes {
			var i int
			_, _ = fmt.Sscanf(name, "n%d", &i)
			ok = ok && !l.nodes[i].dead
		}
		if ok {
			count++
		}
	}
	return count
}

// some are a few nodes, spread, that are alive.
func (l *lockstep) some(n int) (out []*stepper) {
	for i := 0; i < len(l.nodes) && len(out) < n; i += max(len(l.nodes)/n, 1) {
		if !l.nodes[i].dead && !l.nodes[i].started.IsZero() {
			out = append(out, l.nodes[i])
		}
	}
	return out
}

// kill takes nodes away without a word; the others' memberlist notices after five seconds.
func (l *lockstep) kill(dead []*stepper) {
	for _, s := range dead {
		s.dead = true
	}
	l.after(5*time.Second, func() {
		for _, s := range dead {
			for _, other := range l.nodes {
				if s.dead && other != s {
					other.goneBy(s.name)
				}
			}
		}
	})
}

// revive brings them back as new runs that know nothing.
func (l *lockstep) revive(dead []*stepper) {
	for _, s := range dead {
		s.dead = false
		s.run++
		s.mu.Lock()
		s.peers, s.ids, s.reachable = make(map[string]*peer), make(map[uint32]string), nil
		s.core, s.self = linkstate.NewCore(s.id), own{}
		s.mu.Unlock()
		s.tellings++
		s.links.follow(s.tellings, nil)
		s.dirt.everything()
		s.started = time.Time{}
	}
	for _, s := range dead {
		l.start(s)
	}
}
