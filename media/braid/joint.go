package braid

// slots is how many paths a set has at most. The low two bits of a path id are the slot of its path in the set, so that
// four bits in each frame can say on which paths its payload goes out; the high two count the paths that the slot has had.
const slots = maxPaths

const slotMask = 3

// pairCount is what two paths did with the media frames that went out on both.
type pairCount struct{ sent, lostA, lostB, both uint64 }

// slotPath is one path's losses in the order of the media frames.
type slotPath struct {
	used          bool
	path          uint8  // id
	since         uint64 // the first media frame that arrived on it
	run           uint64 // frames lost in a row, until now
	bursts, burst uint64 // runs of lost frames, and the longest
}

// joint tells losses apart by whether they hit one path or several: media frames say on which paths they go out, and
// settle says which of those delivered. The zero value is ready. Guarded by flow.rxMu.
type joint struct {
	slots [slots]slotPath
	pairs [slots]pairCount // of slots 0 and 1, 0 and 2, 1 and 2
	last  uint8            // slots of the newest settled frame that arrived
}

// pairSlots are the slots of joint.pairs.
var pairSlots = [slots][2]uint8{{0, 1}, {0, 2}, {1, 2}}

// arrive notes a media frame on a path. A path that takes a slot over begins new counts.
func (j *joint) arrive(path uint8, seq uint64) {
	slot := path & slotMask
	if slot >= slots {
		return
	}
	s := &j.slots[slot]
	if s.used && (s.path == path || seq <= s.since) {
		return
	}
	*s = slotPath{used: true, path: path, since: seq}
	for i, p := range pairSlots {
		if p[0] == slot || p[1] == slot {
			j.pairs[i] = pairCount{}
		}
	}
}

// settled takes one media frame, in order: the slots on which it went out (0: not known) and those that delivered. A frame
// that nobody delivered went out, as far as anybody here can tell, where its predecessor did.
func (j *joint) settled(seq uint64, sent, got uint8) {
	if sent == 0 {
		if got != 0 {
			return // of a source that does not say
		}
		sent = j.last
	}
	j.last = sent
	var counts, lost uint8
	for i := range j.slots {
		s, bit := &j.slots[i], uint8(1)<<i
		if !s.used || sent&bit == 0 || seq <= s.since {
			continue
		}
		counts |= bit
		if got&bit != 0 {
			s.run = 0
			continue
		}
		lost |= bit
		if s.run++; s.run == 1 {
			s.bursts++
		}
		s.burst = max(s.burst, s.run)
	}
	for i, p := range pairSlots {
		a, b := uint8(1)<<p[0], uint8(1)<<p[1]
		if counts&a == 0 || counts&b == 0 {
			continue
		}
		c := &j.pairs[i]
		c.sent++
		if lost&a != 0 {
			c.lostA++
		}
		if lost&b != 0 {
			c.lostB++
		}
		if lost&a != 0 && lost&b != 0 {
			c.both++
		}
	}
}

// burstsOf a path, by id; zeros for a path that holds no slot.
func (j *joint) burstsOf(path uint8) (bursts, longest uint64) {
	if slot := path & slotMask; slot < slots && j.slots[slot].used && j.slots[slot].path == path {
		return j.slots[slot].bursts, j.slots[slot].burst
	}
	return 0, 0
}

// report appends the pairs that have counts.
func (j *joint) report(out []pairReport) []pairReport {
	for i, p := range pairSlots {
		if j.pairs[i].sent > 0 {
			out = append(out, pairReport{j.slots[p[0]].path, j.slots[p[1]].path, j.pairs[i]})
		}
	}
	return out
}
