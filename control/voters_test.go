package control

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// seatsOf reads "v1/eu:V v2/us:V! l1/eu:Lr x/asia:-": V votes, L learns (r: ready), - is outside; ! is dead since an hour.
func seatsOf(s string) (out []seat) {
	for _, f := range strings.Fields(s) {
		name, rest, _ := strings.Cut(f, "/")
		region, marks, _ := strings.Cut(rest, ":")
		out = append(out, seat{
			node: name, region: region, votes: strings.Contains(marks, "V"), in: !strings.Contains(marks, "-"), alive: !strings.Contains(marks, "!"),
			ready: strings.ContainsAny(marks, "Vr"), since: time.Hour,
		})
	}
	return out
}

func TestPlanVoters(t *testing.T) {
	three := Voters{Count: 3}
	for _, c := range []struct {
		what string
		rule Voters
		now  string
		want string
	}{
		{"no rule, no plan", Voters{}, "a/eu:V b/us:V! c/eu:-", ""},
		{"as it should be", three, "a/eu:V b/us:V c/asia:V d/eu:Lr", ""},
		{"too few: the region without a voter first", three, "a/eu:V b/us:V c/eu:- d/asia:-", "taken in to learn d"},
		{"too few: one that learns is waited for", three, "a/eu:V b/us:V d/asia:L", ""},
		{"too few: it has learned", three, "a/eu:V b/us:V d/asia:Lr", "voter d"},
		{"dead: a replacement learns first", three, "a/eu:V b/us:V! c/asia:V d/us:-", "taken in to learn d"},
		{"dead: promoted before the dead one goes", three, "a/eu:V b/us:V! c/asia:V d/us:Lr", "voter d"},
		{"dead: now it goes", three, "a/eu:V b/us:V! c/asia:V d/us:V", "removed b"},
		{"dead, nobody to replace it: it stays", three, "a/eu:V b/us:V! c/asia:V", ""},
		{"two of three dead: no majority, nothing is possible or planned", three, "a/eu:V b/us:V! c/asia:V!", ""},
		{"too many: from the crowded region, not the leader", three, "a/eu:V b/eu:V c/us:V d/asia:V", "removed b"},
		{"too many, but removing a living one would break the majority", Voters{Count: 1}, "a/eu:V b/us:V c/asia:V!", "removed c"},
		{"two in one region, another region is free", three, "a/eu:V b/eu:V c/us:V d/asia:Lr", "voter d"},
		{"two in one region, spread is not wanted", Voters{Count: 3, Spread: SpreadNone}, "a/eu:V b/eu:V c/us:V d/asia:Lr", ""},
		{"a dead candidate is none", three, "a/eu:V b/us:V c/asia:-!", ""},
	} {
		s := planVoters(c.rule, seatsOf(c.now), "a")
		got := ""
		if s.kind != stepNone {
			got = s.kind.String() + " " + s.node
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
	fresh := seatsOf("a/eu:V b/us:V! c/asia:V d/us:Lr")
	fresh[1].since = time.Minute
	if s := planVoters(three, fresh, "a"); s.kind != stepNone {
		t.Errorf("dead for less than the grace period: %+v", s)
	}
}

// Whatever the mesh looks like, a step never leaves the living voters without a majority, and steps come to an end.
func TestPlanVotersIsSafeAndEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rule := Voters{Count: rapid.SampledFrom([]int{1, 3, 5}).Draw(t, "count")}
		n := rapid.IntRange(1, 9).Draw(t, "nodes")
		seats := []seat{{node: "a", region: "r0", in: true, votes: true, alive: true, ready: true, since: time.Hour}}
		for i := range n {
			in := rapid.Bool().Draw(t, "in")
			seats = append(seats, seat{
				node: fmt.Sprint("n", i), region: fmt.Sprint("r", rapid.IntRange(0, 3).Draw(t, "region")), in: in,
				votes: in && rapid.Bool().Draw(t, "votes"), alive: rapid.Bool().Draw(t, "alive"), ready: true, since: time.Hour,
			})
		}
		majority := func() bool {
			alive, all := 0, 0
			for _, s := range seats {
				if s.votes {
					all++
					if s.alive {
						alive++
					}
				}
			}
			return alive > all/2
		}
		if !majority() {
			t.Skip("no leader there")
		}
		for range 40 {
			s := planVoters(rule, seats, "a")
			if s.kind == stepNone {
				return
			}
			i := slices.IndexFunc(seats, func(x seat) bool { return x.node == s.node })
			switch s.kind {
			case stepLearn:
				seats[i].in = true
			case stepPromote:
				seats[i].votes = true
			case stepRemove:
				seats[i].in, seats[i].votes = false, false
			}
			if !majority() {
				t.Fatalf("%v leaves no majority: %+v", s, seats)
			}
		}
		t.Fatalf("it never ends: %+v", seats)
	})
}

