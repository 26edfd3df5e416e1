package sim

import "time"

// SetDefault sets the link of all pairs that nobody has set or used yet.
func (n *Network) SetDefault(l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.unnamed = l
}

// SetLink sets the direction from one host to another. Neither has to exist yet.
func (n *Network) SetLink(from, to string, l Link) {
	n.UpdateLink(from, to, func(old *Link) { *old = l })
}

// UpdateLink changes a direction in place; f must not call the network. Packets already under way keep their
// instants, and packets sent later do not overtake them.
func (n *Network) UpdateLink(from, to string, f func(*Link)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(&n.lane(from, to).link)
}

// Link returns the settings of a direction.
func (n *Network) Link(from, to string) Link {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lane(from, to).link
}

// Kill cuts a host off: packets neither leave nor arrive, those on their way to it included. Its ports stay open
// and its sends succeed, as on a machine whose cable is pulled.
func (n *Network) Kill(host string) { n.setDead(host, true) }

// Revive undoes Kill.
func (n *Network) Revive(host string) { n.setDead(host, false) }

func (n *Network) setDead(host string, dead bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if h := n.hosts[host]; h != nil {
		h.dead = dead
	}
}

// Partition splits the network: hosts named in different groups cannot talk; hosts in no group talk to all. It
// replaces an earlier partition; without groups it heals.
func (n *Network) Partition(groups ...[]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.groups = make(map[string]int)
	for i, group := range groups {
		for _, host := range group {
			n.groups[host] = i
		}
	}
}

// SetJointLoss drops everything that host sends within a slot of time, with probability p per slot: copies of a packet sent
// in the same slot on several paths share their fate. Slots count from the network's birth, and a hash of
// (seed, host, slot number) decides. p = 0 turns it off. The host must exist.
func (n *Network) SetJointLoss(host string, p float64, slot time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if h := n.hosts[host]; h != nil {
		h.joint = jointLoss{p: p, slot: slot, seed: seedFor(n.seed, "joint", host)}
	}
}

// LinkStats returns the counters of a direction.
func (n *Network) LinkStats(from, to string) LinkStats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lane(from, to).stats
}

// Stats returns the network's own counters.
func (n *Network) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.stats
	s.InFlight = len(n.sched.heap)
	return s
}

// CloseHost closes every Conn of a host, as the end of a process does; its readers see net.ErrClosed. Ports are free at
// once.
func (n *Network) CloseHost(host string) {
	n.mu.Lock()
	var conns []*Conn
	if h := n.hosts[host]; h != nil {
		for _, c := range h.conns {
			conns = append(conns, c)
		}
	}
	n.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // a second close does not matter
	}
}

// uplink is what everything that a host sends passes before its links: a rate with a drop-tail queue. Guarded by Network.mu.
type uplink struct {
	link Link  // Rate and Queue
	free int64 // when what is queued has left
}

// pass returns when a packet has left, in nanoseconds as now; false: the queue is full.
func (u *uplink) pass(now int64, size int) (int64, bool) {
	perByte := 8e9 / float64(u.link.Rate)
	start := max(now, u.free)
	if float64(start-now)/perByte+float64(size) > float64(u.link.queue()) {
		return 0, false
	}
	u.free = start + int64(float64(size)*perByte)
	return u.free, true
}

// SetUplink gives a host one way out, which all its links share: rate in bit/s (0: unlimited) with a drop-tail queue in bytes (0:
// 100 ms at the rate). What it drops counts as QueueDrops of the link. The host must exist.
func (n *Network) SetUplink(host string, rate int64, queue int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[host]
	switch {
	case h == nil:
	case rate <= 0:
		h.up = nil
	default:
		h.up = &uplink{link: Link{Rate: rate, Queue: queue}}
	}
}
