package mesh

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ternmesh/tern/routing"
)

func TestSixNodesConvergeAndMeasure(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.set(func(from, to string) (time.Duration, float64, bool) {
			switch {
			case from == "ams" && to == "fra":
				return 5 * time.Millisecond, 0.2, false // one direction only
			case from == "fra" && to == "ams":
				return 5 * time.Millisecond, 0, false
			case from == "syd" || to == "syd":
				return 120 * time.Millisecond, 0, false
			}
			return 30 * time.Millisecond, 0, false
		})
		nodes := sixNodes(t, w)
		time.Sleep(30 * time.Second)
		for _, n := range nodes {
			g := n.Graph()
			lossy, _ := g.Link("ams", "fra")
			back, _ := g.Link("fra", "ams")
			far, _ := g.Link("nrt", "syd")
			if lossy.Loss < 0.1 || lossy.Loss > 0.35 || back.Loss > 0.02 {
				t.Errorf("%s sees loss %.3f of ams-fra (20 %% set) and %.3f of fra-ams (none set)", n.name, lossy.Loss, back.Loss)
			}
			if far.Latency < 115*time.Millisecond || far.Latency > 130*time.Millisecond || far.Jitter > 2*time.Millisecond {
				t.Errorf("%s sees %v +- %v of nrt-syd, 120 ms set", n.name, far.Latency, far.Jitter)
			}
			ams, _ := n.Lookup("ams")
			fra, _ := n.ByID(nodes[1].ID())
			if !ams.Health.Voter || n.name != "fra" && fra.Health.Voter || fra.Region != "region-fra" || fra.Node != "fra" {
				t.Errorf("%s sees voters and regions wrong: %+v, %+v", n.name, ams, fra)
			}
			s := n.Stats()
			if s.Keys != 1 || s.RecordsAccepted == 0 || s.RecordsRefused[refuseForged]+s.RecordsRefused[refuseAbsurd] > 0 || s.PacketsDropped > 0 {
				t.Errorf("%s: %+v", n.name, s)
			}
		}
		s := nodes[0].Stats()
		t.Logf("after 40 s: %d packets out, %d kB out, %d records accepted, refused %v", s.PacketsOut, s.BytesOut/1000, s.RecordsAccepted, s.RecordsRefused)
	})
}

func TestDeathIsSeenOnLinksFirst(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nodes := sixNodes(t, w)
		dead, rest := nodes[5], nodes[:5]
		dead.kill()
		took := within(t, 1500*time.Millisecond, "all links of the dead node are down everywhere", func() bool {
			for _, n := range rest {
				if n.usable() != 20 {
					return false
				}
			}
			return true
		})
		t.Logf("links down everywhere after %v", took)
		for _, n := range rest {
			want := slices.DeleteFunc(n.Graph().Links(), func(l routing.Link) bool { return l.From != n.name && l.To != n.name })
			if got := n.Own(); !slices.Equal(got, want) {
				t.Errorf("%s has links of its own\n%v, and in the graph\n%v", n.name, got, want)
			}
		}
		if rest[0].alive() != 6 {
			t.Error("memberlist was quicker than its timers allow; the test has lost its point")
		}
		took = within(t, 20*time.Second, "the dead node leaves the list", allSee(rest, 5))
		t.Logf("dead after %v", took)
		if _, ok := rest[0].Lookup("syd"); ok {
			t.Error("a failed node must be absent, not listed as if it had left")
		}

		// It comes back with a new run at the same address, knowing nothing.
		w.mu.Lock()
		delete(w.nodes, dead.addr)
		w.mu.Unlock()
		dead.stop()
		time.Sleep(10 * time.Second)
		again := w.add("syd", 6, nil).start("10.0.0.2:7000")
		took = within(t, 10*time.Second, "the restarted node is back with all its links", func() bool {
			return allSee(append(rest, again), 6)() && rest[0].usable() == 30 && again.usable() == 30
		})
		t.Logf("back after %v", took)
	})
}

func TestLinkThatOnlyOneDirectionLosesIsDownAndComesBack(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nodes := sixNodes(t, w)
		open := w.rule
		w.set(func(from, to string) (time.Duration, float64, bool) {
			return 20 * time.Millisecond, 0, from == "ams" && to == "fra"
		})
		isDown := func(n *node) bool {
			a, okA := n.Graph().Link("ams", "fra")
			b, okB := n.Graph().Link("fra", "ams")
			return okA && okB && a.Down && b.Down
		}
		took := within(t, 1500*time.Millisecond, "a third node sees the link down", func() bool { return isDown(nodes[3]) })
		t.Logf("down at a third node after %v", took)
		within(t, 500*time.Millisecond, "ams itself sees it", func() bool { return isDown(nodes[0]) })
		set := nodes[0].Graph().PathSet("ams", "fra", routing.Constraints{AnyRegion: true})
		if len(set.Paths) != 3 || len(set.Paths[0].Nodes) < 3 {
			t.Errorf("paths around the dead link: %+v", set.Paths)
		}
		w.set(open)
		within(t, 3*time.Second, "the link is up again", func() bool { return nodes[3].usable() == 30 })
		if nodes[3].alive() != 6 {
			t.Error("one dead link cost a membership")
		}
	})
}

