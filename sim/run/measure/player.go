package measure

// Player is a video player with a fixed playout: a frame is shown one deadline after it was sent, if by then all its
// packets are there and it is a keyframe or the frame before it was shown. After a frame that was not, nothing is shown
// until a keyframe. A freeze is W3C's: a gap between shown frames of at least max(3 avg, avg + 150 ms), avg over the
// last 30 of them.
type Player struct {
	deadline int64
	frames   map[uint32]*frame // not yet due
	next     uint32            // frame that is due next
	any      bool
	broken   bool // waits for a keyframe

	lastShown int64
	gaps      [30]int64 // ring of the last gaps between shown frames
	gapCount  int

	freezes      int
	frozen       int64
	shown, total int
}

type frame struct {
	sent  int64
	have  uint16
	count uint16
	key   bool
}

const (
	// minGaps is how many gaps an average needs before freezes are counted.
	minGaps = 5
	// freezeSlack is the constant of the W3C definition, in nanoseconds.
	freezeSlack = 150_000_000
)

// NewPlayer makes one that shows frames deadline nanoseconds after their sending.
func NewPlayer(deadline int64) *Player {
	return &Player{deadline: deadline, frames: make(map[uint32]*frame)}
}

// Arrived takes a packet that did not come before.
func (p *Player) Arrived(s Stamp) {
	if p.any && s.Frame < p.next {
		return // its instant has passed
	}
	f := p.frames[s.Frame]
	if f == nil {
		f = &frame{sent: s.Sent, count: s.Count, key: s.Key}
		p.frames[s.Frame] = f
	}
	f.have++
	f.sent = max(f.sent, s.Sent) // a frame is whole when its last packet was sent
}

// Due plays one frame, whose last packet was sent at the instant; call it for each frame in order, one deadline
// later. It reports whether a keyframe is needed to go on.
func (p *Player) Due(number uint32, sent int64) (needKey bool) {
	f := p.frames[number]
	delete(p.frames, number)
	p.any, p.next = true, number+1
	p.total++
	whole := f != nil && f.have >= f.count
	switch {
	case whole && (f.key || !p.broken && p.shown > 0):
		p.broken = false
		p.show(sent + p.deadline)
	default:
		p.broken = true
	}
	return p.broken
}

// show notes a rendered frame.
func (p *Player) show(at int64) {
	p.shown++
	if p.shown > 1 {
		gap := at - p.lastShown
		if avg, ok := p.average(); ok && gap >= max(3*avg, avg+freezeSlack) {
			p.freezes++
			p.frozen += gap
		}
		p.gaps[p.gapCount%len(p.gaps)] = gap
		p.gapCount++
	}
	p.lastShown = at
}

func (p *Player) average() (int64, bool) {
	n := min(p.gapCount, len(p.gaps))
	if n < minGaps {
		return 0, false
	}
	var sum int64
	for _, g := range p.gaps[:n] {
		sum += g
	}
	return sum / int64(n), true
}

// Freezes returns how often and for how long (nanoseconds) the picture stood. A picture that stands at the end counts up to it.
func (p *Player) Freezes(end int64) (count int, total int64) {
	avg, ok := p.average()
	if gap := end - p.lastShown; p.shown > 0 && ok && gap >= max(3*avg, avg+freezeSlack) {
		return p.freezes + 1, p.frozen + gap
	}
	return p.freezes, p.frozen
}

// Shown returns how many frames were shown, of how many that were due.
func (p *Player) Shown() (shown, total int) { return p.shown, p.total }
