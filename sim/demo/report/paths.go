package report

import (
	"slices"
	"strings"
)

// Path is one path's figures. Sent counts copies that went out on it, Lost those that it lost, First those that arrived before
// any other copy, Rescued those that arrived while at least one other path lost its copy.
type Path struct {
	Hops    []string `json:"hops"`
	Sent    uint64   `json:"sent"`
	Lost    uint64   `json:"lost"`
	First   uint64   `json:"first"`
	Rescued uint64   `json:"rescued"`
}

// Paths adds up counters that are sampled from both ends of a braid. A path that is replaced vanishes from the
// samples but stays here, and one that returns may begin at zero again.
type Paths struct {
	order []string
	paths map[string]*tally
}

// tally keeps one path: what earlier lives summed up to, and the newest sample of this life.
type tally struct {
	hops []string
	gone [4]uint64
	last [4]uint64
	zero [4]uint64 // what had been counted when the warm-up ended
}

const (
	counterSent = iota
	counterLost
	counterFirst
	counterRescued
)

// NewPaths returns an empty collection.
func NewPaths() *Paths { return &Paths{paths: make(map[string]*tally)} }

// Outgoing takes the sender's sample of a path: it alone knows what was sent.
func (p *Paths) Outgoing(hops []string, sent uint64) {
	p.of(hops).sample(counterSent, sent)
}

// Incoming takes the receiver's sample: it alone knows what was lost, came first or rescued.
func (p *Paths) Incoming(hops []string, lost, first, rescued uint64) {
	t := p.of(hops)
	t.sample(counterLost, lost)
	t.sample(counterFirst, first)
	t.sample(counterRescued, rescued)
}

func (p *Paths) of(hops []string) *tally {
	key := strings.Join(hops, " ")
	t := p.paths[key]
	if t == nil {
		t = &tally{hops: slices.Clone(hops)}
		p.paths[key] = t
		p.order = append(p.order, key)
	}
	return t
}

// sample accepts a counter's new value; one that shrank began anew.
func (t *tally) sample(counter int, value uint64) {
	if value < t.last[counter] {
		t.gone[counter] += t.last[counter]
	}
	t.last[counter] = value
}

// Count makes everything so far part of the warm-up.
func (p *Paths) Count() {
	for _, t := range p.paths {
		for i := range t.zero {
			t.zero[i] = t.gone[i] + t.last[i]
		}
	}
}

// List returns the paths in the order in which they were first seen; those that carried nothing are left out.
func (p *Paths) List() []Path {
	out := []Path{}
	for _, key := range p.order {
		t := p.paths[key]
		var c [4]uint64
		for i := range c {
			c[i] = t.gone[i] + t.last[i] - min(t.zero[i], t.gone[i]+t.last[i])
		}
		if c[counterSent] == 0 && c[counterFirst] == 0 && c[counterLost] == 0 && c[counterRescued] == 0 {
			continue
		}
		out = append(out, Path{
			Hops: t.hops, Sent: c[counterSent], Lost: c[counterLost], First: c[counterFirst], Rescued: c[counterRescued],
		})
	}
	return out
}
