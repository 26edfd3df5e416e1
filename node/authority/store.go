package authority

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ternmesh/tern/control/lease"
)

const (
	bookFile    = "book.json"
	lockFile    = "book.lock"
	revokedFile = "revoked.json"
	// bookVersion is the one that this program reads and writes.
	bookVersion = 1
	// maxBook bounds the book's file, in bytes; a full book is below a tenth of it.
	maxBook = 32 << 20
)

// Store is an authority's folder: the book and the audit log. Any number of processes may use one at once.
type Store struct{ dir string }

// OpenStore makes the folder if it is not there.
func OpenStore(dir string) (Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Store{}, fmt.Errorf("the authority's folder: %w", err)
	}
	return Store{dir}, nil
}

// Book is the book as it is now.
func (s Store) Book() (lease.Book, error) {
	var b lease.Book
	err := s.locked(unix.LOCK_SH, func() (err error) {
		b, err = s.read()
		return err
	})
	return b, err
}

// change calls f with the book, under the lock, and stores it and the audit lines that f returns. Nothing is stored if f fails.
func (s Store) change(f func(*lease.Book) ([]Line, error)) error {
	return s.locked(unix.LOCK_EX, func() error {
		b, err := s.read()
		if err != nil {
			return err
		}
		lines, err := f(&b)
		if err != nil {
			return err
		}
		// The log first: what it does not have did not happen.
		if b.Audit, err = s.append(lines); err != nil {
			return fmt.Errorf("the audit log cannot be written, so nothing was done: %w", err)
		}
		return s.write(b)
	})
}

func (s Store) locked(how int, f func() error) error {
	file, err := os.OpenFile(filepath.Join(s.dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer file.Close() // which unlocks
	if err := unix.Flock(int(file.Fd()), how); err != nil {
		return fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	return f()
}

func (s Store) read() (b lease.Book, err error) {
	file := filepath.Join(s.dir, bookFile)
	data, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return lease.Book{Version: bookVersion}, nil
	case err != nil:
		return b, err
	case len(data) > maxBook:
		return b, fmt.Errorf("%s has %d bytes, at most %d are read", file, len(data), maxBook)
	}
	if err := json.Unmarshal(data, &b); err != nil {
		return b, fmt.Errorf("%s is damaged (%w): restore it from a copy, or enrol the machines anew", file, err)
	}
	if b.Version != bookVersion {
		return b, fmt.Errorf("%s is of version %d, this program reads %d", file, b.Version, bookVersion)
	}
	return b, nil
}

func (s Store) write(b lease.Book) error { return s.replace(bookFile, b) }

// revoked is what keepRevoked kept.
func (s Store) revoked() (list []Revocation, err error) {
	file := filepath.Join(s.dir, revokedFile)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: remove it, a node of the mesh tells it anew", file, err)
	}
	return list, nil
}

// keepRevoked stores what the policy revokes, for a start at which no node answers.
func (s Store) keepRevoked(list []Revocation) error { return s.replace(revokedFile, list) }

// replace writes a file: a reader sees the old one or the whole new one, and so does a machine that lost its power.
func (s Store) replace(name string, v any) (err error) {
	data, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(s.dir, "."+name+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(s.dir, name))
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
