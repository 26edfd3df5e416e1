package ebpf

import "encoding/binary"

// maxSteps is the room for steps in the kernel's maps: each rule cuts the address space twice at most.
const maxSteps = 2*MaxRules + 1

// image writes struct table4 of bpf/filter.c in this machine's byte order; nil when there are no rules.
func (s *steps4) image() []byte {
	if len(s.jump) == 0 {
		return nil
	}
	b := make([]byte, 0, 4*(len(s.jump)+1+2*maxSteps))
	b = pad(append32(b, s.jump), 4)
	b = pad(append32(b, s.start), 4*(maxSteps-len(s.start)))
	return pad(appendRules(b, s.rule), 4*(maxSteps-len(s.rule)))
}

// image writes struct table6; nil when there are no rules.
func (s *steps6) image() []byte {
	if len(s.jump) == 0 {
		return nil
	}
	b := make([]byte, 0, 8+4+4*len(s.jump)+20*maxSteps+4)
	b = binary.NativeEndian.AppendUint64(b, s.base)
	b = append32(append32(b, []uint32{s.shift}), s.jump)
	for _, a := range s.start {
		b = binary.NativeEndian.AppendUint64(b, a.hi)
	}
	b = pad(b, 8*(maxSteps-len(s.start)))
	for _, a := range s.start {
		b = binary.NativeEndian.AppendUint64(b, a.lo)
	}
	b = pad(b, 8*(maxSteps-len(s.start)))
	return pad(appendRules(b, s.rule), 4*(maxSteps-len(s.rule))+4)
}

func append32(b []byte, values []uint32) []byte {
	for _, v := range values {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return b
}

// appendRules writes places in the blocklist, counted from 1; noRule becomes 0.
func appendRules(b []byte, rules []int32) []byte {
	for _, r := range rules {
		b = binary.NativeEndian.AppendUint32(b, uint32(r+1))
	}
	return b
}

func pad(b []byte, n int) []byte { return append(b, make([]byte, n)...) }
