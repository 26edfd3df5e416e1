package ebpf

import (
	"net/netip"
	"time"
)

const (
	// onwardFor is how long the kernel does as the node's relay did, without asking again.
	onwardFor = time.Second
	// maxOnward bounds the decisions in the kernel (bpf/verdict.h); further frames stay with user space.
	maxOnward = 8192
	// onwardIdle is when a decision that nobody has repeated is taken out.
	onwardIdle = 10 * time.Second
)

// OnwardKey says which frames are meant: of this source, with this hop before and this one behind the node, of this fence.
// All four as they stand in the frame.
type OnwardKey struct{ Source, Before, Next, Fence uint32 }

// Onward is what the node's relay has just done with a path frame. For a second the kernel may do the same with frames of
// the same OnwardKey whose MAC, freshness and budget it can verify: change the hop index, write the addresses and send it
// out where it came in. IPv4 alone.
type Onward struct {
	OnwardKey
	Keys      [3][16]byte // with which the source's frames are checked, for the epochs Epoch-1, Epoch and Epoch+1
	Epoch     uint32
	From      netip.Addr     // of this node, towards the next one
	To        netip.AddrPort // of the next one
	Interface int            // the way there, and only frames that come from there take it
	LinkFrom  [6]byte        // hardware addresses on the way there
	LinkTo    [6]byte
}

// OnwardCount is what the kernel has sent on for an OnwardKey since the last question.
type OnwardCount struct {
	OnwardKey
	Media, Other, Bytes uint64 // frames that count as a link's traffic (kinds 1 and 2), the others; UDP payload of both
}

// relays is what user space remembers of the decisions that it gave the kernel. Filter.mu guards it.
type relays struct {
	slots map[OnwardKey]*onwardSlot
	free  []uint32 // of onward_counts, given back
	used  uint32   // slots that were ever given out
	seen  map[uint32]OnwardCount
	total OnwardTotals
}

// onwardSlot is where the kernel counts for a key.
type onwardSlot struct {
	slot uint32
	at   uint64 // when the decision was last repeated, by Filter.clock
}

// OnwardTotals sums what the kernel has sent on.
type OnwardTotals struct {
	Frames, Bytes uint64
	Decisions     int    // in force, or lately
	Refused       uint64 // decisions that found no room: their frames stay with user space
}

// SendOnward lets the kernel do as the node's relay did. False: it cannot, since the program is not attached, the address
// is not IPv4 or there is no room; the frames stay with user space. Safe for concurrent use; it makes system calls.
func (f *Filter) SendOnward(o Onward) bool {
	if f.cfg.Relay == 0 || !o.From.Is4() || !o.To.Addr().Is4() {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.kernel == nil || f.twin.Load() {
		return false
	}
	now := f.clock()
	s := f.relays.slot(o.OnwardKey, now)
	if s == nil {
		return false
	}
	err := f.kernel.putOnward(o, s.slot, now+uint64(onwardFor))
	f.note(err)
	return err == nil
}

// ForgetOnward takes all decisions back: call it when who may carry what has changed. Frames then go to user space until it
// decides again.
func (f *Filter) ForgetOnward() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.kernel == nil {
		return
	}
	for key := range f.relays.slots {
		f.note(f.kernel.dropOnward(key))
	}
}

// Relayed calls each for what the kernel has sent on since the last call, and takes out what nobody has repeated lately. Call it
// often: each is how the node's relay learns what passed it by.
func (f *Filter) Relayed(each func(OnwardCount)) {
	f.mu.Lock()
	counts := f.relayed()
	f.mu.Unlock()
	for _, c := range counts {
		each(c)
	}
}

// relayed is Relayed with mu held.
func (f *Filter) relayed() (out []OnwardCount) {
	if f.kernel == nil {
		return nil
	}
	r, now := &f.relays, f.clock()
	for key, s := range r.slots {
		c, err := f.kernel.onwardCount(s.slot)
		f.note(err)
		before := r.seen[s.slot]
		if d := (OnwardCount{key, c.Media - before.Media, c.Other - before.Other, c.Bytes - before.Bytes}); err == nil && d.Bytes > 0 {
			r.seen[s.slot] = c
			r.total.Frames += d.Media + d.Other
			r.total.Bytes += d.Bytes
			out = append(out, d)
		} else if now-s.at > uint64(onwardIdle) {
			f.note(f.kernel.dropOnward(key))
			r.free = append(r.free, s.slot)
			delete(r.slots, key)
		}
	}
	return out
}

// OnwardTotals returns a snapshot of what Relayed has reported.
func (f *Filter) OnwardTotals() OnwardTotals {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.relays.total
	t.Decisions = len(f.relays.slots)
	return t
}

// note counts an entry that the kernel did not take.
func (f *Filter) note(err error) {
	f.guard.mu.Lock()
	defer f.guard.mu.Unlock()
	f.guard.note(err)
}

// slot returns the entry of a key, a new one if there is room; else nil.
func (r *relays) slot(key OnwardKey, now uint64) *onwardSlot {
	s, ok := r.slots[key]
	if !ok {
		n := len(r.free)
		switch {
		case n > 0:
			s = &onwardSlot{slot: r.free[n-1]}
			r.free = r.free[:n-1]
		case r.used < maxOnward:
			s = &onwardSlot{slot: r.used}
			r.used++
		default:
			r.total.Refused++
			return nil
		}
		if r.slots == nil {
			r.slots, r.seen = make(map[OnwardKey]*onwardSlot), make(map[uint32]OnwardCount)
		}
		r.slots[key] = s
	}
	s.at = now
	return s
}

// tellTime keeps the kernel's time, which path frames carry, that of the node's relay. The caller holds mu.
func (f *Filter) tellTime() {
	if f.cfg.Relay != 0 {
		f.note(f.kernel.setRelaying(f.cfg.Relay, f.cfg.RelayRate, f.clock(), f.cfg.RelayTime()))
	}
}
