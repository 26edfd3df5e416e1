package media

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ternmesh/tern/media/braid"
)

// fromAtoB is a stream that enters at a and that a viewer at b watches.
func fromAtoB(t *testing.T, n *memNet) (b *Hub, s *Subscription, v *viewer) {
	t.Helper()
	mustPublish(t, n.nodes["a"].hub, key("cam"), nil)
	settle(time.Second)
	b = n.nodes["b"].hub
	s, v = mustSubscribe(t, b, key("cam"))
	return b, s, v
}

func TestOriginDiesAndReturns(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		b, _, v := fromAtoB(t, n)
		n.kill("a")
		settle(20 * time.Second)
		if v.end() != "" || b.Stats().Upstreams != 0 {
			t.Fatalf("20 s after the origin's death: ended %q, upstreams %d; want a waiting viewer", v.end(), b.Stats().Upstreams)
		}
		p := mustPublish(t, n.start("a"), key("cam"), nil)
		settle(retryMax * 2)
		if !flows(p, v) || v.switched != 1 || b.Stats().Resubscribed != 1 {
			t.Fatalf("origin back: %d packets, switched %d, stats %+v", v.count(), v.switched, b.Stats())
		}
	})
}

func TestViewersOfALostSourceAreNotKeptForEver(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		b, _, patient := fromAtoB(t, n)
		n.kill("a")
		settle(orphanPatience + time.Minute)
		if patient.end() != reasonLost || len(b.watches) != 0 {
			t.Fatalf("ended %q, %d watches; want source lost", patient.end(), len(b.watches))
		}
	})
}

func TestViewersLeaveWhileTheSourceIsLost(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		b, s, _ := fromAtoB(t, n)
		n.kill("a")
		settle(time.Second)
		s.Close()
		settle(subscribeTimeout + lingerTime + retryMax*2)
		if len(b.watches) != 0 || len(*b.links.Load()) != 0 {
			t.Fatalf("%d watches, %d sessions after the last viewer left", len(b.watches), len(*b.links.Load()))
		}
	})
}

func TestAPublisherThatFailsOverLocallyIsFoundAtOnce(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		b, _, v := fromAtoB(t, n)
		n.stop("a") // in order: withdrawn, said goodbye
		settle(30 * time.Second)
		p := mustPublish(t, b, key("cam"), nil)
		settle(500 * time.Millisecond) // a lookup that runs just now may wait for its stragglers; no backoff of 5 s
		if !flows(p, v) {
			t.Fatal("the viewer waits for a retry although the publisher is here")
		}
	})
}

func TestALocalPublisherEndsAHopelessTryElsewhere(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		b, _, v := fromAtoB(t, n)
		n.kill("a")
		settle(time.Second) // b now dials the dead node, whose registration lives on
		p := mustPublish(t, b, key("cam"), nil)
		settle(500 * time.Millisecond)
		if !flows(p, v) {
			t.Fatal("the viewer waits for the dead node although the publisher is here")
		}
	})
}

func TestANodeThatComesEndsAHopelessTry(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		b, _, v := fromAtoB(t, n)
		n.kill("a")
		settle(time.Second) // b now dials the dead node
		p := mustPublish(t, n.start("a"), key("cam"), nil)
		b.Retry()
		settle(500 * time.Millisecond)
		if !flows(p, v) {
			t.Fatal("the viewer waits for the end of a try although the node is back")
		}
	})
}

func TestANodeThatComesDoesNotRefuseAViewerWhoJoins(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		p := mustPublish(t, n.nodes["a"].hub, key("cam"), nil)
		settle(time.Second)
		b := n.nodes["b"].hub
		time.AfterFunc(n.delay/2, b.Retry) // the subscription is on its way
		if _, v := mustSubscribe(t, b, key("cam")); !flows(p, v) {
			t.Error("no packet flows")
		}
	})
}

