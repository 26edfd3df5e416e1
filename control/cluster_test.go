package control

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// bubble runs a test in virtual time.
func bubble(t *testing.T, delay time.Duration, f func(t *testing.T, m *mesh)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, delay)
		m.dir = dir
		f(t, m)
		m.stopAll()
		time.Sleep(time.Minute) // what is in flight arrives; whatever hangs for longer is reported by the bubble
	})
}

func startSix(m *mesh) {
	for _, name := range []string{"v1", "v2", "v3", "f1", "f2", "f3"} {
		m.start(name, 3)
	}
}

func apply(t *testing.T, n *node, doc []byte) Policy {
	t.Helper()
	p, err := n.c.change(context.Background(), doc, nil)
	if err != nil {
		t.Fatalf("apply through %s: %v\n%s", n.name, err, n.m.describe())
	}
	return p
}

func TestSixNodesFormAndApplyThroughEveryNode(t *testing.T) {
	bubble(t, 75*time.Millisecond, func(t *testing.T, m *mesh) {
		startSix(m)
		m.until(15*time.Second, "led", func() bool { return m.leader() != nil })
		for i, name := range []string{"v1", "v2", "v3", "f1", "f2", "f3"} {
			p := apply(t, m.get(name), numbered(i))
			if p.Version != uint64(i+1) || p.Apps[0].ID != fmt.Sprint("app", i) {
				t.Fatalf("through %s: version %d, %+v", name, p.Version, p.Apps)
			}
			took := m.until(5*time.Second, "enforced everywhere", m.everyoneAt(p.Version))
			t.Logf("version %d through %s: enforced everywhere %v after the answer", p.Version, name, took)
		}
		for _, name := range []string{"v2", "f3"} {
			h, err := m.get(name).c.History(t.Context())
			if err != nil || len(h) != 6 || !strings.HasPrefix(h[5].Who, "test, via f3") || h[5].Document != nil {
				t.Errorf("history through %s: %d changes, %+v, %v", name, len(h), h, err)
			}
		}
		c, err := m.get("f1").c.Version(t.Context(), 3)
		if err != nil || c.Version != 3 || len(c.Document) == 0 {
			t.Errorf("version 3 through f1: %+v, %v", c, err)
		}
		stale := uint64(2)
		var conflict *ConflictError
		if _, err := m.get("f1").c.change(t.Context(), numbered(9), &stale); !errors.As(err, &conflict) || conflict.Current != 6 {
			t.Errorf("a change for version 2 must conflict with 6: %v", err)
		}
		var problems Problems
		if _, err := m.get("f1").c.change(t.Context(), []byte("apps: [{id: x, certificates: ['sha256:00000000']}]\nregions: [{id: eu}]"), nil); !errors.As(err, &problems) {
			t.Errorf("an unknown fingerprint must come back as a problem from the leader: %v", err)
		}
		for _, name := range []string{"v1", "v2", "v3", "f1", "f2", "f3"} {
			n := m.get(name)
			n.mu.Lock()
			if !slices.IsSorted(n.enforced) || len(slices.Compact(slices.Clone(n.enforced))) != len(n.enforced) {
				t.Errorf("%s enforced out of order: %v", name, n.enforced)
			}
			n.mu.Unlock()
		}
	})
}

// Raft draws its timeouts at random, so the time is a distribution. TERN_SEEDS asks for more draws.
func TestLeaderKilledWritesPossibleAgain(t *testing.T) {
	for _, rtt := range []time.Duration{150 * time.Millisecond, 300 * time.Millisecond} {
		runs := envInt("TERN_SEEDS", 4)
		took := make([]time.Duration, 0, runs)
		for range runs {
			bubble(t, rtt/2, func(t *testing.T, m *mesh) {
				startSix(m)
				m.until(20*time.Second, "led", func() bool { return m.leader() != nil })
				apply(t, m.get("f1"), numbered(1))
				time.Sleep(time.Duration(rand.IntN(3000)) * time.Millisecond)
				victim := m.leader()
				victim.die()
				start := time.Now()
				if p := apply(t, m.get("f2"), numbered(2)); p.Version < 2 {
					t.Errorf("version %d after the kill", p.Version)
				}
				took = append(took, time.Since(start))
				victim.stop()
			})
		}
		slices.Sort(took)
		t.Logf("%d leaders killed at round trips of %v: the next write through a subscriber took p50 %v, p90 %v, max %v",
			runs, rtt, took[runs/2], took[runs*9/10], took[runs-1])
		if took[runs-1] > 5*time.Second {
			t.Errorf("writes must be possible again within 5 s")
		}
	}
}