// voterNames lists the voters as the leader has them.
func voterNames(m *mesh) []string {
	l := m.leader()
	if l == nil {
		return nil
	}
	return l.c.Status().Voters
}

func TestDeadVoterIsReplacedAfterGrace(t *testing.T) {
	bubble(t, 40*time.Millisecond, func(t *testing.T, m *mesh) {
		for _, v := range []string{"v1-eu", "v2-us", "v3-asia"} {
			m.start(v, 3)
		}
		m.start("f1-eu", 0)
		m.until(20*time.Second, "led", func() bool { return m.leader() != nil })
		apply(t, m.get("f1-eu"), []byte("regions: [{id: eu}]\nvoters: {count: 3, grace_seconds: 30}\n"))
		m.start("v4-us", 3) // stands by
		m.start("v5-eu", 3)
		time.Sleep(40 * time.Second)
		if got := fmt.Sprint(voterNames(m)); got != "[v1-eu v2-us v3-asia]" {
			t.Fatalf("a spare voter must not vote: %s", got)
		}
		m.get("v2-us").kill()
		died := time.Now()
		m.until(90*time.Second, "replaced", func() bool { return fmt.Sprint(voterNames(m)) == "[v1-eu v3-asia v4-us]" })
		if took := time.Since(died); took < 30*time.Second {
			t.Errorf("replaced after %v, before its grace ended", took)
		}
		apply(t, m.get("f1-eu"), []byte("regions: [{id: eu}, {id: us}]\nvoters: {count: 3, grace_seconds: 30}\n"))
		m.start("v2-us", 3) // it comes back with its old log, and stands by
		m.until(60*time.Second, "standing by", func() bool {
			s := m.get("v2-us").c.Status()
			return s.Leader != "" && s.PolicyVersion == 2 && !slices.Contains(voterNames(m), "v2-us")
		})
	})
}

func TestRivalGroupsAreNamed(t *testing.T) {
	bubble(t, 20*time.Millisecond, func(t *testing.T, m *mesh) {
		m.split("v9")
		m.start("v1", 1)
		m.start("v9", 1) // both found a group of their own: an operator's mistake
		m.until(20*time.Second, "two leaders", func() bool {
			return m.get("v1").c.Status().Role == "leader" && m.get("v9").c.Status().Role == "leader"
		})
		m.split()
		for _, v := range []string{"v1", "v9"} {
			m.until(time.Minute, "named", func() bool {
				s := m.get(v).c.Status().LastError
				return strings.Contains(s, "rival raft groups") && strings.Contains(s, "v1") && strings.Contains(s, "v9") && strings.Contains(s, "remove")
			})
		}
	})
}

func TestSnapshotIsSavedAndRestoredOnANewMesh(t *testing.T) {
	bubble(t, 20*time.Millisecond, func(t *testing.T, m *mesh) {
		startSix(m)
		m.until(20*time.Second, "led", func() bool { return m.leader() != nil })
		for i := range 3 {
			apply(t, m.get("f1"), numbered(i))
		}
		image, err := m.leader().c.SaveSnapshot()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.get("f1").c.SaveSnapshot(); err == nil || !strings.Contains(err.Error(), "[v1 v2 v3]") {
			t.Errorf("a subscriber has no log, and says who has: %v", err)
		}
		m.stopAll()
		for _, v := range []string{"v1", "v2", "v3"} { // all voters lose their disks, but for v1's key file
			key, _ := os.ReadFile(filepath.Join(m.dir, v, "node.key"))
			if err := os.RemoveAll(filepath.Join(m.dir, v)); err != nil {
				t.Fatal(err)
			}
			if v == "v1" {
				_ = os.MkdirAll(filepath.Join(m.dir, v), 0o700)
				_ = os.WriteFile(filepath.Join(m.dir, v, "node.key"), key, 0o600)
			}
		}
		sum, err := RestoreSnapshot(filepath.Join(m.dir, "v1"), "test", "v1", image)
		if err != nil || sum.Version != 3 {
			t.Fatalf("%+v %v", sum, err)
		}
		if _, err := RestoreSnapshot(filepath.Join(m.dir, "v1"), "test", "v1", image); err == nil || !strings.Contains(err.Error(), "already holds") {
			t.Errorf("twice: %v", err)
		}
		startSix(m)
		m.until(30*time.Second, "all three vote", func() bool { return len(voterNames(m)) == 3 })
		if p := apply(t, m.get("f2"), numbered(9)); p.Version != 4 {
			t.Errorf("it goes on counting: %d", p.Version)
		}
		m.until(10*time.Second, "enforced", m.everyoneAt(4))
		if h, err := m.get("v2").c.History(t.Context()); err != nil || len(h) != 4 {
			t.Errorf("history of %d, %v", len(h), err)
		}
		m.until(10*time.Second, "opened", func() bool { return secretsOf(m.get("f3"))["app9"] == secretA })
	})
}
