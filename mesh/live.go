package mesh

import (
	"math"
	"time"
)

const (
	// countEvery is between two looks at the counts of frames; over that many of them the loss is worked out.
	countEvery = time.Second
	countShots = 20
	// countedLeast frames in the window say more of the loss than the probes do; countedMany tell a percent from none.
	countedLeast = 300
	countedMany  = 2000
	// aheadMost is how many frames may have arrived more than were sent: they overtake the probe that counts them. What is
	// beyond it was sent twice by somebody.
	aheadMost = 64
	// jumpMost is a step of a count that is no traffic.
	jumpMost = 1 << 32
	// Probes are believed against counts when they lost by more than this share, and three times what chance explains.
	probesOverrule = 0.03

	// A link on which both ends get as many frames a second is watched by those: its probes become slow ...
	steadyFrames = 20
	// ... until nothing has arrived for so long ...
	quietAfter = 160 * time.Millisecond
	// ... or the other end has not said for so long that something did.
	unheardAfter = 2500 * time.Millisecond
	// helloEvery is how often a node that has something to count says so to one that does not count.
	helloEvery = 10 * time.Second
)

// frames is how many frames were sent and how many of them arrived.
type frames struct{ sent, arrived uint64 }

// counts is what a probe says of the live traffic between two nodes.
type counts struct {
	sent uint64 // frames that its sender had sent to the other when it left
	echo frames // the newest such number that its sender has heard, and how many of those frames had arrived then
}

// live is what the frames of braids say of a link: both ends count those that they send to each other and those that arrive,
// and say so in their probes. Pure: counts and time are parameters. Each probe pairs what was sent before it with what arrived
// before it, so the difference over any two probes is what was lost between them, whoever the frames' source was.
type live struct {
	told  bool // the other end counts, too
	times bool // and knows what frames take
	// relays: and what those of others take
	relays bool
	hello  time.Time // when to say next that we do

	now    frames    // ours: sent there, arrived from there
	heard  time.Time // when now.arrived last grew
	shot   time.Time // when the last second ended
	before frames    // now at that time
	steady bool      // it had frames enough, both ways

	answer  counts    // what we say of the other's frames: echo alone
	theirs  counts    // the other's numbers in its newest probe, and ...
	arrived uint64    // ... now.arrived when that came; both are the base of the next difference
	seen    time.Time // when the other last said that frames of ours had arrived

	out, in  frames // sent and arrived since counting began
	history  [countShots][2]frames
	shots    int
	lost     [2]float64 // out, in
	measured [2]uint64  // frames in the window
}

// look takes the counts of this node as they are now. Who asked for them without a lock may come after another who asked later:
// counts only rise.
func (v *live) look(now time.Time, traffic frames) {
	traffic = frames{max(traffic.sent, v.now.sent), max(traffic.arrived, v.now.arrived)}
	if traffic.arrived != v.now.arrived {
		v.heard = now
	}
	v.now = traffic
	if since := now.Sub(v.shot); since >= countEvery {
		enough := uint64(steadyFrames * since / time.Second)
		v.steady = !v.shot.IsZero() && since < 2*countEvery &&
			traffic.sent-v.before.sent >= enough && traffic.arrived-v.before.arrived >= enough
		v.shot, v.before = now, traffic
		v.shoot()
	}
}

// moves tells whether frames have been seen to arrive lately, or to leave.
func (v *live) moves(now time.Time) bool {
	return v.steady || now.Sub(v.heard) <= countEvery || v.now.sent != v.before.sent
}

// carries tells whether frames show that the link works, both ways: no probe needs to.
func (v *live) carries(now time.Time) bool {
	return v.told && v.steady && now.Sub(v.heard) <= quietAfter && now.Sub(v.seen) <= unheardAfter
}

// greets tells whether it is time to say that we count, or, once the other does, that we know what frames take, and then, if there
// are such, what those of others take.
func (v *live) greets(now time.Time, relayed bool) bool {
	if v.told && v.times && (v.relays || !relayed) || v.now == (frames{}) || now.Before(v.hello) {
		return false
	}
	v.hello = now.Add(helloEvery)
	return true
}

// says is what goes out with a probe.
func (v *live) says() counts { return counts{sent: v.now.sent, echo: v.answer.echo} }

// hear takes in what the other's probe says; echoed tells that its echo is of this run of ours. A probe that was overtaken by
// a later one says nothing, and a node that has counted nothing does not speak of it.
func (v *live) hear(now time.Time, c counts, echoed bool) {
	last, arrived := v.theirs, v.arrived
	if v.now == (frames{}) || v.told && c.sent < last.sent {
		return
	}
	based := v.told
	if !v.told {
		v.told, v.hello = true, time.Time{}
	}
	v.theirs.sent, v.arrived = c.sent, v.now.arrived
	v.answer.echo = frames{c.sent, v.now.arrived}
	if based {
		v.in.add(c.sent-last.sent, v.now.arrived-arrived)
	}
	if !echoed || c.echo.sent > v.now.sent || c.echo.sent < last.echo.sent || c.echo.arrived < last.echo.arrived {
		return
	}
	if last.echo != (frames{}) {
		v.out.add(c.echo.sent-last.echo.sent, c.echo.arrived-last.echo.arrived)
		if c.echo.arrived > last.echo.arrived {
			v.seen = now
		}
	}
	v.theirs.echo = c.echo
}

// add counts frames on; more cannot arrive than were sent.
func (f *frames) add(sent, arrived uint64) {
	if sent > jumpMost || arrived > jumpMost {
		return
	}
	f.sent += sent
	f.arrived = min(f.arrived+arrived, f.sent+aheadMost)
}

// restart forgets what was counted with another run of the other.
func (v *live) restart() {
	*v = live{now: v.now, heard: v.heard, shot: v.shot, before: v.before, steady: v.steady}
}

// shoot works out the loss of both directions over the window.
func (v *live) shoot() {
	shot := [2]frames{v.out, v.in}
	if v.shots > 0 {
		oldest, recent := v.history[0], v.history[max(v.shots-burstShots, 0)%countShots]
		if v.shots >= countShots {
			oldest = v.history[v.shots%countShots]
		}
		for way := range shot {
			v.lost[way], v.measured[way] = lossOfFrames(oldest[way], recent[way], shot[way])
		}
	}
	v.history[v.shots%countShots] = shot
	v.shots++
}

// lossOfFrames is the share lost between two counts, or between the recent one and the last, if that is worse than by chance.
func lossOfFrames(from, recent, to frames) (loss float64, sent uint64) {
	share := func(a frames, chance uint64) float64 {
		sent, arrived := to.sent-a.sent, to.arrived-a.arrived
		if sent <= arrived+chance {
			return 0
		}
		return float64(sent-arrived-chance) / float64(sent)
	}
	return max(share(from, 0), share(recent, burstChance)), to.sent - from.sent
}

// loss is that of one way (0 out, 1 in): by frames if enough were counted, else by probes. Probes overrule frames that they
// contradict: the other end says how many frames it sent, but cannot know which probes get lost.
func (v *live) loss(way int, probed float64) float64 {
	lost := v.lost[way]
	if v.measured[way] < countedLeast || probed > lost+probesOverrule+3*math.Sqrt(lost*(1-lost)/(lossWindow*shotProbes)) {
		return probed
	}
	return lost
}

// fine tells whether the loss is known to a percent.
func (v *live) fine() bool { return v.measured[0] >= countedMany && v.measured[1] >= countedMany }
