package control

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// CorruptError says that a file of the data directory cannot be trusted, and what to do about it. The node must not
// start: a voter that forgot what it acknowledged can undo a committed policy.
type CorruptError struct {
	File   string
	Remedy string
	Err    error
}

// Error names the file, the finding and the remedy.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged: %v; %s", e.File, e.Err, e.Remedy)
}

// Unwrap returns the finding.
func (e *CorruptError) Unwrap() error { return e.Err }

// Remedies, by what is damaged.
const (
	remedyCopy  = "restore it from a backup, or remove this one file and let the node fetch the policy from a peer again"
	remedyKept  = "remove this one file: the node asks the others for the keys again"
	remedyVoter = "restore the data directory from a backup, or, while a majority of the other voters is up, remove the whole data directory and let this voter join again"
)

// Files that this package writes whole share one layout: 8 bytes of magic, the last of them the format; u32
// big-endian length; payload; SHA-256 of everything before. They are replaced by rename, so that a crash leaves the
// old file or the new one.
var (
	copyMagic    = []byte("TERNPOL\x02")
	metaMagic    = []byte("TERNWAL\x01")
	promiseMagic = []byte("TERNBOO\x01")
	tailMagic    = []byte("TERNEND\x01")
	keptMagic    = []byte("TERNKEY\x01")
)

// seal puts payload into that layout.
func seal(magic, payload []byte) []byte {
	b := make([]byte, 0, len(magic)+4+len(payload)+sha256.Size)
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, payload...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// unseal is the inverse; the result shares memory with b.
func unseal(magic, b []byte) ([]byte, error) {
	head, last := len(magic)+4, len(magic)-1
	switch {
	case len(b) < head+sha256.Size:
		return nil, fmt.Errorf("cut short: %d bytes", len(b))
	case !bytes.Equal(b[:last], magic[:last]):
		return nil, errors.New("not a file of this kind")
	case b[last] > magic[last]:
		return nil, fmt.Errorf("format %d: %w", b[last], errFromFuture)
	}
	body := b[:len(b)-sha256.Size]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], b[len(body):]) {
		return nil, errors.New("checksum mismatch")
	}
	if n := binary.BigEndian.Uint32(body[len(magic):]); uint64(n) != uint64(len(body)-head) {
		return nil, errors.New("length mismatch")
	}
	return body[head:], nil
}

// readSealed reads such a file; a missing one is nil without error.
func readSealed(path string, magic []byte, remedy string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read data directory: %w", err)
	}
	payload, err := unseal(magic, b)
	if err != nil {
		return nil, &CorruptError{File: path, Remedy: remedy, Err: err}
	}
	return payload, nil
}

// writeSealed replaces such a file durably: temporary file (0600), fsync, rename, fsync of the directory.
func writeSealed(path string, magic, payload []byte) error {
	return writeFile(path, seal(magic, payload))
}

func writeFile(path string, b []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // 0600 by contract
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // gone already after the rename
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// owner is the content of node.id: who may use the directory.
type owner struct {
	Mesh string `json:"mesh"`
	Node string `json:"node"`
}

// prepareDir creates dir (0700), writes node.id the first time, and refuses another node's or mesh's directory.
func prepareDir(dir string, want owner) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create data directory: %w", err)
	}
	return checkOwner(dir, want)
}

// lockDir keeps a second process out of dir until the returned file is closed.
func lockDir(dir string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w: %s must belong to the node's user, mode 0700, on a disk that can be written", err, dir)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("data directory %s is in use by another process (%w): stop that node first, or give this one a data_dir of its own; `fuser %s` names the process",
			dir, err, lock.Name()), lock.Close())
	}
	removeLeftovers(dir)
	return lock, nil
}

func checkOwner(dir string, want owner) error {
	path := filepath.Join(dir, "node.id")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if b, err = json.Marshal(want); err != nil {
			return err
		}
		return writeFile(path, append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("read data directory: %w", err)
	}
	var got owner
	if err := json.Unmarshal(b, &got); err != nil {
		return &CorruptError{File: path, Remedy: "if the directory is this node's, write {\"mesh\":...,\"node\":...} into it; otherwise use another one", Err: err}
	}
	if got != want {
		return fmt.Errorf("data directory %s belongs to node %q of mesh %q, this is node %q of mesh %q: use another directory",
			dir, got.Node, got.Mesh, want.Node, want.Mesh)
	}
	return nil
}

// removeLeftovers deletes temporary files of a crash. They may hold secrets, and nobody reads them again.
func removeLeftovers(dir string) {
	for _, pattern := range []string{".node.id.*", ".policy.bin.*", ".keys.bin.*", ".node.key.*", "raft/.*.bin.*"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			continue // only a bad pattern fails
		}
		for _, f := range found {
			_ = os.Remove(f)
		}
	}
}