func TestADeadDirectoryNodeIsNotMissed(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		a, b := n.nodes["a"].hub, n.nodes["b"].hub
		mustPublish(t, a, key("cam"), nil)
		settle(time.Second)
		for _, dead := range rendezvous("app", "room", n.peers("")) {
			n.setMute(true, dead)
			start := time.Now()
			if _, err := b.List(t.Context(), "app", "room"); err != nil {
				t.Fatalf("directory node %s is dead: %v", dead, err)
			}
			if took := time.Since(start); took > stragglerWait {
				t.Fatalf("directory node %s is dead: lookup took %s", dead, took)
			}
			s, _ := mustSubscribe(t, b, key("cam"))
			s.Close()
			settle(30 * time.Second)
			n.setMute(false, dead)
			settle(registerInterval)
		}
	})
}

func TestAllDirectoriesDieAndRunningMediaGoesOn(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		a, b := n.nodes["a"].hub, n.nodes["b"].hub
		p := mustPublish(t, a, key("cam"), nil)
		settle(time.Second)
		_, v := mustSubscribe(t, b, key("cam"))
		n.setMute(true, n.peers("")...)
		n.mu.Lock()
		clearTables(n)
		n.mu.Unlock()
		for range 60 {
			if settle(time.Second); !flows(p, v) {
				t.Fatal("running media stopped")
			}
		}
		// c is no directory node of the room or has an empty table: it must not claim that nothing is live.
		for _, name := range n.peers("") {
			inside := false
			for _, d := range rendezvous("app", "room", n.peers("")) {
				inside = inside || d == name
			}
			if inside || name == "a" || name == "b" {
				continue
			}
			if _, err := n.nodes[name].hub.Subscribe(t.Context(), key("cam"), &viewer{}); !errors.Is(err, ErrUnavailable) {
				t.Fatalf("subscribe at %s without any directory: %v, want ErrUnavailable", name, err)
			}
			if _, err := n.nodes[name].hub.List(t.Context(), "app", "room"); !errors.Is(err, ErrUnavailable) {
				t.Fatalf("list at %s without any directory: %v, want ErrUnavailable", name, err)
			}
		}
		// A new viewer at a node that already watches needs no directory.
		if _, w := mustSubscribe(t, b, key("cam")); !flows(p, w) {
			t.Fatal("a second viewer at the same node gets nothing")
		}
		n.setMute(false, n.peers("")...)
		settle(registerInterval + time.Second)
		mustSubscribe(t, n.nodes["e"].hub, key("cam"))
	})
}

func clearTables(n *memNet) {
	for _, node := range n.nodes {
		node.hub.dir.mu.Lock()
		node.hub.dir.table = newTable()
		node.hub.dir.mu.Unlock()
	}
}

func TestRegistrationsAppearAtOnceAndGoAtOnce(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		entries := func() (sum int) {
			for _, name := range n.peers("") {
				sum += n.nodes[name].hub.Stats().DirectoryEntries
			}
			return sum
		}
		p := mustPublish(t, n.nodes["a"].hub, key("cam"), nil)
		if settle(time.Millisecond); entries() != directoryNodes {
			t.Fatalf("%d registrations, want %d", entries(), directoryNodes)
		}
		if settle(time.Minute); entries() != directoryNodes {
			t.Fatalf("%d registrations after a minute, want %d", entries(), directoryNodes)
		}
		p.Close()
		if settle(time.Millisecond); entries() != 0 {
			t.Fatalf("%d registrations after the end", entries())
		}
		mustPublish(t, n.nodes["a"].hub, key("cam"), nil)
		settle(time.Millisecond)
		n.stop("a")
		if settle(time.Millisecond); entries() > 1 { // a's own table is gone with it
			t.Fatalf("%d registrations after an orderly shutdown", entries())
		}
	})
}

func TestManyRegistrationsTravelInSeveralRequests(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		a := n.nodes["a"].hub
		big := make([]Track, MaxTracks)
		for i := range big {
			big[i] = Track{Kind: KindVideo, Mime: "video/H264", Fmtp: string(make500())}
		}
		for i := range 200 {
			if _, err := a.Publish(key(fmt.Sprint("cam", i)), big, nil); err != nil {
				t.Fatal(err)
			}
		}
		settle(time.Second)
		for _, d := range rendezvous("app", "room", n.peers("")) {
			if got := n.nodes[d].hub.Stats().DirectoryEntries; got != 200 {
				t.Fatalf("%s holds %d of 200 registrations", d, got)
			}
		}
		// An answer is cut rather than refused, and says so by being shorter.
		list, err := n.nodes["e"].hub.List(t.Context(), "app", "room")
		if err != nil || len(list) == 0 {
			t.Fatalf("list of 200 large streams: %d, %v", len(list), err)
		}
	})
}

