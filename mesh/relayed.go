package mesh

import (
	"encoding/binary"
	"math"
	"time"
)

const (
	// spanShift makes spans of 1,024 ms of the source's time, of which the newest are kept: both ends of a link then speak of the same
	// frames, whenever they say so.
	spanShift = 10
	spanCount = 1 << (16 - spanShift) // a time of 16 bits has so many
	spansKept = 4
	spanLeast = 5 // looks at frames in a span, to be worth a word
	// spanFresh is less than it takes until a span's number comes again.
	spanFresh = 10 * time.Second
	// sourceIdle is when another source's frames are looked at.
	sourceIdle = time.Second
)

// span is the lowest transit of one source's frames within 1,024 ms of its time.
type span struct {
	number uint8
	looks  int
	at     time.Time // when the last one was looked at
	low    time.Duration
}

// relayed is what frames of a third node took until they came here, on their way over a link: at its beginning as they were passed
// on, at its end as they were brought. What they took more at its end is the link's transit. Of one source at a time, a sample every
// probeTick; the beginning chooses which. Pure.
type relayed struct {
	source       uint32
	count        uint64 // of frames, when we last looked
	at           time.Time
	newest       uint8 // span
	last, jitter time.Duration
	spans        [spansKept]span
}

// passing is what the beginning of a link says of the last full span; source is 0 if there is none.
type passing struct {
	source      uint32
	number      uint8
	low, jitter time.Duration
}

// look takes the newest frame in, if it was not seen before and is the source's; choose takes that of another, once the one before
// has none.
func (r *relayed) look(now time.Time, f Relayed, choose bool) {
	if f.Count <= r.count {
		return
	}
	r.count = f.Count
	if f.Source != r.source {
		if !choose || now.Sub(r.at) <= sourceIdle {
			return
		}
		r.follow(f.Source)
	}
	if now.Sub(r.at) > transitFresh || (f.Transit-r.last).Abs() > transitMost {
		r.last, r.jitter = f.Transit, 0
	}
	r.newest = uint8(f.SentMS >> spanShift)
	s := &r.spans[r.newest%spansKept]
	if s.number != r.newest || now.Sub(s.at) > spanFresh {
		*s = span{number: r.newest, low: f.Transit}
	}
	s.looks++
	s.at, s.low = now, min(s.low, f.Transit)
	r.jitter += ((f.Transit - r.last).Abs() - r.jitter) / transitWeight
	r.last, r.at = f.Transit, now
}

// follow forgets what was known, in favour of another source.
func (r *relayed) follow(source uint32) { *r = relayed{source: source, count: r.count} }

// of is what is known of a span, if that is worth a word.
func (r *relayed) of(now time.Time, number uint8) (s span, ok bool) {
	s = r.spans[number%spansKept]
	return s, s.number == number && s.looks >= spanLeast && now.Sub(s.at) < spanFresh/2
}

// says is what to tell the other end of a link that these frames were passed on over.
func (r *relayed) says(now time.Time) passing {
	number := (r.newest - 1) % spanCount
	s, ok := r.of(now, number)
	if !ok || now.Sub(r.at) > transitFresh {
		return passing{}
	}
	return passing{r.source, number, s.low, r.jitter}
}

// against is the transit of the link that brought these frames, by what its beginning says of them. Where they came there with
// much jitter it cannot be told from the link's, and is -1.
func (r *relayed) against(now time.Time, p passing) (t transit, ok bool) {
	if p.source != r.source {
		r.follow(p.source)
		return transit{}, false
	}
	s, ok := r.of(now, p.number)
	if !ok || p.source == 0 {
		return transit{}, false
	}
	t = transit{at: now, low: s.low - p.low, jitter: -1}
	if a, b := float64(r.jitter), float64(p.jitter); a >= 2*b || r.jitter < newsDelay {
		t.jitter = time.Duration(math.Sqrt(max(a*a-b*b, 0)))
	}
	return t, true
}

// append writes what is said: u32 source, u8 span, i32 lowest transit and u32 its mean change in microseconds.
func (p passing) append(b []byte) []byte {
	low, jitter := p.low.Microseconds(), min(p.jitter, transitMost).Microseconds()
	b = append(binary.BigEndian.AppendUint32(b, p.source), p.number)
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, uint32(int32(low))), uint32(jitter))
}

// parsePassing is the inverse of append; what cannot be is none.
func parsePassing(b []byte) passing {
	p := passing{
		source: binary.BigEndian.Uint32(b), number: b[4], low: time.Duration(int32(binary.BigEndian.Uint32(b[5:]))) * time.Microsecond,
		jitter: time.Duration(binary.BigEndian.Uint32(b[9:])) * time.Microsecond,
	}
	if p.number >= spanCount || p.jitter > transitMost {
		return passing{}
	}
	return p
}

// bring takes in what the other end says of frames that it passed on to us. A transit far off the last one, or the first of all, is
// believed when the next span says the same: of frames at the edge of a span each end may have seen others.
func (l *link) bring(now time.Time, p passing) {
	t, ok := l.brought.against(now, p)
	known := l.via.fresh(now)
	if !ok || p.number == l.span && (known || l.doubted.fresh(now)) { // requests and replies say one span several times
		return
	}
	near := func(a transit) bool { return a.fresh(now) && (t.low-a.low).Abs() <= transitStep }
	if l.span = p.number; near(l.via) || near(l.doubted) {
		l.via, l.doubted = t, transit{}
		return
	}
	if l.doubted = t; known {
		t.low = l.via.low
		l.via = t
	}
}
