package mesh

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// duel is two ends of a link in one goroutine: every 200 ms both probe; pass decides what arrives, per direction.
type duel struct {
	a, b link
	now  time.Time
}

func newDuel() *duel {
	return &duel{a: link{epoch: 1, every: fastEvery}, b: link{epoch: 2, every: fastEvery}, now: time.Unix(1000, 0)}
}

func (d *duel) round(aToB, bToA bool) {
	d.now = d.now.Add(fastEvery)
	send := func(from, to *link, there, back bool) {
		p := from.request(d.now)
		if !there {
			return
		}
		if reply, ok := to.receive(d.now.Add(10*time.Millisecond), p); ok && back {
			from.receive(d.now.Add(20*time.Millisecond), reply)
		}
	}
	send(&d.a, &d.b, aToB, bToA)
	send(&d.b, &d.a, bToA, aToB)
	d.a.tick(d.now.Add(100 * time.Millisecond))
	d.b.tick(d.now.Add(100 * time.Millisecond))
}

func TestLinkGoesDownAfterThreeProbes(t *testing.T) {
	for _, c := range []struct {
		story      string
		aToB, bToA bool
	}{{"both directions dead", false, false}, {"only there dead", false, true}, {"only back dead", true, false}} {
		d := newDuel()
		for range 20 {
			d.round(true, true)
		}
		if d.a.down || d.b.down || !d.a.known {
			t.Fatalf("%s: a healthy link is down or not measured", c.story)
		}
		for i := range 3 {
			d.round(c.aToB, c.bToA)
			if i < 2 && (d.a.down || d.b.down) {
				t.Errorf("%s: down after %d probes already", c.story, i+1)
			}
		}
		d.round(c.aToB, c.bToA)
		if !d.a.down && !d.b.down {
			t.Errorf("%s: up after four silent rounds", c.story)
		}
		for range upAfter {
			d.round(true, true)
		}
		if d.a.down || d.b.down {
			t.Errorf("%s: still down after %d good rounds", c.story, upAfter)
		}
	}
}

// What an outage lost says nothing of the link after it: else a link is shunned long after it is well.
func TestALinkIsJudgedAnewAfterAnOutage(t *testing.T) {
	d := newDuel()
	for i := range 200 {
		d.round(i%10 != 0, true)
	}
	before := d.a.lossOut
	if before < 0.05 || before > 0.15 {
		t.Fatalf("loss of one in ten is taken for %.3f", before)
	}
	for range 25 {
		d.round(false, false)
	}
	if !d.a.down {
		t.Fatal("not down in five seconds of silence")
	}
	for range 40 {
		d.round(true, true)
	}
	if d.a.down || d.a.lossOut > before || d.b.in > before {
		t.Errorf("eight seconds after the outage: down %v, loss %.3f and %.3f, %.3f before it", d.a.down, d.a.lossOut, d.b.in, before)
	}
}

func TestLinkThatNeverAnswersIsDown(t *testing.T) {
	d := newDuel()
	for range 11 {
		d.round(false, false)
	}
	if e, ok := d.a.entry(d.now, 2); !d.a.down || ok {
		t.Errorf("after 2.2 s without any answer: down %v, told as %+v %v; nothing is known of it", d.a.down, e, ok)
	}
}

func TestLossPerDirection(t *testing.T) {
	d := newDuel()
	for i := range 200 {
		d.round(i%10 != 0, true)
	}
	if math.Abs(d.a.lossOut-0.1) > 0.03 || d.a.in > 0.01 || math.Abs(d.b.in-0.1) > 0.03 || d.b.lossOut > 0.01 {
		t.Errorf("a: out %.3f in %.3f; b: out %.3f in %.3f; want 0.1 from a to b alone", d.a.lossOut, d.a.in, d.b.lossOut, d.b.in)
	}
	for range 150 {
		d.round(true, true)
	}
	if d.a.lossOut > 0 || d.b.in > 0 {
		t.Errorf("30 s after the loss ended: out %.3f, in %.3f", d.a.lossOut, d.b.in)
	}
}

func TestPeerRestartIsNoLoss(t *testing.T) {
	d := newDuel()
	for range 100 {
		d.round(true, true)
	}
	d.b = link{epoch: 3, every: fastEvery}
	for range 100 {
		d.round(true, true)
	}
	if d.a.lossOut > 0 || d.a.in > 0 || d.b.lossOut > 0 || d.b.in > 0 || d.a.down || d.b.down {
		t.Errorf("after a restart: %+v", d.a)
	}
}

func TestProbesThatLieAreIgnored(t *testing.T) {
	d := newDuel()
	for range 20 {
		d.round(true, true)
	}
	before := d.a.theirs
	d.a.receive(d.now, probe{kind: probeReply, epoch: 2, seq: 5000, heard: 1, high: 5000, count: 5000})
	if d.a.theirs != before {
		t.Error("the other claims to have received what was never sent, and is believed")
	}
	d.a.receive(d.now, d.b.stamp(probeReply, 20))
	if rtt := d.a.rtt.last; rtt > 30*time.Millisecond {
		t.Errorf("a second reply to one request was measured as %v", rtt)
	}
}

func TestRTTMinimumForgets(t *testing.T) {
	var r rttStat
	now := time.Unix(0, 0)
	feed := func(seconds int, rtt time.Duration) {
		for range seconds * 5 {
			now = now.Add(fastEvery)
			r.sample(now, rtt, [2]transit{})
		}
	}
	feed(20, 40*time.Millisecond)
	feed(3, 90*time.Millisecond)
	if r.low() != 40*time.Millisecond || r.jitter == 0 {
		t.Errorf("3 s of queueing: minimum %v, jitter %v", r.low(), r.jitter)
	}
	feed(12, 90*time.Millisecond)
	if r.low() != 90*time.Millisecond || r.ewma < 85*time.Millisecond {
		t.Errorf("a lasting detour: minimum %v, average %v", r.low(), r.ewma)
	}
}