func TestPartitionHeals(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nodes := sixNodes(t, w)
		open := w.rule
		side := func(n string) bool { return n < "j" }
		// A short one heals at once but for an attempt that is under way, 5 s, in which nobody answers though somebody could by now; then
		// the nodes tell each other. After a minute they try less often, and after three memberlist has forgotten the dead.
		for _, part := range []struct{ lasts, heals time.Duration }{{10 * time.Second, 8 * time.Second}, {3 * time.Minute, 40 * time.Second}} {
			w.set(func(from, to string) (time.Duration, float64, bool) {
				return 20 * time.Millisecond, 0, side(from) != side(to)
			})
			within(t, 30*time.Second, "both halves of three are on their own", allSee(nodes, 3))
			time.Sleep(part.lasts)
			w.set(open)
			took := within(t, part.heals, "the halves are one again", allSee(nodes, 6))
			t.Logf("merged after %v, %v apart", took, part.lasts)
		}
	})
}

func TestHalvesStartedApartMerge(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a1, a2 := w.add("a1", 1, nil).start(), w.add("a2", 2, nil).start("10.0.0.1:7000")
		b1, b2 := w.add("b1", 3, nil).start(), w.add("b2", 4, nil).start("10.0.0.3:7000")
		within(t, 20*time.Second, "two meshes of two", allSee([]*node{a1, a2, b1, b2}, 2))
		if string(a1.keys.list()[0]) == string(b1.keys.list()[0]) {
			t.Fatal("both halves have one key; the test has lost its point")
		}
		bridge := w.add("bridge", 5, nil).start("10.0.0.2:7000", "10.0.0.4:7000")
		all := []*node{a1, a2, b1, b2, bridge}
		took := within(t, 30*time.Second, "five nodes see each other", allSee(all, 5))
		t.Logf("merged after %v", took)
		within(t, 20*time.Second, "everybody has both keys", func() bool {
			for _, n := range all {
				if n.Stats().Keys != 2 {
					return false
				}
			}
			return true
		})
	})
}

// sendsWith is the gossip key that a node encrypts with.
func (n *node) sendsWith() string {
	n.keys.mu.Lock()
	defer n.keys.mu.Unlock()
	return string(n.keys.main)
}

// Keys come and go and nobody is lost: by command, and by age; a node that got no new key understands nothing after the third.
func TestKeysRotateWithoutLoss(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nodes := sixNodes(t, w)
		oldest := string(nodes[0].keys.list()[0])
		begun := make(map[string]int) // how much each had logged: who joins may hear gossip before it has the key
		for _, n := range nodes {
			begun[n.name] = len(n.logs.String())
		}
		agreed := func(rings int) func() bool {
			return func() bool {
				for _, n := range nodes {
					if len(n.keys.list()) != rings || n.sendsWith() != nodes[0].sendsWith() {
						return false
					}
				}
				return true
			}
		}
		for i := range 4 {
			nodes[i].RotateKey()
			within(t, 5*time.Second, "everybody has the new key", agreed(min(i+2, maxKeys)))
			before := nodes[0].sendsWith()
			within(t, 2*keySettle, "everybody sends with the new key", func() bool { return nodes[0].sendsWith() != before && agreed(min(i+2, maxKeys))() })
			if !allSee(nodes, 6)() {
				t.Fatalf("rotation %d lost a member", i+1)
			}
		}
		for _, n := range nodes {
			if string(n.keys.list()[0]) == oldest {
				t.Errorf("%s still accepts the first key", n.name)
			}
			if n.Stats().RecordsRefused[refuseForm] > 0 || strings.Contains(n.logs.String()[begun[n.name]:], "ecrypt") {
				t.Errorf("%s could not read something: %s", n.name, n.logs.String()[begun[n.name]:])
			}
		}
	})
}

// A day-old key is replaced by one node, not by each.
func TestAnOldKeyIsReplacedByOneNode(t *testing.T) {
	w := newWorld(t)
	start := time.Now()
	drawn := 0
	ids := []uint32{1, 2, 3}
	for i, name := range []string{"ams", "fra", "iad"} {
		n := w.add(name, i+1, nil)
		n.keys.draw(start)
		n.Mesh.id = ids[i]
		for _, id := range ids {
			if id != n.id {
				n.reachable = append(n.reachable, id)
			}
		}
		n.tendKeys(start.Add(keyLife - time.Second))
		if n.Stats().Keys != 1 {
			t.Errorf("%s replaced a key that is younger than a day", name)
		}
		n.now = func() time.Time { return start.Add(keyLife) }
		n.tendKeys(n.now())
		drawn += n.Stats().Keys - 1
	}
	if drawn != 1 {
		t.Errorf("%d new keys were drawn by three nodes, want one", drawn)
	}
}

