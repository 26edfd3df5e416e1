package linkstate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

const (
	// MaxLinks bounds the links of a row.
	MaxLinks = 64
	// MaxDelay bounds latency and jitter of a link; more is an error of measurement.
	MaxDelay = time.Minute
	// DelayUnit is the resolution of delays on the wire.
	DelayUnit = 10 * time.Microsecond
	// MaxLoad bounds a load; 1 is full.
	MaxLoad = 60.0
	// MaxSessions bounds the clients of one node.
	MaxSessions = 10_000_000

	loadUnit  = 1000
	flagDown  = 1
	flagGone  = 2
	vitalsMax = 2 + 10 + 4 + 1
	linkMax   = 4 + 4 + 4 + 3
	rowMost   = MaxItem - 4 - bodyHeader - MaxSignature - vitalsMax // bytes for links
)

// Link is one node's view of its link to and from another, as it travels.
type Link struct {
	To              uint32
	Latency, Jitter time.Duration // one-way; multiples of DelayUnit
	LossOut, LossIn uint8         // see QuantLoss; out is towards the other
	Down            bool
}

// Vitals are the other things of a node that change often.
type Vitals struct {
	Load          float64 // 0 is idle, 1 is full; steps of 1/1000
	PolicyVersion uint64
	Sessions      uint32
}

// Row is what a node says of its load and links.
type Row struct {
	Vitals
	Links map[uint32]Link // by Link.To
}

// QuantLoss maps a share of 0-1 to 0-255 on a square scale, rounding up: fine near zero, where it matters.
func QuantLoss(p float64) uint8 {
	if !(p > 0) {
		return 0
	}
	return uint8(min(math.Ceil(math.Sqrt(min(p, 1))*255), 255))
}

// LossOf is the inverse of QuantLoss.
func LossOf(q uint8) float64 { return float64(q) / 255 * float64(q) / 255 }

// QuantDelay rounds to steps of about 3 %, so that rows change only when links do.
func QuantDelay(d time.Duration) time.Duration {
	d = min(max(d, 0), MaxDelay)
	step := DelayUnit
	for step*32 < d {
		step *= 2
	}
	return min((d+step/2)/step*step, MaxDelay)
}

// Rounded returns v as it travels. What is no number, or below zero, becomes 0.
func (v Vitals) Rounded() Vitals {
	if !(v.Load >= 0) {
		v.Load = 0
	}
	v.Load = math.Ceil(min(v.Load, MaxLoad)*loadUnit) / loadUnit
	v.Sessions = min(v.Sessions, MaxSessions)
	return v
}

func appendVitals(b []byte, v Vitals) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(math.Round(v.Load*loadUnit)))
	b = binary.AppendUvarint(b, v.PolicyVersion)
	return binary.AppendUvarint(b, uint64(v.Sessions))
}

func appendLink(b []byte, l Link, flags byte) []byte {
	if l.Down {
		flags |= flagDown
	}
	b = binary.BigEndian.AppendUint32(b, l.To)
	b = binary.AppendUvarint(b, uint64(l.Latency/DelayUnit))
	b = binary.AppendUvarint(b, uint64(l.Jitter/DelayUnit))
	return append(b, l.LossOut, l.LossIn, flags)
}

// ErrAbsurd is wrapped by numbers that no measurement gives.
var ErrAbsurd = errors.New("absurd value")

// Change is the content of a full row or a delta.
type Change struct {
	Vitals
	Set  []Link   // links as they are now; ids rise
	Gone []uint32 // links that are not measured any more (delta only)
}

