package braid

import "math"

// defaultWindow is the span of a window in sequence numbers: 327 ms at 100,000 frames a second, in 4 KiB.
const defaultWindow = 1 << 15

// window remembers which of the newest sequence numbers were seen. The order of use is Seen, then open the frame, then
// Mark: a frame that does not open must leave no trace. The zero value is ready and spans defaultWindow numbers.
// The last number of 64 bits counts as seen from the start: nothing could come after it, and next would wrap.
// Not safe for concurrent use.
type window struct {
	bits []uint64
	next uint64 // one past the highest number marked
}

func newWindow(span int) window { return window{bits: make([]uint64, span/64)} }

func (w *window) span() uint64 { return uint64(len(w.bits)) * 64 }

// Seen reports whether seq was marked, or is so old that the window cannot tell.
func (w *window) Seen(seq uint64) bool {
	if seq >= w.next {
		return seq == math.MaxUint64
	}
	if w.next-seq > w.span() {
		return true
	}
	return w.bits[seq/64%uint64(len(w.bits))]&(1<<(seq%64)) != 0
}

// Mark notes seq; numbers older than the window, and the last of 64 bits, are ignored.
func (w *window) Mark(seq uint64) {
	if seq == math.MaxUint64 {
		return
	}
	if w.bits == nil {
		w.bits = make([]uint64, defaultWindow/64)
	}
	n := uint64(len(w.bits))
	if seq >= w.next {
		w.forget(seq)
		w.next = seq + 1
	} else if w.next-seq > w.span() {
		return
	}
	w.bits[seq/64%n] |= 1 << (seq % 64)
}

// forget clears the bits of w.next to seq, which hold numbers of one window ago.
func (w *window) forget(seq uint64) {
	if seq-w.next >= w.span() {
		clear(w.bits)
		return
	}
	n := uint64(len(w.bits))
	for s := w.next; s <= seq; {
		if s%64 == 0 && seq-s >= 63 {
			w.bits[s/64%n] = 0
			s += 64
			continue
		}
		w.bits[s/64%n] &^= 1 << (s % 64)
		s++
	}
}
