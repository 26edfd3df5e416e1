package mesh

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	keyBytes   = 32
	stampBytes = 8
	// maxKeys is how many keys count: the one before, the one in use, the next.
	maxKeys = 3
	// keySettle is how long a new key is only accepted: everybody must have it before anybody sends with it.
	keySettle = time.Minute
	// keyLife is the age at which the key is replaced without being asked.
	keyLife = 24 * time.Hour
	// condemnedKept is how old the key after condemned ones must be for those to go: everybody has sent with it for a while.
	condemnedKept = 2 * keySettle
	// keyAhead is how far a clock may be ahead; keys from later are kept apart.
	keyAhead = time.Minute
)

// keys is the ring of gossip keys. A key travels behind the time of its making (u64, Unix seconds, big-endian), so that nodes
// with equal rings agree without a word which one to send with: the newest that is settled. Receivers try all.
type keys struct {
	changed func([][]byte)

	mu   sync.Mutex
	ring *memberlist.Keyring // guarded by mu for changes; memberlist reads it under the ring's own lock
	all  [][]byte            // guarded by mu: stamped, oldest first
	main []byte              // guarded by mu: the one to send with, stamped
	// condemned is when a node was last thrown out, which knows the keys made until then; guarded by mu, zero: never.
	condemned time.Time
	wanted    time.Time // since when this node waits for a new key; guarded by mu, zero: it does not
}

func newKeys(now time.Time, initial [][]byte, changed func([][]byte)) (*keys, error) {
	ring, err := memberlist.NewKeyring(nil, nil)
	if err != nil {
		return nil, err
	}
	k := &keys{ring: ring}
	for _, key := range initial {
		if len(key) != stampBytes+keyBytes {
			return nil, fmt.Errorf("mesh: gossip key of %d bytes; want %d, as KeysChanged gives them", len(key), stampBytes+keyBytes)
		}
	}
	k.add(now, initial)
	k.changed = changed
	return k, nil
}

// stamp makes a key that carries the time of its making.
func stamp(now time.Time, key []byte) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(max(now.Unix(), 0))), key...)
}

func stampOf(key []byte) time.Time {
	return time.Unix(int64(min(binary.BigEndian.Uint64(key), math.MaxInt64)), 0)
}

// add unites the ring with others' keys, of which the newest maxKeys stay, and tells whether it changed. Keys of a wrong size
// are passed over; condemned ones go, and do not come back, once the key after them is settled. Keys of the future are a wrong clock's, theirs
// or ours, whose node sends with them: the earliest maxKeys count besides, until somebody is thrown out, who could have left some.
func (k *keys) add(now time.Time, theirs [][]byte) bool {
	k.mu.Lock()
	before := k.all
	for _, key := range theirs {
		if len(key) != stampBytes+keyBytes {
			continue
		}
		if at, known := slices.BinarySearchFunc(k.all, key, bytes.Compare); !known {
			k.all = slices.Insert(slices.Clone(k.all), at, bytes.Clone(key))
		}
	}
	if fresh := slices.IndexFunc(k.all, func(key []byte) bool { return stampOf(key).After(k.condemned) }); fresh > 0 &&
		now.Sub(stampOf(k.all[fresh])) >= condemnedKept {
		k.all = k.all[fresh:]
	}
	ahead := k.ahead(now)
	most := maxKeys
	if !k.condemned.IsZero() && ahead > 0 {
		most = 0
	}
	k.all = k.all[max(ahead-maxKeys, 0):min(ahead+most, len(k.all))]
	grown := !slices.EqualFunc(before, k.all, bytes.Equal)
	if grown {
		for _, key := range k.all {
			_ = k.ring.AddKey(key[stampBytes:]) // the size is right; one that is there is no error
		}
	}
	k.useLocked(now)
	for _, key := range before {
		if !slices.ContainsFunc(k.all, func(kept []byte) bool { return bytes.Equal(kept, key) }) {
			_ = k.ring.RemoveKey(key[stampBytes:]) // never the one in use: that is in all
		}
	}
	all := slices.Clone(k.all)
	k.mu.Unlock()
	if grown && k.changed != nil {
		k.changed(all)
	}
	return grown
}

// ahead is the place in the ring of the first key of the future. k.mu is held.
func (k *keys) ahead(now time.Time) int {
	at := slices.IndexFunc(k.all, func(key []byte) bool { return stampOf(key).After(now.Add(keyAhead)) })
	if at < 0 {
		at = len(k.all)
	}
	return at
}

// use chooses the key to send with, and gives condemned keys up, as time goes by.
func (k *keys) use(now time.Time) { k.add(now, nil) }

