package media

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
)

// stragglerWait is how long a lookup waits for the other directory nodes once one has answered.
const stragglerWait = 300 * time.Millisecond

// directory is the part of the directory that this node holds for others.
type directory struct {
	mu    sync.Mutex // guards table
	table *table
}

func (d *directory) sweep(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.table.sweep(now)
}

func (d *directory) entries() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.table.total
}

// ServeDirectory answers a directory request of the node from, whose name the transport has authenticated. A
// node may register and withdraw streams for itself alone, and only apps whose fence this node is inside. It
// always returns an answer of at most MaxDirectoryBytes; a request that makes no sense is counted and answered
// with an error.
func (h *Hub) ServeDirectory(_ context.Context, from string, request []byte) []byte {
	req, err := decodeRequest(request)
	if err != nil {
		h.count.directoryRefused.Add(1)
		h.log.Debug("bad directory request", "from", from, "err", err)
		return dirAnswer{Error: reasonInvalid}.encode()
	}
	return h.answerDirectory(from, req).encode()
}

func (h *Hub) answerDirectory(from string, req dirRequest) dirAnswer {
	var answer dirAnswer
	refuse := func(reason string) {
		h.count.directoryRefused.Add(1)
		answer.Refused = append(answer.Refused, reason)
	}
	inside := map[string]bool{} // the policy is asked once per app, before the table is locked
	check := func(app string) bool {
		ok, known := inside[app]
		if !known {
			ok = h.allowed(app)
			inside[app] = ok
		}
		return ok
	}
	var puts []Registration
	for _, r := range req.Put {
		switch {
		case r.check() != nil:
			refuse(reasonInvalid)
		case r.Node != from:
			refuse("not yours")
		case !check(r.App):
			refuse(reasonFence)
		default:
			puts = append(puts, r)
		}
	}
	for _, r := range puts {
		h.succeeded(r)
	}
	now := time.Now()
	get := req.Get != nil && check(req.Get.App)
	if req.Get != nil && !get {
		answer.Error = reasonFence
	}
	h.dir.mu.Lock()
	defer h.dir.mu.Unlock()
	for _, r := range puts {
		if reason := h.dir.table.put(now, r); reason != "" {
			refuse(reason)
		}
	}
	for _, d := range req.Drop {
		h.dir.table.drop(d.Key, from, d.Generation)
	}
	if get {
		answer.Entries = h.dir.table.get(now, req.Get.App, req.Get.Channel)
	}
	return answer
}

// ask sends a request to a directory node; this node answers itself without a wire.
func (h *Hub) ask(ctx context.Context, node string, req dirRequest, rm room) (dirAnswer, error) {
	if node == h.cfg.Self {
		return h.answerDirectory(node, req), nil
	}
	b, err := h.cfg.Call(ctx, node, encodeJSON(req))
	if err != nil {
		return dirAnswer{}, fmt.Errorf("directory request to %s: %w", node, err)
	}
	answer, bad, err := decodeAnswer(b, rm)
	h.count.badEntries.Add(uint64(bad))
	switch {
	case err != nil:
		h.count.badEntries.Add(1)
		return dirAnswer{}, fmt.Errorf("directory answer of %s: %w", node, err)
	case answer.Error != "":
		return dirAnswer{}, fmt.Errorf("directory node %s refused: %.64q", node, answer.Error)
	}
	return answer, nil
}

// found is the result of a lookup.
type found struct {
	regs            []Registration // longest live first
	asked, answered int            // directory nodes
}

// conclusive says whether absence from regs means absence: most directory nodes answered. "No answer" is not
// "absent".
func (f found) conclusive() bool { return f.answered*2 > f.asked }

// lookup asks the directory nodes of a channel in parallel and returns the union with what is published here.
// Once one has answered, the others have stragglerWait.
func (h *Hub) lookup(ctx context.Context, rm room) (f found, err error) {
	h.count.lookups.Add(1)
	ctx, s := h.span(ctx, "look up channel", Key{App: rm.app, Channel: rm.channel})
	defer func() {
		s.SetAttributes(attribute.Int("tern.directory.asked", f.asked), attribute.Int("tern.directory.answered", f.answered))
		done(s, err)
	}()
	ctx, cancel := context.WithTimeout(ctx, directoryTimeout)
	defer cancel()
	nodes := rendezvous(rm.app, rm.channel, h.cfg.Keepers(rm.app))
	answers := make(chan []Registration, len(nodes)) // nil: no answer
	for _, node := range nodes {
		ask := func(running context.Context) {
			defer context.AfterFunc(running, cancel)() // the hub's end is the lookup's end
			answers <- h.read(ctx, node, rm)
		}
		if !h.spawn(ask) {
			return found{}, ErrClosed
		}
	}
	f.asked = len(nodes)
	all := [][]Registration{h.published(rm)}
	var straggler <-chan time.Time
	for range nodes {
		select {
		case regs := <-answers:
			if regs == nil {
				continue
			}
			all = append(all, regs)
			if f.answered++; straggler == nil {
				straggler = time.After(stragglerWait)
			}
			continue
		case <-straggler:
		case <-ctx.Done():
		}
		break
	}
	if !f.conclusive() {
		h.count.lookupsShort.Add(1)
	}
	f.regs = union(all...)
	return f, nil
}

// read asks one directory node; nil means that it did not answer.
func (h *Hub) read(ctx context.Context, node string, rm room) []Registration {
	answer, err := h.ask(ctx, node, dirRequest{Get: &question{rm.app, rm.channel}}, rm)
	if err != nil {
		h.log.Debug("directory node did not answer", "node", node, "err", err)
		return nil
	}
	// What this node publishes is known better here than there: a leftover of the past is not a source.
	regs := make([]Registration, 0, len(answer.Entries))
	for _, r := range answer.Entries {
		if r.Node != h.cfg.Self {
			regs = append(regs, r)
		}
	}
	return regs
}

// published returns what this node publishes in a channel.
func (h *Hub) published(rm room) []Registration {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []Registration
	for k, p := range h.pubs {
		if k.room() == rm {
			out = append(out, p.registration(0))
		}
	}
	return out
}
