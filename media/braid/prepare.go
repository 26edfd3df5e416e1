package braid

import "time"

// Prepare readies a path before it is used: it reports whether the keys of all hops, peer included, are there for the
// present epoch, and has the missing ones fetched in the background. Whoever moves traffic from one path to another asks
// until it is, and lets go of the old path only then. Never blocks; safe for concurrent use.
func (b *Braid) Prepare(peer NodeID, path Path) (ready bool) {
	now := time.Now()
	epoch := epochOf(b.unixMS(now))
	_, ready = b.keys.get(peer, epoch, now)
	for _, relay := range path.Relays {
		_, ok := b.keys.get(relay, epoch, now)
		ready = ready && ok
	}
	return ready
}
