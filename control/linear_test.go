package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/hashicorp/raft"
)

// The policy as one register with a version, and the operations that clients see. A checker (porcupine) looks for an
// order of all operations, each somewhere between its call and its return, that the register could have gone through.

// operation is what a client asked for.
type operation struct {
	kind string // write, swap (only for the version base), read
	base uint64
	doc  string // the one app's id
}

// result is what it was told.
type result struct {
	unknown  bool   // no answer: it may have happened, now or later
	conflict uint64 // refused, because this version is in force
	version  uint64
	doc      string
}

type register struct {
	version uint64
	doc     string
}

var registerModel = porcupine.Model{
	Init: func() any { return register{} },
	Step: func(state, input, output any) (bool, any) {
		s, in, out := state.(register), input.(operation), output.(result)
		next := register{s.version + 1, in.doc}
		switch {
		case in.kind == "read":
			return out.version == s.version && out.doc == s.doc, s
		case out.unknown && in.kind == "swap" && s.version != in.base:
			return true, s
		case out.unknown:
			return true, next
		case out.conflict > 0 || in.kind == "swap" && out.version == 0:
			return out.conflict == s.version && s.version != in.base, s
		case in.kind == "swap" && s.version != in.base:
			return false, s
		}
		return out.version == next.version, next
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
}

// faulty stands between raft and its log on disk.
type faulty struct {
	raft.LogStore
	n   *node
	dir string

	mu   sync.Mutex
	full bool // guarded by mu: the disk is
	tear bool // guarded by mu: the next write is cut short by a power cut
	rng  *rand.Rand
}

func (f *faulty) IsMonotonic() bool             { return true }
func (f *faulty) StoreLog(l *raft.Log) error    { return f.StoreLogs([]*raft.Log{l}) }
func (f *faulty) DeleteRange(a, b uint64) error { return f.LogStore.DeleteRange(a, b) }
func (f *faulty) set(change func(f *faulty))    { f.mu.Lock(); defer f.mu.Unlock(); change(f) }
func (f *faulty) contents() map[string][]byte {
	out := make(map[string][]byte)
	found, _ := filepath.Glob(filepath.Join(f.dir, "*.wal"))
	for _, path := range append(found, filepath.Join(f.dir, "end.bin")) {
		if b, err := os.ReadFile(path); err == nil {
			out[path] = b
		}
	}
	return out
}

// faultyStable is the place of term and vote on the same disk.
type faultyStable struct {
	raft.StableStore
	f *faulty
}

func (s faultyStable) full() bool { s.f.mu.Lock(); defer s.f.mu.Unlock(); return s.f.full }

func (s faultyStable) Set(k, v []byte) error {
	if s.full() {
		return syscall.ENOSPC
	}
	return s.StableStore.Set(k, v)
}

func (s faultyStable) SetUint64(k []byte, v uint64) error {
	if s.full() {
		return syscall.ENOSPC
	}
	return s.StableStore.SetUint64(k, v)
}

// StoreLogs fails when the disk is full, and tears: what was new on disk is taken back from a random byte on.
func (f *faulty) StoreLogs(l []*raft.Log) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full {
		return syscall.ENOSPC
	}
	if !f.tear || f.n.frozen.Load() {
		return f.LogStore.StoreLogs(l)
	}
	f.tear = false
	before := f.contents()
	if err := f.LogStore.StoreLogs(l); err != nil {
		return err
	}
	for path, now := range f.contents() {
		was := before[path]
		first := 0
		for first < len(now) && first < len(was) && now[first] == was[first] {
			first++
		}
		last := len(now)
		for last > first && last <= len(was) && now[last-1] == was[last-1] {
			last--
		}
		if last <= first || len(was) != len(now) {
			continue
		}
		keep := first
		if filepath.Ext(path) == ".wal" {
			keep += f.rng.IntN(last - first)
		}
		torn := append(bytes.Clone(now[:keep]), was[keep:]...)
		if err := os.WriteFile(path, torn, 0o600); err != nil {
			return err
		}
	}
	f.n.frozen.Store(true)
	f.n.die()
	return errors.New("power cut")
}

