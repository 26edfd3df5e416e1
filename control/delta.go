package control

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// A delta makes one stored document from another. Documents of two versions are mostly the same bytes, so that a delta is a
// few hundred bytes where the document is megabytes. Nobody trusts one: it names the SHA-256 of what it must make, and the
// voter's signature covers the document, not the way it came.
//
//	0   1  format, 1
//	1  32  SHA-256 of the result
//	33     uvarint: length of the result
//	       then until the end: uvarint n*2 and n bytes to insert, or uvarint n*2+1 and a uvarint offset: n bytes of the base
const (
	deltaFormat = 1
	deltaFixed  = 1 + sha256.Size
	deltaBlock  = 32 // bytes of the base that are found again, wherever they went
)

// makeDelta says how to make next from base. It costs time in proportion to both. Pure.
func makeDelta(base, next []byte) []byte {
	sum := sha256.Sum256(next)
	d := append([]byte{deltaFormat}, sum[:]...)
	d = binary.AppendUvarint(d, uint64(len(next)))
	head := commonPrefix(base, next)
	tail := commonSuffix(base[head:], next[head:])
	d = appendCopy(d, head, 0)
	d = appendMiddle(d, base, next[head:len(next)-tail])
	return appendCopy(d, tail, len(base)-tail)
}

func commonPrefix(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func commonSuffix(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}

func appendCopy(d []byte, n, offset int) []byte {
	if n == 0 {
		return d
	}
	return binary.AppendUvarint(binary.AppendUvarint(d, uint64(n)*2+1), uint64(offset))
}

func appendInsert(d, b []byte) []byte {
	if len(b) == 0 {
		return d
	}
	return append(binary.AppendUvarint(d, uint64(len(b))*2), b...)
}

// appendMiddle finds blocks of the base in what differs, by a hash that rolls over it byte by byte.
func appendMiddle(d, base, next []byte) []byte {
	if len(next) < deltaBlock || len(base) < deltaBlock {
		return appendInsert(d, next)
	}
	known := make(map[uint32]int, len(base)/deltaBlock)
	for i := 0; i+deltaBlock <= len(base); i += deltaBlock {
		if h := hashBlock(base[i:]); known[h] == 0 {
			known[h] = i + 1 // 0 means absent
		}
	}
	done, h := 0, hashBlock(next)
	for i := 0; i+deltaBlock <= len(next); {
		at := known[h] - 1
		if at < 0 || !bytes.Equal(base[at:at+deltaBlock], next[i:i+deltaBlock]) {
			if i+deltaBlock < len(next) {
				h = (h-uint32(next[i])*hashOut)*hashStep + uint32(next[i+deltaBlock])
			}
			i++
			continue
		}
		back := commonSuffix(base[:at], next[done:i])
		n := back + commonPrefix(base[at:], next[i:])
		d = appendInsert(d, next[done:i-back])
		d = appendCopy(d, n, at-back)
		done = i - back + n
		if i = done; i+deltaBlock <= len(next) {
			h = hashBlock(next[i:])
		}
	}
	return appendInsert(d, next[done:])
}

// hashStep is the base of the rolling hash; hashOut is its power for the byte that leaves a block.
const hashStep = 16777619

var hashOut = func() uint32 {
	h := uint32(1)
	for range deltaBlock - 1 {
		h *= hashStep
	}
	return h
}()

func hashBlock(b []byte) (h uint32) {
	for _, c := range b[:deltaBlock] {
		h = h*hashStep + uint32(c)
	}
	return h
}

var errDelta = errors.New("not a delta for this document")

// applyDelta makes the document that d was made for, or fails: no byte that it returns is a guess. Pure.
func applyDelta(base, d []byte) ([]byte, error) {
	if len(d) < deltaFixed || d[0] != deltaFormat {
		return nil, fmt.Errorf("%w: format or length", errDelta)
	}
	sum, rest := d[1:deltaFixed], d[deltaFixed:]
	size, rest, err := number(rest)
	if err != nil || size > MaxDocumentBytes {
		return nil, fmt.Errorf("%w: it makes %d bytes", errDelta, size)
	}
	out := make([]byte, 0, min(size, uint64(len(base)+len(d)))) // grows only with what is there to be copied
	for len(rest) > 0 {
		var op, offset uint64
		if op, rest, err = number(rest); err != nil {
			return nil, err
		}
		n := op / 2
		if n > size-uint64(len(out)) {
			return nil, fmt.Errorf("%w: it makes more than it says", errDelta)
		}
		from := rest
		if op%2 == 1 {
			if offset, rest, err = number(rest); err != nil || offset > uint64(len(base)) {
				return nil, fmt.Errorf("%w: outside of the base", errDelta)
			}
			from = base[offset:]
		}
		if n > uint64(len(from)) {
			return nil, fmt.Errorf("%w: outside of the base", errDelta)
		}
		out = append(out, from[:n]...)
		if op%2 == 0 {
			rest = rest[n:]
		}
	}
	if got := sha256.Sum256(out); !bytes.Equal(got[:], sum) {
		return nil, fmt.Errorf("%w: another base", errDelta)
	}
	return out, nil
}

func number(b []byte) (uint64, []byte, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, fmt.Errorf("%w: cut short", errDelta)
	}
	return v, b[n:], nil
}

// Bounds of the steps that a node keeps for others.
const (
	maxSteps     = 64
	maxStepBytes = 256 << 10
)

// deltaStep is the way from the document of one version to that of another.
type deltaStep struct {
	from, to uint64
	delta    []byte
}

// deltaChain is a chain: each begins where the one before ends. The zero value is empty. Pure.
type deltaChain []deltaStep

// with adds a step and drops the oldest beyond the bounds; a step that does not follow begins a new chain.
func (s deltaChain) with(next deltaStep) deltaChain {
	if n := len(s); n > 0 && s[n-1].to != next.from {
		s = nil
	}
	s = append(s[:len(s):len(s)], next) // readers keep the old one
	total := 0
	for i := len(s) - 1; i >= 0; i-- {
		if total += len(s[i].delta); total > maxStepBytes || len(s)-i > maxSteps {
			return s[i+1:]
		}
	}
	return s
}

// since lists the deltas from a version to the newest; nil if there is no such way.
func (s deltaChain) since(version uint64) (out [][]byte) {
	for i := range s {
		if s[i].from == version {
			for _, one := range s[i:] {
				out = append(out, one.delta)
			}
			return out
		}
	}
	return nil
}

// follow applies a chain of deltas to a document.
func follow(document []byte, deltas [][]byte) (_ []byte, err error) {
	if len(deltas) > maxSteps {
		return nil, fmt.Errorf("%w: %d steps, at most %d", errDelta, len(deltas), maxSteps)
	}
	for _, d := range deltas {
		if document, err = applyDelta(document, d); err != nil {
			return nil, err
		}
	}
	return document, nil
}
