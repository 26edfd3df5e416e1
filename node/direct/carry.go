package direct

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/ternmesh/tern/mesh/identity"
)

const (
	// maxCarried bounds carried streams at one node, as a carrier and, apart from those, as their end; more are refused.
	maxCarried = 128
	// maxCarriedPerPeer bounds those of one peer.
	maxCarriedPerPeer = 32
	// carriedPerSecond bounds how many begin; each costs the far end a handshake.
	carriedPerSecond, carriedBurst = 16, 64
	// carriedBytes bounds what a carrier copies in a second, all streams together: a policy of 5 MiB passes in little more.
	carriedBytes, carriedBytesBurst = 4 << 20, 1 << 20
	carriedBuffer                   = 16 << 10
)

// quota bounds carried streams, in all and of one peer, and how fast they begin.
type quota struct {
	begin *rate.Limiter
	mu    sync.Mutex
	by    map[string]int // guarded by mu
	total int            // guarded by mu
}

func newQuota() *quota {
	return &quota{begin: rate.NewLimiter(carriedPerSecond, carriedBurst), by: make(map[string]int)}
}

// take counts a stream of a peer until release is called; false refuses it.
func (q *quota) take(peer string) (release func(), ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.total >= maxCarried || q.by[peer] >= maxCarriedPerPeer || !q.begin.Allow() {
		return nil, false
	}
	q.total++
	q.by[peer]++
	return sync.OnceFunc(func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.total--
		if q.by[peer]--; q.by[peer] == 0 {
			delete(q.by, peer)
		}
	}), true
}

// turn takes a half of a carried stream from a peer, or refuses it; votes says whether the end does that must. Who does not
// takes no voter's turn.
func (l *Layer) turn(q *quota, votes bool, conn net.Conn, peer identity.Peer, kind string) (release func(), ok bool) {
	if votes {
		release, ok = q.take(peer.Node)
	}
	if !ok {
		l.refuse(conn, peer, kind, "too many, or no voter's")
	}
	return release, ok
}

// counts of carried streams; see Stats.
type counts struct{ dialed, failed, taken, carried, refused, bytes atomic.Uint64 }

// Stats counts carried streams since the start.
type Stats struct {
	Dialed  uint64 `json:"dialed"`  // streams of this node that another one carries
	Failed  uint64 `json:"failed"`  // attempts of this node that no carrier brought through
	Taken   uint64 `json:"taken"`   // carried streams that ended here
	Carried uint64 `json:"carried"` // streams that this node carried for others
	Refused uint64 `json:"refused"` // that it would not carry or take: no voter, no member, no way, no room, too many a second
	Bytes   uint64 `json:"bytes"`   // that it carried, both directions
	// Carriers says who carries streams of this node to which voter now; nil while all are direct.
	Carriers map[string]string `json:"carriers,omitempty"`
}

// Stats may be called from any goroutine; the caller owns the result.
func (l *Layer) Stats() Stats {
	c := &l.counts
	s := Stats{
		Dialed: c.dialed.Load(), Failed: c.failed.Load(), Taken: c.taken.Load(),
		Carried: c.carried.Load(), Refused: c.refused.Load(), Bytes: c.bytes.Load(),
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for r := range l.relayed {
		if r.carrier != "" {
			if s.Carriers == nil {
				s.Carriers = make(map[string]string)
			}
			s.Carriers[r.peer.Node] = r.carrier
		}
	}
	return s
}

// carry copies a stream between a voter and another one that it does not reach: only for voters and to voters, to the member's
// own address, and directly. What comes in goes out once.
func (l *Layer) carry(ctx context.Context, peer identity.Peer, conn net.Conn) {
	release, ok := l.turn(l.carrying, peer.Voter, conn, peer, kindCarry)
	if !ok {
		return
	}
	defer release()
	_ = conn.SetReadDeadline(time.Now().Add(headerTimeout))
	node, err := readName(conn)
	_ = conn.SetReadDeadline(time.Time{})
	if err != nil || node == peer.Node || node == l.cfg.Identity.Node {
		l.refuse(conn, peer, kindCarry, "no node that could be wanted")
		return
	}
	onward, err := l.onward(ctx, node)
	if err != nil {
		l.refuse(conn, peer, kindCarry, err.Error())
		return
	}
	l.counts.carried.Add(1)
	var back sync.WaitGroup
	back.Go(func() { l.pass(ctx, conn, onward) })
	l.pass(ctx, onward, conn)
	back.Wait()
	_, _ = conn.Close(), onward.Close()
}

// onward opens a carrier's own half to a voter.
func (l *Layer) onward(ctx context.Context, node string) (net.Conn, error) {
	addr, ok := l.cfg.Resolve(node)
	if !ok {
		return nil, errors.New("the node that is wanted is not a member")
	}
	if l.isDead(addr) {
		l.nudge(addr, node)
		return nil, errDead // quickly, so that who dials asks another carrier
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	conn, peer, err := l.open(ctx, addr, node, kindCarried)
	if err == nil && (peer.Node != node || !peer.Voter) {
		_ = conn.Close()
		err = errors.New("the node that is wanted does not vote")
	}
	return conn, err
}

// pass copies one direction, no faster than a carrier shall, to its end or until either stream breaks.
func (l *Layer) pass(ctx context.Context, to, from net.Conn) {
	b := make([]byte, carriedBuffer)
	for {
		n, err := from.Read(b)
		if n > 0 {
			l.counts.bytes.Add(uint64(n))
			if e := l.pace.WaitN(ctx, n); e != nil {
				err = e
			} else if _, e := to.Write(b[:n]); e != nil {
				err = e
			}
		}
		switch {
		case err == nil:
			continue
		case errors.Is(err, io.EOF):
			_ = closeWrite(to)
		default: // both directions: half of a TLS stream is of no use
			abort(to)
			abort(from)
		}
		return
	}
}