// Keys of no use are passed over. Those of the future are accepted, the first three of them, and neither sent with nor taken for
// young; they make no place for themselves, and go when somebody is thrown out, who may have left them.
func TestKeysOfTheFutureAndOfNoUse(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	k, err := newKeys(now, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	key := make([]byte, keyBytes)
	for _, bad := range [][]byte{nil, key, make([]byte, 100)} {
		if k.add(now, [][]byte{bad}) {
			t.Errorf("a key of %d bytes was taken", len(bad))
		}
	}
	k.draw(now)
	ours := k.list()[0]
	for hours := range 10 {
		k.add(now, [][]byte{stamp(now.Add(time.Duration(10-hours)*time.Hour), key)})
	}
	if ring := k.list(); len(ring) != 1+maxKeys || !bytes.Equal(ring[0], ours) || !bytes.Equal(ring[maxKeys], stamp(now.Add(maxKeys*time.Hour), key)) {
		t.Errorf("of ten keys of the future %d are kept: %x", len(ring)-1, ring)
	}
	now = now.Add(30 * time.Minute)
	if k.use(now); !bytes.Equal(k.main, ours) {
		t.Error("a key of the future is sent with")
	}
	if why, _ := k.replaces(now.Add(keyLife - 2*time.Hour)); why != "" {
		t.Errorf("a key of %v is replaced for its %s", maxKeys*time.Hour, why)
	}
	k.condemn(now)
	if why, _ := k.replaces(now); why == "" {
		t.Error("keys of the future keep a revoked node's from being replaced")
	}
	for range 2 {
		k.use(now)
		if ring := k.list(); len(ring) != 1 {
			t.Errorf("a node was thrown out, and the ring is %x", ring)
		}
		k.add(now, [][]byte{stamp(now.Add(time.Hour), key)})
	}
}

// A mesh was begun by a node whose clock is ahead. When somebody is thrown out, who knows its key, that key is replaced all the same.
func TestAKeyOfTheFutureIsReplacedAfterARevocation(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	k, err := newKeys(now, [][]byte{stamp(now.Add(3*time.Hour), make([]byte, keyBytes))}, nil)
	if err != nil {
		t.Fatal(err)
	}
	known := k.list()[0]
	if why, _ := k.replaces(now); why != "" || !bytes.Equal(k.main, known) {
		t.Errorf("the only key there is is replaced (%q), or not sent with", why)
	}
	k.condemn(now)
	if why, _ := k.replaces(now); why == "" {
		t.Fatal("the key that a revoked node knows stays")
	}
	k.draw(now)
	if ring := k.list(); len(ring) != 1 || bytes.Equal(ring[0], known) || !bytes.Equal(k.main, ring[0]) {
		t.Errorf("after the new key the ring is %x, sending with %x", ring, k.main)
	}
	if why, _ := k.replaces(now.Add(time.Minute)); why != "" {
		t.Errorf("and it is replaced again: %s", why)
	}
}

// Of five nodes one has a clock three hours ahead, and one three hours behind. The first makes a new key, then one with the right
// time, and nobody is lost.
func TestKeysAndWrongClocks(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var nodes []*node
		for i, off := range []time.Duration{0, 3 * time.Hour, 0, -3 * time.Hour, 0} {
			n := w.add(fmt.Sprintf("n%d", i), i+1, func(c *Config) { c.Skew = func() time.Duration { return off } })
			nodes = append(nodes, n.start("10.0.0.1:7000"))
			time.Sleep(time.Second)
		}
		within(t, 10*time.Second, "five nodes see each other", allSee(nodes, 5))
		for _, by := range []int{1, 0} {
			nodes[by].RotateKey()
			time.Sleep(keySettle + 20*time.Second)
			if !allSee(nodes, 5)() {
				t.Fatalf("%s made a new key, and somebody is lost", nodes[by].name)
			}
		}
		for _, n := range nodes {
			if log := n.logs.String(); strings.Contains(log, "ecrypt") || strings.Contains(log, "node is gone") {
				t.Errorf("%s could not read something: %s", n.name, log)
			}
		}
	})
}

