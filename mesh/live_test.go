package mesh

import (
	"math"
	"testing"
	"time"
)

// talk is a mesh of three nodes of which the first two have traffic with each other, 200 frames a second each way.
func talk(t *testing.T) (l *lockstep, a, b *stepper, on *bool) {
	l = newMeshLockstep(t, 1, 3)
	a, b, on = l.nodes[0], l.nodes[1], new(bool)
	*on = true
	for _, s := range l.nodes {
		s.count()
		l.start(s)
	}
	l.stream(5*time.Millisecond, on, a, b)
	l.stream(5*time.Millisecond, on, b, a)
	return l, a, b, on
}

func linkTo(t *testing.T, from, to *stepper) LinkStats {
	t.Helper()
	for _, s := range from.Links() {
		if s.To == to.name {
			return s
		}
	}
	t.Fatalf("%s has no link to %s", from.name, to.name)
	return LinkStats{}
}

// A link that carries traffic is measured by that: the loss is right to a few tenths of a percent and told as such, and fewer
// probes are sent.
func TestLinksAreMeasuredByTheirTraffic(t *testing.T) {
	l, a, b, _ := talk(t)
	c := l.nodes[2]
	a.loss[b.index], a.loss[c.index] = 0.02, 0.02
	l.until(l.now.Add(40 * time.Second))
	before, beforeC := linkTo(t, a, b), linkTo(t, a, c)
	l.until(l.now.Add(10 * time.Second))
	there, back, idle := linkTo(t, a, b), linkTo(t, b, a), linkTo(t, a, c)
	if sent := there.Requests - before.Requests; !there.Carries || sent > 11 {
		t.Errorf("%d probes in 10 s on a link with steady traffic, carries %v; want 10", sent, there.Carries)
	}
	if sent := idle.Requests - beforeC.Requests; idle.Carries || sent < 49 {
		t.Errorf("%d probes in 10 s on a link without traffic, carries %v; want 50", sent, idle.Carries)
	}
	for _, s := range []struct {
		name      string
		got, want float64
	}{{"out of a", there.LossOut, 0.022}, {"into a", there.LossIn, 0.002}, {"out of b", back.LossOut, 0.002}, {"into b", back.LossIn, 0.022}} {
		if math.Abs(s.got-s.want) > 0.008 {
			t.Errorf("loss %s is measured as %.4f, is %.4f; %d frames counted", s.name, s.got, s.want, there.Counted)
		}
	}
	if told, ok := c.Graph().Link(a.name, b.name); !ok || math.Abs(told.Loss-0.022) > 0.012 {
		t.Errorf("a third node is told a loss of %.4f", told.Loss)
	}
}

// Traffic takes nothing away from how soon a dead link is seen.
func TestALinkWithTrafficGoesDownAsSoon(t *testing.T) {
	for story, ways := range map[string][2]bool{"both ways": {true, true}, "one way": {true, false}, "the other way": {false, true}} {
		l, a, b, _ := talk(t)
		l.until(l.now.Add(20 * time.Second))
		if !linkTo(t, a, b).Carries {
			t.Fatalf("%s: the traffic is not seen", story)
		}
		if ways[0] {
			a.loss[b.index] = 1
		}
		if ways[1] {
			b.loss[a.index] = 1
		}
		took := l.within(5*time.Second, func() bool {
			link, _ := a.Graph().Link(a.name, b.name)
			return link.Down
		})
		if took > 1300*time.Millisecond {
			t.Errorf("dead %s: known after %v", story, took)
		}
	}
}

// When traffic ends, probes take over, and nothing else changes.
func TestTheEndOfTrafficIsNoFailure(t *testing.T) {
	l, a, b, on := talk(t)
	l.until(l.now.Add(20 * time.Second))
	*on = false
	for range 200 {
		l.until(l.now.Add(50 * time.Millisecond))
		if s := linkTo(t, a, b); s.Down {
			t.Fatal("the link is down")
		}
	}
	if s := linkTo(t, a, b); s.Carries || !s.Fast || s.LossOut > 0.02 {
		t.Errorf("10 s after the traffic: %+v", s)
	}
}

// A neighbour that counts nothing, as one of an older version, is measured by probes.
func TestANeighbourThatDoesNotCount(t *testing.T) {
	l, a, b, _ := talk(t)
	b.cfg.Traffic = nil
	l.until(l.now.Add(20 * time.Second))
	if s := linkTo(t, a, b); s.Carries || s.Counted > 0 || !s.Fast || s.LossOut > 0.02 || s.Down {
		t.Errorf("%+v", s)
	}
}

