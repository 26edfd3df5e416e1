package braid

import (
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ternmesh/tern/media/braid/pace"
)

// flow is all traffic between this node and one peer under one fence: the paths there, what is known of the paths back,
// and the session, of which there is at most one once the handshakes have settled.
type flow struct {
	b   *Braid
	key flowKey

	mu      sync.Mutex // guards the block below
	current *Session
	dial    *dialing      // one dial at a time; nil = none
	changed chan struct{} // closed and replaced when current changes
	used    time.Time

	recordMax atomic.Int32 // bytes of records that a media frame may hold to fit all paths; 0 = maxRecords

	refreshMu sync.Mutex // one refresh at a time, so that an older answer of Config.Paths never replaces a newer one

	sendMu     sync.Mutex // guards the block below; held while runs are written
	paths      []*outPath
	retired    []*outPath   // paths of earlier sets, oldest first, at most keptPaths
	turns      [slots]uint8 // paths that each slot has had, modulo 4: the high bits of their ids
	protocol   uint8        // of the newest session; 0 = none yet
	refreshed  bool
	stash      [][]byte // QUIC packets that wait for the first path to get its keys
	macBuf     [macInputSize]byte
	quicBuf    [MaxDatagram]byte
	one        [1][]byte // the frame of a single send, kept here so that it is not allocated
	pace       *pace.Flow
	burst      pace.Bucket // what may leave at once
	tally      copyTally
	target     float64           // lowest residual that an adaptive mode has asked for since the last step
	extra      int               // steps that measured residual loss asks for, on top of what the paths' losses do
	chosen     pace.Set          // by the paths' losses, when residual loss was judged last
	groups     uint64            // of frames that an adaptive mode has sent
	avoid      []avoided         // paths that died, at most maxAvoided
	probeBuf   [MaxDatagram]byte // zeros
	lastReport time.Time         // from the peer
	rtt        time.Duration     // of the session, for judging silence

	rxMu     sync.Mutex // guards the block below; taken for every frame that arrives
	in       inbound
	sessions []*Session        // those whose handshake is done; the current one among them
	twinOf   [MaxDatagram]byte // a frame that two sessions may have sealed
	shown    uint16            // the path ids that delivered when the peer was last told at once
	endedMS  uint64            // when one of them ended last, Unix ms
	virtual  *net.UDPAddr
	incarn   uint32 // the one in virtual
}

// maxStash bounds the QUIC packets that wait for keys; the oldest gives way.
const maxStash = 16

// outPath is one path to the peer. Guarded by flow.sendMu.
type outPath struct {
	id     uint8
	relayN int
	relays [maxRelays]NodeID
	seq    uint32

	ready bool // keys of all hops are there
	epoch uint32
	keys  [maxRelays + 1]hopKey // relays in order, then the egress

	sent    uint64
	bytes   uint64 // in them, padding included
	pace    *pace.Path
	needed  pace.Bucket // grant for needed copies
	extra   pace.Bucket // grant for extra copies
	loss    float64     // estimate
	fed     paceTotals  // the peer's newest feedback
	mark    uint32      // a sequence whose arrival is awaited
	markAt  time.Time   // when it was sent; zero = none
	dead    bool
	deadAt  time.Time // since when
	size    sizing
	seen    inReport // newest report of the peer
	retired bool
}

func newFlow(b *Braid, key flowKey) *flow {
	f := &flow{b: b, key: key, changed: make(chan struct{}), used: time.Now(), pace: b.budgets.newFlow(), target: noTarget}
	f.burst.SetBurst(f.used, burstRate, burstBytes)
	return f
}

// first is the node that frames on this path go to from here.
func (p *outPath) first(peer NodeID) NodeID {
	if p.relayN > 0 {
		return p.relays[0]
	}
	return peer
}

// refresh asks for the flow's paths again. A path that stays keeps its id, sequence and counts; a changed one is a new
// path with a new id.
func (f *flow) refresh() {
	f.refreshMu.Lock()
	defer f.refreshMu.Unlock()
	var fresh []Path
	f.sendMu.Lock()
	avoid := f.avoiding(time.Now())
	f.sendMu.Unlock()
	allowed := f.b.allowed(f.key)
	if allowed {
		fresh = f.b.cfg.Paths(f.key.peer, f.key.fence, avoid)
	} else {
		f.b.counters.drop(DropPathFenced) // none at all, whatever Paths would say: both ends touch every path
	}
	now := time.Now()
	f.sendMu.Lock()
	defer f.sendMu.Unlock()
	f.refreshed = true
	if !allowed {
		f.stash = nil
	}
	fresh = f.usable(fresh)
	if allowed {
		fresh = f.fill(fresh, avoid)
	}
	f.adopt(fresh)
	f.resolveKeys(now)
	f.flushStash(now)
}

// usable are the paths of a fresh set that this node may use, at most maxPaths.
func (f *flow) usable(fresh []Path) (out []Path) {
	for _, path := range fresh {
		switch {
		case len(out) == maxPaths, len(path.Relays) > maxRelays:
		case slices.ContainsFunc(path.Relays, func(r NodeID) bool { return !f.b.cfg.Allow(f.key.fence, r) }):
			f.b.counters.drop(DropPathFenced)
		default:
			out = append(out, path)
		}
	}
	return out
}

