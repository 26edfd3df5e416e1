package control

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// Sizes of the log on disk.
const (
	segmentBytes    = 8 << 20 // preallocated; one entry may be larger than what is left, the file grows then
	snapshotsKept   = 2
	cachedLogs      = 1  // entries kept in memory: the newest, which every exchange with a follower names; it may be 5 MiB
	snapshotEvery   = 64 // entries since the last snapshot
	trailingEntries = 32 // entries kept behind a snapshot for voters that lag a little
)

// stores are the three places where raft keeps things, all under one directory.
type stores struct {
	log    raft.LogStore
	stable raft.StableStore
	snaps  raft.SnapshotStore
	close  func() error
}

// openStores opens and checks everything before raft sees it: raft itself panics at a damaged entry, and both it
// and the log forget a damaged tail or snapshot silently.
func openStores(dir string, logger hclog.Logger) (*stores, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create raft directory: %w", err)
	}
	end, err := openTail(filepath.Join(dir, "end.bin"))
	if err != nil {
		return nil, err
	}
	w, err := wal.Open(dir, wal.WithMetaStore(&metaFile{}), wal.WithSegmentFiler(scanningFiler{segment.NewFiler(dir, walfs.New())}),
		wal.WithSegmentSize(segmentBytes), wal.WithLogger(logger))
	if err != nil {
		err = errors.Join(err, end.close())
		if known := (*CorruptError)(nil); errors.As(err, &known) {
			return nil, err
		}
		return nil, &CorruptError{File: dir + " (write-ahead log)", Remedy: remedyVoter, Err: err}
	}
	log := &checkedLog{wal: w, end: end, dir: dir}
	s := &stores{log: log, stable: w, close: func() error { return errors.Join(w.Close(), end.close()) }}
	err = log.verify()
	if err == nil {
		s.snaps, err = openSnapshots(dir, log, logger)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// scanningFiler opens what the write-ahead log cuts short itself: when raft takes back the end of the log (a new
// leader disagrees with it), the log closes the segment without writing its index, and then cannot read it after a
// restart. Such a segment is scanned instead, as the unfinished last one is at every start.
type scanningFiler struct{ *segment.Filer }

// Open implements types.SegmentFiler.
func (f scanningFiler) Open(info types.SegmentInfo) (types.SegmentReader, error) {
	if info.IndexStart == 0 {
		return f.RecoverTail(info)
	}
	return f.Filer.Open(info)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkedLog adds to every entry a checksum that is verified at every read (the write-ahead log checks only its last
// batch), and remembers where the log ended (end).
type checkedLog struct {
	wal *wal.WAL
	end *tail
	dir string
}

// checksum covers what raft acts on.
func checksum(l *raft.Log) uint32 {
	var head [17]byte
	binary.BigEndian.PutUint64(head[:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	sum := crc32.Update(0, castagnoli, head[:])
	sum = crc32.Update(sum, castagnoli, l.Data)
	return crc32.Update(sum, castagnoli, l.Extensions)
}

// verify reads the whole log once. It is short: snapshots cut it to about a hundred entries.
func (c *checkedLog) verify() error {
	first, err := c.wal.FirstIndex()
	if err != nil {
		return err
	}
	last, err := c.wal.LastIndex()
	if err != nil {
		return err
	}
	if last < c.end.index {
		return c.corrupt(fmt.Errorf("the log ends at entry %d, but entry %d was written", last, c.end.index))
	}
	var l raft.Log
	for i := first; i <= last && first > 0; i++ {
		if err := c.GetLog(i, &l); err != nil {
			return err
		}
	}
	return nil
}

func (c *checkedLog) corrupt(err error) error {
	return &CorruptError{File: filepath.Join(c.dir, "*.wal"), Remedy: remedyVoter, Err: err}
}

func (c *checkedLog) FirstIndex() (uint64, error) { return c.wal.FirstIndex() }
func (c *checkedLog) LastIndex() (uint64, error)  { return c.wal.LastIndex() }

// IsMonotonic tells raft that the log has no gaps.
func (c *checkedLog) IsMonotonic() bool { return true }

// GetLog reads an entry and takes the checksum off it.
func (c *checkedLog) GetLog(index uint64, l *raft.Log) error {
	if err := c.wal.GetLog(index, l); err != nil {
		if errors.Is(err, wal.ErrNotFound) {
			return raft.ErrLogNotFound
		}
		return c.corrupt(fmt.Errorf("entry %d: %w", index, err))
	}
	n := len(l.Extensions) - 4
	if n < 0 {
		return c.corrupt(fmt.Errorf("entry %d has no checksum", index))
	}
	want := binary.BigEndian.Uint32(l.Extensions[n:])
	if l.Extensions = l.Extensions[:n]; n == 0 {
		l.Extensions = nil
	}
	if l.Index != index || checksum(l) != want {
		return c.corrupt(fmt.Errorf("entry %d does not match its checksum", index))
	}
	return nil
}

// StoreLog implements raft.LogStore.
func (c *checkedLog) StoreLog(l *raft.Log) error { return c.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore. The entries belong to raft, so the checksum goes onto copies.
func (c *checkedLog) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	copies := make([]*raft.Log, len(logs))
	for i, l := range logs {
		with := *l
		with.Extensions = binary.BigEndian.AppendUint32(append([]byte(nil), l.Extensions...), checksum(l))
		copies[i] = &with
	}
	if err := c.wal.StoreLogs(copies); err != nil {
		return fmt.Errorf("store log entries in %s: %w", c.dir, err)
	}
	return c.end.set(logs[len(logs)-1].Index, false)
}

// DeleteRange implements raft.LogStore. When the end goes, its mark goes first: the mark may lag behind the log but
// must never be ahead of it.
func (c *checkedLog) DeleteRange(low, high uint64) error {
	if low <= high && high >= c.end.index {
		before := uint64(0)
		if first, err := c.wal.FirstIndex(); err != nil {
			return err
		} else if low > first {
			before = low - 1
		}
		if err := c.end.set(before, true); err != nil {
			return err
		}
	}
	return c.wal.DeleteRange(low, high)
}

// tail remembers the index of the last entry in a file of its own. The write-ahead log takes a damaged end for a
// write that a crash cut short, and drops it; with this mark the two can be told apart. Advancing it is not synced
// to disk (a killed process loses nothing, a power cut leaves an older and so harmless mark), moving back is.
// Owned by raft's log writer; index is guarded by it.
type tail struct {
	f     *os.File
	index uint64
}

func openTail(path string) (*tail, error) {
	payload, err := readSealed(path, tailMagic, remedyVoter)
	if err != nil {
		return nil, err
	}
	t := &tail{}
	switch len(payload) {
	case 0:
		if err := writeSealed(path, tailMagic, make([]byte, 8)); err != nil {
			return nil, err
		}
	case 8:
		t.index = binary.BigEndian.Uint64(payload)
	default:
		return nil, &CorruptError{File: path, Remedy: remedyVoter, Err: errors.New("length mismatch")}
	}
	t.f, err = os.OpenFile(path, os.O_RDWR, 0)
	return t, err
}

// set overwrites the file in place: its 52 bytes lie within one sector, which disks write whole.
func (t *tail) set(index uint64, sync bool) error {
	b := seal(tailMagic, binary.BigEndian.AppendUint64(nil, index))
	if _, err := t.f.WriteAt(b, 0); err != nil {
		return fmt.Errorf("mark the end of the log: %w", err)
	}
	t.index = index
	if sync {
		return t.f.Sync()
	}
	return nil
}

func (t *tail) close() error { return t.f.Close() }

// metaFile keeps what the write-ahead log and raft must not forget (segments, term, vote) in one checked file,
// meta.bin, that is replaced whole. It implements the log's MetaStore in place of an embedded database, whose pages
// carry no checksums.
type metaFile struct {
	mu   sync.Mutex
	path string
	c    metaContent // guarded by mu
}

type metaContent struct {
	State  types.PersistentState `json:"state"`
	Stable map[string][]byte     `json:"stable"`
}

// Load implements types.MetaStore. Segments without meta.bin are refused: the log would delete them as leftovers.
func (m *metaFile) Load(dir string) (types.PersistentState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.path = filepath.Join(dir, "meta.bin")
	payload, err := readSealed(m.path, metaMagic, remedyVoter)
	if err != nil {
		return types.PersistentState{}, err
	}
	m.c.Stable = make(map[string][]byte)
	if payload == nil {
		left, err := filepath.Glob(filepath.Join(dir, "*.wal"))
		if err != nil || len(left) > 0 {
			return types.PersistentState{}, &CorruptError{File: m.path, Remedy: remedyVoter, Err: errors.New("missing, but there are log segments")}
		}
		return m.c.State, nil
	}
	if err := json.Unmarshal(payload, &m.c); err != nil {
		return types.PersistentState{}, &CorruptError{File: m.path, Remedy: remedyVoter, Err: err}
	}
	for _, s := range m.c.State.Segments { // the log creates a missing last segment anew, which is right only if it is empty
		name := filepath.Join(dir, fmt.Sprintf("%020d-%016x.wal", s.BaseIndex, s.ID))
		if _, err := os.Stat(name); err != nil && !s.SealTime.IsZero() {
			return types.PersistentState{}, &CorruptError{File: name, Remedy: remedyVoter, Err: errors.New("missing")}
		}
	}
	return m.c.State, nil
}

// save writes next and, if that worked, makes it the content; mu held.
func (m *metaFile) save(next metaContent) error {
	b, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := writeSealed(m.path, metaMagic, b); err != nil {
		return err
	}
	m.c = next
	return nil
}

// CommitState implements types.MetaStore.
func (m *metaFile) CommitState(s types.PersistentState) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.save(metaContent{State: s, Stable: m.c.Stable})
}

// GetStable implements types.MetaStore.
func (m *metaFile) GetStable(key []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.c.Stable[string(key)], nil
}

// SetStable implements types.MetaStore.
func (m *metaFile) SetStable(key, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := maps.Clone(m.c.Stable)
	next[string(key)] = append([]byte(nil), value...)
	return m.save(metaContent{State: m.c.State, Stable: next})
}

// Close implements io.Closer; there is nothing open.
func (m *metaFile) Close() error { return nil }

// openSnapshots opens the snapshot store and reads every snapshot in it to the end. Raft would pass over a damaged
// one in silence, and start empty when its log was already cut.
func openSnapshots(dir string, log raft.LogStore, logger hclog.Logger) (raft.SnapshotStore, error) {
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, logger)
	if err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	found, err := os.ReadDir(filepath.Join(dir, "snapshots"))
	if err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	covered := uint64(0)
	for _, e := range found {
		path := filepath.Join(dir, "snapshots", e.Name())
		if filepath.Ext(path) == ".tmp" {
			_ = os.RemoveAll(path) // a snapshot that a crash cut short
			continue
		}
		meta, err := checkSnapshot(snaps, e.Name())
		if err != nil {
			return nil, &CorruptError{File: path, Remedy: remedyVoter, Err: err}
		}
		covered = max(covered, meta.Index)
	}
	if first, err := log.FirstIndex(); err != nil {
		return nil, err
	} else if first > covered+1 {
		return nil, &CorruptError{File: filepath.Join(dir, "snapshots"), Remedy: remedyVoter,
			Err: fmt.Errorf("the log begins at entry %d and no snapshot covers what came before", first)}
	}
	return snaps, nil
}

func checkSnapshot(snaps raft.SnapshotStore, id string) (*raft.SnapshotMeta, error) {
	meta, r, err := snaps.Open(id)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	if meta.ID != id {
		return nil, fmt.Errorf("meta.json says it is snapshot %q", meta.ID)
	}
	_, err = restoreState(r)
	return meta, err
}