func TestMinorityCannotWriteAndGoesOnEnforcing(t *testing.T) {
	bubble(t, 75*time.Millisecond, func(t *testing.T, m *mesh) {
		startSix(m)
		m.until(15*time.Second, "led", func() bool { return m.leader() != nil })
		apply(t, m.get("v1"), numbered(1))
		m.until(5*time.Second, "enforced", m.everyoneAt(1))
		old := m.leader().name
		m.split(old, "f1")
		_, err := m.get("f1").c.change(t.Context(), numbered(2), nil)
		if !errors.Is(err, ErrNoLeader) && !errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("a write on the minority's side must fail clearly: %v", err)
		}
		if v := m.get("f1").c.Policy().Version; v != 1 {
			t.Errorf("the minority must keep version 1, has %d", v)
		}
		p := apply(t, m.get("f2"), numbered(3))
		m.split() // heal
		m.until(20*time.Second, "caught up", m.everyoneAt(p.Version))
		for _, mb := range m.members("") {
			if got := m.get(mb.Node).c.Policy().Apps[0].ID; got != "app3" {
				t.Errorf("%s has %s: the write without a majority came back", mb.Node, got)
			}
		}
	})
}

func TestRestartOfAllNodesKeepsThePolicy(t *testing.T) {
	bubble(t, 75*time.Millisecond, func(t *testing.T, m *mesh) {
		startSix(m)
		m.until(15*time.Second, "led", func() bool { return m.leader() != nil })
		p := apply(t, m.get("f1"), numbered(1))
		m.until(5*time.Second, "enforced", m.everyoneAt(1))
		m.stopAll()

		lone := m.start("f2", 0) // without anybody else
		time.Sleep(time.Second)
		if got := lone.c.Policy(); got.Version != p.Version {
			t.Fatalf("a node alone must start from its disk, has version %d", got.Version)
		}
		lone.stop()
		if len(lone.enforced) != 1 {
			t.Errorf("a node alone must enforce what is on its disk, once: %v", lone.enforced)
		}

		startSix(m)
		m.until(15*time.Second, "led", func() bool { return m.leader() != nil })
		if p := apply(t, m.get("f3"), numbered(2)); p.Version != 2 {
			t.Errorf("the second start goes on counting, got version %d", p.Version)
		}
		m.until(5*time.Second, "enforced", m.everyoneAt(2))
	})
}