// trial is one seeded run.
type trial struct {
	t   *testing.T
	m   *mesh
	rng *rand.Rand // of the nemesis

	mu     sync.Mutex
	events []porcupine.Operation // guarded by mu
	disks  map[string]*faulty    // guarded by mu
	faults map[string]int        // guarded by mu
}

func (tr *trial) voters() []string { return []string{"v1", "v2", "v3"} }

// boot starts a voter whose disk can be spoiled and whose clock is wrong.
func (tr *trial) boot(name string) {
	skew, seed := time.Duration(tr.rng.IntN(7200)-3600)*time.Second, tr.rng.Uint64()
	tr.m.startWith(name, 3, func(c *Control, n *node) {
		c.now = func() time.Time { return time.Now().Add(skew) }
		inner := c.wrap
		f := &faulty{n: n, dir: c.raftDir(), rng: rand.New(rand.NewPCG(seed, 1))}
		tr.mu.Lock()
		tr.disks[name] = f
		tr.mu.Unlock()
		c.wrap = func(s *stores) { // for every life of raft on this disk
			f.set(func(f *faulty) { f.LogStore = s.log })
			s.log, s.stable = f, faultyStable{s.stable, f}
			inner(s)
		}
	})
}

func (tr *trial) disk(name string) *faulty {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.disks[name]
}

// client works until stop, through random nodes.
func (tr *trial) client(id int, seed uint64, stop <-chan struct{}) {
	rng := rand.New(rand.NewPCG(seed, uint64(id)))
	seen := uint64(0)
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		in := operation{kind: []string{"write", "swap", "read"}[rng.IntN(3)], base: seen, doc: fmt.Sprintf("app%d", id*1000+i)}
		if n := tr.m.get([]string{"v1", "v2", "v3", "f1"}[rng.IntN(4)]); n != nil {
			if v := tr.do(id, n.c, in, id*1000+i); v > 0 {
				seen = v
			}
		}
		time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond)
	}
}

// do makes one operation and writes it down; it returns the version that it saw.
func (tr *trial) do(id int, c *Control, in operation, number int) uint64 {
	call := time.Now().UnixNano()
	var out result
	var err error
	var p Policy
	switch in.kind {
	case "read":
		p, err = c.Committed(context.Background())
	case "swap":
		p, err = c.change(context.Background(), numbered(number), &in.base)
	default:
		p, err = c.change(context.Background(), numbered(number), nil)
	}
	back := time.Now().UnixNano()
	var conflict *ConflictError
	switch {
	case err == nil:
		out.version = p.Version
		if len(p.Apps) > 0 {
			out.doc = p.Apps[0].ID
		}
	case errors.As(err, &conflict):
		out.conflict, out.version = conflict.Current, conflict.Current
	case errors.Is(err, ErrNoLeader) || in.kind == "read":
		return 0 // nothing happened
	default:
		out.unknown, back = true, math.MaxInt64
	}
	tr.mu.Lock()
	tr.events = append(tr.events, porcupine.Operation{ClientId: id, Input: in, Call: call, Output: out, Return: back})
	tr.mu.Unlock()
	if out.conflict > 0 {
		return out.conflict
	}
	return out.version
}

// nemesis makes one fault, waits, and heals it.
func (tr *trial) nemesis() {
	victim := tr.voters()[tr.rng.IntN(3)]
	if l := tr.m.leader(); l != nil && tr.rng.IntN(2) == 0 {
		victim = l.name
	}
	n := tr.m.get(victim)
	if n == nil {
		return
	}
	kind := []string{"partition", "kill", "full disk", "torn write"}[tr.rng.IntN(4)]
	tr.faults[kind]++
	wait := func(most int) { time.Sleep(time.Duration(tr.rng.IntN(most)) * time.Millisecond) }
	switch kind {
	case "partition":
		tr.m.split(victim)
		wait(5000)
		tr.m.split()
		return
	case "full disk":
		disk := tr.disk(victim)
		disk.set(func(f *faulty) { f.full = true })
		wait(5000)
		if s := n.c.Status(); s.LastError != "" && strings.Contains(s.LastError, "no space") {
			tr.faults["full disk said so"]++
		}
		disk.set(func(f *faulty) { f.full = false })
		return
	case "torn write":
		tr.disk(victim).set(func(f *faulty) { f.tear = true })
		wait(3000)
	}
	n.kill()
	wait(2000)
	tr.boot(victim)
}

