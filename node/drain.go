package node

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/mesh"
)

// quietFor is how long a drained node must have forwarded nothing to count as out of use.
const quietFor = 3 * time.Second

// drainTick is how often a node looks at what the policy wants of it: deadlines pass between policies.
const drainTick = time.Second

// drainer is a node's own side of cordon and drain. What the other nodes do (paths, directory, redirects) follows from
// the same policy at each of them; see enforcer.
type drainer struct {
	node  *Node
	news  chan struct{} // capacity 1: a policy came into force
	state atomic.Pointer[string]
	busy  atomic.Int64 // when this node last forwarded a frame of others, in nanoseconds since Node.started (monotonic)

	// owned by run
	ended   bool   // the sessions that were left at the deadline were ended
	relayed uint64 // frames forwarded since the start, as of the last look
}

func newDrainer(n *Node) *drainer {
	d := &drainer{node: n, news: make(chan struct{}, 1)}
	serving := StateServing
	d.state.Store(&serving)
	return d
}

// wake says that a policy came into force; never blocks.
func (d *drainer) wake() {
	select {
	case d.news <- struct{}{}:
	default:
	}
}

// refuses says that no new session is to begin here.
func (d *drainer) refuses() bool { return *d.state.Load() != StateServing }

// run follows the policy until ctx ends.
func (d *drainer) run(ctx context.Context) error {
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	for {
		d.look(time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-d.news:
		}
	}
}

// look does what is due now.
func (d *drainer) look(now time.Time) {
	n := d.node
	wanted := n.enforcer.nodeState(n.cfg.Node)
	state, end := duty(wanted, now, n.sessions(), d.quiet(now) >= quietFor)
	switch {
	case n.revokedSelf():
		state = StateRevoked
	case n.unleased() && (state == StateServing || state == StateCordoned):
		state = StateUnleased
	}
	if before := *d.state.Swap(&state); before != state {
		n.log.Info("node state", "state", state, "before", before, "deadline", wanted.Deadline, "sessions", n.sessions())
	}
	if wanted.State == control.NodeDrained && !end {
		n.access.Depart(wanted.Deadline)
	} else {
		n.access.Remain()
	}
	end = end || state == StateRevoked
	if end && !d.ended {
		n.log.Warn("ending the sessions that are left", "state", state, "sessions", n.sessions())
		n.access.EndAll(state)
	}
	d.ended = end
	if wanted.State == control.NodeDrained || state == StateRevoked {
		d.handOver()
	}
}

// duty is what the policy asks of a node: its state, and whether the sessions that are left end now. Pure.
//
//	serving ──drained──▶ draining ──nothing left here, or the deadline──▶ drained
//	   │
//	   └──cordoned──▶ cordoned            any ──not named any more──▶ serving
//
// A lease that is not good makes unleased of serving and of cordoned; see look.
func duty(wanted control.NodeState, now time.Time, sessions int, quiet bool) (state string, end bool) {
	switch wanted.State {
	case control.NodeCordoned:
		return StateCordoned, false
	case control.NodeDrained:
		end = !wanted.Deadline.IsZero() && !now.Before(wanted.Deadline)
		if end || sessions == 0 && quiet {
			return StateDrained, end
		}
		return StateDraining, false
	}
	return StateServing, false
}

// quiet is how long this node has forwarded nothing for others.
func (d *drainer) quiet(now time.Time) time.Duration {
	if relayed := d.node.braid.Stats().Frames["relayed"]; relayed != d.relayed {
		d.relayed = relayed
		d.forwarded(now)
	}
	return d.idle(now)
}

// forwarded notes that a frame of others was forwarded. It counts from the node's start, by the monotonic clock of both
// times: setting the wall clock ends no drain.
func (d *drainer) forwarded(now time.Time) { d.busy.Store(int64(now.Sub(d.node.started))) }

// idle is quiet without a look at the counters.
func (d *drainer) idle(now time.Time) time.Duration {
	return now.Sub(d.node.started) - time.Duration(d.busy.Load())
}

// handOver gives raft's leadership to a voter that is not drained, if there is one.
func (d *drainer) handOver() {
	n := d.node
	if s := n.control.Status(); s.Role == "leader" {
		if to := successor(n.cfg.Node, s.Voters, n.mesh.Members(), n.enforcer.nodeState); to != "" {
			if err := n.control.HandOver(to); err != nil {
				n.log.Warn("raft leadership was not handed over; trying again", "to", to, "err", err)
			}
		}
	}
}

// successor picks the first live voter by name that the policy does not drain; "" if there is none. Pure.
func successor(self string, voters []string, members []mesh.Member, state func(string) control.NodeState) string {
	for _, v := range voters {
		alive := slices.ContainsFunc(members, func(m mesh.Member) bool { return m.Node == v && m.Alive })
		if v != self && alive && state(v).State != control.NodeDrained {
			return v
		}
	}
	return ""
}

// elsewhere finds the node that a client should go to instead of this one: inside the app's fence, serving and not full,
// the nearest by measured latency, where a busy node counts as farther. It returns the base URL for clients.
func (n *Node) elsewhere(app string) (url string, ok bool) {
	fence, known := n.enforcer.fenceOf(app)
	if !known {
		return "", false
	}
	graph := n.mesh.Graph()
	best := 0.0
	for _, m := range n.mesh.Members() {
		if !n.takesClients(m) || !n.enforcer.allows(fence, m.Region) {
			continue
		}
		cost := unmeasuredMS
		if l, measured := graph.Link(n.cfg.Node, m.Node); measured && !l.Down {
			cost = ms(l.Latency)
		}
		cost = (cost + 1) * (1 + m.Health.Load)
		if !ok || cost < best {
			url, best, ok = m.Health.AccessURL, cost, true
		}
	}
	return url, ok
}

// unmeasuredMS stands for the latency of a link that was never measured: far away.
const unmeasuredMS = 500.0

// takesClients says whether another node may be named to a client.
func (n *Node) takesClients(m mesh.Member) bool {
	return m.Alive && m.Node != n.cfg.Node && m.Health.AccessURL != "" && m.Health.Load < 1 &&
		(m.Health.State == "" || m.Health.State == StateServing) && n.enforcer.nodeState(m.Node).State == ""
}