// condemn gives up the keys made until now, in favour of one that is to be drawn.
func (k *keys) condemn(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.condemned = now
}

// replaces says why there should be a new key, and for how long this node has thought so; empty: there need not be one.
func (k *keys) replaces(now time.Time) (why string, waited time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch at := k.ahead(now) - 1; {
	case len(k.all) == 0:
	case !k.condemned.IsZero() && (at < 0 || !stampOf(k.all[at]).After(k.condemned)): // one of the future may be the revoked node's
		why = "a node was revoked"
	case at >= 0 && now.Sub(stampOf(k.all[at])) >= keyLife:
		why = "age"
	}
	if why == "" {
		k.wanted = time.Time{}
		return "", 0
	}
	if k.wanted.IsZero() {
		k.wanted = now
	}
	return why, now.Sub(k.wanted)
}

// useLocked sends with the newest settled key, or, while none is, with the oldest.
func (k *keys) useLocked(now time.Time) {
	if len(k.all) == 0 {
		return
	}
	best := k.all[0]
	for _, key := range k.all {
		if !stampOf(key).Add(keySettle).After(now) {
			best = key
		}
	}
	if !bytes.Equal(best, k.main) && k.ring.UseKey(best[stampBytes:]) == nil {
		k.main = best
	}
}

// draw puts a new key into the ring.
func (k *keys) draw(now time.Time) bool {
	key := make([]byte, keyBytes)
	_, _ = rand.Read(key) // never fails
	k.mu.Lock()
	if !k.condemned.IsZero() && now.Sub(k.condemned) < time.Second { // stamps are whole seconds
		now = k.condemned.Add(time.Second)
	}
	k.mu.Unlock()
	return k.add(now, [][]byte{stamp(now, key)})
}

// list returns the ring, oldest key first.
func (k *keys) list() [][]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.all)
}

// answer is list for somebody who asks. An empty ring draws its first key then: of nodes that start together, those asked
// first have the keys, and the others take them instead of adding their own.
func (k *keys) answer(now time.Time) [][]byte {
	k.ensure(now)
	return k.list()
}

// ensure draws a key if there is none.
func (k *keys) ensure(now time.Time) {
	k.mu.Lock()
	empty := len(k.all) == 0
	k.mu.Unlock()
	if empty {
		k.draw(now)
	}
}

// learnKeys takes keys into the ring and passes changes on.
func (m *Mesh) learnKeys(theirs [][]byte) {
	if m.keys.add(m.wall(), theirs) {
		m.pushKeysSoon()
	}
}

func (m *Mesh) pushKeysSoon() {
	select {
	case m.keyPush <- struct{}{}:
	default:
	}
}

// RotateKey puts a new gossip key into force: it is handed to all members now, and everybody sends with it a minute from now.
// Three keys are accepted, until one of them is known to a node that was thrown out (Expel).
func (m *Mesh) RotateKey() {
	if m.keys.draw(m.wall()) {
		m.pushKeysSoon()
	}
}

// tendKeys chooses the key to send with, and replaces one that is a day old or known to a node that was thrown out: the live
// member of the lowest id does, so that there is one new key and not one from each node; should it not, after a while all do.
func (m *Mesh) tendKeys(now time.Time) {
	m.keys.use(now)
	why, waited := m.keys.replaces(now)
	if why == "" {
		return
	}
	if m.lowest() || waited > keySettle {
		m.log.Info("new gossip key", "reason", why)
		m.RotateKey()
	}
}

// lowest tells whether no live member has a lower id. One that was expelled is none, though it still gossips.
func (m *Mesh) lowest() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range m.reachable { // rising
		if p := m.peers[m.ids[id]]; p == nil || !p.expelled {
			return m.id < id
		}
	}
	return true
}

// exchangeKeys gives our ring to addr and takes its ring.
func (m *Mesh) exchangeKeys(ctx context.Context, addr netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	theirs, err := m.cfg.Keys(ctx, addr, m.keys.list())
	if err != nil {
		return err
	}
	m.learnKeys(theirs)
	return nil
}

func (m *Mesh) shareKeys(ctx context.Context, addr netip.AddrPort) {
	if err := m.exchangeKeys(ctx, addr); err != nil && !errors.Is(err, context.Canceled) {
		m.warn.Warn("key exchange failed", "addr", addr, "err", err)
	}
}

// pushKeys hands the ring to all members whenever it changed, so that two halves that were started apart, and met through one
// node, understand each other everywhere. A member that cannot be reached gets it
// later: every round of rejoin also exchanges keys with one member.
func (m *Mesh) pushKeys(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.keyPush:
		}
		each(m.addresses(), func(addr netip.AddrPort) { m.shareKeys(ctx, addr) })
	}
}
