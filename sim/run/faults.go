package run

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/ternmesh/tern/sim/run/scenario"
)

// faults makes the scenario's events happen. One goroutine owns it: the one that walks the timeline.
type faults struct {
	mesh   *mesh
	clock  *clock
	active []*scenario.Event // that change links, in the order of their start
	check  *checkers
	flows  []*flow
}

// step is something that happens at an instant.
type step struct {
	at time.Duration
	do func()
}

// timeline lists what happens when, in order.
func (f *faults) timeline(s *scenario.Scenario) (steps []step) {
	for i := range s.Events {
		e := &s.Events[i]
		steps = append(steps, step{e.At, func() { f.begin(e) }})
		if e.For > 0 && e.At+e.For < s.Duration {
			steps = append(steps, step{e.At + e.For, func() { f.end(e) }})
		}
	}
	return steps
}

func (f *faults) begin(e *scenario.Event) {
	switch {
	case e.Pairs != nil:
		f.active = append(f.active, e)
		f.settle(e.Pairs)
	case e.Stream != "" && e.Action == scenario.Rebind:
		for _, c := range f.clients(e.Stream) {
			f.mesh.net.Rebind(c.host.Name())
		}
	case e.Stream != "" && e.Action == scenario.Handover:
		for _, c := range f.clients(e.Stream) {
			c.handover()
		}
	case e.Stream != "":
		f.active = append(f.active, e)
		f.settleLastMile(e.Stream)
	case e.JointLoss != nil:
		f.active = append(f.active, e)
		f.settleJoint(e.Node)
	case e.Skew != nil:
		f.active = append(f.active, e)
		f.settleClock(e.Node)
	case e.Risk != "":
		f.active = append(f.active, e)
		f.mesh.net.FailRisk(e.Risk)
	case e.Partition != nil:
		f.active = append(f.active, e)
		f.mesh.net.Partition(e.Partition...)
	case e.Policy != nil:
		f.policy(e)
	case e.Flood != nil:
		f.flood(e)
	default:
		one := f.mesh.byName[e.Node]
		f.mesh.end(one, e.Action != scenario.Kill)
		if e.Action == scenario.Restart && e.For == 0 {
			f.restart(one)
		}
	}
}

// end undoes an event.
func (f *faults) end(e *scenario.Event) {
	f.active = slices.DeleteFunc(f.active, func(a *scenario.Event) bool { return a == e })
	switch {
	case e.Pairs != nil:
		f.settle(e.Pairs)
	case e.Stream != "":
		f.settleLastMile(e.Stream)
	case e.JointLoss != nil:
		f.settleJoint(e.Node)
	case e.Skew != nil:
		f.settleClock(e.Node)
	case e.Risk != "":
		f.mesh.net.MendRisk(e.Risk)
	case e.Partition != nil:
		f.mesh.net.Partition()
	case e.Node != "" && e.Action != "":
		f.restart(f.mesh.byName[e.Node])
	}
}

// restart starts a node in the background: its remains may need seconds to go.
func (f *faults) restart(one *member) {
	f.mesh.wg.Go(func() {
		if err := f.mesh.restart(one); err != nil && f.mesh.ctx.Err() == nil {
			one.mu.Lock()
			one.failed = err
			one.mu.Unlock()
		}
	})
}

// settle gives directions their own settings with all present changes on top.
func (f *faults) settle(pairs []scenario.Pair) {
	for _, p := range pairs {
		l := f.mesh.ground.scenario.Links[p]
		for _, e := range f.active {
			if slices.Contains(e.Pairs, p) {
				e.Change.Apply(&l)
			}
		}
		f.mesh.net.SetLink(p.From, p.To, l)
	}
}

// clients are those of a stream, the publisher's first.
func (f *faults) clients(stream string) (out []*client) {
	for _, one := range f.flows {
		if one.Name != stream {
			continue
		}
		out = append(out, one.client)
		for _, v := range one.views {
			out = append(out, v.client)
		}
	}
	return out
}

// settleLastMile gives the clients of a stream their own settings with all present changes on top.
func (f *faults) settleLastMile(stream string) {
	for _, c := range f.clients(stream) {
		l := c.lastMile
		for _, e := range f.active {
			if e.Stream == stream {
				e.Change.Apply(&l)
			}
		}
		c.setLastMile(l)
	}
}

// settleJoint gives a node its own joint loss, or that of the newest event.
func (f *faults) settleJoint(node string) {
	share := f.mesh.byName[node].JointLoss
	for _, e := range f.active {
		if e.Node == node && e.JointLoss != nil {
			share = *e.JointLoss
		}
	}
	f.mesh.net.SetJointLoss(node, share, jointSlot)
}

// settleClock gives a node its own clock, or that of the newest event.
func (f *faults) settleClock(node string) {
	one := f.mesh.byName[node]
	skew := one.Clock
	for _, e := range f.active {
		if e.Node == node && e.Skew != nil {
			skew = *e.Skew
		}
	}
	one.skew.Store(int64(skew))
}

// heal undoes everything that still lasts, but for the deaths of nodes.
func (f *faults) heal() {
	for len(f.active) > 0 {
		f.end(f.active[len(f.active)-1])
	}
}

// policyTimeout bounds one change of the policy.
const policyTimeout = 20 * time.Second

func (f *faults) policy(e *scenario.Event) {
	doc := f.mesh.ground.policies[string(e.Policy)]
	n, _ := f.mesh.byName[e.Node].living()
	if n == nil {
		return
	}
	f.mesh.wg.Go(func() {
		ctx, cancel := context.WithTimeout(f.mesh.ctx, policyTimeout)
		defer cancel()
		before := n.Policy().Version
		err := n.ApplyPolicy(ctx, doc, "simulator")
		for err == nil && n.Policy().Version == before && ctx.Err() == nil {
			wait(ctx, nil, recoverPoll) // the leader has it; this node hears of it a moment later
		}
		f.check.applied(e.Node, n.Policy().Version, err)
	})
}

// flood sends junk to a node's mesh port: random bytes, half of them dressed as path frames.
func (f *faults) flood(e *scenario.Event) {
	host := f.mesh.net.Host("outside", attackerAddr)
	to := f.mesh.byName[e.Flood.To]
	seed := f.mesh.ground.scenario.Seed
	end := e.At + e.For
	if e.For == 0 {
		end = f.mesh.ground.scenario.Duration
	}
	f.mesh.wg.Go(func() {
		conn, err := host.ListenPacket(f.mesh.ctx, netip.AddrPortFrom(netip.IPv4Unspecified(), 0))
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		target, _ := netip.ParseAddrPort(to.cfg.Mesh.Advertise)
		draw := rand.New(rand.NewPCG(seed, uint64(e.At)))
		packet := make([]byte, e.Flood.Size)
		period := time.Second / time.Duration(e.Flood.PacketsPerSecond)
		for at := e.At; at < end && f.clock.until(f.mesh.ctx, at); at += period {
			for i := range packet {
				packet[i] = byte(draw.Uint32())
			}
			if draw.IntN(2) == 0 && len(packet) > 3 {
				packet[0], packet[1], packet[3] = 5, 0x10, 2
			}
			_, _ = conn.WriteTo(packet, udpAddr(target))
		}
	})
}
