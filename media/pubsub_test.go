package media

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestALocalViewerGetsPacketsUnchanged(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		a := n.nodes["a"].hub
		p := mustPublish(t, a, key("cam"), nil)
		s, v := mustSubscribe(t, a, key("cam"))
		p.Write(0, []byte("video"))
		p.Write(1, []byte("audio"))
		p.Write(2, []byte("no such track"))
		p.Write(0, nil)
		p.Write(0, make([]byte, MaxPacketBytes+1))
		if v.count() != 2 || string(v.packets[0]) != "video" || v.tracks[1] != 1 {
			t.Fatalf("viewer got %q on tracks %v", v.packets, v.tracks)
		}
		if got := a.Stats(); got.PacketsIn != 2 || got.PacketsOut != 2 || got.Drops["bad_packet"] != 3 {
			t.Fatalf("stats %+v", got)
		}
		s.Close()
		s.Close()
		if flows(p, v) {
			t.Fatal("a packet came after Close")
		}
		p.Close()
		settle(time.Second)
		if v.end() != "" {
			t.Fatalf("Ended(%q) after Close", v.end())
		}
	})
}

func TestARemoteViewerGetsTheStreamAndItsEnd(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		a, b := n.nodes["a"].hub, n.nodes["b"].hub
		p := mustPublish(t, a, key("cam"), nil)
		settle(time.Millisecond)
		s, v := mustSubscribe(t, b, key("cam"))
		if len(s.Tracks()) != 2 || s.Tracks()[1].Mime != "audio/opus" {
			t.Fatalf("tracks %+v", s.Tracks())
		}
		p.Write(0, []byte("video"))
		p.Write(1, []byte("audio"))
		if v.count() != 2 || string(v.packets[1]) != "audio" || v.tracks[1] != 1 {
			t.Fatalf("viewer got %q on tracks %v", v.packets, v.tracks)
		}
		if a.Stats().Serving != 1 || b.Stats().Upstreams != 1 || b.Stats().Subscriptions != 1 {
			t.Fatalf("source %+v, viewer's node %+v", a.Stats(), b.Stats())
		}
		p.Close()
		settle(time.Second)
		if v.end() != reasonClosed {
			t.Fatalf("Ended(%q), want closed", v.end())
		}
		if a.Stats().Serving != 0 || b.Stats().Upstreams != 0 || b.Stats().Subscriptions != 0 {
			t.Fatalf("left over: source %+v, viewer's node %+v", a.Stats(), b.Stats())
		}
		if _, err := b.Subscribe(t.Context(), key("cam"), v); !errors.Is(err, ErrNotLive) {
			t.Fatalf("subscribe after the end: %v, want ErrNotLive", err)
		}
	})
}

func TestManyViewersShareOneUpstreamThatLingers(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		a, b := n.nodes["a"].hub, n.nodes["b"].hub
		p := mustPublish(t, a, key("cam"), nil)
		settle(time.Millisecond)
		results := make(chan *Subscription, 50)
		for range 50 {
			go func() {
				s, err := b.Subscribe(t.Context(), key("cam"), &viewer{})
				if err != nil {
					t.Error(err)
				}
				results <- s
			}()
		}
		var subs []*Subscription
		for range 50 {
			subs = append(subs, <-results)
		}
		if a.Stats().Serving != 1 {
			t.Fatalf("50 viewers have %d subscriptions at the source, want 1", a.Stats().Serving)
		}
		before := b.Stats().PacketsOut
		p.Write(0, []byte("x"))
		if got := b.Stats().PacketsOut - before; got != 50 {
			t.Fatalf("one packet went to %d viewers", got)
		}
		for _, s := range subs {
			s.Close()
		}
		settle(lingerTime - 100*time.Millisecond)
		if a.Stats().Serving != 1 {
			t.Fatal("the source was left before the linger time")
		}
		_, v := mustSubscribe(t, b, key("cam")) // a viewer who reloads
		settle(lingerTime)
		if !flows(p, v) {
			t.Fatal("the viewer who came back within the linger time gets nothing")
		}
		for _, s := range load(&b.watches[key("cam")].sinks) {
			s.Close()
		}
		settle(lingerTime + 100*time.Millisecond)
		if a.Stats().Serving != 0 || len(b.watches) != 0 {
			t.Fatalf("serving %d, watches %d after the last viewer left", a.Stats().Serving, len(b.watches))
		}
	})
}

