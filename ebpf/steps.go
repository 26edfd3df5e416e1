package ebpf

import (
	"math/bits"
	"slices"
)

const noRule int32 = -1

// wide is an address as a number; an IPv4 address is the high half.
type wide struct{ hi, lo uint64 }

func (a wide) less(b wide) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

// Bounds of the index, with those of the kernel's maps (bpf/verdict.h). What does not fit is searched.
const (
	maxNodes    = 16_384
	maxJumps    = 131_072
	indexLevels = 4
	crowded     = 16 // a slot with more steps than this gets a node of its own
)

// steps cuts the address space of a family where the answer changes: rule[i] holds from start[i] up to start[i+1].
// Above them stands an index of nodes. A node cuts the part of the address space in which its steps begin into equal
// slots, and looks at one half of the address: the low one if its steps share the high one. A slot says which steps are
// left, or which node goes on. So where rules stand close together, the slots do too, and few steps remain to search.
type steps struct {
	start []wide
	rule  []int32
	nodes []node   // the root first; none when there are no rules
	jump  []uint64 // the slots of all nodes
}

// node is struct node of bpf/filter.c. Slot i begins at base + i<<shift, and the last one has no end.
type node struct {
	base  uint64
	same  uint64 // the high half that all its steps share, if low
	at    uint32 // its first slot in jump
	last  uint32 // its last slot, from 0
	shift uint32
	low   bool
}

// group is consecutive steps: the first holds where the others begin.
type group struct{ first, n, level int }

// grow makes room for n steps.
func (s *steps) grow(n int) {
	s.start, s.rule = slices.Grow(s.start, n), slices.Grow(s.rule, n)
}

func (s *steps) add(at wide, rule int32) {
	s.start, s.rule = append(s.start, at), append(s.rule, rule)
}

func (s *steps) find(a wide) int32 {
	if len(s.nodes) == 0 {
		return noRule
	}
	at, n := s.near(a)
	for n > 1 { // the last step that begins at or before a
		half := n / 2
		if !a.less(s.start[at+half]) {
			at += half
		}
		n -= half // the lower part may be one shorter; the step too many begins behind a
	}
	return s.rule[at]
}

// near returns the steps that are left to search.
func (s *steps) near(a wide) (at, n uint64) {
	n = uint64(len(s.start))
	for next := uint64(0); ; {
		nd, x := &s.nodes[next], a.hi
		if nd.low {
			switch x = a.lo; {
			case a.hi < nd.same:
				return at, 1
			case a.hi > nd.same:
				return at + n - 1, 1
			}
		}
		if x < nd.base {
			return at, 1
		}
		e := s.jump[uint64(nd.at)+min((x-nd.base)>>nd.shift, uint64(nd.last))]
		if at, n, next = unslot(e); next == 0 {
			return at, n
		}
	}
}

// slotted packs what a slot says: which step holds where the slot begins, how many steps are left, and the node that goes
// on, if it is not 0.
func slotted(at, n, node int) uint64 { return uint64(at) | uint64(n)<<20 | uint64(node)<<40 }

func unslot(e uint64) (at, n, node uint64) { return e & 0xfffff, e >> 20 & 0xfffff, e >> 40 }

// index builds the nodes, the wide ones first, so that none but the narrowest can lack room.
func (s *steps) index() {
	if len(s.start) < 2 {
		return
	}
	s.nodes = []node{{}}
	queue := []group{{0, len(s.start), 1}}
	room := maxJumps - slotsFor(queue[0])
	for i := 0; i < len(queue); i++ { // queue[i] is the group of nodes[i]
		for slot, g := range s.split(i, queue[i]) {
			next := 0
			if g.n > crowded && g.level <= indexLevels && len(s.nodes) < maxNodes && slotsFor(g) <= room {
				room -= slotsFor(g)
				next = len(s.nodes)
				s.nodes, queue = append(s.nodes, node{}), append(queue, g)
			}
			s.jump[int(s.nodes[i].at)+slot] = slotted(g.first, g.n, next)
		}
	}
}

// slotsFor is the room that a group's node may take: a slot for every four steps, and for every two in the root.
func slotsFor(g group) int {
	return 1 << (max(bits.Len(uint((g.n-1)>>min(g.level, 2))), 1) - 1)
}

// split makes the node of a group and returns what is in its slots.
func (s *steps) split(i int, g group) []group {
	begun := s.start[g.first+1 : g.first+g.n]
	head, tail := begun[0], begun[len(begun)-1]
	nd := node{base: head.hi, at: uint32(len(s.jump)), low: head.hi == tail.hi, same: head.hi}
	span := tail.hi - head.hi
	if nd.low {
		nd.base, span = head.lo, tail.lo-head.lo
	}
	for span>>nd.shift >= uint64(slotsFor(g)) {
		nd.shift++
	}
	nd.last = uint32(span >> nd.shift)
	s.nodes[i] = nd
	s.jump = append(s.jump, make([]uint64, nd.last+1)...)
	out := make([]group, nd.last+1)
	at, end := g.first, g.first+g.n
	for slot := range out {
		begin := nd.begin(slot)
		for at+1 < end && !begin.less(s.start[at+1]) {
			at++
		}
		out[slot] = group{first: at, level: g.level + 1}
	}
	for slot := range out {
		stop := end // the first step that does not begin in this slot
		if slot+1 < len(out) {
			if stop = out[slot+1].first; s.start[stop].less(nd.begin(slot + 1)) {
				stop++
			}
		}
		out[slot].n = stop - out[slot].first
	}
	return out
}

// begin is the first address of a slot.
func (nd *node) begin(slot int) wide {
	x := nd.base + uint64(slot)<<nd.shift
	if nd.low {
		return wide{nd.same, x}
	}
	return wide{hi: x}
}
