package ebpf

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// sampledSources bounds the sources that are remembered; the one with the fewest samples makes room.
	sampledSources = 256
	// reportedSources bounds the sources in a report.
	reportedSources = 20
	// Of each class and reason the first drop and every sampleEvery-th is a sample, within a rate.
	sampleEvery      = 64
	sampleIntervalNS = 10_000_000
	sampleBurst      = 100
	// sampleBytes is how much of a dropped frame the kernel hands over: enough for the headers up to UDP's.
	sampleBytes = 96
	// Log lines about new attackers: announceBurst at once, then one every announceEvery. Who waits is named later.
	announceEvery = 6 * time.Second
	announceBurst = 10
	// attackerSamples is how many samples make a source worth a log line.
	attackerSamples = 20
)

// drops remembers where sampled drops came from. Samples are rate-limited where they are taken (limitSamples),
// so a flood costs no more here than a trickle.
type drops struct {
	mu      sync.Mutex // guards everything below
	sources map[netip.Addr]*dropSource
	total   uint64
	lost    uint64
	bucket  bucket    // of the twin's samples; the kernel has its own
	lines   bucket    // of the log's lines about attackers
	recent  []Dropped // a ring, by number
}

type dropSource struct {
	samples     uint64
	first, last time.Time
	verdict     Verdict
	announced   bool
}

// add takes one sample. It returns true when the source has become worth its one log line.
func (d *drops) add(src netip.Addr, v Verdict, where string, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.total++
	d.keep(Dropped{Time: now, Where: where, Source: src, Class: v.Class, Reason: v.Reason, Rule: v.Rule})
	if !src.IsValid() {
		return false // a frame that ended before its source
	}
	s, ok := d.sources[src]
	if !ok {
		if d.sources == nil {
			d.sources = make(map[netip.Addr]*dropSource)
		}
		if len(d.sources) >= sampledSources {
			d.makeRoom()
		}
		s = &dropSource{first: now}
		d.sources[src] = s
	}
	s.samples++
	s.last, s.verdict = now, v
	every := limit{uint64(announceEvery), uint64(announceEvery) * (announceBurst - 1)}
	if s.announced || s.samples < attackerSamples || !d.lines.take(every, uint64(now.UnixNano())) {
		return false
	}
	s.announced = true
	return true
}

func (d *drops) makeRoom() {
	var least netip.Addr
	for a, s := range d.sources {
		if o := d.sources[least]; o == nil || s.samples < o.samples || s.samples == o.samples && s.last.Before(o.last) {
			least = a
		}
	}
	delete(d.sources, least)
}

// room says whether the twin may take a sample at now.
func (d *drops) room(now uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bucket.take(limit{sampleIntervalNS, sampleIntervalNS * (sampleBurst - 1)}, now)
}

// missed counts samples that could not be taken.
func (d *drops) missed(n uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost += n
}

func (d *drops) report() (top []ReportSource, total, lost uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for a, s := range d.sources {
		top = append(top, ReportSource{
			Source: a, Samples: s.samples, Class: s.verdict.Class.String(), Reason: s.verdict.Reason.String(),
			First: s.first, Last: s.last,
		})
	}
	slices.SortFunc(top, func(a, b ReportSource) int {
		return cmp.Or(-cmp.Compare(a.Samples, b.Samples), a.Source.Compare(b.Source))
	})
	return top[:min(len(top), reportedSources)], d.total, d.lost
}

// sample notes one drop, wherever it was decided.
func (f *Filter) sample(src netip.Addr, v Verdict, where string) {
	if f.drops.add(src, v, where, time.Now()) {
		f.cfg.Logger.Warn("packet filter: many packets of one source dropped (the address may be forged)",
			"event", "attacker", "source", src, "class", v.Class, "reason", v.Reason, "rule", v.Rule)
	}
	f.accuse(src, v)
}

// frameSource reads the source of a frame's beginning; invalid where there is none.
func frameSource(head []byte) netip.Addr {
	if len(head) < 14 {
		return netip.Addr{}
	}
	proto, rest := binary.BigEndian.Uint16(head[12:]), head[14:]
	for i := 0; i < maxVLANs && (proto == 0x8100 || proto == 0x88a8) && len(rest) >= 4; i++ {
		proto, rest = binary.BigEndian.Uint16(rest[2:]), rest[4:]
	}
	switch {
	case proto == 0x0800 && len(rest) >= 16:
		return netip.AddrFrom4([4]byte(rest[12:16]))
	case proto == 0x86dd && len(rest) >= 24:
		return netip.AddrFrom16([16]byte(rest[8:24]))
	}
	return netip.Addr{}
}
