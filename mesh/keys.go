package mesh

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/hashicorp/memberlist"
)

const (
	keyBytes = 32
	// maxKeys bounds the ring: one key per mesh that was started alone and merged later. Further keys are not taken, which
	// the operator sees as refused gossip.
	maxKeys = 64
)

// keys is the ring of gossip keys. Every node sends with the smallest key that it knows, so nodes with equal rings agree on
// it without a word; receivers try all.
type keys struct {
	changed func([][]byte)

	mu   sync.Mutex
	ring *memberlist.Keyring // guarded by mu for changes; memberlist reads it under the ring's own lock
	all  [][]byte            // guarded by mu, sorted
}

func newKeys(initial [][]byte, changed func([][]byte)) (*keys, error) {
	ring, err := memberlist.NewKeyring(nil, nil)
	if err != nil {
		return nil, err
	}
	k := &keys{ring: ring, changed: changed}
	for _, key := range initial {
		if err := memberlist.ValidateKey(key); err != nil {
			return nil, fmt.Errorf("mesh: gossip key of %d bytes: %w", len(key), err)
		}
	}
	k.add(initial)
	return k, nil
}

// add unites the ring with others' keys and tells whether it changed. Keys of a wrong size are passed over.
func (k *keys) add(theirs [][]byte) bool {
	k.mu.Lock()
	before := len(k.all)
	for _, key := range theirs {
		at, known := slices.BinarySearchFunc(k.all, key, bytes.Compare)
		if known || memberlist.ValidateKey(key) != nil || len(k.all) >= maxKeys {
			continue
		}
		key = bytes.Clone(key)
		if k.ring.AddKey(key) == nil {
			k.all = slices.Insert(k.all, at, key)
		}
	}
	grown := len(k.all) > before
	if grown {
		_ = k.ring.UseKey(k.all[0]) // just added, or there before
	}
	all := slices.Clone(k.all)
	k.mu.Unlock()
	if grown && k.changed != nil {
		k.changed(all)
	}
	return grown
}

// list returns the ring, smallest key first.
func (k *keys) list() [][]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.all)
}

// answer is list for somebody who asks. An empty ring draws its first key then: of nodes that start together, those asked
// first have the keys, and the others take them instead of adding their own.
func (k *keys) answer() [][]byte {
	k.ensure()
	return k.list()
}

// ensure draws a key if there is none.
func (k *keys) ensure() {
	k.mu.Lock()
	empty := len(k.all) == 0
	k.mu.Unlock()
	if empty {
		key := make([]byte, keyBytes)
		_, _ = rand.Read(key) // never fails
		k.add([][]byte{key})
	}
}

// learnKeys takes keys into the ring and passes changes on.
func (m *Mesh) learnKeys(theirs [][]byte) {
	if m.keys.add(theirs) {
		select {
		case m.keyPush <- struct{}{}:
		default:
		}
	}
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

// pushKeys hands the ring to all members whenever it grew, so that two halves that were started apart, and met through one
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