func make500() []byte {
	b := make([]byte, MaxFmtpBytes)
	for i := range b {
		b[i] = '"'
	}
	return b
}

func TestASubscriberUnderAnotherFenceIsRefused(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		a, b := n.nodes["a"].hub, n.nodes["b"].hub
		mustPublish(t, a, key("cam"), nil)
		settle(time.Second)
		link, err := n.nodes["b"].Session(t.Context(), nodeID("a"), 99) // not the app's
		if err != nil {
			t.Fatal(err)
		}
		settle(time.Millisecond)
		ask := message{Type: msgSubscribe, Ref: 1, App: "app", Channel: "room", Stream: "cam"}
		_ = link.SendMessage(ask.encode())
		ask.App = "unknown"
		_ = link.SendMessage(ask.encode())
		settle(time.Second)
		if a.Stats().Refused != 2 || a.Stats().Serving != 0 {
			t.Fatalf("stats %+v, want two refusals", a.Stats())
		}
		_, v := mustSubscribe(t, b, key("cam"))
		if v.end() != "" || a.Stats().Serving != 1 {
			t.Fatal("a subscriber under the app's fence is not served")
		}
	})
}

func TestRubbishFromAPeerIsCountedAndHurtsNobody(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		a, b := n.nodes["a"].hub, n.nodes["b"].hub
		p := mustPublish(t, a, key("cam"), nil)
		settle(time.Second)
		_, v := mustSubscribe(t, b, key("cam"))
		link, _ := n.nodes["b"].Session(t.Context(), nodeID("a"), 7)
		for _, s := range []string{"", "{", `{"type":"dance"}`, `{"type":"subscribe","ref":9,"app":""}`,
			`{"type":"keyframe","ref":1,"track":-4}`, `{"type":"subscribed","ref":1,"ids":[1]}`} {
			_ = link.SendMessage([]byte(s))
		}
		for _, m := range []message{ // well-formed, out of place
			{Type: msgUnsubscribe, Ref: 4711}, {Type: msgKeyframe, Ref: 4711}, {Type: msgEnded, Ref: 4711},
			{Type: msgRefused, Ref: 4711}, {Type: msgSubscribed, Ref: 4711, IDs: []uint16{1, 2}, Tracks: av},
			{Type: msgSubscribe, Ref: 1, App: "app", Channel: "room", Stream: "cam"}, // ref in use
			{Type: msgSubscribe, Ref: 2, App: "app", Channel: "room", Stream: "none"},
		} {
			_ = link.SendMessage(m.encode())
		}
		link.Send(4711, braid.Video, []byte("packet of no subscription"))
		settle(time.Second)
		got := a.Stats()
		if got.BadMessages != 6 || got.Refused != 3 || got.Drops["unknown_id"] != 1 || got.Serving != 1 {
			t.Fatalf("stats %+v", got)
		}
		if !flows(p, v) {
			t.Fatal("the running subscription suffered")
		}
	})
}

