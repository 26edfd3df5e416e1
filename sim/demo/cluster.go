package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/sim"
)

const (
	// formationTimeout bounds the time until six nodes know each other and the policy.
	formationTimeout = 60 * time.Second
	// pollInterval is how often formation and the death of a node are looked at.
	pollInterval = 100 * time.Millisecond
	// reviveTimeout bounds the wait for a killed node's remains; its own shutdown takes at most node.ShutdownTimeout.
	reviveTimeout = node.ShutdownTimeout + 5*time.Second
)

// meshNode is what the demo needs of a node; *node.Node has it, tests bring their own.
type meshNode interface {
	Run(ctx context.Context) error
	Ready() <-chan struct{}
	Status() node.Status
	AccessURL() string
	AdminURL() string
	ApplyPolicy(ctx context.Context, doc []byte, who string) error
}

// maker starts a node's construction; the host is its mesh network.
type maker func(cfg node.Config, host *sim.Host, log *slog.Logger) (meshNode, error)

func realNode(cfg node.Config, host *sim.Host, log *slog.Logger) (meshNode, error) {
	return node.New(cfg, node.Options{MeshNetwork: host, Logger: log, Version: "demo"})
}

// cluster is the six nodes and the network between them. The nodes' goroutines belong to group.
type cluster struct {
	ground *ground
	net    *sim.Network
	make   maker
	log    *slog.Logger
	group  *errgroup.Group
	ctx    context.Context // of group: ends all nodes

	mu      sync.Mutex
	members []*member // in the order of cities; the slice itself never changes
}

// member is one place in the mesh; its node may die and be replaced.
type member struct {
	city city
	host *sim.Host

	// Guarded by cluster.mu.
	cfg    node.Config
	node   meshNode // nil until ready
	alive  bool
	cancel context.CancelFunc
	done   chan struct{} // closed when the node's Run has returned
}

func newCluster(ctx context.Context, group *errgroup.Group, g *ground, network *sim.Network, make maker, log *slog.Logger) *cluster {
	wideArea(network)
	c := &cluster{ground: g, net: network, make: make, log: log, group: group, ctx: ctx}
	for i, city := range cities {
		c.members = append(c.members, &member{city: city, host: network.Host(city.node, meshAddr(i).Addr()), cfg: g.config(i)})
	}
	return c
}

// form starts all nodes, gives them a policy and waits until each knows all others and enforces it.
func (c *cluster) form(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, formationTimeout)
	defer cancel()
	for _, m := range c.members {
		if err := c.start(ctx, m); err != nil {
			return err
		}
	}
	if err := c.apply(ctx); err != nil {
		return err
	}
	if err := c.wait(ctx, c.formed); err != nil {
		return fmt.Errorf("demo: the mesh did not form: %w", err)
	}
	return nil
}

// start makes a member's node and waits until its listeners are open.
func (c *cluster) start(ctx context.Context, m *member) error {
	c.mu.Lock()
	cfg := m.cfg
	c.mu.Unlock()
	n, err := c.make(cfg, m.host, c.log)
	if err != nil {
		return fmt.Errorf("demo: %s: %w", m.city.node, err)
	}
	life, cancel := context.WithCancel(c.ctx)
	done := make(chan struct{})
	failed := make(chan error, 1)
	c.group.Go(func() error {
		defer close(done)
		err := n.Run(life)
		if life.Err() != nil { // killed, or the demo ends: how it took that does not matter
			return nil
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		failed <- err
		return fmt.Errorf("demo: node %s: %w", m.city.node, err)
	})
	select {
	case <-n.Ready():
	case err := <-failed:
		cancel()
		return fmt.Errorf("demo: node %s: %w", m.city.node, err)
	case <-ctx.Done():
		cancel()
		return fmt.Errorf("demo: node %s did not start: %w", m.city.node, ctx.Err())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	m.node, m.alive, m.cancel, m.done = n, true, cancel, done
	if u, err := url.Parse(n.AccessURL()); err == nil {
		m.cfg.Access.Listen = u.Host // a revived node answers where the page knows it
	}
	return nil
}

// kill cuts a node off first and ends it second, so that no goodbye gets out: to the mesh it dies without a word.
func (c *cluster) kill(node string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.member(node)
	if m == nil || !m.alive {
		return fmt.Errorf("%s is not alive", cityName(node))
	}
	c.net.Kill(node)
	m.alive = false
	m.cancel()
	return nil
}

// revive starts the dead nodes again with their old data directories.
func (c *cluster) revive(ctx context.Context) (revived []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, reviveTimeout)
	defer cancel()
	for _, m := range c.members {
		c.mu.Lock()
		dead, done := !m.alive && m.done != nil, m.done
		c.mu.Unlock()
		if !dead {
			continue
		}
		select {
		case <-done: // its files and ports are free now
		case <-ctx.Done():
			return revived, fmt.Errorf("%s is still dying: %w", m.city.name, ctx.Err())
		}
		c.net.Revive(m.city.node)
		if err := c.start(ctx, m); err != nil {
			return revived, err
		}
		revived = append(revived, m.city.node)
	}
	return revived, nil
}

// member finds by node name. Called with mu held, or before the cluster is shared.
func (c *cluster) member(node string) *member {
	for _, m := range c.members {
		if m.city.node == node {
			return m
		}
	}
	return nil
}

// living returns the nodes that are up, by name.
func (c *cluster) living() map[string]meshNode {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]meshNode)
	for _, m := range c.members {
		if m.alive {
			out[m.city.node] = m.node
		}
	}
	return out
}

