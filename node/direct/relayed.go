package direct

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node/tracing"
)

// A voter that gets no direct connection to another asks a third node to carry the stream: the carrier copies bytes between
// two streams of its own and can read none, for the two ends do a mutual-TLS handshake of their own inside. One carrier, never two.

// Kinds of the two halves of a carried stream.
const (
	kindCarry   = "carry"   // from who dials to the carrier: a byte of length and the name of the node that is wanted, then its bytes
	kindCarried = "carried" // from the carrier to that node: the same bytes
)

const (
	alpnCarried = "tern-carried/1"
	// directFirst is how long a direct dial may take before a carrier is asked as well: three flights at a 300 ms round trip.
	directFirst = time.Second
	// deadFor is how long a direct way that failed is not waited for; it is tried all the same.
	deadFor = 15 * time.Second
	// carrierPatience is how long one carrier may take before the next is asked beside it.
	carrierPatience = 400 * time.Millisecond
	// maxCarriers are asked in one attempt; the next attempt asks others.
	maxCarriers = 8
	// straightenEvery is how often a direct way is tried while a carrier stands in for it.
	straightenEvery = 10 * time.Second
)

// relayed is one end of a carried stream.
type relayed struct {
	*tls.Conn
	peer    identity.Peer
	carrier string // of a stream that this node dialed
	ended   func()
	once    sync.Once
}

// Close implements net.Conn.
func (r *relayed) Close() error {
	err := r.Conn.Close()
	r.once.Do(r.ended)
	return err
}

// whole is the outer stream as TLS shall see it: an end without TLS's own goodbye is a carrier that cut the stream short, which the
// library would let pass between two records.
type whole struct{ net.Conn }

// Read implements net.Conn.
func (w whole) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	switch {
	case n > 0 && errors.Is(err, io.EOF):
		return n, nil // TLS may find its goodbye in these bytes
	case errors.Is(err, io.EOF):
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// mayRelay says whether this node's streams of a kind may be carried.
func (l *Layer) mayRelay(kind string) bool {
	return l.cfg.Carriers != nil && l.cfg.Identity.Voter && slices.Contains(l.cfg.Carried, kind)
}

// dialEither tries the direct way first, a carrier when that does not answer at once, and where nobody carries, the direct way again.
func (l *Layer) dialEither(ctx context.Context, addr netip.AddrPort, node, kind string) (net.Conn, error) {
	var err error
	if l.isDead(addr) {
		err = errDead
		l.nudge(addr, node)
	} else {
		first, cancel := context.WithTimeout(ctx, directFirst)
		var conn net.Conn
		conn, err = l.dialStraight(first, addr, node, kind)
		cancel()
		if err == nil {
			return conn, nil
		}
	}
	if ctx.Err() != nil || errors.Is(err, identity.ErrOtherNode) {
		return nil, err
	}
	conn, carrier, cerr := l.dialCarried(ctx, node, kind)
	if cerr == nil {
		l.carriedBy(node, carrier)
		return conn, nil
	}
	if errors.Is(err, context.DeadlineExceeded) { // slow, perhaps: the dial goes on
		if conn, err = l.dialStraight(ctx, addr, node, kind); err == nil {
			return conn, nil
		}
	}
	return nil, fmt.Errorf("%w; by way of another node: %w", err, cerr)
}

var (
	errDead      = errors.New("the direct way failed a moment ago")
	errNoCarrier = errors.New("no other node is there")
)

// isDead says that the direct way to addr failed lately and no connection has come up since.
func (l *Layer) isDead(addr netip.AddrPort) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, failed := l.dead[addr]
	return failed && time.Since(at) < deadFor
}

// nudge has the direct way dialed, and does not wait.
func (l *Layer) nudge(addr netip.AddrPort, node string) {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	_, _ = l.link(over, addr, node)
}

