package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// runAlone starts a voter on dir, lets it run for a while and returns how New or Run ended.
func runAlone(t *testing.T, dir string, d time.Duration, work func(c *Control)) error {
	t.Helper()
	var result error
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, time.Millisecond)
		m.dir = filepath.Dir(dir)
		n := &node{m: m, name: "v1", voter: true, accept: make(chan net.Conn, 16), closed: make(chan struct{})}
		cfg := m.config("v1", 1)
		cfg.Dir, cfg.Stream = dir, n
		cfg.Members = func() []Member { return nil }
		c, err := New(cfg)
		if err != nil {
			result = err
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		if work != nil {
			work(c)
		}
		result = <-done
		_ = n.Close()
		time.Sleep(time.Minute)
	})
	return result
}

// fill makes a data directory with a log, a snapshot and a copy.
func fill(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "v1")
	err := runAlone(t, dir, 10*time.Second, func(c *Control) {
		for i := range 5 {
			if _, err := c.change(context.Background(), numbered(i), nil); err != nil {
				t.Fatal(err)
			}
			if i == 2 {
				if err := c.node().Snapshot().Error(); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// logContent is every entry of the log as text.
func logContent(t *testing.T, dir string) string {
	s, err := openStores(filepath.Join(dir, "raft"), hclogTo(testLogger("v1")))
	if err != nil {
		t.Fatal(err)
	}
	last, err := s.log.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for i := uint64(1); i <= last; i++ {
		var l raft.Log
		if err := s.log.GetLog(i, &l); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%d %d %d %x\n", l.Index, l.Term, l.Type, l.Data)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// files lists what a data directory holds, with the part of each file that is in use.
func files(t *testing.T, dir string) map[string]int {
	out := make(map[string]int)
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() || info.Name() == "lock" || info.Name() == "node.id" || info.Name() == "node.key" {
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = len(bytes.TrimRight(b, "\x00")) // segments are preallocated
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestDamageIsFoundAndSaysWhatToDo(t *testing.T) {
	dir := fill(t)
	whole := files(t, dir)
	if len(whole) < 6 { // policy.bin, meta.bin, end.bin, bootstrap.bin, a segment, a snapshot's two
		t.Fatalf("the directory should hold everything: %v", whole)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	before := logContent(t, dir)
	for path, used := range whole {
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		check := func(what string, bad []byte) {
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			copied := filepath.Join(t.TempDir(), "v1")
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			err := runAlone(t, copied, time.Second, nil)
			if err == nil && filepath.Ext(path) == ".wal" && strings.HasPrefix(logContent(t, copied), before) {
				return // the bit lies where nothing is kept: padding, or the sum of a batch before the last
			}
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) {
				t.Errorf("%s, %s: must be refused as damaged, got: %v", filepath.Base(path), what, err)
			} else if !strings.Contains(err.Error(), copied) || !strings.Contains(err.Error(), "remove") {
				t.Errorf("%s, %s: the error must name the file and a remedy: %v", filepath.Base(path), what, err)
			}
		}
		if filepath.Base(path) != "meta.json" { // its free text is not covered; see the package comment
			for range 8 {
				bad := bytes.Clone(good)
				bad[rng.IntN(used)] ^= 1 << rng.IntN(8)
				check("one flipped bit", bad)
			}
		}
		check("cut in half", good[:used/2])
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := runAlone(t, dir, time.Second, nil); err != nil {
		t.Errorf("undamaged again, it must start: %v", err)
	}
}

func TestMissingPiecesAreFound(t *testing.T) {
	for _, piece := range []string{"raft/meta.bin", "raft/snapshots", "raft/*.wal"} {
		dir := fill(t)
		if piece == "raft/snapshots" { // the log must have been cut for the snapshot to matter
			s, err := openStores(filepath.Join(dir, "raft"), hclogTo(testLogger("v1")))
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(s.log.DeleteRange(1, 3), s.close()); err != nil {
				t.Fatal(err)
			}
		}
		found, err := filepath.Glob(filepath.Join(dir, piece))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v %v", piece, found, err)
		}
		for _, f := range found {
			if err := os.RemoveAll(f); err != nil {
				t.Fatal(err)
			}
		}
		var corrupt *CorruptError
		if err := runAlone(t, dir, time.Second, nil); !errors.As(err, &corrupt) {
			t.Errorf("without %s: must be refused, got %v", piece, err)
		}
	}
}

func TestForeignDirectoryIsRefused(t *testing.T) {
	m := newMesh(t, 0)
	if _, err := New(m.config("f1", 0)); err != nil {
		t.Fatal(err)
	}
	other := m.config("f1", 0)
	other.Node = "f2"
	if _, err := New(other); err == nil || !strings.Contains(err.Error(), `belongs to node "f1"`) {
		t.Errorf("another node's directory: %v", err)
	}
	other = m.config("f1", 0)
	other.Mesh = "elsewhere"
	if _, err := New(other); err == nil || !strings.Contains(err.Error(), `mesh "test"`) {
		t.Errorf("another mesh's directory: %v", err)
	}
}

func TestDirectoryIsLockedAndPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "n")
	if err := prepareDir(dir, owner{"m", "n"}); err != nil {
		t.Fatal(err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockDir(dir); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a second process must be kept out: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "policy.bin")
	if err := writeSealed(path, copyMagic, []byte("x")); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]os.FileMode{dir: 0o700, path: 0o600} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, want %v (%v)", p, info.Mode().Perm(), want, err)
		}
	}
}

// The log's own fault (see scanningFiler): cut the end, restart, read.
func TestLogCutByANewLeaderIsReadableAfterRestart(t *testing.T) {
	dir := t.TempDir()
	s, err := openStores(dir, hclogTo(testLogger("")))
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= 6; i++ {
		if err := s.log.StoreLog(&raft.Log{Index: i, Term: 1, Data: []byte{byte(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.log.DeleteRange(4, 6), s.log.StoreLog(&raft.Log{Index: 4, Term: 2}), s.close()); err != nil {
		t.Fatal(err)
	}
	s, err = openStores(dir, hclogTo(testLogger("")))
	if err != nil {
		t.Fatalf("must open again: %v", err)
	}
	var l raft.Log
	if err := s.log.GetLog(4, &l); err != nil || l.Term != 2 {
		t.Errorf("entry 4 is the new leader's: %+v %v", l, err)
	}
	if err := s.log.GetLog(3, &l); err != nil || l.Data[0] != 3 {
		t.Errorf("entry 3 stayed: %+v %v", l, err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

func FuzzUnseal(f *testing.F) {
	f.Add(seal(copyMagic, []byte("payload")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := unseal(copyMagic, b); err == nil && !bytes.Equal(seal(copyMagic, p), b) {
			t.Fatal("an accepted file must have one form")
		}
	})
}

// A folder stands where the copy belongs, which fails for root too, as a full disk does.
func TestACopyThatCouldNotBeStoredIsStoredOnceThereIsRoom(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "v1")
	err := runAlone(t, dir, 20*time.Second, func(c *Control) {
		obstacle := filepath.Join(c.copyFile(), "full")
		if err := os.MkdirAll(obstacle, 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := c.change(context.Background(), numbered(1), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if s := c.Status(); !strings.Contains(s.LastError, "not on disk") {
			t.Errorf("the status does not say that the copy is not on disk: %q", s.LastError)
		}
		if err := os.RemoveAll(c.copyFile()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if s := c.Status(); s.LastError != "" {
			t.Errorf("there is room again, and the status says %q", s.LastError)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "policy.bin")); err != nil || len(b) == 0 {
		t.Errorf("the copy is not on disk: %d bytes, %v", len(b), err)
	}
}
