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
	gossipInterval   = 100 * time.Millisecond
	gossipNodes      = 3
	pushPullInterval = 15 * time.Second
	gossipToTheDead  = 30 * time.Second
	reclaimAfter     = time.Second // a failed node may come back at another address
	gossipPacket     = 1360        // with the class byte beneath the largest UDP payload of the mesh, 1372
	recordRetransmit = 1           // x log10(n+1), rounded up: how often each node passes a record on; its origin sends it to all besides
)

const (
	// beat is the time between records of a node that has no news; above beatNodes it grows with the mesh, so that traffic
	// per node does not.
	beat      = time.Second
	beatNodes = 10
	newsGap   = 100 * time.Millisecond // between two records, however much happens

	tellMost = 64 // members that a record is sent to directly

	leaveLimit  = time.Second            // for memberlist's own goodbye
	leaveLinger = 300 * time.Millisecond // gossip goes on for that long, so that the goodbye gets around
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
	work, stop := context.WithCancel(ctx)
	defer stop()
	g, work := errgroup.WithContext(work)
	g.Go(func() error { return m.rejoin(work, list, join) })
	g.Go(func() error { return m.pushKeys(work) })
	g.Go(func() error { return m.publishing(work, list) })
	g.Go(func() error { return m.links.run(work) })
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
	m.keys.ensure()
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

// tellAll sends a record to members directly, ahead of gossip: up to some 60 nodes that is quicker and costs less. Whom it does
// not reach hears of it from those it does.
func (m *Mesh) tellAll(list *memberlist.Memberlist, sealed []byte) {
	left := tellMost
	for _, n := range list.Members() { // a fresh slice; its order is shuffled by memberlist
		if n.Name != m.cfg.Identity.Node && left > 0 {
			left--
			_ = list.SendBestEffort(n, sealed)
		}
	}
}

// publishing sends this node's record at every beat, and soon after news; that a link went
// up or down is said twice.
func (m *Mesh) publishing(ctx context.Context, list *memberlist.Memberlist) error {
	for {
		urgent := m.urgent.Swap(false)
		sealed, err := m.publish("")
		if err != nil {
			m.warn.Warn("health record not sent", "err", err)
		} else {
			m.tellAll(list, sealed)
		}
		if urgent {
			m.publishSoon() // a packet may be lost: say it twice
		}
		pause(ctx, newsGap)
		wait := beat * time.Duration(max(m.size(), beatNodes)) / beatNodes
		timer := time.NewTimer(wait - newsGap)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-m.kick:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// leave says goodbye: a signed record with state "left" to every member directly, for it must not be taken for a failure, and
// memberlist's own message.
func (m *Mesh) leave(life context.Context, list *memberlist.Memberlist) {
	sealed, err := m.publish(StateLeft)
	if err != nil {
		m.log.Warn("goodbye not signed", "err", err)
	}
	alone := len(m.addresses()) == 0
	for range 2 { // each may be lost
		if err == nil {
			m.tellAll(list, sealed)
		}
		pause(life, newsGap/2)
	}
	if err := list.Leave(leaveLimit); err != nil {
		m.log.Debug("leaving", "err", err)
	}
	if !alone {
		pause(life, leaveLinger)
	}
}