func (tr *trial) run(seed uint64) {
	for _, v := range tr.voters() {
		tr.boot(v)
	}
	tr.m.start("f1", 0)
	tr.m.until(20*time.Second, "led", func() bool { return tr.m.leader() != nil })
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for id := range 3 {
		wg.Go(func() { tr.client(id, seed, stop) })
	}
	for range 4 {
		time.Sleep(time.Duration(tr.rng.IntN(3000)) * time.Millisecond)
		tr.nemesis()
	}
	close(stop)
	wg.Wait()
	for range 20 { // everything is healed: one last read must work
		if tr.do(9, tr.m.get("f1").c, operation{kind: "read"}, 0) > 0 {
			return
		}
	}
	tr.t.Errorf("after all faults were healed the policy cannot be read\n%s", tr.m.describe())
}

// TestPolicyIsLinearizable runs clients against voters that are cut off, killed, out of disk and cut short in their
// writes, with clocks up to an hour wrong. TERN_SEEDS asks for more runs, TERN_SEED for one of them.
func TestPolicyIsLinearizable(t *testing.T) {
	first := envInt("TERN_SEED", 0)
	operations, faults := 0, make(map[string]int)
	for seed := first; seed < first+envInt("TERN_SEEDS", 3); seed++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(seed), 7))
			tr := &trial{rng: rng, disks: make(map[string]*faulty), faults: faults}
			bubble(t, time.Duration(5+rng.IntN(70))*time.Millisecond, func(t *testing.T, m *mesh) {
				tr.t, tr.m = t, m
				tr.run(uint64(seed))
			})
			operations += len(tr.events)
			verdict, info := porcupine.CheckOperationsVerbose(registerModel, tr.events, time.Minute)
			if verdict != porcupine.Ok {
				file := filepath.Join(os.TempDir(), fmt.Sprintf("tern-linear-%d.html", seed))
				_ = porcupine.VisualizePath(registerModel, info, file)
				t.Errorf("%s: no order of the operations explains what clients saw; see %s; again with TERN_SEED=%d TERN_SEEDS=1", verdict, file, seed)
			}
		})
	}
	t.Logf("%d operations in all, faults %v", operations, faults)
}

// The checker itself must find what is wrong, or its silence proves nothing.
func TestTheCheckerFindsAStaleRead(t *testing.T) {
	at := func(id int, call, back int64, in operation, out result) porcupine.Operation {
		return porcupine.Operation{ClientId: id, Input: in, Call: call, Output: out, Return: back}
	}
	write := at(0, 0, 10, operation{kind: "write", doc: "a"}, result{version: 1})
	for name, c := range map[string]struct {
		then porcupine.Operation
		ok   bool
	}{
		"a fresh read":             {at(1, 20, 30, operation{kind: "read"}, result{version: 1, doc: "a"}), true},
		"a stale read":             {at(1, 20, 30, operation{kind: "read"}, result{}), false},
		"a read at the same time":  {at(1, 5, 30, operation{kind: "read"}, result{}), true},
		"a lost write":             {at(1, 20, 30, operation{kind: "write", doc: "b"}, result{version: 1}), false},
		"a swap of an old version": {at(1, 20, 30, operation{kind: "swap", base: 0, doc: "b"}, result{version: 1}), false},
		"a conflict":               {at(1, 20, 30, operation{kind: "swap", base: 0, doc: "b"}, result{conflict: 1, version: 1}), true},
	} {
		if got := porcupine.CheckOperations(registerModel, []porcupine.Operation{write, c.then}); got != c.ok {
			t.Errorf("%s: %v, want %v", name, got, c.ok)
		}
	}
}
