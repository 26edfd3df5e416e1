package sim

import (
	"hash/fnv"
	"time"
)

// lane is one direction between two hosts: its settings, the state that packets leave behind, and its counters.
// It is pure: no clock, no lock, no goroutine; instants are nanoseconds since the network was made. Network.mu guards it.
type lane struct {
	link  Link
	seed  uint64 // from the network's seed and both names
	index uint64 // packets seen; with seed and purpose it decides every draw
	cuts  int    // shared risks that have failed and that this direction depends on
	bad   bool   // state of the Gilbert-Elliott model
	free  int64  // when the transmitter has sent everything queued (Rate > 0)
	last  int64  // arrival of the newest packet in order; nothing but held-back packets arrives before it
	stats LinkStats
}

// arrival is one copy of a packet at the far end.
type arrival struct {
	at   int64 // nanoseconds since the network was made
	flip int   // bit to flip; -1 leaves the packet unharmed
}

// Purposes of draws. Each packet owns a block of them, so that one setting never shifts another's draws.
const (
	drawLoss = iota
	drawState
	drawStateLoss
	drawJitter
	drawReorder
	drawDuplicate
	drawCorrupt
	drawBit
	drawsPerPacket
)

// carry decides one packet's fate: no arrival (lost), one, or two (duplicated). size includes IP and UDP headers,
// payload is the size without them. Losses happen on the wire, behind the queue, so lost packets use up rate.
func (l *lane) carry(now int64, size, payload int, out []arrival) []arrival {
	k := l.index
	l.index++
	l.stats.Sent++
	l.stats.Bytes += uint64(size)
	if l.link.Down || l.cuts > 0 {
		l.stats.Cut++
		return out
	}
	if size > l.link.mtu() {
		l.stats.Oversize++
		return out
	}
	sent, ok := l.transmit(now, size)
	if !ok {
		l.stats.QueueDrops++
		return out
	}
	if l.loses(k, now) {
		l.stats.Lost++
		return out
	}
	a := arrival{at: l.arrive(k, sent), flip: -1}
	if l.draw(k, drawCorrupt) < l.link.Corrupt && payload > 0 {
		l.stats.Corrupted++
		a.flip = int(l.draw(k, drawBit) * float64(payload*8))
	}
	out = append(out, a)
	if l.draw(k, drawDuplicate) < l.link.Duplicate {
		l.stats.Duplicated++
		out = append(out, a) // the schedule sets it 1 ns later
	}
	return out
}

// transmit queues a packet in front of the rate and returns when its last bit is on the wire.
func (l *lane) transmit(now int64, size int) (int64, bool) {
	if l.link.Rate <= 0 {
		return now, true
	}
	perByte := 8e9 / float64(l.link.Rate)
	start := max(now, l.free)
	if backlog := float64(start-now) / perByte; backlog+float64(size) > float64(l.link.queue()) {
		return 0, false
	}
	l.free = start + int64(float64(size)*perByte)
	return l.free, true
}

// loses moves the burst model and draws all kinds of loss. The trace's loss and the independent one share a draw:
// together they lose 1-(1-a)(1-b).
func (l *lane) loses(k uint64, now int64) bool {
	lost := l.draw(k, drawLoss) < 1-(1-l.link.Loss)*(1-l.link.Trace.at(now))
	ge := &l.link.GE
	if ge.P <= 0 {
		l.bad = false
		return lost
	}
	move := ge.P
	if l.bad {
		move = ge.R
	}
	if l.draw(k, drawState) < move {
		l.bad = !l.bad
	}
	p := ge.LossGood
	if l.bad {
		p = ge.LossBad
		if p <= 0 {
			p = 1
		}
	}
	return l.draw(k, drawStateLoss) < p || lost
}

// arrive returns the arrival instant of a packet that left at sent. Packets keep their order (queues do
// not reorder), except those held back on purpose, which do not hold up the ones behind them.
func (l *lane) arrive(k uint64, sent int64) int64 {
	at := sent + max(0, int64(l.link.Delay))
	if l.link.Jitter > 0 {
		extra := l.link.JitterModel.quantile(l.draw(k, drawJitter))
		at += int64(min(extra, jitterCut) * float64(l.link.Jitter))
	}
	if l.draw(k, drawReorder) < l.link.Reorder {
		l.stats.Reordered++
		hold := l.link.ReorderDelay
		if hold <= 0 {
			hold = defaultReorderDelay
		}
		return max(at, l.last+1) + int64(hold)
	}
	l.last = max(at, l.last+1)
	return l.last
}

// draw returns the uniform number in [0,1) that belongs to packet k and a purpose.
func (l *lane) draw(k, purpose uint64) float64 {
	return unit(l.seed + (k*drawsPerPacket+purpose)*golden)
}

// golden is the increment of SplitMix64; mix is its finaliser. Any position of the stream can be had at once.
const golden = 0x9e3779b97f4a7c15

func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func unit(z uint64) float64 { return float64(mix(z)>>11) / (1 << 53) }

// seedFor derives the seed of a named stream of draws.
func seedFor(seed uint64, names ...string) uint64 {
	h := fnv.New64a()
	for _, name := range names {
		h.Write([]byte(name))
		h.Write([]byte{0}) // ("ab","c") and ("a","bc") differ
	}
	return mix(mix(seed+golden) ^ h.Sum64())
}

// jointLoss makes everything that one host sends within a slot share one fate: the joint part of losses that paths have
// in common near the source. Pure: the slot's number decides.
type jointLoss struct {
	p    float64
	slot time.Duration
	seed uint64
}

func (j jointLoss) loses(now int64) bool {
	if j.p <= 0 || j.slot <= 0 {
		return false
	}
	return unit(j.seed+uint64(now/int64(j.slot))*golden) < j.p
}
