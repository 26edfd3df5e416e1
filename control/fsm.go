package control

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// maxSnapshotBytes bounds what a snapshot unpacks to.
const maxSnapshotBytes = 64 << 20

// snapshotMagic opens a snapshot; the last byte is its format.
var snapshotMagic = []byte("TERNSNP\x02")

// ConflictError says that the policy changed since the caller looked. Nothing was applied.
type ConflictError struct{ Expected, Current uint64 }

// Error names both versions.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("policy conflict: the change was made for version %d, but version %d is in force: look at it and try again",
		e.Expected, e.Current)
}

// state is what the log adds up to. Pure: the same entries give the same state on every voter, whatever its clock.
//
//	version  --apply, base == current-->  version+1
//	         --apply, base != current-->  version, ConflictError
//	         --entry unreadable------->   stopped, for good: every later entry is refused
type state struct {
	version  uint64
	document []byte // stored form; nil before the first
	policy   Policy
	history  history
	audit    auditLog
	stopped  error
}

// current is the version that a new change must name. It is the log's own, unless the proposer knows a higher one
// (floor): a voter set that was made anew continues counting where the old one ended, since every node refuses
// lower versions.
func (s *state) current(floor uint64) uint64 { return max(s.version, floor) }

// apply executes one entry. A ConflictError leaves the state as it was; any other error stops it.
func (s *state) apply(entry []byte) (Policy, error) {
	if s.stopped != nil {
		return Policy{}, s.stopped
	}
	c, err := decodeCommand(entry)
	if err != nil {
		return Policy{}, s.stop(err)
	}
	if c.kind == commandAudit {
		return Policy{}, s.append(c.audit, s.version)
	}
	if current := s.current(c.floor); c.base != current {
		return Policy{}, &ConflictError{Expected: c.base, Current: current}
	}
	version := c.base + 1
	policy, err := decodeDocument(c.document, version)
	if err != nil {
		return Policy{}, s.stop(fmt.Errorf("version %d: %w (%w)", version, err, errFromFuture))
	}
	before := s.document
	s.version, s.policy, s.document = version, policy, slices.Clone(c.document)
	s.history.add(Change{
		Version: version, ID: c.id, Who: c.who, When: c.when, Bytes: len(c.document), SHA256: redactedSum(policy),
	}, s.document, before)
	return policy, s.append(c.audit, version)
}

// append writes to the audit log. What cannot be read there stops the state like everything else.
func (s *state) append(bodies []json.RawMessage, version uint64) error {
	for _, b := range bodies {
		if err := s.audit.append(b, version, s.policy.Audit.Retention()); err != nil {
			return s.stop(err)
		}
	}
	return nil
}

func (s *state) stop(err error) error {
	s.stopped = fmt.Errorf("policy log stopped at version %d: %w", s.version, err)
	return s.stopped
}

// stateImage is the JSON inside a snapshot.
type stateImage struct {
	Version  uint64   `json:"version"`
	Document []byte   `json:"document"`
	SHA256   []byte   `json:"sha256"`
	History  []Change `json:"history"`        // with documents in format 1
	Back     [][]byte `json:"back,omitempty"` // see history

	AuditBase AuditMark    `json:"audit_base"`
	Audit     []AuditEntry `json:"audit"`
}

// snapshot writes the state: magic, then gzipped JSON.
func (s *state) snapshot(w io.Writer) error {
	if s.stopped != nil {
		return s.stopped // a snapshot would claim entries that were not applied
	}
	if _, err := w.Write(snapshotMagic); err != nil {
		return err
	}
	sum := sha256.Sum256(s.document)
	z := gzip.NewWriter(w)
	image := stateImage{Version: s.version, Document: s.document, SHA256: sum[:], History: s.history.changes, Back: s.history.back, AuditBase: s.audit.base, Audit: s.audit.entries}
	if err := json.NewEncoder(z).Encode(image); err != nil {
		return err
	}
	return z.Close()
}

