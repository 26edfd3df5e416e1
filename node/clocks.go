package node

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/ternmesh/tern/mesh/identity"
)

const (
	kindClock = "clock"
	// clockFirst is when a node first asks others for their time, clockEvery how often it does later, clockPeers how many it
	// asks at a time.
	clockFirst   = 5 * time.Second
	clockEvery   = time.Minute
	clockPeers   = 3
	clockTimeout = 3 * time.Second
	// clockKept is how long an answer counts: a node that was asked once and is gone says nothing.
	clockKept = 3 * clockEvery
	// clockWrong is the difference that is worth a finding, half of what relays bear; clockRefused is what they do not.
	clockWrong   = 5 * time.Second
	clockRefused = 10 * time.Second
)

// ClockStatus is another node's clock as it was seen last.
type ClockStatus struct {
	Node          string  `json:"node"`
	BehindSeconds float64 `json:"behind_seconds"` // how far it is behind this node's; negative: ahead
}

// clocks remembers what other nodes said of their time.
type clocks struct {
	mu sync.Mutex // guards by
	by map[string]clockSeen
}

type clockSeen struct {
	behind time.Duration
	at     time.Time // monotonic
}

// answerClock tells a peer this node's time: Unix milliseconds, eight bytes.
func (n *Node) answerClock(context.Context, identity.Peer, []byte) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(n.now().UnixMilli()))
}

// watchClocks compares clocks with a few nodes at a time until ctx ends. A node cannot see by itself that its clock is wrong,
// and relays refuse frames of those that are off by more than 10 s.
func (n *Node) watchClocks(ctx context.Context) error {
	next := time.NewTimer(clockFirst)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
		}
		next.Reset(clockEvery)
		var alive []string
		for _, m := range n.mesh.Members() {
			if m.Alive && m.Node != n.cfg.Node {
				alive = append(alive, m.Node)
			}
		}
		rand.Shuffle(len(alive), func(i, j int) { alive[i], alive[j] = alive[j], alive[i] })
		for _, node := range alive[:min(len(alive), clockPeers)] {
			n.askClock(ctx, node)
		}
	}
}

// askClock compares clocks with one node; one that does not answer, or is too old to know the question, changes nothing.
func (n *Node) askClock(ctx context.Context, node string) {
	ctx, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()
	began := n.now()
	answer, err := n.direct.Call(ctx, node, kindClock, nil)
	if err != nil || len(answer) != 8 {
		return
	}
	trip := n.now().Sub(began)
	theirs := time.UnixMilli(int64(binary.BigEndian.Uint64(answer)))
	n.clocks.note(node, began.Add(trip/2).Sub(theirs), time.Now())
}

func (c *clocks) note(node string, behind time.Duration, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = make(map[string]clockSeen)
	}
	c.by[node] = clockSeen{behind, now}
	for other, s := range c.by {
		if now.Sub(s.at) > clockKept {
			delete(c.by, other)
		}
	}
}

// status lists what counts still, by node.
func (c *clocks) status(now time.Time) (out []ClockStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for node, s := range c.by {
		if now.Sub(s.at) <= clockKept {
			out = append(out, ClockStatus{node, s.behind.Round(time.Millisecond).Seconds()})
		}
	}
	slices.SortFunc(out, func(a, b ClockStatus) int {
		if a.Node < b.Node {
			return -1
		}
		return 1
	})
	return out
}

// clockFindings says whose clock is wrong: this node's if most of those asked disagree with it, else theirs. Pure.
func clockFindings(s Status, add addFinding) {
	const do = "set its clock (NTP): the clocks of all nodes must agree within 10 s"
	var off []ClockStatus
	for _, c := range s.Clocks {
		if c.BehindSeconds > clockWrong.Seconds() || c.BehindSeconds < -clockWrong.Seconds() {
			off = append(off, c)
		}
	}
	says := func(seconds float64, than string) (severity, what string) {
		severity, how := SeverityWarning, "ahead of"
		if seconds < 0 {
			seconds, how = -seconds, "behind"
		}
		what = fmt.Sprintf("its clock is %s %s %s", time.Duration(seconds*float64(time.Second)).Round(time.Second), how, than)
		if seconds > clockRefused.Seconds() {
			severity, what = SeverityCritical, what+": relays refuse its frames, and it refuses theirs"
		}
		return severity, what
	}
	if len(off) > 0 && 2*len(off) > len(s.Clocks) {
		than := fmt.Sprintf("%d of %d nodes asked", len(off), len(s.Clocks))
		if len(s.Clocks) == 1 {
			than = off[0].Node + ", the only other node asked (one of the two is wrong)"
		}
		severity, what := says(off[len(off)/2].BehindSeconds, than)
		add(severity, findClock, s.Node, what, do)
		return
	}
	for _, c := range off {
		severity, what := says(-c.BehindSeconds, s.Node+"'s")
		add(severity, findClock, c.Node, what, do)
	}
}