// Twenty percent loss begins: it shows within four seconds, not when the window of a hundred probes has filled with it.
func TestSuddenLossShowsSoon(t *testing.T) {
	d := newDuel()
	for range 200 {
		d.round(true, true)
	}
	for i := range 20 {
		d.round(i%5 != 4, true)
	}
	if d.a.lossOut < 0.05 || d.b.in < 0.05 {
		t.Errorf("after 4 s of 20 %% loss: out %.3f, in %.3f", d.a.lossOut, d.b.in)
	}
}

func TestASlowLinkIsJudgedSlowly(t *testing.T) {
	l := link{epoch: 1, every: slowEvery}
	now := time.Unix(1000, 0)
	answer := func() {
		p := l.request(now)
		l.receive(now, probe{kind: probeReply, epoch: 2, seq: p.seq, heard: 1, high: p.seq, count: p.seq})
	}
	answer()
	for range 10 {
		now = now.Add(slowEvery)
		answer()
		l.tick(now)
	}
	now = now.Add(1500 * time.Millisecond)
	if l.tick(now); l.down || !l.doubtful(now) {
		t.Error("1.5 silent seconds are one probe of a slow link: time to ask again, not to give it up")
	}
	if l.tick(now.Add(500 * time.Millisecond)); !l.down {
		t.Error("a slow link that was asked again for half a second, in vain, is up")
	}
}

func FuzzProbe(f *testing.F) {
	f.Add(probe{kind: probeRequest, epoch: 1, seq: 2, heard: 3, high: 9, count: 8}.encode())
	f.Add(probe{kind: probeReply, epoch: 1, seq: 1}.encode())
	f.Add(probe{kind: probeReply, epoch: 1, seq: 1, heard: 1, counted: true, counts: counts{9, frames{7, 5}}}.encode())
	f.Add(probe{kind: probeReply, epoch: 1, seq: 1, heard: 1, counted: true, timed: true}.encode())
	f.Add(probe{kind: probeRequest, epoch: 1, seq: 1, heard: 1, counted: true, timed: true, transit: transit{time.Unix(1, 0), -3e9, 5e6}}.encode())
	f.Add(append([]byte{0x18}, strings.Repeat("0", probeBytes+countBytes+transitBytes-1)...)) // a jitter of 808 s
	f.Add(probe{
		kind: probeReply, epoch: 1, seq: 1, heard: 1, counted: true, timed: true, relays: true, passing: passing{3, 0, -3e9, 5e6},
	}.encode())
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := decodeProbe(in)
		if err != nil {
			return
		}
		// A transit that cannot be is read as none; all else is written as it was.
		out := p.encode()
		if fixed := min(len(in), probeBytes+countBytes); len(out) != len(in) || string(out[:fixed]) != string(in[:fixed]) {
			t.Fatalf("%x was read as %+v, which is written %x", in, p, out)
		}
		if again, err := decodeProbe(out); err != nil || again != p {
			t.Fatalf("%x is %+v, then %+v (%v)", in, p, again, err)
		}
		l := link{epoch: 1, every: fastEvery}
		l.request(time.Unix(1, 0))
		for i := range 2 * spanLeast {
			n := uint64(i)
			l.look(time.Unix(int64(2+i), 0), Traffic{Sent: 9 * n, Arrived: 5 * n, Brought: Relayed{5 * n, 3, 0, time.Second}})
			l.receive(time.Unix(int64(2+i), 0), p)
			l.tick(time.Unix(int64(2+i), 0))
		}
		if l.lossOut < 0 || l.lossOut > 1 || l.in < 0 || l.in > 1 || l.ours.count > l.ours.high ||
			l.live.in.arrived > l.live.in.sent+aheadMost || l.live.out.arrived > l.live.out.sent+aheadMost {
			t.Fatalf("probe %+v left the link at %+v", p, l)
		}
	})
}

// What a link does it does at the moments that wakes names, or after a probe: at every other tick a look at it changes nothing.
func TestNothingIsDueWhileALinkRests(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, every := range []time.Duration{fastEvery, slowEvery} {
		rng := rand.New(rand.NewPCG(7, uint64(every)))
		a := &link{epoch: 1, pace: every, every: every, due: start}
		b := &link{epoch: 2, pace: every, every: every, due: start}
		rested, looked, deaths := 0, 0, 0
		for tick := range 15_000 { // 10 minutes; the other end is silent in every other one
			now := start.Add(time.Duration(tick) * probeTick)
			resting, down, asked := a.wakes(now).After(now), a.down, a.next
			if !now.Before(a.due) || a.doubtful(now) {
				if !now.Before(a.due) {
					a.due = a.due.Add(every)
				}
				request := a.request(now)
				if tick/1500%2 == 0 && rng.Float64() > 0.05 {
					if reply, ok := b.receive(now, request); ok {
						a.receive(now.Add(3*time.Millisecond), reply)
					}
				}
			}
			a.tick(now)
			if a.down && !down {
				deaths++
			}
			if resting {
				rested++
				if a.down != down || a.next != asked {
					t.Fatalf("tick %d, every %v: said to rest, and something was due", tick, every)
				}
			} else {
				looked++
			}
		}
		if deaths != 5 || rested < 2*looked {
			t.Errorf("every %v: %d deaths of 5; at rest in %d of %d ticks", every, deaths, rested, rested+looked)
		}
	}
}
