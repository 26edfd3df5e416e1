package media

import (
	"context"
	"sync"
	"time"
)

const (
	// registerInterval is how often every registration is renewed; registrationTTL survives two losses.
	registerInterval = 5 * time.Second
	// directoryTimeout bounds one request to one directory node.
	directoryTimeout = 2 * time.Second
)

// registrar writes this node's publications to the directory nodes of their channels: all of them every
// registerInterval, one at once when it changes. Each directory node has its own writer, so a dead one delays
// nothing but itself. Work that a failed request carried is not repeated: the next round renews what lives, and
// what ended expires.
type registrar struct {
	hub  *Hub
	ctx  context.Context // outlives Run's context by shutdownFlush; set before run
	wake chan struct{}   // capacity 1

	mu      sync.Mutex // guards the rest; may be taken while Hub.mu is held, never the other way round
	dirty   map[Key]struct{}
	ended   map[Key]uint64 // key → generation that ended
	writers map[string]*writer
}

// writer is what one directory node has still to be told; bounded by the publications of this node. It exists
// only while it has work. Guarded by registrar.mu.
type writer struct {
	puts  map[Key]struct{}
	drops map[Key]uint64
}

// changed notes that a publication is new or other than it was.
func (h *Hub) changed(key Key) {
	h.reg.mu.Lock()
	h.reg.dirty[key] = struct{}{}
	h.reg.mu.Unlock()
	poke(h.reg.wake)
	if w := h.watches[key]; w != nil {
		w.hurry()
	}
}

// ended notes that a publication must be withdrawn.
func (h *Hub) ended(p *Publication) {
	h.reg.mu.Lock()
	h.reg.ended[p.key] = max(h.reg.ended[p.key], p.generation)
	h.reg.mu.Unlock()
	poke(h.reg.wake)
}

// all notes that everything is to be written. Caller holds Hub.mu.
func (r *registrar) all() {
	r.mu.Lock()
	for k := range r.hub.pubs {
		r.dirty[k] = struct{}{}
	}
	r.mu.Unlock()
	poke(r.wake)
}

// run hands work to the writers until ctx ends.
func (r *registrar) run(ctx context.Context) {
	ticker := time.NewTicker(registerInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			r.hub.mu.Lock()
			r.all()
			r.hub.mu.Unlock()
			r.hub.dir.sweep(time.Now())
			r.hub.retell()
		case <-r.wake:
		}
		r.flush()
	}
}

// flush gives the noted work to the writers of the directory nodes as they are now.
func (r *registrar) flush() {
	r.mu.Lock()
	dirty, ended := r.dirty, r.ended
	r.dirty, r.ended = map[Key]struct{}{}, map[Key]uint64{}
	r.mu.Unlock()

	places := map[room][]string{}
	place := func(k Key) []string {
		nodes, ok := places[k.room()]
		if !ok {
			nodes = rendezvous(k.App, k.Channel, r.hub.cfg.Keepers(k.App))
			places[k.room()] = nodes
		}
		return nodes
	}
	for k := range dirty {
		for _, node := range place(k) {
			r.enqueue(node, func(w *writer) { w.puts[k] = struct{}{} })
		}
	}
	for k, generation := range ended {
		for _, node := range place(k) {
			r.enqueue(node, func(w *writer) { w.drops[k] = generation })
		}
	}
}

// enqueue adds work for a node and starts its writer if none is at work.
func (r *registrar) enqueue(node string, add func(*writer)) {
	r.mu.Lock()
	w := r.writers[node]
	started := w != nil
	if !started {
		w = &writer{puts: map[Key]struct{}{}, drops: map[Key]uint64{}}
		r.writers[node] = w
	}
	add(w)
	r.mu.Unlock()
	if started {
		return
	}
	if !r.hub.spawn(func(context.Context) { r.write(node) }) {
		r.mu.Lock()
		delete(r.writers, node)
		r.mu.Unlock()
	}
}

// write tells one directory node everything that waits for it, a request at a time, and ends when there is no
// more.
func (r *registrar) write(node string) {
	for r.ctx.Err() == nil {
		puts, drops, more := r.take(node)
		if !more {
			return
		}
		req, rest := r.request(puts, drops)
		r.putBack(node, rest)
		if len(req.Put)+len(req.Drop) == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(r.ctx, directoryTimeout)
		answer, err := r.hub.ask(ctx, node, req, room{})
		cancel()
		switch {
		case err != nil:
			r.hub.count.registerFailed.Add(1)
			r.hub.log.Debug("directory node did not take registrations", "node", node, "err", err)
		case len(answer.Refused) > 0:
			r.hub.count.registerFailed.Add(1)
			r.hub.log.Warn("directory node refused registrations", "node", node, "reason", answer.Refused[0])
		}
	}
	r.mu.Lock()
	delete(r.writers, node)
	r.mu.Unlock()
}

// take removes up to maxBatch writes of each kind from a node's work, or the idle writer itself.
func (r *registrar) take(node string) (puts []Key, drops []withdrawal, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.writers[node]
	if len(w.puts)+len(w.drops) == 0 {
		delete(r.writers, node)
		return nil, nil, false
	}
	for k := range w.puts {
		if len(puts) == maxBatch {
			break
		}
		puts = append(puts, k)
		delete(w.puts, k)
	}
	for k, generation := range w.drops {
		if len(drops) == maxBatch {
			break
		}
		drops = append(drops, withdrawal{k, generation})
		delete(w.drops, k)
	}
	return puts, drops, true
}

// putBack returns what did not fit into a request to the node's work. Called by that node's writer.
func (r *registrar) putBack(node string, rest []Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range rest {
		r.writers[node].puts[k] = struct{}{}
	}
}

// request builds the request from what is published now: a publication that ended since is left out. rest is
// what did not fit. Half of the largest request is for registrations: a batch of withdrawals needs less than the
// other half, and one registration always fits.
func (r *registrar) request(puts []Key, drops []withdrawal) (req dirRequest, rest []Key) {
	h := r.hub
	load := sane(h.cfg.Load())
	req.Drop = drops
	h.mu.Lock()
	defer h.mu.Unlock()
	size := 0
	for i, k := range puts {
		p := h.pubs[k]
		if p == nil {
			continue
		}
		reg := p.registration(load)
		if size += len(encodeJSON(reg)); size > MaxDirectoryBytes/2 && len(req.Put) > 0 {
			return req, puts[i:]
		}
		req.Put = append(req.Put, reg)
	}
	return req, nil
}

// registration describes a publication to the directory.
func (p *Publication) registration(load float64) Registration {
	return Registration{
		Key: p.key, Origin: p.hub.cfg.Self, Node: p.hub.cfg.Self, Generation: p.generation,
		Load: load, SinceUnixMS: p.since.UnixMilli(), Tracks: p.tracks,
	}
}
