package node

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ternmesh/tern/ebpf"
	"github.com/ternmesh/tern/media/braid"
)

const (
	// onwardQueue is how many decisions wait to be handed to the kernel; later ones are dropped, and their frames stay with
	// the braid until it decides again.
	onwardQueue = 256
	// onwardAgain is how soon a decision is handed over again, well within its life in the kernel.
	onwardAgain = 250 * time.Millisecond
	// onwardPoll is how often the braid learns what the kernel has sent on in its place.
	onwardPoll = 250 * time.Millisecond
	// maxAsked bounds the decisions that are remembered for onwardAgain.
	maxAsked = 8192
	// An interface is left to user space when, between two looks, it did not send more than lostFrames, and of what the kernel
	// relayed more than one in lostShare.
	lostFrames = 8
	lostShare  = 20
	// hopFor is how long the way to a neighbour is taken to be what it was.
	hopFor = time.Second
)

// RelayKernel is the value of filter.relay that lets the packet filter relay in the braid's place.
const RelayKernel = "kernel"

// hop is the way to a node's address: what the kernel needs to send there by itself.
type hop struct {
	index    int // of the interface
	from     netip.Addr
	local    [6]byte // hardware addresses
	neighbor [6]byte
}

// kernelRelay hands the braid's decisions to the packet filter, and the packet filter's counts to the braid. Nothing of it runs
// unless the configuration asks for it.
type kernelRelay struct {
	node    *Node
	nextHop func(netip.Addr) (hop, bool)
	dropped func(index int) (uint64, bool) // frames that an interface did not send
	asks    chan onwardAsk                 // nil unless the configuration asks for it
	life    atomic.Uint64                  // counts up when decisions end early; written under turn
	still   func(braid.Onward) bool        // whether the policy and the membership of now have the frames relayed
	send    func(ebpf.Onward) bool         // to the kernel
	drop    func()                         // all that the kernel has

	// turn is held from the last judgement of a decision until the kernel has it, and while decisions end: none of before a
	// new policy gets there after it.
	turn sync.Mutex

	mu    sync.Mutex // guards asked
	asked map[braid.Onward]time.Time

	// The rest is run's own.
	hops  map[netip.Addr]knownHop
	exits map[int]*exit // interfaces
	sent  uint64        // frames since the last look at the exits
}

// exit is an interface by which the kernel relays. off: it did not send what the kernel gave it, and is left to user space.
type exit struct {
	dropped uint64
	off     bool
}

type onwardAsk struct {
	braid.Onward
	life uint64
}

type knownHop struct {
	hop
	ok bool
	at time.Time
}

func newKernelRelay(n *Node) *kernelRelay {
	r := &kernelRelay{
		node: n, nextHop: nextHop, dropped: dropped, asked: make(map[braid.Onward]time.Time),
		hops: make(map[netip.Addr]knownHop), exits: make(map[int]*exit),
		still: n.relays,
		send:  func(o ebpf.Onward) bool { return n.filter.SendOnward(o) },
		drop:  func() { n.filter.ForgetOnward() },
	}
	if n.cfg.Filter.Relay == RelayKernel {
		r.asks = make(chan onwardAsk, onwardQueue)
	}
	return r
}

// onward is braid.Config.Onward; nil unless the configuration asks for it.
func (r *kernelRelay) onward() func(braid.Onward) {
	if r.asks == nil {
		return nil
	}
	return r.saw
}

// saw is called for what the braid relays, once for the frames of a run that go one way.
func (r *kernelRelay) saw(o braid.Onward) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, ok := r.asked[o]; ok && now.Sub(at) < onwardAgain {
		return
	}
	if len(r.asked) >= maxAsked {
		clear(r.asked)
	}
	r.asked[o] = now
	select {
	case r.asks <- onwardAsk{o, r.life.Load()}:
	default:
	}
}

// forget ends all decisions at once: who may carry what has changed.
func (r *kernelRelay) forget() {
	if r.asks != nil {
		r.turn.Lock()
		defer r.turn.Unlock()
		r.life.Add(1)
		r.drop()
	}
}

