package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
)

// The raft library cannot live with a write that fails. A term that cannot be saved makes it panic. A follower that cut off
// the end of its log and then cannot write what comes instead goes on believing in the entries that it cut off, and panics,
// or commits what the others do not have, once it comes to them. So a write that fails ends this life of raft, as a crash
// would: the writer waits inside the call, raft is told to stop, its streams are closed, and only then the call returns. Once
// the disk takes writes again, raft begins anew with what is on it. Media and the policy in force know nothing of all that.

// diskRetry is how often a full disk is tried.
const diskRetry = 2 * time.Second

// diskProbe is what must fit before raft starts again: metadata and some entries; the log's segments have their space.
const diskProbe = 64 << 10

// guard stands between one life of raft and its stores.
type guard struct {
	raft.LogStore
	stable raft.StableStore
	said   func(error) // told of every write; nil means that it worked

	failed chan struct{} // closed at the first write that failed
	over   chan struct{} // closed when raft has stopped and its streams are closed
	once   sync.Once

	mu    sync.Mutex
	leads func() bool // guarded by mu; nil before raft runs
}

func newGuard(st *stores, said func(error)) *guard {
	return &guard{LogStore: st.log, stable: st.stable, said: said, failed: make(chan struct{}), over: make(chan struct{})}
}

// IsMonotonic implements raft.MonotonicLogStore.
func (g *guard) IsMonotonic() bool { return true }

// StoreLog implements raft.LogStore.
func (g *guard) StoreLog(l *raft.Log) error { return g.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (g *guard) StoreLogs(l []*raft.Log) error { return g.wrote(g.LogStore.StoreLogs(l)) }

// DeleteRange implements raft.LogStore.
func (g *guard) DeleteRange(low, high uint64) error {
	return g.wrote(g.LogStore.DeleteRange(low, high))
}

// wrote passes a write's outcome on; one that failed returns when raft has stopped. A leader is told at once: it steps down
// in good order, and a leader that waits would go on sending heartbeats.
func (g *guard) wrote(err error) error {
	g.said(err)
	if err == nil {
		return nil
	}
	g.mu.Lock()
	leads := g.leads != nil && g.leads()
	running := g.leads != nil
	g.mu.Unlock()
	g.once.Do(func() { close(g.failed) })
	if running && !leads {
		<-g.over
	}
	return err
}

// broken says whether a write failed.
func (g *guard) broken() bool {
	select {
	case <-g.failed:
		return true
	default:
		return false
	}
}

// running says that raft runs, and how to ask whether it leads.
func (g *guard) running(leads func() bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leads = leads
}

// guardedStable is the guard of term and vote.
type guardedStable struct{ g *guard }

// Get implements raft.StableStore.
func (s guardedStable) Get(k []byte) ([]byte, error) { return s.g.stable.Get(k) }

// GetUint64 implements raft.StableStore.
func (s guardedStable) GetUint64(k []byte) (uint64, error) { return s.g.stable.GetUint64(k) }

// Set implements raft.StableStore.
func (s guardedStable) Set(k, v []byte) error { return s.g.wrote(s.g.stable.Set(k, v)) }

// SetUint64 implements raft.StableStore. A term that could not be saved is reported as saved when raft has stopped, because the
// library panics otherwise: nothing that it does then reaches anybody, and a vote in that term is refused, since Set and the
// term of a vote do report their failures.
func (s guardedStable) SetUint64(k []byte, v uint64) error {
	err := s.g.wrote(s.g.stable.SetUint64(k, v))
	select {
	case <-s.g.over:
		if string(k) == "CurrentTerm" {
			return nil
		}
	default:
	}
	return err
}

// diskSaid keeps the newest failure of a write to the log for Status; a write that works clears it.
func (c *Control) diskSaid(err error) {
	text := ""
	if err != nil {
		var number unix.Errno // without the file's name, which is another one at each try
		if errors.As(err, &number) {
			err = number
		}
		text = fmt.Sprintf("this voter cannot write to %s (%v): it takes no part in changes of the policy until it can; media goes on. Make room, or mend the disk of the data directory", c.raftDir(), err)
	}
	c.mu.Lock()
	changed := c.diskErr != text
	c.diskErr = text
	c.mu.Unlock()
	if changed && text != "" {
		c.cfg.Logger.Error("control", "error", text)
	}
}

// untilWritable waits until the raft directory takes a file, or ctx ends.
func (c *Control) untilWritable(ctx context.Context) {
	for pause(ctx, diskRetry) {
		err := tryDisk(c.raftDir())
		if err == nil {
			c.diskSaid(nil)
			c.cfg.Logger.Info("the disk takes writes again: raft starts anew")
			return
		}
		c.diskSaid(err)
	}
}

func tryDisk(dir string) error {
	f, err := os.CreateTemp(dir, ".probe.bin.*") // removeLeftovers knows the pattern
	if err != nil {
		return fmt.Errorf("try the disk: %w", err)
	}
	_, err = f.Write(make([]byte, diskProbe))
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
}

// isFull tells a disk without room from a damaged one.
func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// accepted hands the streams that peers open to whichever life of raft runs; its owner is runVoter.
type accepted struct {
	raft.StreamLayer
	conns chan net.Conn
}

// unclaimed is how long an accepted stream waits for raft; longer means that no raft runs here now.
const unclaimed = time.Second

func newAccepted(s raft.StreamLayer) *accepted {
	return &accepted{StreamLayer: s, conns: make(chan net.Conn)}
}

// run accepts until the layer is closed.
func (a *accepted) run() {
	for {
		conn, err := a.StreamLayer.Accept()
		if err != nil {
			return
		}
		t := time.NewTimer(unclaimed)
		select {
		case a.conns <- conn:
		case <-t.C:
			_ = conn.Close()
		}
		t.Stop()
	}
}
