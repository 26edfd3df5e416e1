package control

import (
	"encoding/json"
	"slices"
	"time"
)

// Bounds of the history. The oldest goes first; a change outlives its document.
const (
	maxHistory      = 1_000   // changes
	maxHistoryBytes = 2 << 20 // of what is kept of older documents
)

// Change is one line of the history.
type Change struct {
	Version  uint64          `json:"version"`
	ID       string          `json:"id,omitempty"` // of the request
	Who      string          `json:"who"`
	When     time.Time       `json:"when"`
	Bytes    int             `json:"bytes"`              // of the stored document
	SHA256   string          `json:"sha256"`             // hex, of the redacted document: equal for equal policies
	Document json.RawMessage `json:"document,omitempty"` // redacted; only where Control.Version hands it out, for recent changes
}

// history is what the log remembers of changes. Of documents it keeps deltas, each back from the version after it: a
// thousand small changes of a large policy take little more than the policy. Pure.
type history struct {
	changes []Change // oldest first, without documents
	back    [][]byte // back[i] makes the document of changes[i] from that of changes[i+1]; nil: kept no longer, nor are older ones
	bytes   int      // of all back
}

// add appends a change. document is its own; before is that of the newest change so far, nil if there is none.
func (h *history) add(c Change, document, before []byte) {
	c.Document = nil
	h.changes = append(h.changes, c)
	if n := len(h.changes); n > 1 {
		var d []byte
		if before != nil {
			d = makeDelta(document, before)
		}
		h.back = append(h.back, d)
		h.bytes += len(d)
	}
	if over := len(h.changes) - maxHistory; over > 0 {
		for _, old := range h.back[:over] {
			h.bytes -= len(old)
		}
		h.changes, h.back = slices.Delete(h.changes, 0, over), slices.Delete(h.back, 0, over)
	}
	for i := 0; i < len(h.back) && h.bytes > maxHistoryBytes; i++ {
		h.bytes -= len(h.back[i])
		h.back[i] = nil
	}
}

// walk calls each with the changes from the newest to the oldest whose document is kept, given the newest document, until each
// returns false.
func (h *history) walk(newest []byte, each func(Change, []byte) bool) {
	for i, document := len(h.changes)-1, newest; i >= 0; i-- {
		if !each(h.changes[i], document) || i == 0 || h.back[i-1] == nil {
			return
		}
		var err error
		if document, err = applyDelta(document, h.back[i-1]); err != nil {
			return // made by add, checked by restore
		}
	}
}

// frozen is a copy that later changes leave as it is.
func (h *history) frozen() history {
	return history{changes: slices.Clone(h.changes), back: slices.Clone(h.back), bytes: h.bytes}
}

// change finds a version, and its document if that is kept.
func (s *state) change(version uint64) (found Change, document []byte, ok bool) {
	for _, c := range s.history.changes {
		if c.Version == version {
			found, ok = c, true
		}
	}
	if ok {
		s.history.walk(s.document, func(c Change, d []byte) bool {
			if c.Version == version {
				document = d
			}
			return c.Version > version
		})
	}
	return found, document, ok
}
