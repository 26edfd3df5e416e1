package ebpf

import (
	"net/netip"
	"time"
)

// recentDrops is how many sampled drops are kept for Recent, at least ten seconds' worth; the oldest make room.
const recentDrops = 1024

// Dropped is one sampled drop. The source may be forged.
type Dropped struct {
	Number uint64       `json:"number"` // counts samples from 1; a gap is what was asked for too late
	Time   time.Time    `json:"time"`
	Where  string       `json:"where"`  // xdp or go
	Source netip.Addr   `json:"source"` // the zero Addr when the frame ended before it
	Class  Class        `json:"class"`
	Reason Reason       `json:"reason"`
	Rule   netip.Prefix `json:"rule"` // of the blocklist; the zero Prefix when none matched
}

// Recent returns the sampled drops (see the package comment) with numbers above after, oldest first, as far as they are
// kept.
func (f *Filter) Recent(after uint64) []Dropped {
	d := &f.drops
	d.mu.Lock()
	defer d.mu.Unlock()
	first := max(after, d.total-min(d.total, recentDrops))
	out := make([]Dropped, 0, d.total-min(d.total, first))
	for n := first + 1; n <= d.total; n++ {
		out = append(out, d.recent[n%recentDrops])
	}
	return out
}

// keep remembers a drop under its number, d.total. The caller holds mu.
func (d *drops) keep(x Dropped) {
	if d.recent == nil {
		d.recent = make([]Dropped, recentDrops)
	}
	x.Number = d.total
	d.recent[x.Number%recentDrops] = x
}