// selfAsker is a viewer that asks for its keyframes when it can take them.
type selfAsker struct{ viewer }

func (*selfAsker) AsksItself() {}

func TestAViewerThatStillConnectsCostsNoKeyframe(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		a := n.nodes["a"].hub
		var got asks
		mustPublish(t, a, key("cam"), got.ask)
		s, err := a.Subscribe(t.Context(), key("cam"), &selfAsker{})
		if err != nil {
			t.Fatal(err)
		}
		if settle(200 * time.Millisecond); got.count() != 0 {
			t.Fatalf("%d keyframe requests before the viewer can take one", got.count())
		}
		s.RequestKeyframe(0)
		if settle(time.Millisecond); got.count() != 1 {
			t.Errorf("%d keyframe requests when it can, want 1 at once", got.count())
		}
	})
}

func TestKeyframesAreAskedAtOnceCoalescedAndRepeatedUntilVideoFlows(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		a, b := n.nodes["a"].hub, n.nodes["b"].hub
		var got asks
		p := mustPublish(t, a, key("cam"), got.ask)
		settle(time.Millisecond)
		start := time.Now()
		s, _ := mustSubscribe(t, b, key("cam"))
		if settle(time.Millisecond); got.count() != 1 {
			t.Fatalf("%d keyframe requests after a viewer joined, want 1 at once", got.count())
		}
		settle(3 * time.Second)
		if c := got.count(); c < 5 || c > 8 {
			t.Fatalf("%d requests in 3 s without video, want about 2 a second", c)
		}
		p.Write(0, []byte("video"))
		settle(time.Second)
		quiet := got.count()
		settle(10 * time.Second)
		if got.count() != quiet {
			t.Fatal("keyframes are asked for although video flows")
		}
		for range 100 { // 20 viewers that complain every 100 ms
			for range 20 {
				s.RequestKeyframe(0)
				s.RequestKeyframe(1) // audio has none
				s.RequestKeyframe(99)
			}
			p.Write(0, []byte("video"))
			settle(100 * time.Millisecond)
		}
		if c := got.count() - quiet; c < 15 || c > 22 {
			t.Fatalf("%d requests in 10 s of complaints, want about 20", c)
		}
		for i := 1; i < len(got.at); i++ {
			if gap := got.at[i].Sub(got.at[i-1]); gap < keyframeInterval {
				t.Fatalf("requests %s after %s apart", gap, got.at[i].Sub(start))
			}
		}
	})
}

func TestTheLongestLiveStreamOfSeveralPublishers(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		a, b, c := n.nodes["a"].hub, n.nodes["b"].hub, n.nodes["c"].hub
		if _, err := c.Subscribe(t.Context(), key(""), &viewer{}); !errors.Is(err, ErrNotLive) {
			t.Fatalf("empty channel: %v, want ErrNotLive", err)
		}
		oldest := mustPublish(t, b, key("zoe"), nil)
		settle(time.Second)
		mustPublish(t, a, key("adam"), nil)
		settle(time.Second)
		mustPublish(t, c, key("carl"), nil)
		settle(time.Second)
		s, v := mustSubscribe(t, c, key(""))
		if s.Key().Stream != "zoe" || !flows(oldest, v) {
			t.Fatalf("got %q, want zoe, live longest", s.Key())
		}
		list, err := a.List(t.Context(), "app", "room")
		if err != nil || len(list) != 3 || list[0].Stream != "zoe" || list[0].Origin != "b" || list[2].Stream != "carl" {
			t.Fatalf("list %+v, %v", list, err)
		}
		oldest.Close()
		settle(time.Second)
		s, _ = mustSubscribe(t, c, key(""))
		if s.Key().Stream != "adam" {
			t.Fatalf("got %q after zoe left, want adam", s.Key())
		}
	})
}

