package node

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/ebpf"
	"github.com/ternmesh/tern/mesh/identity"
)

const (
	// quarantineQueue is how much news of sources waits to be told; later news is dropped, and counted.
	quarantineQueue = 256
	// quarantineBatch bounds the sources in one message.
	quarantineBatch = 64
	// quarantineGather is how long news waits for more, so that a flood makes one message and not one for each source.
	quarantineGather = time.Second
	// quarantineTellers is how many nodes are told at once, each within quarantineTimeout.
	quarantineTellers = 8
	quarantineTimeout = 3 * time.Second
	// Entries of the audit log about sources in quarantine: 144 a day and node at most, of the 20,000 that it holds.
	auditEvery = 10 * time.Minute
	auditBurst = 6
	// maxQuarantineBytes bounds a message.
	maxQuarantineBytes = 64 << 10
)

// quarantineNews is what nodes tell each other over L1: sources that the sender itself put into quarantine, and such that it
// let out. What a node was told it does not tell on.
type quarantineNews struct {
	In  []ebpf.Quarantined `json:"in,omitempty"`
	Out []netip.Prefix     `json:"out,omitempty"`
}

// quarantineShare tells the other nodes, where the configuration asks for it. Its methods may be called from any
// goroutine; run is the only one that waits.
type quarantineShare struct {
	node *Node
	news chan quarantineNews // nil unless the configuration asks for it
	lost atomic.Uint64       // news that found the queue full

	record  func(control.AuditBody) // of Control, which is there when the filter runs
	entries *rate.Limiter           // of the audit log
	unnamed atomic.Uint64           // sources since its last entry
}

func newQuarantineShare(n *Node) *quarantineShare {
	s := &quarantineShare{
		node: n, record: func(b control.AuditBody) { n.control.Record(b) }, entries: rate.NewLimiter(rate.Every(auditEvery), auditBurst),
	}
	if n.cfg.Filter.ShareQuarantine {
		s.news = make(chan quarantineNews, quarantineQueue)
	}
	return s
}

// tell is what the filter calls for a source that it has put into quarantine.
func (s *quarantineShare) tell(q ebpf.Quarantined) {
	s.put(quarantineNews{In: []ebpf.Quarantined{q}})
	s.audit(q)
}

// audit puts a new attacker into the mesh's audit log. Addresses can be forged, and a flood of made-up ones must not push
// out what people did: so a few at once, then one in auditEvery, which says how many had no entry of their own.
func (s *quarantineShare) audit(q ebpf.Quarantined) {
	if !s.entries.Allow() {
		s.unnamed.Add(1)
		return
	}
	detail := fmt.Sprintf("%s %s, strike %d, until %s", q.Class, q.Reason, q.Strikes, q.Until.UTC().Format(time.RFC3339))
	if n := s.unnamed.Swap(0); n > 0 {
		detail += fmt.Sprintf("; %d more since the last entry", n)
	}
	s.record(control.AuditBody{
		From: q.Source.String() + " at " + s.node.cfg.Node, Action: "filter quarantine", Result: control.AuditDenied, Detail: detail,
	})
}

func (s *quarantineShare) recant(p netip.Prefix) { s.put(quarantineNews{Out: []netip.Prefix{p}}) }

func (s *quarantineShare) put(news quarantineNews) {
	if s.news == nil {
		return
	}
	select {
	case s.news <- news:
	default:
		s.lost.Add(1)
	}
}

// run gathers news and tells it until ctx ends.
func (s *quarantineShare) run(ctx context.Context) error {
	if s.news == nil {
		<-ctx.Done()
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case news := <-s.news:
			s.spread(ctx, s.gather(ctx, news))
		}
	}
}

func (s *quarantineShare) gather(ctx context.Context, news quarantineNews) quarantineNews {
	timer := time.NewTimer(quarantineGather)
	defer timer.Stop()
	for len(news.In)+len(news.Out) < quarantineBatch {
		select {
		case <-ctx.Done():
			return news
		case <-timer.C:
			return news
		case more := <-s.news:
			news.In, news.Out = append(news.In, more.In...), append(news.Out, more.Out...)
		}
	}
	return news
}

// spread tells all live members, a few at a time. Who cannot be reached or does not share is left out: quarantine is a
// help, and every node has its own.
func (s *quarantineShare) spread(ctx context.Context, news quarantineNews) {
	text, err := json.Marshal(news)
	if err != nil {
		return
	}
	var g errgroup.Group
	g.SetLimit(quarantineTellers)
	for _, m := range s.node.mesh.Members() {
		if !m.Alive || m.Node == s.node.cfg.Node {
			continue
		}
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, quarantineTimeout)
			defer cancel()
			if _, err := s.node.direct.Call(ctx, m.Node, kindQuarantine, text); err != nil {
				s.node.log.Debug("quarantine not shared", "peer", m.Node, "err", err)
			}
			return nil
		})
	}
	_ = g.Wait()
}

// hear takes a member's news; mutual TLS has proved who it is.
func (s *quarantineShare) hear(_ context.Context, peer identity.Peer, text []byte) []byte {
	news, ok := parseQuarantineNews(text)
	if !ok {
		s.node.log.Warn("refused news of quarantine", "peer", peer.Node, "bytes", len(text))
		return nil
	}
	for _, q := range news.In {
		if s.node.filter.Adopt(peer.Node, q) {
			s.node.log.Info("packet filter: a source is in quarantine on another node's word", "event", "quarantine",
				"source", q.Source, "until", q.Until.UTC().Format(time.RFC3339), "from", peer.Node)
		}
	}
	for _, p := range news.Out {
		s.node.filter.Recant(peer.Node, p)
	}
	return nil
}

// parseQuarantineNews reads a message; false for one that is no JSON or too long. Its sources are checked one by one when
// the filter takes them.
func parseQuarantineNews(text []byte) (news quarantineNews, ok bool) {
	if len(text) > maxQuarantineBytes || json.Unmarshal(text, &news) != nil || len(news.In)+len(news.Out) > quarantineBatch {
		return quarantineNews{}, false
	}
	return news, true
}
