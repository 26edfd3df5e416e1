package control

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// Heartbeats to followers that raft asks for at any moments come to leave together, none later than it may.
func TestHeartbeatsLeaveTogether(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(1, seed))
		trans := newCalmTransport(nil)
		start := trans.began
		ids := []raft.ServerID{"b", "c", "d", "e"}
		asked := map[raft.ServerID]time.Time{}
		left := map[raft.ServerID]time.Time{}
		for _, id := range ids {
			asked[id] = start.Add(time.Duration(rng.Int64N(int64(time.Second))))
		}
		for range 20 {
			for _, id := range ids {
				at := trans.next(id, asked[id])
				if before, ok := left[id]; ok && (at.Sub(before) > heartbeatEvery || at.Sub(before) < heartbeatEvery/2) {
					t.Fatalf("seed %d: %v between two heartbeats", seed, at.Sub(before))
				}
				trans.last[id], left[id] = at, at
				asked[id] = at.Add(60*time.Millisecond + time.Duration(rng.Int64N(int64(60*time.Millisecond)))) // raft's pause
			}
		}
		for _, id := range ids {
			if apart := left[id].Sub(start) % heartbeatEvery; apart != 0 {
				t.Errorf("seed %d: %s is %v beside the others", seed, id, apart)
			}
		}
		// A follower that is far away is sent one as soon as raft asks.
		far := left["b"].Add(400 * time.Millisecond)
		if at := trans.next("b", far); !at.Equal(far) {
			t.Errorf("seed %d: a late one waits %v more", seed, at.Sub(far))
		}
	}
}