// Voters are killed at random instants while writes run; whatever was acknowledged must be there in the end.
func TestNoCommittedPolicyLostWithKills(t *testing.T) {
	for seed := range uint64(envInt("TERN_SEEDS", 2)) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			bubble(t, 20*time.Millisecond, func(t *testing.T, m *mesh) { killAndCheck(t, m, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func killAndCheck(t *testing.T, m *mesh, rng *rand.Rand) {
	voters := []string{"v1", "v2", "v3"}
	for _, v := range voters {
		m.start(v, 3)
	}
	f := m.start("f1", 0)
	m.until(15*time.Second, "led", func() bool { return m.leader() != nil })
	acked := make(map[uint64]string)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if p, err := f.c.change(context.Background(), numbered(i), nil); err == nil {
				acked[p.Version] = p.Apps[0].ID
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	kills := envInt("TERN_KILLS", 5)
	for range kills {
		time.Sleep(time.Duration(rng.IntN(2_000_000)) * time.Microsecond)
		v := voters[rng.IntN(3)]
		m.get(v).kill()
		time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
		m.start(v, 3)
	}
	close(stop)
	<-done
	final := apply(t, f, numbered(1_000_000))
	m.until(20*time.Second, "enforced", m.everyoneAt(final.Version))
	for _, v := range voters {
		m.until(20*time.Second, "applied by raft on "+v, func() bool {
			var at uint64
			m.get(v).c.fsm.read(func(st *state) { at = st.version })
			return at == final.Version
		})
		m.get(v).c.fsm.read(func(st *state) {
			seen := make(map[uint64]string)
			st.history.walk(st.document, func(c Change, document []byte) bool {
				p, err := decodeDocument(document, c.Version)
				if err != nil {
					t.Fatal(err)
				}
				seen[c.Version] = p.Apps[0].ID
				return true
			})
			for version, app := range acked {
				if seen[version] != app {
					t.Errorf("%s: version %d was acknowledged with %s, the history has %q", v, version, app, seen[version])
				}
			}
		})
	}
	t.Logf("%d acknowledged versions over %d kills, final version %d", len(acked), kills, final.Version)
}

func TestFourthVoterJoinsAndWipedVoterRejoins(t *testing.T) {
	bubble(t, 75*time.Millisecond, func(t *testing.T, m *mesh) {
		startSix(m)
		m.until(15*time.Second, "led", func() bool { return m.leader() != nil })
		apply(t, m.get("f1"), numbered(1))
		m.start("v4", 3)
		m.until(15*time.Second, "four voters", func() bool {
			return len(m.get("v4").c.Status().Voters) == 4 && m.get("v4").c.Status().PolicyVersion == 1
		})

		m.until(10*time.Second, "led", func() bool { return m.leader() != nil })
		victim := "v2"
		m.get(victim).kill()
		if err := os.RemoveAll(filepath.Join(m.dir, victim)); err != nil {
			t.Fatal(err)
		}
		apply(t, m.get("f1"), numbered(2))
		m.start(victim, 3)
		m.until(20*time.Second, "back with the log", func() bool {
			s := m.get(victim).c.Status()
			return s.Role == "follower" && s.PolicyVersion == 2 && len(s.Voters) == 4
		})
		apply(t, m.get(victim), numbered(3))
	})
}

func TestTwoHalvesNeverFoundTwoVoterSets(t *testing.T) {
	bubble(t, 75*time.Millisecond, func(t *testing.T, m *mesh) {
		m.split("v1", "v2") // four voters, three expected: neither side may found
		for _, v := range []string{"v1", "v2", "v3", "v4"} {
			m.start(v, 3)
		}
		time.Sleep(20 * time.Second)
		if m.leader() != nil {
			t.Fatal("half of the voters founded a set")
		}
		m.split()
		m.until(20*time.Second, "all four in one set", func() bool {
			for _, mb := range m.members("") {
				if s := m.get(mb.Node).c.Status(); s.Leader == "" || len(s.Voters) != 4 {
					return false
				}
			}
			return true
		})
	})
}

// Any number of subscribers costs the leader as much as five, in copies and in bytes: they travel from peer to peer, and as
// deltas. TERN_SUBSCRIBERS asks for more.
func TestManySubscribersCostTheLeaderFive(t *testing.T) {
	const changes = 10
	large, err := Parse(largePolicy())
	if err != nil {
		t.Fatal(err)
	}
	large.Apps, large.Blocklist = large.Apps[:30], large.Blocklist[:300]
	for _, subscribers := range []int{5, envInt("TERN_SUBSCRIBERS", 20)} {
		bubble(t, 40*time.Millisecond, func(t *testing.T, m *mesh) {
			for _, v := range []string{"v1", "v2", "v3"} {
				m.start(v, 3)
			}
			m.until(20*time.Second, "led", func() bool { return m.leader() != nil })
			for i := range subscribers {
				m.start(fmt.Sprint("f", i), 0)
			}
			var slowest time.Duration
			var before Status
			size := 0
			for i := range changes + 1 {
				if i == 1 { // the first is new to everybody
					before, size = m.leader().c.Status(), len(m.leader().c.copy.Document)
				}
				large.Apps[7].Name = fmt.Sprint("change ", i)
				doc, err := EncodePolicy(large)
				if err != nil {
					t.Fatal(err)
				}
				p := apply(t, m.get("f1"), doc)
				slowest = max(slowest, m.until(10*time.Second, "enforced everywhere", m.everyoneAt(p.Version)))
			}
			after := m.leader().c.Status()
			served, bytes := after.Served-before.Served, after.ServedBytes-before.ServedBytes
			deltas := uint64(0)
			for i := range subscribers {
				deltas += m.get(fmt.Sprint("f", i)).c.Status().Deltas
			}
			t.Logf("%d subscribers, a document of %d bytes: the leader handed out %d copies, %d bytes, for %d changes; %d of all copies came as deltas; everywhere at most %v after the answer",
				subscribers, size, served, bytes, changes, deltas, slowest)
			if served > (newsFanout+2)*changes || bytes > 1000*served {
				t.Errorf("the leader handed out %d copies, %d bytes, for %d changes to %d subscribers", served, bytes, changes, subscribers)
			}
			if deltas < uint64(subscribers*changes)*9/10 {
				t.Errorf("%d copies came as deltas, of %d", deltas, subscribers*changes)
			}
		})
	}
}
