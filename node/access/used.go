package access

import (
	"sync"
	"time"
)

// maxUsed bounds the memory of used room tokens: 15 minutes of 70 joins a second. When it
// is full, room tokens are refused rather than accepted twice.
const maxUsed = 1 << 16

// usedTokens remembers which room tokens opened or renewed a session, until they expire.
// It is this node's: another node has its own.
type usedTokens struct {
	mu sync.Mutex
	by map[usedToken]time.Time // expiry
}

type usedToken struct{ app, id string }

// has says whether a token was used. Tokens without an id are never remembered.
func (u *usedTokens) has(app, id string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, used := u.by[usedToken{app, id}]
	return id != "" && used
}

// take uses a token up; false if it was used before or too many are remembered.
func (u *usedTokens) take(app, id string, until time.Time) bool {
	if id == "" {
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, used := u.by[usedToken{app, id}]; used || len(u.by) >= maxUsed {
		return false
	}
	u.by[usedToken{app, id}] = until
	return true
}

// prune forgets what has expired.
func (u *usedTokens) prune(now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for t, until := range u.by {
		if !now.Before(until) {
			delete(u.by, t)
		}
	}
}
