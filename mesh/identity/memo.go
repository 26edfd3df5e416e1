package identity

import (
	"crypto/sha256"
	"sync"
)

// maxMemo bounds a Memo; a full one is emptied, which costs one more check each.
const maxMemo = 1 << 18

// Memo remembers signatures that were found good. Identities that share one check each signature once among them: the simulator's, of
// which hundreds live in one process and hear the same gossip. The zero value is ready; safe for concurrent use.
type Memo struct {
	mu   sync.Mutex
	good map[[sha256.Size]byte]struct{} // guarded by mu; at most maxMemo
}

// Share makes the identity use m. To be called before the identity is used.
func (id *Identity) Share(m *Memo) { id.memo = m }

// verified is check, unless the same signature over the same digest by the same certificate was good before.
func (m *Memo) verified(digest [sha256.Size]byte, certDER, sig []byte, check func() bool) bool {
	if m == nil {
		return check()
	}
	h := sha256.New()
	h.Write(digest[:])
	sum := sha256.Sum256(certDER)
	h.Write(sum[:])
	h.Write(sig)
	key := [sha256.Size]byte(h.Sum(nil))
	m.mu.Lock()
	_, known := m.good[key]
	m.mu.Unlock()
	if known || !check() {
		return known
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.good == nil || len(m.good) >= maxMemo {
		m.good = make(map[[sha256.Size]byte]struct{})
	}
	m.good[key] = struct{}{}
	return true
}
