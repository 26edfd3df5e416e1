package ebpf

import "sync/atomic"

// counterSlots is the number of (class, reason) pairs, as many as the kernel's map has.
const counterSlots = 1 << (reasonBits + classBits)

// Count is how many packets got one verdict.
type Count struct {
	Class   Class
	Reason  Reason
	Packets uint64
}

// Stats is a snapshot of a Filter. Counters never go back while the Filter lives; those of the kernel stay after the
// program was detached.
type Stats struct {
	Mode           string  // as Filter.Mode
	XDP            []Count // judged by the kernel, not-zero counts only
	Go             []Count // judged by the twin
	Rules          int     // entries of the blocklist in force
	Updates        uint64  // rule sets put in force
	UpdateFailures uint64  // rule sets refused: malformed, too large, or not accepted by the kernel
	Lost           uint64  // times that an attached interface was found without the program
}

// Dropped sums the packets with the reason given, over all classes and both implementations.
func (s Stats) Dropped(r Reason) uint64 {
	var n uint64
	for _, counts := range [][]Count{s.XDP, s.Go} {
		for _, c := range counts {
			if c.Reason == r && r.Action() == Drop {
				n += c.Packets
			}
		}
	}
	return n
}

// tally counts verdicts of the twin; any goroutine may add, and learns how many there are.
type tally [counterSlots]atomic.Uint64

func (t *tally) add(v Verdict) uint64 { return t[slot(v.Class, v.Reason)].Add(1) }

func slot(c Class, r Reason) int { return int(c)<<reasonBits | int(r) }

// counts lists what a table of counters holds, through a reader of its slots.
func counts(read func(slot int) uint64) []Count {
	var out []Count
	for c := range classes {
		for r := range reasons {
			if n := read(slot(c, r)); n > 0 {
				out = append(out, Count{c, r, n})
			}
		}
	}
	return out
}
