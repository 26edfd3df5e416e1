package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/sim"
	"github.com/ternmesh/tern/sim/run/scenario"
)

const (
	// formationTimeout bounds the time, on the scenario's clock, until all nodes are ready and path sets exist.
	formationTimeout = 3 * time.Minute
	// formationPoll is how often that is looked at.
	formationPoll = 100 * time.Millisecond
	// restartGap is the least time between two starts of a node: its incarnation is counted in seconds.
	restartGap = 1100 * time.Millisecond
	// linger is how long, in virtual time, a bubble waits for what libraries leave behind: memberlist's last probe, for
	// instance, runs into its timeout. It costs nothing.
	linger = 2 * time.Minute
	// jointSlot is the moment whose packets share one fate under joint loss: longer than the sender takes to write all copies
	// of a packet, shorter than the time to the next packet of most streams.
	jointSlot = 2 * time.Millisecond
	// fullGraph is the size up to which every node must know every link before t=0.
	fullGraph = 32
	// manyNodes is the size from which on each signature of gossip is checked once in the process and not by every node: a quarter
	// of all processor time. What is left out is stated in the documents.
	manyNodes = 64
	// nodeLabel marks a node's goroutines, so that a CPU profile can be told apart by node.
	nodeLabel = "tern_node"
)

// member is one place in the mesh; its node may die and be replaced.
type member struct {
	scenario.Node
	host *sim.Host
	cfg  node.Config
	skew atomic.Int64 // nanoseconds that its wall clock is ahead; it outlives the node

	mu      sync.Mutex    // guards everything below
	node    *node.Node    // nil while dead
	up      chan struct{} // closed when node is set; a new one while dead
	cancel  context.CancelFunc
	done    chan struct{} // closed when the last node's Run has returned
	started time.Time
	crash   *atomic.Bool // of the present life: it was not asked to end well
	starts  int
	failed  error // a node that ended by itself
}

// living returns the node, nil while dead, and a channel that closes when there is one.
func (m *member) living() (*node.Node, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.node, m.up
}

// mesh is the nodes and the network between them.
type mesh struct {
	ground   *ground
	clock    *clock
	net      *sim.Network
	log      *slog.Logger
	version  string
	virtual  bool
	note     func(format string, args ...any) // into the report
	members  []*member                        // in the order of the scenario
	byName   map[string]*member
	tcp      *listeners
	adjust   func(life context.Context, ca string, cfg *node.Config, o *node.Options) error // see Options
	clients  int                                                                            // made so far
	progress *Progress

	signatures *identity.Memo // of large meshes: see manyNodes

	ctx  context.Context // ends all nodes
	stop context.CancelFunc
	wg   sync.WaitGroup // of everything started beneath
}

func newMesh(ctx context.Context, g *ground, net *sim.Network, o Options) *mesh {
	m := &mesh{ground: g, net: net, log: o.Logger, version: o.Version, progress: cmp.Or(o.Progress, new(Progress)), virtual: o.Bubble != nil, adjust: o.Adjust, byName: make(map[string]*member), tcp: &listeners{at: make(map[string]*sim.StreamListener)}}
	m.ctx, m.stop = context.WithCancel(ctx)
	if len(g.scenario.Nodes) > manyNodes {
		m.signatures = new(identity.Memo)
	}
	for i, n := range g.scenario.Nodes {
		one := &member{Node: n, host: net.Host(n.Name, address(i+1)), cfg: g.config(i), up: make(chan struct{})}
		one.skew.Store(int64(n.Clock))
		if n.NAT {
			net.SetNAT(n.Name, sim.NAT{Kind: sim.Static, Public: g.public(i)})
		}
		m.members = append(m.members, one)
		m.byName[n.Name] = one
	}
	for _, n := range g.scenario.Nodes {
		if n.JointLoss > 0 {
			net.SetJointLoss(n.Name, n.JointLoss, jointSlot)
		}
		net.SetUplink(n.Name, n.Uplink, 0)
	}
	for pair, l := range g.scenario.Links {
		net.SetLink(pair.From, pair.To, l)
	}
	for risk, pairs := range g.scenario.Risks {
		for _, p := range pairs {
			net.Share(risk, p.From, p.To)
		}
	}
	return m
}