func TestRefreshEndsWhatThePolicyNoLongerAllows(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		a, b := n.nodes["a"].hub, n.nodes["b"].hub
		p := mustPublish(t, a, key("cam"), nil)
		n.setFence("other", 8, true)
		q := mustPublish(t, a, Key{"other", "room", "cam"}, nil)
		settle(time.Second)
		_, v := mustSubscribe(t, b, key("cam"))
		_, w := mustSubscribe(t, b, Key{"other", "room", "cam"})

		n.setFence("app", 9, true) // the fence moves: new sessions, same viewers
		a.Refresh()
		b.Refresh()
		settle(retryMax)
		if v.end() != "" || !flows(p, v) || !flows(q, w) {
			t.Fatalf("after a new fence: ended %q, %d and %d packets", v.end(), v.count(), w.count())
		}
		for l, pl := range *a.links.Load() {
			if l.Fence() == 7 && len(pl.serves) != 0 {
				t.Fatal("the old fence still carries the stream")
			}
		}
		n.setFence("app", 0, false) // the app goes
		b.Refresh()
		settle(time.Second)
		if v.end() != reasonPolicy || a.Stats().Serving != 1 {
			t.Fatalf("viewer of a withdrawn app: Ended(%q), serving %d", v.end(), a.Stats().Serving)
		}
		a.Refresh()
		settle(time.Second)
		if p.Reason() != reasonPolicy || w.end() != "" || !flows(q, w) {
			t.Fatalf("publication %q, other app's viewer %q", p.Reason(), w.end())
		}
		if _, err := a.Publish(key("cam"), av, nil); !errors.Is(err, ErrNotAllowed) {
			t.Fatalf("publish: %v", err)
		}
		if _, err := b.Subscribe(t.Context(), key("cam"), &viewer{}); !errors.Is(err, ErrNotAllowed) {
			t.Fatalf("subscribe: %v", err)
		}
		if _, err := b.List(t.Context(), "app", "room"); !errors.Is(err, ErrNotAllowed) {
			t.Fatalf("list: %v", err)
		}
	})
}

func TestANodeOutsideTheFenceCarriesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t, "a", "b")
		h := n.nodes["a"].hub
		h.cfg.Peers = func(string) []string { return []string{"b"} } // a is outside
		if _, err := h.Publish(key("cam"), av, nil); !errors.Is(err, ErrNotAllowed) {
			t.Fatalf("publish: %v", err)
		}
		reg := Registration{Key: key("cam"), Origin: "b", Node: "b", Generation: 1, Tracks: av}
		if got := h.answerDirectory("b", dirRequest{Put: []Registration{reg}}); len(got.Refused) != 1 {
			t.Fatalf("a directory node outside the fence answered %+v", got)
		}
		if got := h.answerDirectory("b", dirRequest{Get: &question{"app", "room"}}); got.Error == "" {
			t.Fatal("a directory node outside the fence claims that nothing is live")
		}
		n.stopAll()
	})
}

func TestShutdownTellsEverybody(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		a, b := n.nodes["a"].hub, n.nodes["b"].hub
		p := mustPublish(t, a, key("cam"), nil)
		settle(time.Second)
		_, local := mustSubscribe(t, a, key("cam"))
		_, remote := mustSubscribe(t, b, key("cam"))
		n.nodes["a"].cancel()
		<-n.nodes["a"].exited
		if p.Reason() != reasonShutdown || local.end() != reasonShutdown {
			t.Fatalf("publisher %q, local viewer %q", p.Reason(), local.end())
		}
		settle(time.Second)
		if remote.end() != "" || b.Stats().Upstreams != 0 {
			t.Fatalf("remote viewer %q, upstreams %d: want it to look for another source", remote.end(), b.Stats().Upstreams)
		}
		if _, err := a.Publish(key("cam"), av, nil); !errors.Is(err, ErrClosed) {
			t.Fatalf("publish after the end: %v", err)
		}
		if _, err := a.Subscribe(t.Context(), key("cam"), local); !errors.Is(err, ErrClosed) {
			t.Fatalf("subscribe after the end: %v", err)
		}
		if err := a.Run(context.Background()); err == nil {
			t.Fatal("Run can be called twice")
		}
	})
}

func TestWhatAFullQueueRefusedIsSaidLater(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		a, b := n.nodes["a"].hub, n.nodes["b"].hub
		p := mustPublish(t, a, key("cam"), nil)
		settle(time.Second)
		_, v := mustSubscribe(t, b, key("cam"))
		l, _ := n.nodes["a"].Session(t.Context(), nodeID("b"), 7)
		link := l.(*memLink)
		link.full.Store(true)
		p.Close()
		settle(100 * time.Millisecond)
		if v.end() != "" {
			t.Fatal("the end arrived through a full queue")
		}
		link.full.Store(false)
		settle(registerInterval + time.Second)
		if v.end() != reasonClosed || a.Stats().MessagesLost == 0 {
			t.Fatalf("Ended(%q), %d messages refused", v.end(), a.Stats().MessagesLost)
		}
	})
}
