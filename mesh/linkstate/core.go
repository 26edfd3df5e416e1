package linkstate

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
)

const (
	fanout     = 3 // peers that a fresh item is pushed to in one tick
	ownPushes  = 3 // ticks in which an item of our own is pushed
	pushMost   = 6 // messages made of fresh items in one tick; what does not fit waits
	hotMost    = 1024
	answerMost = 4 // messages that answer one digest

	// MaxOrigins bounds the nodes that a Core holds; items of further ones are not taken.
	MaxOrigins = 4096
	// maxDeparted bounds the versions remembered of nodes that left; the table is emptied when full.
	maxDeparted = 4096

	kindItems  = 0x21
	kindDigest = 0x22
	kindWant   = 0x23
	msgHeader  = 1 + 4
)

// Packet is a message for one peer.
type Packet struct {
	To      uint32
	Message []byte // shared between packets; never written
}

// Verdict says what an item is to a Core, before its signature is checked.
type Verdict uint8

// The verdicts. Only Fresh items are worth a signature check.
const (
	Fresh     Verdict = iota
	Duplicate         // what is held is the same
	Stale             // what is held is newer
	Unknown           // a row of a node or run whose card is not held
	Gap               // a delta whose full row is not held
)

// Core is one node's replica. It is not safe for concurrent use.
type Core struct {
	self     uint32
	have     map[uint32]*holding
	ids      []uint32 // keys of have, rising
	departed map[uint32]departed
	hot      map[hotKey]hotItem
	queue    []hotKey // keys of hot, in the order in which they are pushed
	slice    int      // next place of the digest
	ticks    int
	dropped  uint64
}

// holding is what is held of one node; items without bytes are not held.
type holding struct{ card, full, delta Item }

// departed is what is remembered of a node that was forgotten.
type departed struct {
	card, last Version // of its card, and the newest of all
	expected   bool    // it is said to be back: the same card counts again
}

// hotKey tells what a fresh item is: of each kind of each node only the newest is pushed.
type hotKey struct {
	origin uint32
	kind   Kind
}

type hotItem struct {
	it     Item
	pushes int
}

// NewCore makes the replica of a node.
func NewCore(self uint32) *Core {
	return &Core{self: self, have: make(map[uint32]*holding), departed: make(map[uint32]departed), hot: make(map[hotKey]hotItem)}
}

func (h *holding) row() Version {
	if h.delta.Sealed != nil {
		return h.delta.Version
	}
	return h.full.Version
}

// Held returns the versions that are held of a node: its card's and its row's, zero if none.
func (c *Core) Held(origin uint32) (card, row Version) {
	if h := c.have[origin]; h != nil {
		return h.card.Version, h.row()
	}
	return Version{}, Version{}
}

// Card returns the card of a node as it came, zero if none is held.
func (c *Core) Card(origin uint32) Item {
	if h := c.have[origin]; h != nil {
		return h.card
	}
	return Item{}
}

// Departed returns the newest version of a node that was forgotten.
func (c *Core) Departed(origin uint32) Version { return c.departed[origin].last }

// Expect makes the card that a departed node had count again: it is back, perhaps unchanged.
func (c *Core) Expect(origin uint32) {
	if d, ok := c.departed[origin]; ok {
		d.expected = true
		c.departed[origin] = d
	}
}

// Dropped counts fresh items that were not pushed on because too many waited; digests carry them instead.
func (c *Core) Dropped() uint64 { return c.dropped }

// Judge says whether an item is news.
func (c *Core) Judge(h Head) Verdict {
	held := c.have[h.Origin]
	if held == nil {
		held = &holding{}
	}
	order := func(have Version) Verdict {
		switch {
		case h.Version.Newer(have):
			return Fresh
		case h.Version == have:
			return Duplicate
		}
		return Stale
	}
	if h.Kind == Card {
		if held.card.Sealed == nil {
			if c.departed[h.Origin].card.Newer(h.Version) {
				return Stale
			}
			return Fresh
		}
		return order(held.card.Version)
	}
	if v := order(held.row()); v != Fresh {
		return v
	}
	switch {
	case held.card.Sealed == nil || held.card.Epoch < h.Epoch:
		return Unknown
	case held.card.Epoch > h.Epoch:
		return Stale
	case h.Kind == Delta && (held.full.Epoch != h.Epoch || held.full.Counter != h.Base):
		return Gap
	}
	return Fresh
}

// Put stores an item that Judge called Fresh and whose signature is good, and queues it to be pushed on if it is news to others
// too: what a newcomer is told of the mesh is not. It tells whether it was taken.
func (c *Core) Put(it Item, push bool) bool {
	if c.Judge(it.Head) != Fresh {
		return false
	}
	h := c.have[it.Origin]
	if h == nil {
		if len(c.have) >= MaxOrigins {
			c.dropped++
			return false
		}
		h = &holding{}
		c.have[it.Origin] = h
		at, _ := slices.BinarySearch(c.ids, it.Origin)
		c.ids = slices.Insert(c.ids, at, it.Origin)
		delete(c.departed, it.Origin)
	}
	switch it.Kind {
	case Card:
		if it.Epoch > h.card.Epoch {
			h.full, h.delta = Item{}, Item{}
		}
		h.card = it
	case Full:
		h.full, h.delta = it, Item{}
	case Delta:
		h.delta = it
	}
	if push {
		c.heat(it)
	}
	return true
}