func TestATakeoverMovesViewersAndEndsTheOlderPublisher(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		a, b := n.nodes["a"].hub, n.nodes["b"].hub
		old := mustPublish(t, a, key("cam"), nil)
		settle(time.Second)
		_, local := mustSubscribe(t, a, key("cam"))
		_, remote := mustSubscribe(t, b, key("cam"))
		swapped := []Track{av[1], av[0]}
		young, err := a.Publish(key("cam"), swapped, nil)
		if err != nil {
			t.Fatal(err)
		}
		if old.Reason() != reasonReplaced || young.Generation() <= old.Generation() {
			t.Fatalf("old: %q, generations %d → %d", old.Reason(), old.Generation(), young.Generation())
		}
		settle(time.Second)
		old.Write(0, []byte("zombie"))
		old.Close()
		young.Write(1, []byte("video"))
		for name, v := range map[string]*viewer{"local": local, "remote": remote} {
			if v.count() != 1 || string(v.packets[0]) != "video" || v.tracks[0] != 0 || v.end() != "" || v.switched != 1 {
				t.Fatalf("%s viewer: %q on %v, ended %q, switched %d", name, v.packets, v.tracks, v.end(), v.switched)
			}
		}
		if _, err := a.Publish(key("cam"), av[1:], nil); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		if local.end() != reasonTracks || remote.end() != reasonTracks {
			t.Fatalf("viewers of a lost video track: %q, %q, want both ended", local.end(), remote.end())
		}
	})
}

func TestAPublisherThatMovedToAnotherNodeKeepsItsViewers(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		a, b, c := n.nodes["a"].hub, n.nodes["b"].hub, n.nodes["c"].hub
		old := mustPublish(t, a, key("cam"), nil)
		settle(time.Second)
		_, v := mustSubscribe(t, c, key("cam"))
		_, w := mustSubscribe(t, b, key("cam"))
		young := mustPublish(t, b, key("cam"), nil)
		settle(time.Second)
		old.Close()
		settle(time.Second)
		if v.end() != "" || !flows(young, v) || !flows(young, w) {
			t.Fatalf("viewers ended %q, %q; packets %d, %d", v.end(), w.end(), v.count(), w.count())
		}
	})
}

func TestSubscribeWaitsNoLongerThanItsContext(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		a, b := n.nodes["a"].hub, n.nodes["b"].hub
		mustPublish(t, a, key("cam"), nil)
		settle(time.Second)
		n.disconnect(n.nodes["a"])
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if _, err := b.Subscribe(ctx, key("cam"), &viewer{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%v, want the context's end", err)
		}
		if took := time.Since(start); took > time.Second {
			t.Fatalf("took %s", took)
		}
		if _, err := b.Subscribe(t.Context(), key("cam"), &viewer{}); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("a holder that does not answer: %v, want ErrUnavailable", err)
		}
		settle(time.Minute)
		if len(b.watches) != 0 || len(*b.links.Load()) != 0 {
			t.Fatalf("%d watches, %d sessions left", len(b.watches), len(*b.links.Load()))
		}
	})
}

func TestABlockedSinkDelaysOnlyItsOwnStream(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		a := n.nodes["a"].hub
		p := mustPublish(t, a, key("slow"), nil)
		q := mustPublish(t, a, key("other"), nil)
		blocked := blockingSink{make(chan struct{}), make(chan struct{})}
		s, err := a.Subscribe(t.Context(), key("slow"), blocked)
		if err != nil {
			t.Fatal(err)
		}
		written := make(chan struct{})
		go func() { p.Write(0, []byte("x")); close(written) }()
		<-blocked.entered
		// Everything else goes on: other streams, joining, leaving, ending the very stream.
		_, v := mustSubscribe(t, a, key("other"))
		_, w := mustSubscribe(t, a, key("slow"))
		if !flows(q, v) {
			t.Fatal("another stream is held up by a blocked sink")
		}
		s.Close()
		p.Close()
		settle(time.Second)
		if w.end() != reasonClosed {
			t.Fatalf("viewer of the blocked stream: Ended(%q)", w.end())
		}
		close(blocked.release)
		<-written
	})
}

type blockingSink struct{ entered, release chan struct{} }

func (b blockingSink) Write(int, []byte) { close(b.entered); <-b.release }
func (b blockingSink) Ended(string)      {}
