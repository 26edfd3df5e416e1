package node

import (
	"context"
	"sync/atomic"

	"github.com/ternmesh/tern/mesh"
)

// States that a node tells the mesh.
const (
	StateServing  = mesh.StateServing
	StateDraining = mesh.StateDraining // sessions are left, no new ones begin
	StateDrained  = mesh.StateDrained  // no sessions are left, or the deadline has ended them
	StateCordoned = mesh.StateCordoned // no new sessions begin, and nothing moves
	// StateUnleased: no new sessions begin, because the node's lease is not good; those that run go on. A fresh lease ends it.
	StateUnleased = mesh.StateUnleased
	// StateRevoked: the policy that this node has says that it does not belong to the mesh. It serves nobody and goes on
	// asking for a newer policy; members answer again when one readmits it.
	StateRevoked  = "revoked"
	StateStopping = "stopping"
)

// state is what the node says of itself. It is the last stage to start and so the first to stop: from then on
// /readyz fails and no new session is admitted, while everything beneath still runs.
type state struct{ stopping atomic.Bool }

// keepState is that stage.
func (n *Node) keepState(ctx context.Context) error {
	<-ctx.Done()
	n.state.stopping.Store(true)
	n.access.Farewell() // who listens may still get away
	return nil
}

// stateName is what the node tells the mesh and its operator.
func (n *Node) stateName() string {
	if n.state.stopping.Load() {
		return StateStopping
	}
	return *n.drain.state.Load()
}

// refusesClients says that no new session may begin here.
func (n *Node) refusesClients() bool { return n.state.stopping.Load() || n.drain.refuses() }