// dialCarried asks carriers one after the other, each when the one before has failed or takes long, and takes the first that gets
// through.
func (l *Layer) dialCarried(ctx context.Context, node, kind string) (net.Conn, string, error) {
	carriers := l.carriers(node)
	if len(carriers) == 0 {
		return nil, "", errNoCarrier
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	type answer struct {
		conn    net.Conn
		carrier string
		err     error
	}
	var won answer
	var failed error // the first, of the likeliest carrier
	answers := make(chan answer, len(carriers))
	late := time.NewTimer(carrierPatience)
	defer late.Stop()
	asked := 0
	ask := func() {
		if asked == len(carriers) || ctx.Err() != nil {
			return
		}
		c := carriers[asked]
		asked++
		late.Reset(carrierPatience)
		go func() {
			conn, err := l.through(ctx, c, node, kind)
			answers <- answer{conn, c, err}
		}()
	}
	ask()
	for answered := 0; answered < asked; { // all are waited for: none outlives the call
		select {
		case <-late.C:
			ask()
			continue
		case a := <-answers:
			answered++
			switch {
			case a.err != nil:
				failed = cmp.Or(failed, a.err)
				ask()
			case won.conn != nil:
				_ = a.conn.Close()
			default:
				won = a
				cancel()
			}
		}
	}
	if won.conn == nil {
		l.counts.failed.Add(1)
		return nil, "", cmp.Or(failed, ctx.Err()) // ended before anybody was asked
	}
	l.counts.dialed.Add(1)
	return won.conn, won.carrier, nil
}

// carriers are whom to ask: the owner's choice, of it the one that served last before the others.
func (l *Layer) carriers(node string) []string {
	l.mu.Lock()
	last := l.last[node]
	l.mu.Unlock()
	list := slices.DeleteFunc(l.cfg.Carriers(node), func(c string) bool { return c == node || c == l.cfg.Identity.Node })
	if i := slices.Index(list, last); i > 0 {
		list = slices.Insert(slices.Delete(list, i, i+1), 0, last)
	}
	return list[:min(len(list), maxCarriers)]
}

// carriedBy remembers who carried last, and says so once.
func (l *Layer) carriedBy(node, carrier string) {
	l.mu.Lock()
	before := l.last[node]
	l.last[node] = carrier
	l.mu.Unlock()
	if before != carrier {
		l.cfg.Logger.Warn("no direct connection to a voter: another node carries raft and policy changes", "event", "carried", "peer", node, "carrier", carrier)
	}
}

// through opens a stream of a kind to node by way of one carrier.
func (l *Layer) through(ctx context.Context, carrier, node, kind string) (net.Conn, error) {
	addr, ok := l.cfg.Resolve(carrier)
	if !ok {
		return nil, fmt.Errorf("%s: not a member of the mesh", carrier)
	}
	outer, err := l.dialStraight(ctx, addr, carrier, kindCarry)
	if err != nil {
		return nil, err
	}
	inner := tls.Client(whole{outer}, l.cfg.Identity.ClientTLS(node, alpnCarried))
	if _, err = outer.Write(append([]byte{byte(len(node))}, node...)); err == nil {
		err = inner.HandshakeContext(ctx)
	}
	if err == nil {
		err = writeHeader(ctx, true, inner, kind)
	}
	peer, perr := identity.PeerOf(inner.ConnectionState())
	if err = errors.Join(err, perr); err != nil {
		abort(outer)
		return nil, fmt.Errorf("by way of %s: %w", carrier, err)
	}
	return l.track(&relayed{Conn: inner, peer: peer, carrier: carrier, ended: func() {}})
}

// track keeps an end where Expel and straighten find it; it fails for a peer that was revoked meanwhile.
func (l *Layer) track(r *relayed) (*relayed, error) {
	ended := r.ended
	r.ended = func() {
		l.mu.Lock()
		delete(l.relayed, r)
		l.mu.Unlock()
		ended()
	}
	l.mu.Lock()
	l.relayed[r] = true
	gone := l.gone
	l.mu.Unlock()
	if gone || l.cfg.Identity.Revoked(r.peer) {
		_ = r.Close()
		return nil, fmt.Errorf("%s: %w", r.peer.Node, net.ErrClosed)
	}
	return r, nil
}

// arrive takes a stream that a carrier brings: who dialed it proves that to this node, whatever the carrier says.
func (l *Layer) arrive(ctx context.Context, carrier identity.Peer, conn net.Conn) {
	release, ok := l.turn(l.arrivals, l.cfg.Identity.Voter, conn, carrier, kindCarried)
	if !ok {
		return
	}
	inner := tls.Server(whole{conn}, l.carriedTLS)
	kind, trace, err := l.greet(ctx, inner)
	peer, perr := identity.PeerOf(inner.ConnectionState())
	h := l.handlers[kind]
	if err = errors.Join(err, perr); err != nil || h == nil || !peer.Voter || !slices.Contains(l.cfg.Carried, kind) {
		l.refuse(conn, carrier, kindCarried, fmt.Sprintf("%s of %q: %v", kind, peer.Node, err))
		release()
		return
	}
	r, err := l.track(&relayed{Conn: inner, peer: peer, ended: release})
	if err == nil {
		l.counts.taken.Add(1)
		h(tracing.Read(ctx, trace), peer, r)
	}
}

// greet does the inner handshake and reads the header of the inner stream.
func (l *Layer) greet(ctx context.Context, inner *tls.Conn) (kind string, trace []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := inner.HandshakeContext(ctx); err != nil {
		return "", nil, err
	}
	_ = inner.SetReadDeadline(time.Now().Add(headerTimeout))
	defer func() { _ = inner.SetReadDeadline(time.Time{}) }()
	return readHeader(inner)
}

// refuse ends a stream of a carried one's halves and counts it.
func (l *Layer) refuse(conn net.Conn, peer identity.Peer, kind, why string) {
	l.counts.refused.Add(1)
	l.cfg.Logger.Debug("refused a stream", "peer", peer.Node, "kind", kind, "why", why)
	abort(conn)
}

// abort ends a stream so that the other end takes it for broken.
func abort(conn net.Conn) {
	if s, ok := conn.(*stream); ok {
		s.reset()
	}
}

// straighten tries the direct way, now and then, while a carrier stands in for it.
func (l *Layer) straighten(ctx context.Context) error {
	tick := time.NewTicker(straightenEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for node, ends := range l.carriedEnds() {
			l.replace(ctx, node, ends)
		}
	}
}

// replace ends carried streams that this node dialed if the direct way is there again; who used them dials anew.
func (l *Layer) replace(ctx context.Context, node string, ends []*relayed) {
	addr, ok := l.cfg.Resolve(node)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if _, err := l.link(ctx, addr, node); err != nil {
		return
	}
	l.cfg.Logger.Info("a voter is connected directly again", "event", "straight", "peer", node)
	l.mu.Lock()
	delete(l.last, node)
	l.mu.Unlock()
	for _, r := range ends {
		_ = r.Close()
	}
}

func (l *Layer) carriedEnds() map[string][]*relayed {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[string][]*relayed)
	for r := range l.relayed {
		if r.carrier != "" {
			out[r.peer.Node] = append(out[r.peer.Node], r)
		}
	}
	return out
}

// readName reads the name of the node that a carrier is to reach.
func readName(r io.Reader) (string, error) {
	var n [1]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return "", err
	}
	b := make([]byte, n[0])
	if _, err := io.ReadFull(r, b); err != nil {
		return "", err
	}
	return string(b), identity.CheckName("node", string(b))
}
