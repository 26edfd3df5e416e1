package mesh

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"

	"github.com/ternmesh/tern/mesh/linkstate"
)

const (
	rejoinAlone  = 2 * time.Second // between attempts while no other node is known
	rejoinSoon   = 3 * time.Second // between attempts while a member failed within lostLately: short cuts heal soon
	rejoinLeast  = 500 * time.Millisecond
	lostLately   = time.Minute
	rejoinSettle = 15 * time.Second // between attempts otherwise: this is what heals partitions
	lostKept     = 24 * time.Hour   // a failed member's address is tried again for that long
	lostPerRound = 3
	maxStrangers = 16                     // strangers that wait to be joined; more are dropped
	meetDelay    = 200 * time.Millisecond // gossip may bring the news by itself meanwhile
	meetEvery    = 5 * time.Second        // between two attempts at one address
	resolveLimit = 5 * time.Second
	joinAtOnce   = 8
	maxAddrs     = 16 // addresses taken of one DNS name
)

// rejoin tries the join addresses and, at random, those of failed members: often while alone or after a loss, now and then
// later.
func (m *Mesh) rejoin(ctx context.Context, list *memberlist.Memberlist, join []string) error {
	for {
		began := time.Now()
		each(m.candidates(ctx, join), func(addr netip.AddrPort) { m.joinOnce(ctx, list, addr) })
		m.expire(time.Now())
		wait := rejoinAlone
		if members := m.addresses(); len(members) > 0 {
			m.shareKeys(ctx, members[rand.IntN(len(members))])
			switch {
			case m.established.Load() && m.lostSince(time.Now().Add(-lostLately)):
				wait = rejoinSoon
			case m.established.Load():
				wait = rejoinSettle
			}
		}
		// Nodes that lost each other at once should not all knock at once. What an attempt in vain took, 5 s where nobody answers, is
		// part of the pause: a partition may have ended in the meantime.
		m.meetStrangers(ctx, list, max(wait*3/4+rand.N(wait/2)-time.Since(began), rejoinLeast))
		if ctx.Err() != nil {
			return nil
		}
	}
}

// lostSince says whether a member that is still gone failed after t.
func (m *Mesh) lostSince(t time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, at := range m.lost {
		if at.After(t) {
			return true
		}
	}
	return false
}

// meetStrangers spends the time between two rounds: it joins nodes whose cards arrive although memberlist has not heard of
// them. memberlist tells of a newcomer a few times only; whom that passed by would else wait for the next exchange of state.
func (m *Mesh) meetStrangers(ctx context.Context, list *memberlist.Memberlist, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case addr := <-m.strangers:
			pause(ctx, meetDelay)
			if !slices.Contains(m.addresses(), addr) {
				m.joinOnce(ctx, list, addr)
			}
		}
	}
}

// worthMeeting tells whether a card is of a node that should be a member: not gone, not an old card, not met just now.
func (m *Mesh) worthMeeting(r *card, it linkstate.Item) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	held, _ := m.core.Held(it.Origin)
	return r.health.State != StateLeft && it.Version.Newer(m.core.Departed(it.Origin)) && it.Version.Newer(held) &&
		m.now().Sub(m.met[r.health.Mesh]) > meetEvery
}

// meet queues the address of a stranger; its card's signature has been verified.
func (m *Mesh) meet(node string, addr netip.AddrPort) {
	m.mu.Lock()
	if len(m.met) >= maxLost {
		clear(m.met)
	}
	m.met[addr] = m.now()
	if len(m.proven) >= maxLost {
		clear(m.proven)
	}
	m.proven[node] = addr
	m.mu.Unlock()
	select {
	case m.strangers <- addr:
	default: // it will be heard of again
	}
}

// each calls f for all addresses, a few at a time, and waits: one that is dead must not hold up the others.
func each(addrs []netip.AddrPort, f func(netip.AddrPort)) {
	var g errgroup.Group
	g.SetLimit(joinAtOnce)
	for _, addr := range addrs {
		g.Go(func() error { f(addr); return nil })
	}
	_ = g.Wait()
}

// joinOnce exchanges keys with an address, then the members' state.
func (m *Mesh) joinOnce(ctx context.Context, list *memberlist.Memberlist, addr netip.AddrPort) {
	if ctx.Err() != nil {
		return
	}
	if err := m.exchangeKeys(ctx, addr); err != nil {
		m.warn.Warn("join: no answer", "addr", addr, "err", err)
		return
	}
	if _, err := list.Join([]string{addr.String()}); err != nil {
		m.warn.Warn("join: state not exchanged", "addr", addr, "err", err)
	}
}

// candidates are the addresses worth joining: those of join and of some lost members, but neither our own nor, once the mesh
// has taken us in, a live member's.
func (m *Mesh) candidates(ctx context.Context, join []string) (out []netip.AddrPort) {
	for _, j := range join {
		addrs, err := m.resolve(ctx, j)
		if err != nil {
			m.warn.Warn("join: address not usable", "join", j, "err", err)
		}
		out = append(out, addrs...)
	}
	m.mu.Lock()
	some := lostPerRound
	for addr := range m.lost { // the order of a map is random enough
		if some--; some < 0 {
			break
		}
		out = append(out, addr)
	}
	m.mu.Unlock()
	have := []netip.AddrPort{m.cfg.Self().Mesh}
	if m.established.Load() {
		have = append(have, m.addresses()...)
	} // else members that we know of may not know us: a moved node, a node restarted
	slices.SortFunc(out, netip.AddrPort.Compare)
	out = slices.Compact(out)
	return slices.DeleteFunc(out, func(a netip.AddrPort) bool { return slices.Contains(have, a) })
}

// resolve turns HOST:PORT into addresses, anew at each call.
func (m *Mesh) resolve(ctx context.Context, hostPort string) ([]netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("port %q; want 1-65535", service)
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(addr.Unmap(), uint16(port))}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveLimit)
	defer cancel()
	addrs, err := m.cfg.Resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	var out []netip.AddrPort
	for _, addr := range addrs[:min(len(addrs), maxAddrs)] {
		out = append(out, netip.AddrPortFrom(addr.Unmap(), uint16(port)))
	}
	return out, nil
}
