package control

import (
	"context"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// fullDisk fails every write of a voter while full is set: entries, terms and votes.
type fullDisk struct{ full atomic.Bool }

type fullLog struct {
	raft.LogStore
	d *fullDisk
}

func (f fullLog) IsMonotonic() bool          { return true }
func (f fullLog) StoreLog(l *raft.Log) error { return f.StoreLogs([]*raft.Log{l}) }
func (f fullLog) StoreLogs(l []*raft.Log) error {
	if f.d.full.Load() {
		return syscall.ENOSPC
	}
	return f.LogStore.StoreLogs(l)
}

type fullStable struct {
	raft.StableStore
	d *fullDisk
}

func (f fullStable) SetUint64(k []byte, v uint64) error {
	if f.d.full.Load() {
		return syscall.ENOSPC
	}
	return f.StableStore.SetUint64(k, v)
}

// A voter with a full disk loses its leader, which makes raft save a new term. The node goes on enforcing, says what is wrong,
// takes new policies as a copy, and is a voter again when there is room.
func TestAFullDiskEndsRaftAndNotTheNode(t *testing.T) {
	bubble(t, 40*time.Millisecond, func(t *testing.T, m *mesh) {
		disks := make(map[string]*fullDisk)
		for _, v := range []string{"v1", "v2", "v3"} {
			d := &fullDisk{}
			disks[v] = d
			m.startWith(v, 3, func(c *Control, _ *node) {
				c.wrap = func(s *stores) { s.log, s.stable = fullLog{s.log, d}, fullStable{s.stable, d} }
			})
		}
		m.until(20*time.Second, "led", func() bool { return m.leader() != nil })
		apply(t, m.get("v1"), numbered(1))
		m.until(5*time.Second, "enforced", m.everyoneAt(1))
		leader := m.leader()
		victim := "v1"
		if leader.name == victim {
			victim = "v2"
		}
		disks[victim].full.Store(true)
		if err := leader.c.HandOver(otherVoter(victim, leader.name)); err != nil { // a new term for everybody
			t.Fatal(err)
		}
		p := apply(t, m.get(victim), numbered(2))
		m.until(10*time.Second, "the copy in force on all", m.everyoneAt(p.Version))
		s := m.get(victim).c.Status()
		if s.Role == "follower" || !strings.Contains(s.LastError, "no space left on device") || !strings.Contains(s.LastError, "media goes on") {
			t.Errorf("with a full disk: role %s, %q", s.Role, s.LastError)
		}
		disks[victim].full.Store(false)
		m.until(10*time.Second, "a follower again", func() bool {
			s := m.get(victim).c.Status()
			return s.Role == "follower" && s.LastError == "" && s.Applied >= m.leader().c.Status().Commit
		})
		if _, err := m.get(victim).c.Committed(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func otherVoter(a, b string) string {
	for _, v := range []string{"v1", "v2", "v3"} {
		if v != a && v != b {
			return v
		}
	}
	return ""
}
