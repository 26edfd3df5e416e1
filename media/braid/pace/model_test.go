package pace

import (
	"math/rand/v2"
	"testing"
	"time"
)

// world is a packet model of bottlenecks, stepped by the millisecond: pipes with a rate, a drop-tail queue and a delay,
// senders that obey a Control, and TCP-like cross flows. One goroutine, one seed: every run is the same.
type world struct {
	t     *testing.T
	now   time.Time
	began time.Time
	rng   *rand.Rand
	pipes []*pipe
	flows []*sender
	cross []*bulk
	c     Control
	clock time.Duration // that receivers' clocks are ahead
}

// pipe is a bottleneck.
type pipe struct {
	rate  float64 // bytes/s; 0 = unlimited
	bound float64 // bytes of queue
	free  time.Time
	loss  float64
}

// carry returns when a packet leaves the pipe; false: dropped.
func (p *pipe) carry(w *world, size int) (time.Time, bool) {
	if w.rng.Float64() < p.loss {
		return time.Time{}, false
	}
	if p.rate == 0 {
		return w.now, true
	}
	start := p.free
	if start.Before(w.now) {
		start = w.now
	}
	if start.Sub(w.now).Seconds()*p.rate > p.bound {
		return time.Time{}, false
	}
	p.free = start.Add(time.Duration(float64(size) / p.rate * 1e9))
	return p.free, true
}

func (p *pipe) queue(w *world) time.Duration { return max(0, p.free.Sub(w.now)) }

// route is one path of a sender: pipes in order and a delay.
type route struct {
	path   *Path
	pipes  []*pipe
	delay  time.Duration
	needed Bucket
	copies Bucket

	flight   []arrivalAt // by arrival
	sum      Sample
	sentNow  int
	sent     int // bytes ever
	arrived  int
	reported time.Time
}

type arrivalAt struct {
	at   time.Time
	owd  time.Duration // of the network
	age  time.Duration // since the frame was made
	lost bool
	n    int // frame
}

const frameSize = 1250

// sender is a flow with media of a constant rate.
type sender struct {
	f      *Flow
	routes []*route
	rate   float64 // bytes/s
	copies int     // extra ones wanted
	credit float64
	queue  []time.Time // waiting frames, by when they were made

	made, stale, sentFrames int
	copiesSent              int
	got                     map[int]bool
	late                    time.Duration // longest from making to arrival
}

// crossing is one TCP-like flow: Reno in packets per round trip.
type bulk struct {
	pipe     *pipe
	rtt      time.Duration
	cwnd     float64
	credit   float64
	holdTill time.Time
	got      int // bytes
	off      bool
}

func newWorld(t *testing.T) *world {
	start := time.Unix(1_000_000, 0)
	return &world{t: t, now: start, began: start, rng: rand.New(rand.NewPCG(7, 9))}
}

func mbit(n float64) float64 { return n * 1e6 / 8 }

func (w *world) pipe(mbits float64, queue time.Duration) *pipe {
	p := &pipe{rate: mbit(mbits)}
	p.bound = p.rate * queue.Seconds()
	w.pipes = append(w.pipes, p)
	return p
}

// send adds a flow whose paths run through the given pipes (nil: none), with delays of 40, 50, 60 ms.
func (w *world) send(mbits float64, copies int, through ...[]*pipe) *sender {
	s := &sender{f: w.c.NewFlow(), rate: mbit(mbits), copies: copies, got: map[int]bool{}}
	var paths []*Path
	for i, pipes := range through {
		r := &route{path: s.f.NewPath(uint32(100*len(w.flows) + i)), pipes: pipes, delay: time.Duration(40+10*i) * time.Millisecond}
		r.path.SetUsable(true)
		r.reported = w.now
		paths = append(paths, r.path)
		s.routes = append(s.routes, r)
	}
	s.f.SetPaths(paths)
	w.flows = append(w.flows, s)
	w.grant(s)
	return s
}

func (w *world) grant(s *sender) {
	for _, r := range s.routes {
		r.needed.Set(w.now, r.path.Grant().Needed)
		r.copies.Set(w.now, r.path.Grant().Copies)
	}
}

func (w *world) since() time.Duration { return w.now.Sub(w.began) }