// Who says that it sent fewer frames than it did, or sends copies, hides no loss that probes see; who restarts loses none.
func TestCountsThatLie(t *testing.T) {
	var v live
	now := time.Unix(1000, 0)
	sent, arrived := uint64(0), uint64(0)
	second := func(frames10 uint64, share float64, copies uint64) {
		for range 10 {
			now = now.Add(100 * time.Millisecond)
			sent += frames10
			arrived += uint64(float64(frames10)*share) + copies
			v.look(now, frames{1, arrived})
			v.hear(now, counts{sent: sent}, false)
		}
	}
	for range 25 {
		second(100, 0.9, 0)
	}
	if got := v.loss(1, 0.1); math.Abs(got-0.1) > 0.01 {
		t.Errorf("a tenth lost, %.3f measured", got)
	}
	for range 40 {
		second(100, 0.9, 40)
	}
	if v.in.arrived > v.in.sent+aheadMost {
		t.Errorf("%d arrived of %d", v.in.arrived, v.in.sent)
	}
	for range 25 {
		second(100, 0.9, 0)
	}
	if got := v.loss(1, 0.1); math.Abs(got-0.1) > 0.01 {
		t.Errorf("copies came for a while, now a tenth is lost again and %.3f measured", got)
	}
	for range 25 {
		second(90, 1, 0) // it owns up to nine tenths of what it sends
	}
	if got := v.loss(1, 0.1); got != 0.1 {
		t.Errorf("probes lose a tenth, counts %.3f: %.3f believed", v.lost[1], got)
	}
	v.restart()
	sent = 0
	for range 25 {
		second(100, 1, 0)
	}
	if got := v.loss(1, 0); got > 0 {
		t.Errorf("after the other's restart: %.3f", got)
	}
}

// A fifth of all probes is lost, each way, from one moment on: chance alone takes a link down hardly ever, also in the seconds
// before the loss is known, and a dead link is still down within 0.8 s, also when it was before.
func TestLossIsNoDeath(t *testing.T) {
	l := newMeshLockstep(t, 5, 2)
	a, b := l.nodes[0], l.nodes[1]
	for _, s := range l.nodes {
		l.start(s)
	}
	l.until(l.now.Add(500 * time.Millisecond)) // they have met
	downs, was := 0, false
	for range 30 {
		a.loss[b.index], b.loss[a.index] = 0.2, 0.2
		for range 125 { // 10 s
			l.until(l.now.Add(80 * time.Millisecond))
			down := linkTo(t, a, b).Down
			if down && !was {
				downs++
			}
			was = down
		}
		a.loss[b.index], b.loss[a.index] = 0, 0
		l.until(l.now.Add(30 * time.Second))
	}
	if downs > 0 {
		t.Errorf("down %d times in 30 spells of 20 %% loss", downs)
	}
	for range 20 {
		a.loss[b.index], b.loss[a.index] = 1, 1
		took := l.within(2*time.Second, func() bool { return linkTo(t, a, b).Down })
		if took > 800*time.Millisecond {
			t.Errorf("dead, and known after %v", took)
		}
		a.loss[b.index], b.loss[a.index] = 0, 0
		l.until(l.now.Add(10 * time.Second))
	}
}

// Counts are asked for without a lock, so older ones may come after newer ones: no frame counts twice, and none is taken for a sign
// of life.
func TestOlderCountsSayNothing(t *testing.T) {
	var v live
	now := time.Unix(1000, 0)
	v.look(now, frames{5, 100})
	v.hear(now, counts{sent: 100}, false)
	v.look(now.Add(time.Second), frames{9, 200})
	v.look(now.Add(2*time.Second), frames{7, 150})
	if heard := v.heard.Sub(now); v.now != (frames{9, 200}) || heard != time.Second {
		t.Errorf("counts %v, last frame after %v", v.now, heard)
	}
	v.hear(now.Add(2*time.Second), counts{sent: 200}, false)
	v.look(now.Add(3*time.Second), frames{9, 300})
	v.hear(now.Add(3*time.Second), counts{sent: 300}, false)
	if v.in != (frames{200, 200}) {
		t.Errorf("%d frames came of %d", v.in.arrived, v.in.sent)
	}
}
