package enrol

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"

	"github.com/ternmesh/tern/control/lease"
	"github.com/ternmesh/tern/mesh/identity"
)

// First gets a machine's first lease from the first of authorities that gives one. With an invitation, the mesh's CA comes from
// the authority, held against the invitation's pin, if caFile does not exist; it is written there then. Without, the machine
// must have been approved. It returns the lease, unsealed, and the CA.
func (c Client) First(ctx context.Context, authorities []string, caFile string, invitation *lease.Invitation) (lease.Lease, identity.Trust, error) {
	if invitation == nil {
		t, err := identity.LoadTrust(caFile)
		if err != nil {
			return lease.Lease{}, t, fmt.Errorf("%w: without an invitation the mesh's ca.crt must be there", err)
		}
		l, err := c.first(ctx, authorities, func(address string) (lease.Lease, error) { return c.Ask(ctx, address, t, nil, "") })
		return l, t, err
	}
	if invitation.Node != c.Node {
		return lease.Lease{}, identity.Trust{}, fmt.Errorf("the invitation is for node %q, the configuration says %q", invitation.Node, c.Node)
	}
	t, err := identity.LoadTrust(caFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c.firstPinned(ctx, authorities, caFile, invitation)
	case err != nil:
		return lease.Lease{}, t, err
	case t.Pin() != invitation.Pin:
		return lease.Lease{}, t, fmt.Errorf("%s is the CA of another mesh than the invitation's: move it away if this machine is to change meshes", caFile)
	}
	l, err := c.first(ctx, authorities, func(address string) (lease.Lease, error) { return c.Ask(ctx, address, t, nil, invitation.Secret) })
	return l, t, err
}

// firstPinned is First with an invitation, before there is a CA.
func (c Client) firstPinned(ctx context.Context, authorities []string, caFile string, invitation *lease.Invitation) (lease.Lease, identity.Trust, error) {
	var found atomic.Pointer[identity.Trust] // set by the handshake
	l, err := c.first(ctx, authorities, func(address string) (lease.Lease, error) {
		conf, err := identity.PinnedTLS(invitation.Pin, c.Key, func(t identity.Trust) { found.Store(&t) })
		if err != nil {
			return lease.Lease{}, err
		}
		l, err := c.exchange(ctx, address, conf, invitation.Mesh, nil, invitation.Secret, func() identity.Trust { return *found.Load() })
		if err != nil {
			return l, fmt.Errorf("%s: %w", address, err)
		}
		return l, nil
	})
	if err != nil {
		return l, identity.Trust{}, err
	}
	return l, *found.Load(), found.Load().Save(caFile)
}

func (c Client) first(ctx context.Context, authorities []string, ask func(address string) (lease.Lease, error)) (lease.Lease, error) {
	round := lease.Renew(len(authorities), func(i int) (lease.Lease, error) {
		if err := ctx.Err(); err != nil {
			return lease.Lease{}, err
		}
		return ask(authorities[i])
	})
	if round.Lease == nil {
		return lease.Lease{}, errors.Join(round.Errors...)
	}
	return *round.Lease, nil
}