// DecodeChange reads the content of a row, and refuses what no sane node would write.
func DecodeChange(kind Kind, content []byte) (ch Change, err error) {
	c := cursor{b: content}
	ch.Load = float64(c.u16()) / loadUnit
	ch.PolicyVersion = c.uvarint()
	sessions, count := c.uvarint(), int(c.u8())
	if ch.Load > MaxLoad || sessions > MaxSessions || count > 2*MaxLinks {
		return Change{}, fmt.Errorf("%w: load %g, %d sessions, %d links", ErrAbsurd, ch.Load, sessions, count)
	}
	ch.Sessions = uint32(sessions)
	last := int64(-1)
	for range count {
		l := Link{To: c.u32()}
		latency, jitter := c.uvarint(), c.uvarint()
		l.LossOut, l.LossIn = c.u8(), c.u8()
		flags := c.u8()
		l.Down = flags&flagDown != 0
		gone := flags&flagGone != 0
		if most := uint64(MaxDelay / DelayUnit); latency > most || jitter > most || flags > flagDown|flagGone ||
			int64(l.To) <= last || gone && (kind == Full || l.Down) {
			return Change{}, fmt.Errorf("%w: link to %08x: latency %d, jitter %d, flags %d", ErrAbsurd, l.To, latency, jitter, flags)
		}
		last = int64(l.To)
		l.Latency, l.Jitter = time.Duration(latency)*DelayUnit, time.Duration(jitter)*DelayUnit
		if gone {
			ch.Gone = append(ch.Gone, l.To)
		} else {
			ch.Set = append(ch.Set, l)
		}
	}
	if c.short || len(c.b) > 0 || len(ch.Set) > MaxLinks {
		return Change{}, fmt.Errorf("%w: row of %d bytes with %d links", ErrForm, len(content), len(ch.Set))
	}
	return ch, nil
}

// Apply returns the row that a change makes of r. A full row ignores r, a delta needs the full one that it is based on.
func (ch Change) Apply(kind Kind, r Row) Row {
	out := Row{Vitals: ch.Vitals, Links: make(map[uint32]Link, len(r.Links)+len(ch.Set))}
	if kind == Delta {
		maps.Copy(out.Links, r.Links)
	}
	for _, l := range ch.Set {
		if len(out.Links) < 2*MaxLinks { // a liar's deltas grow no further
			out.Links[l.To] = l
		}
	}
	for _, id := range ch.Gone {
		delete(out.Links, id)
	}
	return out
}

// Writer makes the items of a node's own row. The zero value writes a full row first.
type Writer struct {
	full    map[uint32]Link // as of the last full row; nil: none
	counter uint32          // of it
	epoch   uint32
}

// Write returns the body of the item that says row, with the next counter. Links beyond what an item holds are left out, those
// of high ids first: a node does not measure so many.
func (w *Writer) Write(origin uint32, v Version, row Row) []byte {
	ids := slices.Sorted(maps.Keys(row.Links))
	ids = ids[:min(len(ids), MaxLinks, rowMost/linkMax)]
	var changed []byte
	count := 0
	delta := w.full != nil && w.epoch == v.Epoch
	if delta {
		changed, count = w.changed(row, ids)
		delta = count*2 <= len(ids) && len(changed) <= rowMost
	}
	h := Head{Kind: Delta, Origin: origin, Version: v, Base: w.counter}
	if !delta {
		h.Kind, h.Base = Full, 0
		w.full, w.counter, w.epoch = make(map[uint32]Link, len(ids)), v.Counter, v.Epoch
		changed, count = nil, len(ids)
		for _, id := range ids {
			w.full[id] = row.Links[id]
			changed = appendLink(changed, row.Links[id], 0)
		}
	}
	return append(append(appendVitals(AppendHead(nil, h), row.Vitals), byte(count)), changed...)
}

// changed lists what differs from the last full row, by rising id.
func (w *Writer) changed(row Row, ids []uint32) (b []byte, count int) {
	all := slices.Concat(ids, slices.Collect(maps.Keys(w.full)))
	slices.Sort(all)
	for _, id := range slices.Compact(all) {
		now, is := row.Links[id]
		was, had := w.full[id]
		switch {
		case is && now != was:
			b = appendLink(b, now, 0)
		case !is && had:
			b = appendLink(b, Link{To: id}, flagGone)
		default:
			continue
		}
		count++
	}
	return b, count
}
