package media

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// moving is a stream that entered at a and was taken at b and c when its publisher begins to publish it at b too.
type moving struct {
	n          *memNet
	old, young *Publication
	atB, atC   *viewer
	atA        *viewer
	oldK, newK asks
}

func begin(t *testing.T, n *memNet) *moving {
	t.Helper()
	m := &moving{n: n}
	m.old = mustPublish(t, n.nodes["a"].hub, key("cam"), m.oldK.ask)
	settle(time.Second)
	_, m.atA = mustSubscribe(t, n.nodes["a"].hub, key("cam"))
	_, m.atB = mustSubscribe(t, n.nodes["b"].hub, key("cam"))
	_, m.atC = mustSubscribe(t, n.nodes["c"].hub, key("cam"))
	m.young = mustPublish(t, n.nodes["b"].hub, key("cam"), m.newK.ask)
	settle(time.Second)
	return m
}

// write sends a packet of both tracks, and says how many copies of the video each viewer got.
func write(p *Publication, viewers ...*viewer) (got []int) {
	before := make([]int, len(viewers))
	for i, v := range viewers {
		before[i] = v.count()
	}
	p.Write(0, []byte("video"))
	for i, v := range viewers {
		got = append(got, v.count()-before[i])
	}
	p.Write(1, []byte("audio"))
	return got
}

func all(got []int, want int) bool {
	for _, g := range got {
		if g != want {
			return false
		}
	}
	return true
}

func TestAPublisherThatMovesLosesNoViewerAndNoPacket(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		m := begin(t, n)
		viewers := []*viewer{m.atA, m.atB, m.atC}
		settle(20 * time.Second) // however long the publisher takes to connect, the old ingress goes on
		if got := write(m.old, viewers...); !all(got, 1) {
			t.Fatalf("before the new ingress has media, viewers get %v copies of the old one's", got)
		}
		if m.newK.count() == 0 {
			t.Error("nobody asks the new publisher for a keyframe")
		}
		if got := write(m.young, viewers...); !all(got, 1) {
			t.Fatalf("the new ingress' packets reach viewers %v times", got)
		}
		settle(bothFlow / 2)
		if got := write(m.old, viewers...); !all(got, 1) {
			t.Fatalf("the old ingress was left before both had flowed for a time: %v", got)
		}
		settle(bothFlow)
		if got := write(m.old, viewers...); !all(got, 0) {
			t.Fatalf("the old ingress is still taken: %v", got)
		}
		if m.old.Reason() != reasonReplaced {
			t.Errorf("the old publication ended %q, want it replaced when nobody takes it", m.old.Reason())
		}
		if got := write(m.young, viewers...); !all(got, 1) {
			t.Fatalf("afterwards the new ingress' packets reach viewers %v times", got)
		}
		for _, v := range viewers {
			if v.end() != "" {
				t.Errorf("a viewer's stream ended: %q", v.end())
			}
		}
		for _, name := range []string{"a", "b", "c"} {
			if s := n.nodes[name].hub.Stats(); s.Upstreams != map[string]int{"a": 1, "b": 0, "c": 1}[name] {
				t.Errorf("%s has %d subscriptions elsewhere", name, s.Upstreams)
			}
		}
	})
}

// numbered is write of packets with a sequence number.
func numbered(p *Publication, seq byte, viewers ...*viewer) (got []int) {
	before := make([]int, len(viewers))
	for i, v := range viewers {
		before[i] = v.count()
	}
	p.Write(0, []byte{0x80, 96, 0, seq})
	for i, v := range viewers {
		got = append(got, v.count()-before[i])
	}
	p.Write(1, []byte{0x80, 97, 0, seq})
	return got
}

// lagging is a move in which the old ingress stands at packet 10 when the new one begins with 13.
func lagging(t *testing.T, n *memNet) (m *moving, viewers []*viewer) {
	t.Helper()
	m = begin(t, n)
	viewers = []*viewer{m.atA, m.atB, m.atC}
	numbered(m.old, 10, viewers...)
	settle(time.Second)
	numbered(m.young, 13, viewers...)
	return m, viewers
}

// The old ingress, or the way from it, may be the later one: what lies before the new one's first packet is waited for.
func TestAnIngressThatIsLateIsWaitedFor(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		m, viewers := lagging(t, n)
		settle(2 * bothFlow)
		if got := numbered(m.old, 11, viewers...); !all(got, 1) {
			t.Fatalf("the old ingress was left with packets on their way: %v", got)
		}
		if got := numbered(m.old, 12, viewers...); !all(got, 1) {
			t.Fatalf("the packet before the new one's first reaches viewers %v times", got)
		}
		settle(2 * bothFlow)
		if got := numbered(m.old, 13, viewers...); !all(got, 0) {
			t.Fatalf("the old ingress is still taken: %v", got)
		}
	})
}

// What never comes is not waited for.
func TestAnIngressThatStopsIsLeft(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		m, viewers := lagging(t, n)
		settle(startFlow + bothFlow)
		if got := numbered(m.old, 11, viewers...); !all(got, 0) {
			t.Fatalf("the old ingress is still taken: %v", got)
		}
	})
}

func TestANewIngressThatFailsIsLeftForTheOldOne(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		m := begin(t, n)
		viewers := []*viewer{m.atA, m.atB, m.atC}
		m.young.Close() // its publisher never connected
		settle(time.Second)
		if got := write(m.old, viewers...); !all(got, 1) {
			t.Fatalf("after the failed move viewers get %v", got)
		}
		again := mustPublish(t, n.nodes["d"].hub, key("cam"), nil)
		settle(10 * time.Second)
		if got := write(again, viewers...); !all(got, 1) {
			t.Fatalf("the second attempt's packets reach viewers %v times", got)
		}
		settle(2 * bothFlow)
		if got := write(m.old, viewers...); !all(got, 0) || m.old.Reason() != reasonReplaced {
			t.Errorf("the old ingress, which ended %q, still serves %v", m.old.Reason(), got)
		}
	})
}

