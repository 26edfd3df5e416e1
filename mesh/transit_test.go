package mesh

import (
	"testing"
	"time"
)

// A link that carries traffic becomes 30 ms slower in one direction: the frames show it at once, both ends say the same, and it
// stays so when the probes' smallest round trip catches up. Clocks that differ do not matter. On an idle link it takes the probes
// five to ten seconds, as a lower round trip may come back.
func TestFramesShowThatALinkGotSlower(t *testing.T) {
	l, a, b, _ := talk(t)
	c := l.nodes[2]
	a.clock, b.clock = 700*time.Millisecond, -1500*time.Millisecond
	l.until(l.now.Add(20 * time.Second))
	base, idle := linkTo(t, a, b), linkTo(t, a, c)
	if !base.Timed {
		t.Fatal("the frames' times are not used")
	}
	if truth := l.latency(a, b) + l.latency(b, a); (base.RTT - truth).Abs() > time.Millisecond {
		t.Errorf("a round trip of %v, measured as %v", truth, base.RTT)
	}
	a.extra[b.index], a.extra[c.index] = 30*time.Millisecond, 30*time.Millisecond
	took := l.within(20*time.Second, func() bool {
		return linkTo(t, a, b).RTT > base.RTT+20*time.Millisecond && linkTo(t, b, a).RTT > base.RTT+20*time.Millisecond
	})
	t.Logf("a rise is known after %v", took)
	if took > 3300*time.Millisecond {
		t.Errorf("frames take 30 ms longer, and both ends know it after %v", took)
	}
	if known := linkTo(t, a, c).RTT - idle.RTT; known > 2*time.Millisecond {
		t.Errorf("the idle link shows %v of it; then it is not the frames that do", known)
	}
	for range 200 {
		l.until(l.now.Add(100 * time.Millisecond))
		for _, s := range []LinkStats{linkTo(t, a, b), linkTo(t, b, a)} {
			if more := s.RTT - base.RTT; more < 26*time.Millisecond || more > 34*time.Millisecond {
				t.Fatalf("%v longer than before; it is 30 ms", more)
			}
		}
	}
	if more := linkTo(t, a, c).RTT - idle.RTT; more < 29*time.Millisecond || linkTo(t, a, c).Timed {
		t.Errorf("the idle link is %v longer by probes", more)
	}
	clear(a.extra)
	took = l.within(20*time.Second, func() bool { return linkTo(t, a, b).RTT < base.RTT+2*time.Millisecond })
	t.Logf("a fall is seen after %v", took)
	if took > 2*time.Second {
		t.Errorf("30 ms less is known after %v", took)
	}
}

// shakes gives frames from one node to another jitter, which both must know within seconds.
func shakes(t *testing.T, l *lockstep, from, to *stepper) {
	t.Helper()
	from.shake[to.index] = 30 * time.Millisecond // a mean change of 10 ms
	l.until(l.now.Add(5 * time.Second))
	for _, s := range []LinkStats{linkTo(t, from, to), linkTo(t, to, from)} {
		if s.Jitter < 6*time.Millisecond || s.Jitter > 14*time.Millisecond {
			t.Errorf("jitter of %v; it is 10 ms", s.Jitter)
		}
	}
}

// Jitter of the frames is the link's within seconds, and so is its end.
func TestFramesShowJitter(t *testing.T) {
	l, a, b, _ := talk(t)
	l.until(l.now.Add(20 * time.Second))
	if quiet := linkTo(t, a, b).Jitter; quiet > 2*time.Millisecond {
		t.Errorf("jitter of %v on a quiet link", quiet)
	}
	shakes(t, l, a, b)
	clear(a.shake)
	l.until(l.now.Add(8 * time.Second)) // the probes, one a second, have forgotten most of it
	if quiet := linkTo(t, a, b).Jitter; quiet > 3*time.Millisecond {
		t.Errorf("8 s after its end, jitter of %v", quiet)
	}
}

// On a relay's link the frames of one direction may all be others', and a relay of an earlier version does not say when they came
// to it: the other direction counts.
func TestFramesOfOneDirectionCount(t *testing.T) {
	l := newMeshLockstep(t, 2, 3)
	a, b, on := l.nodes[0], l.nodes[1], true
	b.knows = probeTimed
	for _, s := range l.nodes {
		s.count()
		l.start(s)
	}
	l.stream(5*time.Millisecond, &on, a, b)
	l.stream(5*time.Millisecond, &on, l.nodes[2], b, a)
	l.until(l.now.Add(20 * time.Second))
	base := linkTo(t, a, b).RTT
	a.extra[b.index] = 30 * time.Millisecond
	l.until(l.now.Add(3300 * time.Millisecond))
	for _, s := range []LinkStats{linkTo(t, a, b), linkTo(t, b, a)} {
		if more := s.RTT - base; more < 26*time.Millisecond || more > 34*time.Millisecond || s.Timed || !s.Carries {
			t.Errorf("%v longer than before, both ways timed %v; it is 30 ms, by one", more, s.Timed)
		}
	}
}

// A node of a version that counts frames and does not know what they take is measured as it was.
func TestANeighbourThatDoesNotKnowTransits(t *testing.T) {
	l, a, b, _ := talk(t)
	b.knows = probeCounted
	l.until(l.now.Add(30 * time.Second))
	for _, s := range []LinkStats{linkTo(t, a, b), linkTo(t, b, a)} {
		if s.Timed || s.Counted == 0 || !s.Carries || s.Down {
			t.Errorf("%+v", s)
		}
	}
}

// Who lies of what frames take can make its link worse, not better; nonsense and clocks that are set say nothing.
func TestTransitsThatLie(t *testing.T) {
	now := time.Unix(1000, 0)
	honest := transit{now, 10 * time.Millisecond, 2 * time.Millisecond}
	l := link{there: honest, back: clocked{transit: honest}}
	l.rtt.sample(now, 50*time.Millisecond, l.ways(now))
	l.rtt.jitter = 20 * time.Millisecond
	for _, c := range []struct {
		story       string
		there       transit
		rtt, jitter time.Duration
	}{
		{"the truth", honest, 50, 20},
		{"much faster, without jitter", transit{now, -40 * time.Millisecond, 0}, 50, 20},
		{"slower", transit{now, 30 * time.Millisecond, 2 * time.Millisecond}, 70, 20},
		{"a clock that was set", transit{now, 5 * time.Second, 2 * time.Millisecond}, 50, 20},
		{"nothing", transit{}, 50, 20},
		{"much jitter", transit{now, 10 * time.Millisecond, 40 * time.Millisecond}, 50, 42},
	} {
		l.there = c.there
		if rtt, jitter := l.delays(now); rtt != c.rtt*time.Millisecond || jitter != c.jitter*time.Millisecond {
			t.Errorf("%s: %v and jitter of %v; want %d ms and %d ms", c.story, rtt, jitter, c.rtt, c.jitter)
		}
	}
	if absurd := parseTransit([]byte{0, 0, 0, 1, 0x7f, 0, 0, 0}); !absurd.at.IsZero() {
		t.Errorf("a jitter of half an hour is believed: %+v", absurd)
	}
	for _, want := range []transit{{}, {time.Unix(0, 0), -3 * time.Second, 1500 * time.Microsecond}} {
		if got := parseTransit(want.append(nil)); got != want {
			t.Errorf("%+v arrives as %+v", want, got)
		}
	}
}
