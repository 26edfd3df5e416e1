package mesh

import (
	"testing"
	"time"
)

// passOn is a mesh of three nodes whose clocks differ: the first sends frames by way of the second to the third, which answers the second
// with frames of its own.
func passOn(t *testing.T) (l *lockstep, source, relay, egress *stepper) {
	l = newMeshLockstep(t, 4, 3)
	source, relay, egress = l.nodes[0], l.nodes[1], l.nodes[2]
	source.clock, relay.clock, egress.clock = 900*time.Millisecond, -700*time.Millisecond, 300*time.Millisecond
	on := true
	for _, s := range l.nodes {
		s.count()
		l.start(s)
	}
	l.stream(5*time.Millisecond, &on, source, relay, egress)
	l.stream(20*time.Millisecond, &on, egress, relay)
	l.until(l.now.Add(20 * time.Second))
	return l, source, relay, egress
}

// A link that carries others' frames towards their egress becomes slower: both ends know it from those, before the smallest round
// trip of the probes is forgotten. When the link before the relay gets slower, the one behind it does not.
func TestARelaysLinkIsTimedByTheFramesThatItPassesOn(t *testing.T) {
	l, source, relay, egress := passOn(t)
	base, before := linkTo(t, relay, egress), linkTo(t, source, relay)
	if !base.Timed || !base.Carries || !linkTo(t, egress, relay).Timed {
		t.Fatalf("the frames' times are not used: %+v", base)
	}
	steady := func(story string, more time.Duration) {
		t.Helper()
		for range 150 {
			l.until(l.now.Add(100 * time.Millisecond))
			for _, s := range []LinkStats{linkTo(t, relay, egress), linkTo(t, egress, relay)} {
				if got := s.RTT - base.RTT; (got - more).Abs() > 4*time.Millisecond {
					t.Fatalf("%s: %v longer than before; it is %v", story, got, more)
				}
			}
		}
	}
	source.extra[relay.index] = 40 * time.Millisecond
	steady("the link before it is slower", 0)
	if got := linkTo(t, source, relay).RTT - before.RTT; (got - 40*time.Millisecond).Abs() > 4*time.Millisecond {
		t.Errorf("that one is %v longer; it is 40 ms", got)
	}
	relay.extra[egress.index] = 30 * time.Millisecond
	took := l.within(20*time.Second, func() bool {
		return linkTo(t, relay, egress).RTT > base.RTT+20*time.Millisecond && linkTo(t, egress, relay).RTT > base.RTT+20*time.Millisecond
	})
	t.Logf("a rise is known after %v", took)
	if took > 4900*time.Millisecond {
		t.Errorf("it takes 30 ms longer, and both ends know it after %v", took)
	}
	steady("it is slower", 30*time.Millisecond)
	clear(source.extra)
	steady("the link before it is as it was", 30*time.Millisecond)
	clear(relay.extra)
	l.until(l.now.Add(3 * time.Second))
	steady("it is as it was", 0)
}

// Jitter of a relay's link is known from the frames, unless they came to the relay with much of it.
func TestARelaysLinkShowsItsJitter(t *testing.T) {
	l, source, relay, egress := passOn(t)
	shakes(t, l, relay, egress)
	clear(relay.shake)
	source.shake[relay.index] = 30 * time.Millisecond
	l.until(l.now.Add(15 * time.Second))
	for range 100 {
		l.until(l.now.Add(100 * time.Millisecond))
		if s := linkTo(t, relay, egress); s.Jitter > 4*time.Millisecond {
			t.Fatalf("jitter of %v; the link before has it", s.Jitter)
		}
	}
}

// Of many sources one is looked at until it has no frames any more; nonsense is taken for none.
func TestOneSourceOfMany(t *testing.T) {
	now := time.Unix(1000, 0)
	var beginning, end relayed
	var count uint64
	feed := func(source uint32, took time.Duration) {
		count++
		now = now.Add(probeTick)
		f := Relayed{Count: count, Source: source, SentMS: uint16(now.UnixMilli()), Transit: took}
		beginning.look(now, f, true)
		f.Transit += 7 * time.Millisecond
		end.look(now, f, false)
	}
	for range 100 {
		feed(1, 20*time.Millisecond)
		feed(2, 500*time.Millisecond)
	}
	p := beginning.says(now)
	if p.source != 1 || p.low != 20*time.Millisecond || p.jitter != 0 {
		t.Errorf("said %+v; the first of two sources has 20 ms", p)
	}
	if _, ok := end.against(now, p); ok || end.source != 1 {
		t.Errorf("the other end follows %d", end.source)
	}
	for range 100 {
		feed(1, 20*time.Millisecond)
	}
	if got, ok := end.against(now, beginning.says(now)); !ok || got.low != 7*time.Millisecond || got.jitter != 0 {
		t.Errorf("the link takes %+v, %v; it is 7 ms", got, ok)
	}
	for range 100 {
		feed(2, 500*time.Millisecond)
	}
	if p = beginning.says(now); p.source != 2 {
		t.Errorf("the first source has ended, and %d is spoken of", p.source)
	}
	now = now.Add(time.Minute)
	if p = beginning.says(now); p != (passing{}) {
		t.Errorf("nothing came for a minute, and %+v is said", p)
	}
	if p := parsePassing(passing{source: 1, number: spanCount}.append(nil)); p != (passing{}) {
		t.Errorf("a span that cannot be: %+v", p)
	}
	want := passing{9, 63, -3 * time.Second, 1500 * time.Microsecond}
	if got := parsePassing(want.append(nil)); got != want {
		t.Errorf("%+v arrives as %+v", want, got)
	}
}

// What one span says is believed when the next agrees, the first of all too, however often it is said; then one that is far off is not.
func TestAnOutlierOfASpanIsNotBelieved(t *testing.T) {
	l, now, count := &link{}, time.Unix(1000, 0), uint64(0)
	for _, c := range []struct {
		says, want time.Duration // of the link; none: 0
	}{{200, 0}, {7, 0}, {8, 8}, {7, 7}, {200, 7}, {7, 7}, {200, 7}, {-90, 7}, {200, 7}, {201, 201}, {7, 201}, {7, 7}} {
		var number uint8
		for ; number == 0 || uint8(now.UnixMilli()>>spanShift)%spanCount == number; now = now.Add(probeTick) {
			count++
			f := Relayed{Count: count, Source: 9, SentMS: uint16(now.UnixMilli()), Transit: 500 * time.Millisecond}
			l.brought.source = f.Source
			l.brought.look(now, f, false)
			number = uint8(f.SentMS >> spanShift)
		}
		for range 3 {
			l.bring(now, passing{9, number, (500 - c.says) * time.Millisecond, 0})
		}
		if got := l.came(now).low; got != c.want*time.Millisecond {
			t.Fatalf("a span says %d ms, and %v is believed; want %d ms", c.says, got, c.want)
		}
	}
}
