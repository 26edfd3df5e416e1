package braid

const (
	// holesMax bounds the frames under watch; further ones are not asked for. The ring begins with holesMin and grows.
	holesMax = 4096
	holesMin = 16
	// reorderSlack is how many frames newer than a hole a path must have delivered before it is taken not to deliver it.
	reorderSlack = 3
	// holeMS is when a hole is asked for whatever the paths did, in milliseconds.
	holeMS = 200
)

// hole is a frame that newer ones overtook.
type hole struct{ seq, atMS uint64 }

// missing decides which frames to ask the source for again. A hole is found once (feedback.go asks for it twice): as soon as
// every live path on which its neighbours went out has delivered something newer (each path keeps its order, so none of them
// will bring it), or after holeMS.
// The zero value is ready. Guarded by flow.rxMu.
type missing struct {
	holes    []hole // ring; sequence numbers and times ascend
	head, n  int
	next     uint64          // one past the highest frame known of
	newest   [pathIDs]uint64 // per path, one past the highest frame it delivered
	overflow uint64
}

// arrive notes frame seq on a path.
func (m *missing) arrive(seq uint64, path uint8, nowMS uint64) {
	m.newest[path&(pathIDs-1)] = max(m.newest[path&(pathIDs-1)], seq+1)
	m.know(seq, nowMS)
	if seq >= m.next {
		m.next = seq + 1
	}
}

// know notes that all frames below seq exist.
func (m *missing) know(seq, nowMS uint64) {
	if seq > m.next+holesMax {
		m.overflow += seq - m.next - holesMax
		m.next = seq - holesMax
	}
	for ; m.next < seq; m.next++ {
		if m.n == holesMax {
			m.overflow++
			continue
		}
		if m.n == len(m.holes) {
			m.grow()
		}
		m.holes[(m.head+m.n)%len(m.holes)] = hole{m.next, nowMS}
		m.n++
	}
}

func (m *missing) grow() {
	ring := make([]hole, max(holesMin, 2*m.n))
	for i := range m.n {
		ring[i] = m.holes[(m.head+i)%len(m.holes)]
	}
	m.holes, m.head = ring, 0
}

// poll appends the holes to ask for to out, at most cap(out)-len(out), and forgets them. seen reports frames that have
// arrived meanwhile; awaited says which paths may still bring one.
func (m *missing) poll(nowMS uint64, awaited func(seq uint64) uint16, seen func(seq uint64) bool, out []uint64) []uint64 {
	for m.n > 0 && len(out) < cap(out) {
		h := m.holes[m.head]
		if seen(h.seq) {
			m.pop()
			continue
		}
		if nowMS < h.atMS+holeMS && h.seq+reorderSlack >= m.passed(awaited(h.seq)) {
			break
		}
		out = append(out, h.seq)
		m.pop()
	}
	return out
}

func (m *missing) pop() { m.head, m.n = (m.head+1)%len(m.holes), m.n-1 }

// passed is the frame that every path of a set has reached; 0 if the set is empty.
func (m *missing) passed(live uint16) uint64 {
	var low uint64
	for i := range m.newest {
		if live&(1<<i) != 0 && (low == 0 || m.newest[i] < low) {
			low = m.newest[i]
			if low == 0 {
				return 0
			}
		}
	}
	return low
}
