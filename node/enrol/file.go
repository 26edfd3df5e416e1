package enrol

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ternmesh/tern/control/lease"
	"github.com/ternmesh/tern/mesh/identity"
)

// File is a machine's lease file, and what it is held against.
type File struct {
	Path    string
	Machine lease.Machine
}

// MachineOf is what a lease is held against: the mesh of trust, the node's name and key, the machine's fingerprint.
func MachineOf(t identity.Trust, node, fingerprint string, key *ecdsa.PrivateKey, tolerance time.Duration) (lease.Machine, error) {
	seal, err := sealKey(key)
	return lease.Machine{Mesh: t.Mesh, Node: node, Fingerprint: fingerprint, Key: seal, Issuer: t.AuthorityOf, Tolerance: tolerance}, err
}

// sealKey is derived from the node's key: who can read that can write last_seen, nobody else.
func sealKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("the node key cannot seed the lease's seal: %w", err)
	}
	sum := sha256.Sum256(append([]byte("tern lease seal key\n"), der...))
	return sum[:], nil
}

// Peek judges the file and changes nothing. The error says what is bad about it, or that it cannot be read.
func (f File) Peek(now time.Time) (lease.Verdict, lease.Lease, error) {
	b, err := f.read()
	if err != nil {
		return lease.BadLease, lease.Lease{}, err
	}
	return f.Machine.Judge(b, now)
}

// Look judges the file and writes into it what a look leaves: that the clock went back, or the time if that has moved on by
// more than since. A disk that cannot be written does not make a good lease bad; that is unwritten.
func (f File) Look(now time.Time, since time.Duration) (v lease.Verdict, l lease.Lease, why, unwritten error) {
	unwritten = f.locked(func() error {
		v, l, why = f.Peek(now)
		kept, changed := f.Machine.Observe(l, v, now)
		if !changed || !kept.Void && kept.LastSeen-l.LastSeen < int64(since.Seconds()) {
			return nil
		}
		l = kept
		return f.write(l)
	})
	if v == "" { // the lock was not to be had; reading needs none
		v, l, why = f.Peek(now)
	}
	return v, l, why, unwritten
}

// Put replaces the lease by a fresh one.
func (f File) Put(l lease.Lease) error {
	return f.locked(func() error { return f.write(l.Seal(f.Machine.Key)) })
}

// read returns nil, nil without a file.
func (f File) read() ([]byte, error) {
	in, err := os.Open(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return io.ReadAll(io.LimitReader(in, lease.MaxFileBytes+1))
}

func (f File) locked(do func() error) error {
	// No link is followed: root opens this in a folder of the node's user, and gives away what it opened.
	lock, err := os.OpenFile(f.Path+".lock", os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() // which unlocks
	if err := errors.Join(unix.Flock(int(lock.Fd()), unix.LOCK_EX), sameOwner(filepath.Dir(f.Path), lock.Chown)); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	return do()
}

// write replaces the file, whole or not at all.
func (f File) write(l lease.Lease) error {
	b, err := l.Encode()
	if err != nil {
		return err
	}
	dir := filepath.Dir(f.Path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(f.Path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(append(b, '\n'))
	if err = errors.Join(err, sameOwner(dir, tmp.Chown), tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), f.Path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("write the lease: %w", err)
	}
	return syncDir(dir)
}

// sameOwner gives a file that root writes to whom its folder belongs, by chown: the node that will read it does not run as root.
func sameOwner(dir string, chown func(uid, gid int) error) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return chown(int(s.Uid), int(s.Gid))
	}
	return nil
}

// SameOwner gives a file that root has written to whom its folder belongs; what a link points to is left alone.
func SameOwner(path string) error {
	return sameOwner(filepath.Dir(path), func(uid, gid int) error { return os.Lchown(path, uid, gid) })
}

// MakeFolder makes a folder for its owner alone (mode 0700), and those above it that are not there. What root makes belongs to owner,
// or without one (nil) to whom the folder above belongs; a folder that is there stays whose it is. made: it was not there.
func MakeFolder(dir string, owner *user.User) (made bool, err error) {
	dir = filepath.Clean(dir) // what stands above a/ is a
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if above := filepath.Dir(dir); above != dir {
		if _, err := MakeFolder(above, owner); err != nil {
			return false, err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return false, err
	}
	if owner == nil {
		return true, SameOwner(dir)
	}
	uid, uidErr := strconv.Atoi(owner.Uid)
	gid, gidErr := strconv.Atoi(owner.Gid)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return true, err
	}
	return true, os.Lchown(dir, uid, gid) // no link is followed: the folder above may be a user's
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