// relays says whether this node would relay such frames now: what the braid asks of each.
func (n *Node) relays(o braid.Onward) bool {
	_, member := n.member(o.Source)
	return member && o.Fence != meshFence && n.allowHop(o.Fence, braid.NodeID(n.id.ID())) && n.allowHop(o.Fence, o.Next)
}

// run hands over decisions and counts until ctx ends.
func (r *kernelRelay) run(ctx context.Context) error {
	if r.asks == nil {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(onwardPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case a := <-r.asks:
			if a.life == r.life.Load() {
				r.hand(a)
			}
		case <-tick.C:
			r.node.filter.Relayed(r.count)
			r.inspect()
		}
	}
}

// count tells the braid what passed it by.
func (r *kernelRelay) count(c ebpf.OnwardCount) {
	r.sent += c.Media + c.Other
	r.node.braid.Forwarded(braid.Onward{
		Source: braid.NodeID(c.Source), Before: braid.NodeID(c.Before), Next: braid.NodeID(c.Next), Fence: braid.FenceID(c.Fence),
	}, c.Media, c.Other, c.Bytes)
}

// inspect looks whether the interfaces send what the kernel gives them. Not all can: a veth pair loses it unless its other end
// has an XDP program, too, and says so only in its count of frames not sent.
func (r *kernelRelay) inspect() {
	for index, e := range r.exits {
		n, ok := r.dropped(index)
		if ok && !e.off && n > e.dropped+lostFrames && (n-e.dropped)*lostShare > r.sent {
			e.off = true
			r.node.log.Warn("packet filter: the interface does not send what the kernel relays; user space relays again",
				"event", "relay_off", "interface", index, "lost", n-e.dropped, "of", r.sent)
			r.forget()
		}
		if ok {
			e.dropped = n
		}
	}
	r.sent = 0
}

// hand gives one decision to the kernel, if the way to the next node is known.
func (r *kernelRelay) hand(a onwardAsk) {
	o := a.Onward
	h, ok := r.way(o.To.Addr())
	if !ok || !r.exit(h.index) {
		return
	}
	if own := netip.MustParseAddrPort(r.node.cfg.Mesh.Listen).Addr(); !own.IsUnspecified() {
		h.from = own
	}
	epoch, keys := r.node.braid.RelayKeys(o.Source)
	x := ebpf.Onward{
		OnwardKey: ebpf.OnwardKey{Source: uint32(o.Source), Before: uint32(o.Before), Next: uint32(o.Next), Fence: uint32(o.Fence)},
		Epoch:     epoch, From: h.from, To: o.To, Interface: h.index, LinkFrom: h.local, LinkTo: h.neighbor,
	}
	for i, k := range keys {
		x.Keys[i] = k
	}
	r.give(a, x)
}

// give lets the kernel have a decision that still stands. The braid's judgement may be older than the policy although its ask is
// not, so it is made again.
func (r *kernelRelay) give(a onwardAsk, x ebpf.Onward) {
	r.turn.Lock()
	defer r.turn.Unlock()
	if a.life == r.life.Load() && r.still(a.Onward) {
		r.send(x)
	}
}

// exit says whether the kernel may relay by an interface, and keeps an eye on it from now on.
func (r *kernelRelay) exit(index int) bool {
	e, known := r.exits[index]
	if !known {
		n, ok := r.dropped(index)
		e = &exit{dropped: n, off: !ok}
		r.exits[index] = e
	}
	return !e.off
}

// way asks the system for the way to an address, at most once in hopFor.
func (r *kernelRelay) way(to netip.Addr) (hop, bool) {
	now := time.Now()
	if k, ok := r.hops[to]; ok && now.Sub(k.at) < hopFor {
		return k.hop, k.ok
	}
	if len(r.hops) >= maxAsked {
		clear(r.hops)
	}
	h, ok := r.nextHop(to)
	r.hops[to] = knownHop{h, ok, now}
	return h, ok
}