// accessURL is where clients of a node go.
func (c *cluster) accessURL(node string) (string, error) {
	n, ok := c.living()[node]
	if !ok {
		return "", fmt.Errorf("%s is not alive", cityName(node))
	}
	return n.AccessURL(), nil
}

// statuses asks every living node.
func (c *cluster) statuses() []node.Status {
	var out []node.Status
	for _, n := range c.living() {
		out = append(out, named(n.Status()))
	}
	return out
}

// named gives paths through the dead their names back: nodes know members that left by compact id alone, the demo knows them all.
func named(s node.Status) node.Status {
	names := make(map[string]string)
	for _, c := range cities {
		names[fmt.Sprintf("%08x", identity.NodeID(meshName, c.node))] = c.node
	}
	for i := range s.Braids {
		b := &s.Braids[i]
		if name, ok := names[b.Peer]; ok {
			b.Peer = name
		}
		for _, paths := range [][]node.PathStatus{b.Out, b.In} {
			for _, p := range paths {
				for h, hop := range p.Hops {
					if name, ok := names[hop]; ok {
						p.Hops[h] = name
					}
				}
			}
		}
	}
	return s
}

// formed reports whether each node sees all others alive, has measured links to them, and enforces a policy.
func (c *cluster) formed() (bool, string) {
	for _, s := range c.statuses() {
		alive := 0
		for _, m := range s.Members {
			if m.Alive {
				alive++
			}
		}
		links := 0
		for _, l := range s.Links {
			if !l.Down && l.LatencyMS > 0 {
				links++
			}
		}
		switch {
		case alive < len(cities):
			return false, fmt.Sprintf("%s sees %d of %d nodes", s.Node, alive, len(cities))
		case s.PolicyVersion == 0:
			return false, s.Node + " has no policy yet"
		case links < len(cities)*(len(cities)-1):
			return false, fmt.Sprintf("%s knows %d of %d links", s.Node, links, len(cities)*(len(cities)-1))
		}
	}
	return true, ""
}

// apply gives the policy to a voter, as an operator would; it is refused until raft has a leader.
func (c *cluster) apply(ctx context.Context) error {
	c.mu.Lock()
	voter := c.members[0].node
	c.mu.Unlock()
	err := c.wait(ctx, func() (bool, string) {
		if err := voter.ApplyPolicy(ctx, c.ground.policy(), "demo"); err != nil {
			return false, err.Error()
		}
		return true, ""
	})
	if err != nil {
		return fmt.Errorf("demo: the policy was not taken: %w", err)
	}
	return nil
}

// wait polls until a condition holds; the error says what was still missing.
func (c *cluster) wait(ctx context.Context, condition func() (ok bool, missing string)) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		ok, missing := condition()
		if ok {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w (%s)", ctx.Err(), missing)
		}
	}
}
