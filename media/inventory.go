package media

import (
	"cmp"
	"slices"
)

// Held is one stream that this node has: published here, watched here, or both. It names no client.
type Held struct {
	App       string `json:"app"`
	Channel   string `json:"channel"`
	Stream    string `json:"stream"`
	Source    string `json:"source"`    // the node that it comes from; this one if it is published here; empty: being looked for
	Published bool   `json:"published"` // enters the mesh at this node
	Viewers   int    `json:"viewers"`   // local, now
	Serving   int    `json:"serving"`   // nodes that subscribe to it here, now
	SinceMS   int64  `json:"since_ms"`  // start of the publication, Unix milliseconds; 0 if it is not published here
}

// Inventory lists the streams that this node has, those with most receivers first, at most limit of them. It takes the
// hub's lock briefly; the packet path does not wait for it.
func (h *Hub) Inventory(limit int) []Held {
	h.mu.Lock()
	held := make(map[Key]*Held, len(h.pubs)+len(h.watches))
	at := func(k Key) *Held {
		if held[k] == nil {
			held[k] = &Held{App: k.App, Channel: k.Channel, Stream: k.Stream}
		}
		return held[k]
	}
	for k, p := range h.pubs {
		one := at(k)
		one.Published, one.Source, one.SinceMS = true, h.cfg.Self, p.since.UnixMilli()
		for _, o := range load(&p.out.list) {
			if o.link != nil {
				one.Serving++
			}
		}
	}
	for k, w := range h.watches {
		one := at(k)
		one.Viewers = len(load(&w.sinks))
		if w.current != nil && !one.Published {
			one.Source = w.current.node
		}
	}
	h.mu.Unlock()
	out := make([]Held, 0, len(held))
	for _, one := range held {
		out = append(out, *one)
	}
	slices.SortFunc(out, func(a, b Held) int {
		return cmp.Or(cmp.Compare(b.Viewers+b.Serving, a.Viewers+a.Serving), cmp.Compare(a.App, b.App), cmp.Compare(a.Channel, b.Channel), cmp.Compare(a.Stream, b.Stream))
	})
	return out[:min(limit, len(out))]
}