// heat queues an item for pushing; it takes the place of an older one, and a full row that of the deltas before it.
func (c *Core) heat(it Item) {
	pushes := 1
	if it.Origin == c.self {
		pushes = ownPushes
	}
	k := hotKey{it.Origin, it.Kind}
	if _, waits := c.hot[k]; !waits {
		if len(c.queue) >= hotMost {
			c.dropped++
			return
		}
		c.queue = append(c.queue, k)
	}
	c.hot[k] = hotItem{it, pushes}
	if it.Kind == Full {
		c.cool(hotKey{it.Origin, Delta})
	}
}

// cool takes an item out of the queue.
func (c *Core) cool(k hotKey) {
	if _, waits := c.hot[k]; waits {
		delete(c.hot, k)
		c.queue = slices.DeleteFunc(c.queue, func(q hotKey) bool { return q == k })
	}
}

// Drop forgets a node, but not how new its last word was.
func (c *Core) Drop(origin uint32) {
	h := c.have[origin]
	if h == nil {
		return
	}
	last := h.card.Version
	if row := h.row(); row.Newer(last) {
		last = row
	}
	if len(c.departed) >= maxDeparted {
		clear(c.departed)
	}
	c.departed[origin] = departed{card: h.card.Version, last: last}
	delete(c.have, origin)
	if at, ok := slices.BinarySearch(c.ids, origin); ok {
		c.ids = slices.Delete(c.ids, at, at+1)
	}
	for _, kind := range [...]Kind{Card, Full, Delta} {
		c.cool(hotKey{origin, kind})
	}
}

// All returns everything that is held, cards first: for a newcomer.
func (c *Core) All() (out []Item) {
	for _, id := range c.ids {
		out = append(out, c.have[id].card)
	}
	for _, id := range c.ids {
		for _, it := range []Item{c.have[id].full, c.have[id].delta} {
			if it.Sealed != nil {
				out = append(out, it)
			}
		}
	}
	return out
}

// Message is the card of a node as a message of its own, for saying it directly.
func (c *Core) Message(origin uint32) []byte {
	p := packer{self: c.self}
	if it := c.Card(origin); it.Sealed != nil {
		p.add(it.Sealed)
	}
	return slices.Concat(p.messages()...)
}

// Tick is to be called every 100 ms with the peers that are alive, self not among them. It returns what is to be sent.
func (c *Core) Tick(rng *rand.Rand, peers []uint32) (out []Packet) {
	c.ticks++
	if len(peers) == 0 {
		return nil
	}
	for _, m := range c.fresh() {
		for _, to := range pick(rng, peers, fanout) {
			out = append(out, Packet{to, m})
		}
	}
	if c.ticks%2 == 0 {
		// As many digests as it takes to go through all that is held in about a second.
		for range 1 + len(c.ids)/(4*sliceMost) {
			out = append(out, Packet{peers[rng.IntN(len(peers))], c.digest()})
		}
	}
	return out
}

// fresh packs what is hot into messages and cools it. What was sent and is still hot goes behind what waits.
func (c *Core) fresh() (out [][]byte) {
	p := packer{self: c.self}
	var again []hotKey
	sent := 0
	for _, k := range c.queue {
		h := c.hot[k]
		if !p.fits(len(h.it.Sealed)) && len(p.done) == pushMost-1 {
			break
		}
		p.add(h.it.Sealed)
		sent++
		if h.pushes--; h.pushes > 0 {
			c.hot[k] = h
			again = append(again, k)
		} else {
			delete(c.hot, k)
		}
	}
	c.queue = append(slices.Clone(c.queue[sent:]), again...)
	return p.messages()
}

// packer fills messages with items.
type packer struct {
	self uint32
	open []byte
	done [][]byte
}

func (p *packer) fits(size int) bool { return p.open == nil || len(p.open)+2+size <= MaxMessage }

func (p *packer) add(sealed []byte) {
	if !p.fits(len(sealed)) {
		p.done, p.open = append(p.done, p.open), nil
	}
	if p.open == nil {
		p.open = header(kindItems, p.self)
	}
	p.open = append(binary.BigEndian.AppendUint16(p.open, uint16(len(sealed))), sealed...)
}

func (p *packer) messages() [][]byte {
	if p.open != nil {
		p.done, p.open = append(p.done, p.open), nil
	}
	return p.done
}

func header(kind byte, self uint32) []byte {
	return binary.BigEndian.AppendUint32(append(make([]byte, 0, MaxMessage), kind), self)
}

// pick draws n different peers, or all if there are fewer.
func pick(rng *rand.Rand, peers []uint32, n int) (out []uint32) {
	if len(peers) <= n {
		return peers
	}
	for len(out) < n {
		if id := peers[rng.IntN(len(peers))]; !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}