// run lets time pass.
func (w *world) run(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(time.Millisecond) {
		for _, s := range w.flows {
			w.emit(s)
			for _, r := range s.routes {
				w.receive(s, r)
			}
		}
		for _, x := range w.cross {
			x.step(w)
		}
		if w.since()%(50*time.Millisecond) == 0 {
			for _, s := range w.flows {
				s.f.Offer(s.rate, float64(s.copies))
			}
			w.c.Step(w.now)
			for _, s := range w.flows {
				w.grant(s)
			}
		}
	}
}

// emit makes frames and sends what the grants allow.
func (w *world) emit(s *sender) {
	for s.credit += s.rate / 1000; s.credit >= frameSize; s.credit -= frameSize {
		s.queue = append(s.queue, w.now)
		s.made++
	}
	for _, r := range s.routes {
		if len(s.queue) > 0 {
			r.needed.Late(w.now, w.now.Sub(s.queue[0]))
			r.copies.Late(w.now, w.now.Sub(s.queue[0]))
		}
	}
	for len(s.queue) > 0 {
		if w.now.Sub(s.queue[0]) > 160*time.Millisecond {
			s.queue = s.queue[1:]
			s.stale++
			continue
		}
		first := -1
		for i, r := range s.routes {
			if r.needed.Room(w.now) > 0 {
				first = i
				break
			}
		}
		if first < 0 {
			return
		}
		n := s.sentFrames
		s.sentFrames++
		w.put(s.routes[first], &s.routes[first].needed, n, s.queue[0])
		for i, r := range s.routes {
			if i != first && s.copies > 0 && r.copies.Room(w.now) > 0 {
				w.put(r, &r.copies, n, s.queue[0])
				s.copiesSent++
			}
		}
		s.queue = s.queue[1:]
	}
}

func (w *world) put(r *route, b *Bucket, n int, made time.Time) {
	b.Take(frameSize)
	r.sentNow += frameSize
	r.sent += frameSize
	at := w.now
	ok := true
	for _, p := range r.pipes {
		var out time.Time
		if out, ok = p.carry(w, frameSize); !ok {
			break
		}
		at = at.Add(out.Sub(w.now))
	}
	at = at.Add(r.delay)
	r.flight = append(r.flight, arrivalAt{at, at.Sub(w.now), at.Sub(made), !ok, n})
}

// receive takes what has arrived and reports every 50 ms, one delay later.
func (w *world) receive(s *sender, r *route) {
	for len(r.flight) > 0 && !r.flight[0].at.After(w.now) {
		a := r.flight[0]
		r.flight = r.flight[1:]
		if a.lost {
			r.sum.Lost++
			continue
		}
		if owd := a.owd + w.clock; r.sum.Frames == 0 || owd < r.sum.MinDelay {
			r.sum.MinDelay = owd
		}
		r.sum.Frames++
		r.sum.Bytes += frameSize
		r.arrived += frameSize
		if !s.got[a.n] {
			s.got[a.n] = true
			s.late = max(s.late, a.age)
		}
	}
	if w.now.Sub(r.reported) >= 50*time.Millisecond {
		sum := r.sum
		sum.Interval, sum.Sent, sum.RTT = w.now.Sub(r.reported), r.sentNow, 2*r.delay
		r.sum, r.sentNow, r.reported = Sample{}, 0, w.now
		// The report travels for a delay; the model delivers it at once and makes up for it by the feedback's age.
		w.c.Feedback(w.now, r.path, sum)
	}
}

// lost is how many of the frames made so far (those of the last 300 ms left out) never arrived.
func (s *sender) lost() int { return s.sentFrames - len(s.got) + s.stale }

// step sends one millisecond of a Reno flow.
func (b *bulk) step(w *world) {
	if b.off {
		return
	}
	rtt := b.rtt + b.pipe.queue(w)
	b.credit += b.cwnd * 0.001 / rtt.Seconds()
	for ; b.credit >= 1; b.credit-- {
		if _, ok := b.pipe.carry(w, frameSize); ok {
			b.got += frameSize
			b.cwnd += 1 / b.cwnd
		} else if w.now.After(b.holdTill) {
			b.cwnd = max(2, b.cwnd/2)
			b.holdTill = w.now.Add(rtt)
		}
	}
}
