package control

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
)

// A snapshot file is what raft's snapshots hold: the policy with sealed certificates, the history, the audit log. It is
// no secret, but of no use without the key file of one voter (see vault.go) where certificates are concerned.

// SnapshotInfo is what a snapshot file holds.
type SnapshotInfo struct {
	Version uint64    `json:"version"`
	Apps    int       `json:"apps"`
	History int       `json:"history"` // changes
	Audit   AuditMark `json:"audit"`
}

// SaveSnapshot returns a snapshot file of what this voter has applied. Nodes without a log name the voters.
func (c *Control) SaveSnapshot() ([]byte, error) {
	if c.node() == nil {
		return nil, fmt.Errorf("this node has no log to save: ask one of the voters %v", c.Status().Voters)
	}
	f, err := c.fsm.Snapshot()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = f.(fsmSnapshot).st.snapshot(&b)
	return b.Bytes(), err
}

// ReadSnapshot checks a snapshot file to its end and says what it holds. Pure.
func ReadSnapshot(image []byte) (SnapshotInfo, error) {
	st, err := restoreState(bytes.NewReader(image))
	if err != nil {
		return SnapshotInfo{}, err
	}
	return SnapshotInfo{Version: st.version, Apps: len(st.policy.Apps), History: len(st.history.changes), Audit: st.audit.head()}, nil
}

// RestoreSnapshot makes the empty raft directory of a stopped voter begin with a snapshot file, with this voter alone in
// the voter set. Started, it leads at once, and voters that start with empty directories join it. Use it when all voters, or a
// majority of them, are lost for good; otherwise the others give a new voter the log themselves.
func RestoreSnapshot(dir, mesh, node string, image []byte) (info SnapshotInfo, err error) {
	if info, err = ReadSnapshot(image); err != nil {
		return info, fmt.Errorf("snapshot file: %w", err)
	}
	if err := prepareDir(dir, owner{Mesh: mesh, Node: node}); err != nil {
		return info, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	raftDir := filepath.Join(dir, "raft")
	st, err := openStores(raftDir, hclogTo(slog.New(slog.DiscardHandler)))
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, st.close()) }()
	last, err := st.log.LastIndex()
	if err != nil {
		return info, err
	}
	if snaps, err := st.snaps.List(); err != nil || last > 0 || len(snaps) > 0 {
		return info, errors.Join(err, fmt.Errorf("%s already holds a log: if it is lost for good, remove that directory first", raftDir))
	}
	return info, writeSnapshot(st, node, image)
}

// writeSnapshot puts the image where raft looks for one, at index and term 1.
func writeSnapshot(st *stores, node string, image []byte) error {
	if err := st.stable.SetUint64([]byte("CurrentTerm"), 1); err != nil {
		return err
	}
	conf := *configurationOf([]string{node})
	_, trans := raft.NewInmemTransport(raft.ServerAddress(node)) // names the peers in the snapshot's header, sends nothing
	sink, err := st.snaps.Create(raft.SnapshotVersionMax, 1, 1, conf, 1, trans)
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if _, err := io.Copy(sink, bytes.NewReader(image)); err != nil {
		return errors.Join(fmt.Errorf("write snapshot: %w", err), sink.Cancel())
	}
	return sink.Close()
}

// SaveSnapshotFile writes an image durably, readable by its owner alone.
func SaveSnapshotFile(path string, image []byte) error {
	if _, err := os.Stat(path); err == nil {
		return fmt.Errorf("%s exists already: name a new file", path)
	}
	return writeFile(path, image)
}