func TestWhoComesWhileAPublisherMovesFollowsIt(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		old := mustPublish(t, n.nodes["a"].hub, key("cam"), nil)
		settle(time.Second)
		n.delay = 300 * time.Millisecond // the viewers have looked the stream up before its publisher moves, and ask the old ingress after
		late, here := &viewer{}, &viewer{}
		for _, s := range []struct {
			hub  *Hub
			sink *viewer
		}{{n.nodes["c"].hub, late}, {n.nodes["b"].hub, here}} {
			go func() { _, _ = s.hub.Subscribe(t.Context(), key("cam"), s.sink) }()
		}
		settle(100 * time.Millisecond)
		young := mustPublish(t, n.nodes["b"].hub, key("cam"), nil)
		settle(5 * time.Second)
		write(young, late, here)
		settle(2 * bothFlow)
		if got := write(young, late, here); !all(got, 1) || old.Reason() != reasonReplaced {
			t.Errorf("viewers get %v copies from the new ingress; the old one ended %q", got, old.Reason())
		}
	})
}

func TestAPartOfTheTracksIsEnoughAfterAWhile(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		m := begin(t, n)
		write(m.old, m.atC)
		m.young.Write(0, []byte("video")) // no sound there: it may be muted
		settle(startFlow / 2)
		if got := write(m.old, m.atC); !all(got, 1) {
			t.Errorf("left after half of the time: %v", got)
		}
		settle(startFlow)
		if got := write(m.old, m.atC); !all(got, 0) {
			t.Errorf("never left: %v", got)
		}
	})
}

func TestAMoveThatNobodyWatchesEndsTheOldPublicationLater(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		old := mustPublish(t, n.nodes["a"].hub, key("cam"), nil)
		settle(time.Second)
		mustPublish(t, n.nodes["b"].hub, key("cam"), nil)
		settle(leastHandover / 2)
		if old.Reason() != "" {
			t.Fatalf("ended %q while its publisher may still be connecting", old.Reason())
		}
		settle(leastHandover)
		if old.Reason() != reasonReplaced {
			t.Errorf("ended %q", old.Reason())
		}
	})
}

func TestAMoveThatFailsLeavesThePublisherWhereItIs(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		old := mustPublish(t, n.nodes["a"].hub, key("cam"), nil)
		settle(time.Second)
		young := mustPublish(t, n.nodes["b"].hub, key("cam"), nil)
		settle(time.Second)
		young.Close() // its publisher never connected, and nobody watches
		settle(3 * leastHandover)
		if old.Reason() != "" {
			t.Fatalf("ended %q, and the publisher has no session left", old.Reason())
		}
		if _, v := mustSubscribe(t, n.nodes["c"].hub, key("cam")); !flows(old, v) {
			t.Error("whoever comes gets nothing")
		}
		again := mustPublish(t, n.nodes["d"].hub, key("cam"), nil)
		settle(time.Second)
		again.Write(0, []byte("video"))
		settle(startFlow + 2*leastHandover)
		if old.Reason() != reasonReplaced {
			t.Errorf("after the second move it ended %q", old.Reason())
		}
	})
}

// A watch may end between the moment at which a search has found the next source and the one at which the watch takes it.
func TestAWatchThatEndsLeavesNoSourceBehind(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		h := n.nodes["a"].hub
		p := mustPublish(t, h, key("cam"), nil)
		w := newWatch(h, key("cam"))
		s, err := w.findLocal(ending{})
		next, err2 := w.findLocal(ending{})
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		m := newHandover(w, s)
		m.found = make(chan *supply, 1)
		m.found <- next
		m.close()
		if left := len(load(&p.out.list)); left != 0 || !s.over || !next.over {
			t.Errorf("%d of two sources still deliver", left)
		}
	})
}

func TestAnEarlierClaimMovesNobody(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		a := n.nodes["a"].hub
		p := mustPublish(t, a, key("cam"), nil)
		settle(time.Second)
		_, v := mustSubscribe(t, n.nodes["c"].hub, key("cam"))
		r := p.registration(0)
		r.Node, r.Origin, r.Generation = "b", "b", r.Generation-1
		a.answerDirectory("b", dirRequest{Put: []Registration{r}})
		settle(10 * time.Second)
		if p.Reason() != "" || !flows(p, v) {
			t.Errorf("ended %q by an older claim", p.Reason())
		}
	})
}

// Whether a source has caught up is asked while the next one's first packets come.
func TestCatchingUpWithASourceThatJustStarts(t *testing.T) {
	for range 100 {
		old := &supply{first: make([]uint16, 1), newest: make([]atomic.Uint32, 1)}
		next := &supply{first: make([]uint16, 1), newest: make([]atomic.Uint32, 1)}
		old.count(0, 1, 100)
		done := make(chan struct{})
		go func() {
			defer close(done)
			next.count(0, 1, 110)
		}()
		for next.flowed.Load() == 0 {
			old.caughtUp(next)
			runtime.Gosched()
		}
		if <-done; old.caughtUp(next) {
			t.Fatal("nine packets are missing")
		}
		if old.count(0, 1, 109); !old.caughtUp(next) {
			t.Fatal("none is missing")
		}
	}
}