// restoreState reads what snapshot wrote.
func restoreState(r io.Reader) (*state, error) {
	magic := make([]byte, len(snapshotMagic))
	if _, err := io.ReadFull(r, magic); err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	last := len(magic) - 1
	if !bytes.Equal(magic[:last], snapshotMagic[:last]) {
		return nil, errors.New("not a policy snapshot")
	}
	if magic[last] > snapshotMagic[last] {
		return nil, fmt.Errorf("snapshot of format %d: %w", magic[last], errFromFuture)
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	limited := &io.LimitedReader{R: z, N: maxSnapshotBytes}
	dec := json.NewDecoder(limited)
	dec.DisallowUnknownFields()
	var image stateImage
	if err := dec.Decode(&image); err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	if _, err := io.Copy(io.Discard, limited); err != nil { // to the end, where gzip checks its sum
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	return image.state()
}

func (i stateImage) state() (*state, error) {
	sum := sha256.Sum256(i.Document)
	if !bytes.Equal(sum[:], i.SHA256) {
		return nil, errors.New("snapshot: document does not match its checksum")
	}
	s := &state{version: i.Version}
	if i.Version > 0 {
		policy, err := decodeDocument(i.Document, i.Version)
		if err != nil {
			return nil, fmt.Errorf("snapshot: %w", err)
		}
		s.policy, s.document = policy, i.Document
	}
	if err := i.restoreHistory(&s.history); err != nil {
		return nil, err
	}
	if len(i.Audit) > 0 && i.Audit[0].Prev != i.AuditBase.Hash {
		return nil, errors.New("snapshot: the audit log does not follow from its base")
	}
	if _, err := VerifyAudit(i.Audit); err != nil {
		return nil, fmt.Errorf("snapshot: audit log: %w", err)
	}
	s.audit.base, s.audit.entries = i.AuditBase, i.Audit
	for _, e := range i.Audit {
		s.audit.bytes += len(e.Body)
	}
	return s, nil
}

// restoreHistory takes the history over and checks that all its documents can be made. Format 1 held them whole.
func (i stateImage) restoreHistory(h *history) error {
	if len(i.Back) == 0 {
		var before []byte
		for n, c := range i.History {
			document := []byte(c.Document)
			if n == len(i.History)-1 {
				document = i.Document
			}
			h.add(c, document, before)
			before = document
		}
		return nil
	}
	if len(i.History) > maxHistory || len(i.Back) != len(i.History)-1 {
		return fmt.Errorf("snapshot: a history of %d changes and %d documents", len(i.History), len(i.Back))
	}
	h.changes, h.back = i.History, i.Back
	want := 1
	for _, d := range h.back {
		h.bytes += len(d)
		if d != nil {
			want++
		}
	}
	got := 0
	h.walk(i.Document, func(Change, []byte) bool { got++; return true })
	if got != want {
		return fmt.Errorf("snapshot: only %d of %d documents of the history can be made", got, want)
	}
	return nil
}

// fsm adapts state to raft. Raft calls Apply, Snapshot and Restore from its own goroutine; everybody else reads.
type fsm struct {
	mu      sync.Mutex
	st      *state               // guarded by mu
	applied func(*state, uint64) // told after every change, with the log index; mu held
}

// applyResult is what raft hands back to the proposer.
type applyResult struct {
	policy Policy
	err    error
}

// Apply implements raft.FSM.
func (f *fsm) Apply(l *raft.Log) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, err := f.st.apply(l.Data)
	f.applied(f.st, l.Index)
	return applyResult{p, err}
}

// Snapshot implements raft.FSM. The copy is shallow: documents are never changed in place, the history is.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.st.stopped != nil {
		return nil, f.st.stopped
	}
	frozen := *f.st
	frozen.history = f.st.history.frozen()
	frozen.audit.entries = slices.Clone(f.st.audit.entries)
	return fsmSnapshot{&frozen}, nil
}

// Restore implements raft.FSM.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer func() { _ = r.Close() }()
	st, err := restoreState(r)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.st = st
	f.applied(st, 0)
	return nil
}

// read runs fn on the state; fn must not keep it.
func (f *fsm) read(fn func(*state)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn(f.st)
}

type fsmSnapshot struct{ st *state }

// Persist implements raft.FSMSnapshot.
func (s fsmSnapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.st.snapshot(sink); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (fsmSnapshot) Release() {}
