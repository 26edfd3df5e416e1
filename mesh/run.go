package mesh

import (
	"context"
	"fmt"
	"log"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
)

// Timers of memberlist for 6 to 30 nodes over a WAN. A node that dies without a word leaves the list after about 4 to 13 s;
// its links are down long before, by the probes.
const (
	swimInterval     = time.Second            // one member is checked per interval
	swimTimeout      = 700 * time.Millisecond // round trips up to this count as alive; then three others are asked to check
	suspicionMult    = 3                      // x log10(n) x interval: 3 to 4.5 s, ...
	suspicionMaxMult = 3                      // ... three times that while nobody else agrees
	gossipInterval   = 200 * time.Millisecond // news of who died; links and cards have their own pace
	gossipNodes      = 3
	pushPullInterval = 30 * time.Second
	gossipToTheDead  = 30 * time.Second
	reclaimAfter     = time.Second // a failed node may come back at another address
	gossipPacket     = 1360        // with the class byte beneath the largest UDP payload of the mesh, 1372
)

const (
	leaveLimit  = time.Second            // for memberlist's own goodbye
	leaveLinger = 300 * time.Millisecond // gossip goes on for that long, so that the goodbye gets around
	leaveGap    = 50 * time.Millisecond  // between two goodbyes: each may be lost
)

// Run joins the mesh through any of the join addresses (HOST:PORT; names are resolved at every attempt), rejoins, gossips and
// probes until ctx ends, and then says goodbye, which takes up to 1.5 s. Without join addresses it waits to be joined. It
// returns nil after ctx ended; ErrNameTaken if this node's name is in use; else what broke. memberlist's own goroutines end
// shortly after it. Run may be called once.
func (m *Mesh) Run(ctx context.Context, join []string) error {
	// Reading and streams outlive ctx until goodbye is said.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	g, life := errgroup.WithContext(life)
	m.wire.start(life)
	g.Go(func() error { return m.wire.read(life) })
	g.Go(func() error {
		defer end()
		return m.live(ctx, life, join)
	})
	return g.Wait()
}

// live is Run between having a network and losing it.
func (m *Mesh) live(ctx, life context.Context, join []string) error {
	m.firstKeys(ctx, join)
	list, err := m.create()
	if err != nil {
		return err
	}
	defer func() { _ = list.Shutdown() }()
	m.sendBy(func(to peerAddr, message []byte) {
		n := memberlist.Node{Name: to.name, Addr: to.addr.Addr().AsSlice(), Port: to.addr.Port()}
		_ = list.SendBestEffort(&n, message) // what is lost comes again
	})
	defer m.sendBy(nil)
	work, stop := context.WithCancel(ctx)
	defer stop()
	g, work := errgroup.WithContext(work)
	g.Go(func() error { return m.rejoin(work, list, join) })
	g.Go(func() error { return m.pushKeys(work) })
	g.Go(func() error { return m.beat(work) })
	g.Go(func() error {
		select {
		case <-work.Done():
			return nil
		case <-life.Done(): // reading ended
			return nil
		case err := <-m.fatal:
			return err
		}
	})
	if err := g.Wait(); err != nil {
		return err
	}
	m.leave(life, list)
	return nil
}

// firstKeys asks the join addresses for gossip keys before gossip starts. A node that adds itself to a mesh takes its keys; only
// one that finds nobody draws its own.
func (m *Mesh) firstKeys(ctx context.Context, join []string) {
	asking, enough := context.WithCancel(ctx)
	defer enough()
	each(m.candidates(ctx, join), func(addr netip.AddrPort) {
		err := m.exchangeKeys(asking, addr)
		if err != nil {
			m.log.Debug("no gossip keys yet", "addr", addr, "err", err)
		} else if len(m.keys.list()) > 0 {
			enough() // the others are asked when they are joined
		}
	})
	m.keys.ensure(m.wall())
}

func (m *Mesh) create() (*memberlist.Memberlist, error) {
	c := memberlist.DefaultWANConfig()
	c.Name = m.cfg.Identity.Node
	c.Label = m.cfg.Identity.Mesh // packets of another mesh are dropped before anything else
	c.Transport = m.wire
	c.Keyring = m.keys.ring
	c.Delegate, c.Events, c.Alive, c.Conflict = delegate{m}, delegate{m}, delegate{m}, delegate{m}
	c.Logger = log.New(m.warn, "", 0)
	c.ProbeInterval, c.ProbeTimeout = swimInterval, swimTimeout
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = suspicionMult, suspicionMaxMult
	c.GossipInterval, c.GossipNodes, c.GossipToTheDeadTime = gossipInterval, gossipNodes, gossipToTheDead
	c.PushPullInterval = pushPullInterval
	c.TCPTimeout = streamTimeout
	c.DisableTcpPings = true // the link probes know better, and L1 would dial the dead
	c.DeadNodeReclaimTime = reclaimAfter
	c.EnableCompression = false // records are keys and signatures
	c.UDPBufferSize = gossipPacket
	list, err := memberlist.Create(c)
	if err != nil {
		return nil, fmt.Errorf("mesh: start gossip: %w", err)
	}
	return list, nil
}

// sendBy sets how messages leave.
func (m *Mesh) sendBy(send func(to peerAddr, message []byte)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.send = send
}

// beat drives all that is pure: probes, what this node says, what it passes on. Its ticks lie probeTick apart; those at which
// nothing can be due are left out, so that an idle node sleeps.
func (m *Mesh) beat(ctx context.Context) error {
	timer := time.NewTimer(probeTick)
	defer timer.Stop()
	at := time.Now().Add(probeTick)
	for tick := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case now := <-timer.C:
			m.step(now, tick)
			n := m.restTicks(now, tick)
			tick += n
			if at = at.Add(time.Duration(n) * probeTick); at.Before(now) {
				at = now // the machine was busy: what was missed is not made up for
			}
			timer.Reset(time.Until(at))
		}
	}
}

// step does what is due at one tick of probeTick.
func (m *Mesh) step(now time.Time, tick int) {
	m.follow(now)
	m.replan(now)
	m.resting = m.idle(now)
	m.links.step(now, m.resting)
	if tick%m.spreadTicks() == 0 {
		m.acquit()
		m.speak(now)
		m.spread()
		m.tendKeys(now.Add(m.cfg.Skew()))
	}
}

// restTicks is how many ticks lie between this one and the next at which something may be due.
func (m *Mesh) restTicks(now time.Time, tick int) int {
	most := m.spreadTicks() - tick%m.spreadTicks()
	due := m.links.next(now).Sub(now)
	return max(1, min(most, int((due+probeTick-1)/probeTick)))
}

// leave says goodbye: a signed card with state "left" to members directly, for it must not be taken for a failure, and
// memberlist's own message.
func (m *Mesh) leave(life context.Context, list *memberlist.Memberlist) {
	alone := len(m.addresses()) == 0
	for range 2 {
		m.sayGoodbye(time.Now())
		pause(life, leaveGap)
	}
	if err := list.Leave(leaveLimit); err != nil {
		m.log.Debug("leaving", "err", err)
	}
	if !alone {
		pause(life, leaveLinger)
	}
}