func TestGoodbyeIsNotFailure(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nodes := sixNodes(t, w)
		start := time.Now()
		nodes[5].stop()
		if err := <-nodes[5].done; err != nil {
			t.Fatalf("Run after a graceful end: %v", err)
		}
		t.Logf("goodbye took %v", time.Since(start))
		for _, n := range nodes[:5] {
			within(t, time.Second, n.name+" knows that syd left", func() bool {
				syd, ok := n.Lookup("syd")
				return ok && !syd.Alive && syd.Health.State == StateLeft
			})
			if n.Graph().Has("syd") {
				t.Errorf("%s still has the node that left in its graph", n.name)
			}
		}
		within(t, 2*time.Minute, "it is forgotten", func() bool { _, ok := nodes[0].Lookup("syd"); return !ok })
	})
}

func TestSecondNodeOfOneNameIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nodes := sixNodes(t, w)
		clone := w.add("syd", 9, nil).start("10.0.0.1:7000")
		select {
		case err := <-clone.done:
			if !errors.Is(err, ErrNameTaken) || !strings.Contains(err.Error(), "10.0.0.6:7000") || !strings.Contains(err.Error(), "10.0.0.9:7000") {
				t.Fatalf("the clone ended with %v", err)
			}
			t.Logf("the clone gave up: %v", err)
		case <-time.After(2 * time.Minute):
			t.Fatal("the clone runs on")
		}
		for _, n := range nodes {
			syd, ok := n.Lookup("syd")
			if !ok || !syd.Alive || syd.Health.Mesh != nodes[5].addr {
				t.Errorf("%s sees %+v; the first syd must stay", n.name, syd)
			}
		}
		if nodes[0].Stats().Conflicts == 0 || !strings.Contains(nodes[0].logs.String(), "second node of one name refused") {
			t.Errorf("the refusal is neither counted nor logged: %s", nodes[0].logs)
		}
		select {
		case err := <-nodes[5].done:
			t.Fatalf("the first syd ended: %v", err)
		default:
		}
	})
}

func TestAMovedNodeWaitsForItsOldSelfToDie(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nodes := sixNodes(t, w)
		nodes[5].kill()
		moved := w.add("syd", 9, nil).start("10.0.0.1:7000")
		took := within(t, 40*time.Second, "syd is a member at its new address", func() bool {
			syd, ok := nodes[0].Lookup("syd")
			return ok && syd.Alive && syd.Health.Mesh == moved.addr
		})
		t.Logf("moved after %v", took)
	})
}

// twins are two names with one compact id.
func TestTwoNamesOfOneID(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		one, two := twins()
		other := w.add("other", 1, nil).start()
		first := w.add(one, 2, nil).start("10.0.0.1:7000")
		within(t, 10*time.Second, "the first twin is in", allSee([]*node{other, first}, 2))
		time.Sleep(time.Second)
		second := w.add(two, 3, nil).start("10.0.0.1:7000")
		err := <-second.done
		if !errors.Is(err, ErrNameTaken) {
			t.Fatalf("the second twin ended with %v", err)
		}
		if m, ok := other.ByID(first.ID()); !ok || m.Node != one || other.alive() != 2 {
			t.Errorf("the first twin was displaced: %+v", other.Members())
		}
	})
}

func TestHealthTravels(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nodes := sixNodes(t, w)
		nodes[2].say(func(h *Health) {
			h.State, h.Load, h.Sessions, h.AccessURL, h.Risks = "stopping", 0.75, 12, "https://iad.example", []string{"site:iad1"}
		})
		want := func(n *node) bool {
			iad, _ := n.Lookup("iad")
			return iad.Health.State == "stopping" && iad.Health.Load == 0.75 && iad.Health.Sessions == 12 &&
				iad.Health.AccessURL == "https://iad.example" && len(iad.Health.Risks) == 1
		}
		within(t, 3*time.Second, "everybody knows that iad drains", func() bool {
			for _, n := range nodes {
				if !want(n) {
					return false
				}
			}
			return true
		})
		for _, n := range nodes[0].Graph().Nodes() {
			if n.Avoid != (n.Name == "iad") {
				t.Errorf("node %s: avoid is %v", n.Name, n.Avoid)
			}
		}
		select {
		case <-nodes[0].Changed():
		default:
			t.Error("Changed has nothing after a change")
		}
	})
}

func TestNewSaysWhatIsMissing(t *testing.T) {
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "Identity") {
		t.Errorf("empty config: %v", err)
	}
	w := newWorld(t)
	n := w.add("ams", 1, nil)
	if members := n.Members(); len(members) != 1 || members[0].Node != "ams" || n.Graph() == nil {
		t.Errorf("before Run a mesh knows itself: %+v", members)
	}
	a, b := streamPair()
	n.HandleStream(a) // before Run: closed, not kept
	if _, err := b.Read(make([]byte, 1)); err == nil {
		t.Error("a stream before Run stays open")
	}
	_ = b.Close()
	bad := n.Mesh.cfg
	bad.InitialKeys = [][]byte{[]byte("short")}
	if _, err := New(bad); err == nil || !strings.Contains(err.Error(), "5 bytes") {
		t.Errorf("short key: %v", err)
	}
}