// adopt replaces the paths in use. Holds sendMu.
func (f *flow) adopt(fresh []Path) {
	old, paths := slices.Clone(f.paths), make([]*outPath, len(fresh))
	for i, path := range fresh { // those that stay first: a new path takes a slot that none of them has
		same := func(p *outPath) bool { return slices.Equal(p.relays[:p.relayN], path.Relays) }
		if at := slices.IndexFunc(old, same); at >= 0 {
			paths[i] = old[at]
			old = slices.Delete(old, at, at+1)
		}
	}
	for i, path := range fresh {
		if paths[i] == nil {
			paths[i] = f.newPath(path, paths)
		}
	}
	f.paths = paths
	f.b.budgets.setPaths(f)
	for _, p := range old {
		p.retired = true
		if len(f.retired) >= keptPaths {
			f.retired = slices.Delete(f.retired, 0, 1)
		}
		f.retired = append(f.retired, p)
	}
}

// newPath gives a path the lowest slot that no other path has, and an id that the slot has not had lately. Its sequence
// begins at random, so that the peer never takes it for the continuation of an earlier path with this id.
func (f *flow) newPath(path Path, staying []*outPath) *outPath {
	slot := uint8(0)
	for slices.ContainsFunc(staying, func(p *outPath) bool { return p != nil && p.id&slotMask == slot }) {
		slot++
	}
	p := &outPath{id: slot | f.turns[slot]<<2, relayN: len(path.Relays), seq: rand.Uint32()}
	f.turns[slot] = (f.turns[slot] + 1) & 3
	copy(p.relays[:], path.Relays)
	p.needed.Set(time.Time{}, math.Inf(1))
	p.extra.Set(time.Time{}, math.Inf(1))
	return p
}

// rekey moves paths to the keys of a new epoch, wants the next epoch's in time, and doubts the keys of dead paths.
func (f *flow) rekey(now time.Time) {
	f.sendMu.Lock()
	defer f.sendMu.Unlock()
	f.resolveKeys(now)
	for _, p := range f.paths {
		if p.dead {
			f.eachHop(p, func(_ int, hop NodeID) bool { f.b.keys.renew(hop, now); return true })
		}
	}
}

// resolveKeys picks, per path, the best epoch for which every hop's key is there: the current one, else a neighbour,
// which the holders accept as well. Holds sendMu.
func (f *flow) resolveKeys(now time.Time) {
	ms := f.b.unixMS(now)
	epoch := epochOf(ms)
	late := ms/1000%epochSeconds >= epochSeconds-prefetch
	for _, p := range f.paths {
		p.ready = false
		for _, e := range [...]uint32{epoch, epoch - 1, epoch + 1} {
			if f.keysOf(p, e, e == epoch, now) {
				break
			}
		}
		if late {
			f.eachHop(p, func(_ int, hop NodeID) bool {
				f.b.keys.get(hop, epoch+1, now)
				return true
			})
		}
	}
}

// keysOf puts the keys of one epoch into p if all are there; want: the missing ones are fetched.
func (f *flow) keysOf(p *outPath, epoch uint32, want bool, now time.Time) bool {
	var keys [maxRelays + 1]hopKey
	complete := f.eachHop(p, func(i int, hop NodeID) (ok bool) {
		if want {
			keys[i], ok = f.b.keys.get(hop, epoch, now)
		} else {
			keys[i], ok = f.b.keys.peek(hop, epoch)
		}
		return ok
	})
	if complete {
		p.keys, p.epoch, p.ready = keys, epoch, true
	}
	return complete
}

// eachHop calls do for every relay and the egress, all of them; it reports whether all calls did.
func (f *flow) eachHop(p *outPath, do func(i int, hop NodeID) bool) bool {
	all := true
	for i, relay := range p.relays[:p.relayN] {
		all = do(i, relay) && all
	}
	return do(p.relayN, f.key.peer) && all
}

// keyArrived is called when a key of holder has been fetched.
func (f *flow) keyArrived(holder NodeID, now time.Time) {
	f.sendMu.Lock()
	defer f.sendMu.Unlock()
	for _, p := range f.paths {
		if holder == f.key.peer || slices.Contains(p.relays[:p.relayN], holder) {
			f.resolveKeys(now)
			f.flushStash(now)
			return
		}
	}
}

// session is the current session, nil if there is none.
func (f *flow) session() *Session {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current
}

// idle: no session, no dial, and nothing has arrived or been asked for in a while.
func (f *flow) idle(now time.Time) bool {
	f.rxMu.Lock()
	quiet := int64(f.b.unixMS(now) - f.in.lastMS)
	busy := len(f.sessions) > 0
	f.rxMu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	return !busy && f.current == nil && f.dial == nil && quiet > flowIdle.Milliseconds() && now.Sub(f.used) > flowIdle
}
