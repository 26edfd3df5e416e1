package control

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// heartbeatEvery is the least time between two heartbeats to one follower. raft draws its pause between 60 and 120 ms, of our
// heartbeatTimeout, and adds a round trip: near its followers a leader would send eleven a second to each, though timers that
// fit 300 ms round trips need three.
const heartbeatEvery = 250 * time.Millisecond

// calmTransport is raft's transport with heartbeats that keep their distance. Everything else passes at once.
type calmTransport struct {
	*raft.NetworkTransport
	quit  func() // ends all waiting; may be called again
	done  chan struct{}
	began time.Time // heartbeats leave at whole heartbeatEvery since then

	mu   sync.Mutex
	last map[raft.ServerID]time.Time // guarded by mu: when a follower's last heartbeat left
}

func newCalmTransport(t *raft.NetworkTransport) *calmTransport {
	done := make(chan struct{})
	return &calmTransport{
		NetworkTransport: t, done: done, quit: sync.OnceFunc(func() { close(done) }), began: time.Now(), last: make(map[raft.ServerID]time.Time),
	}
}

// AppendEntries is raft's; a heartbeat waits until its follower's last one is heartbeatEvery old. raft sends one follower's
// heartbeats one at a time, apart from its entries.
func (t *calmTransport) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if isHeartbeat(req) {
		t.wait(id)
	}
	return t.NetworkTransport.AppendEntries(id, to, req, resp)
}

// isHeartbeat tells the requests that carry nothing but the leader's term, as the follower's side of raft's transport does.
func isHeartbeat(req *raft.AppendEntriesRequest) bool {
	return len(req.Entries) == 0 && req.PrevLogEntry == 0 && req.PrevLogTerm == 0 && req.LeaderCommitIndex == 0
}

func (t *calmTransport) wait(id raft.ServerID) {
	t.mu.Lock()
	now := time.Now()
	at := t.next(id, now)
	t.last[id] = at
	t.mu.Unlock()
	if at.Equal(now) {
		return
	}
	timer := time.NewTimer(at.Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.done:
	}
}

// next is when a follower's heartbeat is to leave: heartbeatEvery after the last one, or up to half of that earlier, so that those to all
// followers come to leave at the same moments: an idle leader is woken once for all. t.mu is held.
func (t *calmTransport) next(id raft.ServerID, now time.Time) time.Time {
	at := t.last[id].Add(heartbeatEvery)
	at = at.Add(-min(at.Sub(t.began)%heartbeatEvery, heartbeatEvery/2))
	if at.Before(now) {
		return now
	}
	return at
}
