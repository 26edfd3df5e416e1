package ebpf

import "encoding/binary"

// maxSteps is the room for steps in the kernel's maps: each rule cuts the address space twice at most. A power of two, so
// that the kernel can bound an index with a mask; so are the other bounds of steps.go.
const maxSteps = 262_144

// image writes struct table4 or table6 of bpf/filter.c in this machine's byte order; nil when there are no rules. half
// is the size of an address there: 4 bytes, or both halves.
func (s *steps) image(v4 bool) []byte {
	if len(s.nodes) == 0 {
		return nil
	}
	b := make([]byte, 0, 32*maxNodes+8*maxJumps+20*maxSteps+8)
	for _, nd := range s.nodes {
		b = append64(b, nd.base, nd.same)
		b = append32(b, nd.at, nd.last, nd.shift, uint32(truth(nd.low)))
	}
	b = append64(pad(b, 32*(maxNodes-len(s.nodes))), s.jump...)
	b = pad(b, 8*(maxJumps-len(s.jump)))
	for _, a := range s.start {
		if v4 {
			b = append32(b, uint32(a.hi))
		} else {
			b = append64(b, a.hi)
		}
	}
	if v4 {
		b = pad(b, 4*(maxSteps-len(s.start)))
	} else {
		b = pad(b, 8*(maxSteps-len(s.start)))
		for _, a := range s.start {
			b = append64(b, a.lo)
		}
		b = pad(b, 8*(maxSteps-len(s.start)))
	}
	for _, r := range s.rule { // counted from 1; noRule becomes 0
		b = append32(b, uint32(r+1))
	}
	return append32(pad(b, 4*(maxSteps-len(s.rule))), uint32(len(s.start)), 0)
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

func append32(b []byte, values ...uint32) []byte {
	for _, v := range values {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return b
}

func append64(b []byte, values ...uint64) []byte {
	for _, v := range values {
		b = binary.NativeEndian.AppendUint64(b, v)
	}
	return b
}

func pad(b []byte, n int) []byte { return append(b, make([]byte, n)...) }
