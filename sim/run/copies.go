package run

import (
	"encoding/binary"
	"sync"
)

// copyCounter counts, from outside, how many copies of each media frame leave their source: path frames of kind
// media against distinct frame sequences in them. The header is in the clear, the media is not.
type copyCounter struct {
	mu    sync.Mutex
	on    bool
	flows map[copyKey]*copyCount // guarded by mu
}

type copyKey struct{ fence, from, to uint32 }

type copyCount struct {
	copies, frames uint64
	seen           map[uint8][]uint64 // a bit for each frame sequence, by session tag
}

// maxSequence bounds the bits: a frame beyond it is counted as new.
const maxSequence = 1 << 30

func newCopyCounter() *copyCounter { return &copyCounter{flows: make(map[copyKey]*copyCount)} }

// measure starts or stops counting.
func (c *copyCounter) measure(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = on
}

// add counts a path frame of kind media at its source.
func (c *copyCounter) add(frame []byte) {
	b := binary.BigEndian
	media := pathHeaderBytes + 10*int(frame[2]&3) + 6
	if len(frame) < media+8 {
		return
	}
	key := copyKey{b.Uint32(frame[pathFenceOffset:]), b.Uint32(frame[16:]), b.Uint32(frame[20:])}
	tag, sequence := frame[media], b.Uint64(frame[media:])&(1<<48-1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.on {
		return
	}
	one := c.flows[key]
	if one == nil {
		one = &copyCount{seen: make(map[uint8][]uint64)}
		c.flows[key] = one
	}
	one.copies++
	word, bit := int(sequence/64), uint64(1)<<(sequence%64)
	if sequence < maxSequence {
		bits := one.seen[tag]
		for len(bits) <= word {
			bits = append(bits, make([]uint64, max(64, len(bits)))...)
		}
		one.seen[tag] = bits
		if bits[word]&bit != 0 {
			return
		}
		bits[word] |= bit
	}
	one.frames++
}

// ratio is copies for each frame, 0 if there were none.
func (c *copyCounter) ratio(fence, from, to uint32) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	one := c.flows[copyKey{fence, from, to}]
	if one == nil || one.frames == 0 {
		return 0
	}
	return float64(one.copies) / float64(one.frames)
}