// start makes a member's node and waits until its listeners are open.
func (m *mesh) start(ctx context.Context, one *member) error {
	one.mu.Lock()
	wait := restartGap - time.Since(one.started)
	first := one.starts == 0
	one.mu.Unlock()
	if !first && wait > 0 {
		time.Sleep(wait)
	}
	o := node.Options{
		MeshNetwork: one.host, ClientNetwork: clientNet{one.host, m.tcp}, Logger: m.log, Version: m.version,
		Skew: func() time.Duration { return time.Duration(one.skew.Load()) }, Signatures: m.signatures,
	}
	cfg := one.cfg
	if m.adjust != nil {
		if err := m.adjust(m.ctx, m.ground.ca(), &cfg, &o); err != nil {
			return fmt.Errorf("%s: %w", one.Name, err)
		}
	}
	n, err := node.New(cfg, o)
	if err != nil {
		return fmt.Errorf("%s: %w", one.Name, err)
	}
	life, cancel := context.WithCancel(m.ctx)
	done, crash := make(chan struct{}), new(atomic.Bool)
	m.wg.Go(func() {
		defer close(done)
		pprof.Do(life, pprof.Labels(nodeLabel, one.Name), func(life context.Context) {
			err := n.Run(life)
			switch {
			case life.Err() != nil && err != nil && m.ctx.Err() == nil && !crash.Load():
				m.note("%s did not end cleanly: %v", one.Name, err)
			case life.Err() == nil:
				one.mu.Lock()
				one.failed = fmt.Errorf("node %s ended by itself: %w", one.Name, err)
				one.mu.Unlock()
			}
		})
	})
	select {
	case <-n.Ready():
	case <-done:
		cancel()
		return errors.Join(fmt.Errorf("node %s did not start", one.Name), one.failed)
	case <-ctx.Done():
		cancel()
		return fmt.Errorf("node %s did not start: %w", one.Name, ctx.Err())
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	one.node, one.cancel, one.done, one.crash, one.started = n, cancel, done, crash, time.Now()
	one.starts++
	close(one.up)
	return nil
}

// end takes a node down: with a goodbye, or as a crash: cut off, its sockets gone, its files as they are at this instant.
// It does not wait.
func (m *mesh) end(one *member, goodbye bool) {
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.node == nil {
		return
	}
	if !goodbye {
		one.crash.Store(true)
		m.net.Kill(one.Name)
		m.tcp.cut(one.cfg.Access.RTPHost)
		next := filepath.Join(m.ground.home(one.Name), fmt.Sprintf("data-%d", one.starts))
		if err := crashCopy(one.cfg.DataDir, next); err != nil {
			one.failed = fmt.Errorf("copy the files of %s: %w", one.Name, err)
		}
		m.net.CloseHost(one.Name)
		one.cfg.DataDir = next
		one.done = closed // what is left of it holds nothing that the next life needs
	}
	one.node, one.up = nil, make(chan struct{})
	one.cancel()
}

// closed is a channel that is.
var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// restart starts a dead member again with its old data, once its remains are gone.
func (m *mesh) restart(one *member) error {
	one.mu.Lock()
	done, alive := one.done, one.node != nil
	one.mu.Unlock()
	if alive || m.ctx.Err() != nil {
		return nil
	}
	<-done
	m.net.Revive(one.Name)
	return m.start(m.ctx, one)
}

// form starts all nodes, gives them the policy and waits until all are ready and path sets exist.
func (m *mesh) form() error {
	ctx, cancel := context.WithTimeout(m.ctx, formationTimeout)
	defer cancel()
	began := time.Now()
	for _, one := range m.members {
		if err := m.start(ctx, one); err != nil {
			return err
		}
	}
	var missing string
	tick := time.NewTicker(formationPoll)
	defer tick.Stop()
	applied, ready := false, 0
	for {
		if !applied {
			applied, missing = m.apply(ctx)
		}
		for applied && ready < len(m.members) {
			var ok bool
			if ok, missing = m.formed(m.members[ready]); !ok {
				break
			}
			ready++
		}
		if ready == len(m.members) {
			return nil
		}
		m.progress.instant.Store(int64(time.Since(began)))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the mesh did not form within %v: %s", formationTimeout, missing)
		}
	}
}

// apply founds the policy through a voter; it is refused until raft has a leader.
func (m *mesh) apply(ctx context.Context) (bool, string) {
	for _, one := range m.members {
		if !one.Voter {
			continue
		}
		n, _ := one.living()
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := n.ApplyPolicy(ctx, m.ground.policy, "simulator")
		cancel()
		if err != nil {
			return false, "the policy was not taken: " + err.Error()
		}
		return true, ""
	}
	return false, "no voter"
}

// formed reports whether a node sees all others alive, enforces a policy, has measured links, and knows a path for every
// stream that enters at it.
func (m *mesh) formed(one *member) (bool, string) {
	n, _ := one.living()
	s := n.Status()
	alive, measured := 0, 0
	for _, other := range s.Members {
		if other.Alive {
			alive++
		}
	}
	for _, l := range s.Links {
		if l.LatencyMS > 0 {
			measured++
		}
	}
	total := len(m.members)
	links := total * (total - 1)
	if total > fullGraph {
		links = total - 1
	}
	switch {
	case alive < total:
		return false, fmt.Sprintf("%s sees %d of %d nodes", one.Name, alive, total)
	case s.PolicyVersion == 0:
		return false, one.Name + " has no policy yet"
	case measured < links:
		return false, fmt.Sprintf("%s knows %d of %d links", one.Name, measured, links)
	}
	for _, stream := range m.ground.scenario.Streams {
		if stream.From != one.Name {
			continue
		}
		for _, to := range stream.To {
			app := appOf(stream)
			if to == one.Name || !m.ground.allowed(app, one.Region) || !m.ground.allowed(app, m.byName[to].Region) {
				continue
			}
			if r, err := n.PathsBetween(one.Name, to, app); err != nil || len(r.Paths) == 0 {
				return false, fmt.Sprintf("%s knows no path to %s for app %s (%v)", one.Name, to, app, err)
			}
		}
	}
	return true, ""
}

// close ends every node with a goodbye, then the network.
func (m *mesh) close() {
	m.stop()
	m.wg.Wait()
	if m.virtual {
		time.Sleep(linger)
	}
	m.net.Close()
	_ = os.RemoveAll(m.ground.dir)
}

// failures are nodes that ended by themselves.
func (m *mesh) failures() (errs []error) {
	for _, one := range m.members {
		one.mu.Lock()
		if one.failed != nil {
			errs = append(errs, one.failed)
		}
		one.mu.Unlock()
	}
	return errs
}

// attackerAddr is where floods come from: a host outside the mesh.
var attackerAddr = netip.AddrFrom4([4]byte{10, 8, 0, 1})
