package braid

import "math/bits"

const (
	// sampleCopies: every so many copies on a path one is opened.
	sampleCopies = 8
	// brokenOf: a path is broken when so many of the last sixteen frames opened on it were corrupt.
	brokenOf = 9
	// brokenMS is how long a path counts as broken after the last corrupt frame, in milliseconds. Then single copies may
	// try it again; should it still be broken, one frame tells.
	brokenMS = 30_000
)

// sealHistory is how the frames of one path opened lately. The path header's MACs cannot tell a changed payload, so a
// relay that damages what it forwards would otherwise look like the best of paths. The zero value is ready. Guarded by
// flow.rxMu.
type sealHistory struct {
	corrupt uint64
	recent  uint16 // newest lowest; 1 = corrupt
	copies  uint8  // not opened since the last sample
	badMS   uint64 // when the last corrupt frame came
}

// sample reports whether the copy at hand is to be opened.
func (s *sealHistory) sample() bool {
	s.copies++
	if s.recent == 0 && s.copies < sampleCopies {
		return false
	}
	s.copies = 0
	return true
}

// note takes the outcome of one frame that was opened.
func (s *sealHistory) note(corrupt bool, nowMS uint64) {
	s.recent <<= 1
	if corrupt {
		s.recent |= 1
		s.corrupt++
		s.badMS = nowMS
	}
}

// broken: most of the last sixteen frames that were opened were corrupt.
func (s *sealHistory) broken(nowMS uint64) bool {
	return bits.OnesCount16(s.recent) >= brokenOf && nowMS < s.badMS+brokenMS
}
