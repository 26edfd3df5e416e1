package braid

import (
	"context"
	"sync"
	"time"
)

const (
	// maxFetches bounds the key fetches under way.
	maxFetches = 16
	// fetchTimeout bounds one fetch.
	fetchTimeout  = 5 * time.Second
	fetchRetry    = 500 * time.Millisecond
	fetchRetryMax = 10 * time.Second
	// renewEvery bounds how often keys are fetched again on suspicion.
	renewEvery = 10 * time.Second
	// prefetch is how long before an epoch ends the next epoch's keys are fetched, in seconds.
	prefetch = 600
)

// keyring holds the keys that other nodes handed to this one, and fetches those that are wanted in the background.
type keyring struct {
	b    *Braid
	wake chan struct{} // capacity 1: something is wanted now

	mu      sync.Mutex // guards the two below
	holders map[NodeID]*holder
	active  int // fetches under way
}

type heldKey struct {
	ok    bool
	epoch uint32
	key   hopKey
}

type wanted struct {
	epoch uint32
	until time.Time // forgotten then, unless asked for again
	try   time.Time // not before
	wait  time.Duration
	busy  bool
	renew bool // fetch although a key is there: it seems to be wrong
}

// holder is one node whose keys this node uses: the newest four epochs, and what is wanted.
type holder struct {
	keys    [4]heldKey // by epoch modulo 4
	wanted  [2]wanted  // by epoch modulo 2: the current and the next
	used    time.Time
	renewed time.Time // when a renewal was last asked for
}

func newKeyring(b *Braid) *keyring {
	return &keyring{b: b, wake: make(chan struct{}, 1), holders: make(map[NodeID]*holder)}
}

// get returns a key if it is there; otherwise the key is wanted from now on.
func (k *keyring) get(id NodeID, epoch uint32, now time.Time) (hopKey, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h := k.holders[id]
	if h == nil {
		h = &holder{}
		k.holders[id] = h
	}
	h.used = now
	if held := &h.keys[epoch%4]; held.ok && held.epoch == epoch {
		return held.key, true
	}
	w := &h.wanted[epoch%2]
	if w.epoch != epoch {
		*w = wanted{epoch: epoch, busy: w.busy}
	}
	w.until = now.Add(10 * time.Second)
	if !w.busy && !now.Before(w.try) {
		notify(k.wake)
	}
	return hopKey{}, false
}

// peek is get without wanting the key.
func (k *keyring) peek(id NodeID, epoch uint32) (hopKey, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if h := k.holders[id]; h != nil {
		if held := &h.keys[epoch%4]; held.ok && held.epoch == epoch {
			return held.key, true
		}
	}
	return hopKey{}, false
}

// renew fetches a key again that is there but may be wrong, because its holder has come back with another secret. The old
// one is used meanwhile. At most once per renewEvery and holder.
func (k *keyring) renew(id NodeID, now time.Time) {
	epoch := epochOf(k.b.unixMS(now))
	k.mu.Lock()
	defer k.mu.Unlock()
	h := k.holders[id]
	if h == nil || now.Sub(h.renewed) < renewEvery {
		return
	}
	h.renewed = now
	w := &h.wanted[epoch%2]
	*w = wanted{epoch: epoch, until: now.Add(10 * time.Second), busy: w.busy, renew: true}
	notify(k.wake)
}

// fetchWanted starts fetches for what is wanted and due. Called by housekeep alone.
func (k *keyring) fetchWanted(context.Context) {
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, h := range k.holders {
		for i := range h.wanted {
			w := &h.wanted[i]
			if w.epoch == 0 || w.busy || now.Before(w.try) || now.After(w.until) || k.active >= maxFetches {
				continue
			}
			if held := h.keys[w.epoch%4]; held.ok && held.epoch == w.epoch && !w.renew {
				continue
			}
			w.busy = true
			k.active++
			epoch := w.epoch
			// The group's dispatcher needs no lock of ours, so handing over under the lock cannot deadlock.
			if !k.b.spawn(func(ctx context.Context) { k.fetch(ctx, id, epoch) }) {
				return
			}
		}
	}
}

func (k *keyring) fetch(ctx context.Context, id NodeID, epoch uint32) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	key, err := k.b.cfg.RelayKey(ctx, id, epoch)
	now := time.Now()
	k.mu.Lock()
	k.active--
	if h := k.holders[id]; h != nil {
		w := &h.wanted[epoch%2]
		w.busy = false
		if err == nil {
			w.renew, w.wait = false, 0
			h.keys[epoch%4] = heldKey{true, epoch, key.hop()}
		} else {
			w.wait = min(max(2*w.wait, fetchRetry), fetchRetryMax)
			w.try = now.Add(w.wait)
		}
	}
	k.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil {
			k.b.log.Debug("relay key not fetched", "holder", uint32(id), "epoch", epoch, "error", err)
		}
		k.b.counters.keyFailures.Add(1)
		return
	}
	for _, f := range k.b.allFlows() {
		f.keyArrived(id, now)
	}
	// There may be more wanted than fetches allowed at once.
	notify(k.wake)
}

// sweep retries what failed and forgets holders that nobody has used for an hour.
func (k *keyring) sweep(now time.Time) {
	k.mu.Lock()
	due := false
	for id, h := range k.holders {
		if now.Sub(h.used) > time.Hour {
			delete(k.holders, id)
			continue
		}
		for _, w := range h.wanted {
			due = due || w.epoch != 0 && !w.busy && now.Before(w.until)
		}
	}
	k.mu.Unlock()
	if due {
		notify(k.wake)
	}
}
