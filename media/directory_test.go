package media

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/ternmesh/tern/media/braid"
)

func nodeNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("node-%03d", i)
	}
	return names
}

func TestRendezvousSpreadsChannelsEvenly(t *testing.T) {
	const channels, nodes = 4000, 12
	load, names := map[string]int{}, nodeNames(nodes)
	for c := range channels {
		chosen := rendezvous("app", fmt.Sprint("channel-", c), names)
		if len(chosen) != 3 || chosen[0] == chosen[1] || chosen[1] == chosen[2] || chosen[0] == chosen[2] {
			t.Fatalf("channel %d has %v, want three different nodes", c, chosen)
		}
		for _, n := range chosen {
			load[n]++
		}
	}
	want := float64(channels) * 3 / nodes
	for n, got := range load {
		if float64(got) < 0.85*want || float64(got) > 1.15*want {
			t.Errorf("%s holds %d channels, want %.0f within 15 %%", n, got, want)
		}
	}
}

func TestRendezvousMovesOnlyWhatItMust(t *testing.T) {
	names := nodeNames(20)
	for c := range 500 {
		ch := fmt.Sprint(c)
		before := rendezvous("app", ch, names)
		shuffled := slices.Clone(names)
		rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if again := rendezvous("app", ch, shuffled); !slices.Equal(before, again) {
			t.Fatalf("channel %s: %v, shuffled members %v", ch, before, again)
		}
		gone := names[c%len(names)]
		after := rendezvous("app", ch, without(names, gone))
		if !slices.Contains(before, gone) && !slices.Equal(before, after) {
			t.Fatalf("channel %s moved from %v to %v although %s was not in it", ch, before, after, gone)
		}
		for _, n := range before {
			if n != gone && !slices.Contains(after, n) {
				t.Fatalf("channel %s left %s when %s died", ch, n, gone)
			}
		}
	}
}

func TestRendezvousOfFewOrDoubledNodes(t *testing.T) {
	if got := rendezvous("a", "c", nil); len(got) != 0 {
		t.Errorf("no members: %v", got)
	}
	if got := rendezvous("a", "c", []string{"x", "y", "x", "x"}); len(got) != 2 {
		t.Errorf("two members, one listed three times: %v", got)
	}
}

func reg(stream, node string, generation uint64) Registration {
	return Registration{
		Key: Key{"app", "room", stream}, Origin: node, Node: node, Generation: generation, SinceUnixMS: 1000, Tracks: av,
	}
}

func TestTableForgetsAfterItsTime(t *testing.T) {
	tb, now := newTable(), time.Unix(0, 0)
	tb.put(now, reg("s", "n", 5))
	if got := tb.get(now.Add(registrationTTL-1), "app", "room"); len(got) != 1 {
		t.Fatalf("alive: %v", got)
	}
	if got := tb.get(now.Add(registrationTTL), "app", "room"); len(got) != 0 {
		t.Fatalf("expired: %v", got)
	}
	tb.put(now.Add(10*time.Second), reg("s", "n", 5))
	if got := tb.get(now.Add(20*time.Second), "app", "room"); len(got) != 1 {
		t.Fatalf("renewed: %v", got)
	}
	if tb.sweep(now.Add(time.Minute)); tb.total != 0 || len(tb.rooms) != 0 || len(tb.holders) != 0 {
		t.Fatalf("after the sweep: %+v", tb)
	}
}

func TestTableKeepsTheNewerGeneration(t *testing.T) {
	tb, now := newTable(), time.Unix(0, 0)
	tb.put(now, reg("s", "n", 5))
	if refused := tb.put(now, reg("s", "n", 4)); refused != "stale" {
		t.Errorf("older generation: %q", refused)
	}
	tb.put(now, reg("s", "n", 6))
	tb.drop(Key{"app", "room", "s"}, "n", 5) // the late end of the older publication
	tb.drop(Key{"app", "room", "s"}, "m", 9) // of another node
	if got := tb.get(now, "app", "room"); len(got) != 1 || got[0].Generation != 6 {
		t.Fatalf("%+v", got)
	}
	if tb.drop(Key{"app", "room", "s"}, "n", 6); tb.total != 0 {
		t.Fatal("its own withdrawal did not work")
	}
}

func TestTableIsBounded(t *testing.T) {
	tb, now := newTable(), time.Unix(0, 0)
	for i := range maxPerChannel {
		if r := tb.put(now, reg(fmt.Sprint(i), "n", 1)); r != "" {
			t.Fatalf("entry %d refused: %s", i, r)
		}
	}
	if r := tb.put(now, reg("one more", "n", 1)); r != "channel full" {
		t.Errorf("beyond the channel's bound: %q", r)
	}
	if r := tb.put(now, reg("0", "n", 2)); r != "" {
		t.Errorf("renewal in a full channel: %q", r)
	}
	fill := func(node string, want string) {
		for i := range maxRegistrations + 1 {
			e := reg("s", node, 1)
			e.Channel = fmt.Sprint(node, i)
			if r := tb.put(now, e); r != "" {
				if r != want {
					t.Fatalf("node %s: %q at %d, want %q", node, r, i, want)
				}
				return
			}
		}
		t.Fatalf("node %s was never refused", node)
	}
	fill("n", "node full")
	fill("m", "node full")
	fill("o", "node full")
	fill("p", "table full")

	later := now.Add(registrationTTL)
	if r := tb.put(later, reg("s", "q", 1)); r != "" || tb.total != 1 {
		t.Errorf("after all expired: %q, %d entries", r, tb.total)
	}
}

func TestUnionAndOrderOfHolders(t *testing.T) {
	mk := func(stream, origin, node string, gen uint64, depth uint8, load float64) Registration {
		r := reg(stream, node, gen)
		r.Origin, r.Depth, r.Load = origin, depth, load
		return r
	}
	u := union(
		[]Registration{mk("s", "a", "a", 5, 0, 0.9), mk("s", "b", "b", 7, 0, 0.5), mk("s", "b", "d", 7, 1, 0.1)},
		[]Registration{mk("s", "a", "a", 4, 0, 0.1), mk("s", "b", "c", 7, 1, 0.05), mk("t", "a", "a", 9, 0, 0)},
		[]Registration{mk("s", "c", "c2", 7, 0, 0)},
		nil,
	)
	if len(u) != 6 {
		t.Fatalf("union has %d entries, want 6 (one per stream and node): %+v", len(u), u)
	}
	var got []string
	for _, r := range holdersOf(u, "s") {
		got = append(got, fmt.Sprintf("%s/%s@%d", r.Origin, r.Node, r.Generation))
	}
	want := []string{"c/c2@7", "b/b@7", "b/c@7", "b/d@7", "a/a@5"}
	if !slices.Equal(got, want) {
		t.Fatalf("holders in order %v, want %v", got, want)
	}
	if s := streamsOf(u); len(s) != 2 || s[0].Origin != "c" {
		t.Fatalf("streams %+v", s)
	}
}

func TestANodeRegistersOnlyForItself(t *testing.T) {
	world(t, func(t *testing.T, n *memNet) {
		h := n.nodes["a"].hub
		put := func(from string, r Registration) dirAnswer {
			var a dirAnswer
			req := encodeJSON(dirRequest{Put: []Registration{r}})
			if err := json.Unmarshal(h.ServeDirectory(t.Context(), from, req), &a); err != nil {
				t.Fatal(err)
			}
			return a
		}
		if a := put("c", reg("s", "b", 1)); len(a.Refused) != 1 || h.Stats().DirectoryEntries != 0 {
			t.Fatalf("c registered for b: %+v", a)
		}
		if a := put("b", reg("s", "b", 1)); len(a.Refused) != 0 || h.Stats().DirectoryEntries != 1 {
			t.Fatalf("b registered for itself: %+v", a)
		}
		drop := encodeJSON(dirRequest{Drop: []withdrawal{{Key{"app", "room", "s"}, 99}}})
		h.ServeDirectory(t.Context(), "c", drop)
		if h.Stats().DirectoryEntries != 1 {
			t.Fatal("c withdrew a stream of b")
		}
		unknown := reg("s", "b", 1)
		unknown.App = "unknown"
		bad := reg("s", "b", 1)
		bad.Depth = 9
		if a, b := put("b", unknown), put("b", bad); len(a.Refused) != 1 || len(b.Refused) != 1 {
			t.Fatalf("unknown app %+v, bad depth %+v", a, b)
		}
		h.ServeDirectory(t.Context(), "b", []byte("rubbish"))
		if got := h.Stats().DirectoryRefused; got != 4 {
			t.Fatalf("%d refusals counted, want 4", got)
		}
	})
}

func largest() Registration {
	name := string(make500()[:MaxNameBytes])
	r := Registration{Key: Key{name, name, name}, Origin: name, Node: name, Generation: maxGenerationSkew, SinceUnixMS: -1 << 62}
	for range MaxTracks {
		r.Tracks = append(r.Tracks, Track{
			ID: name, Kind: KindAudio, Mime: name, ClockRate: 1 << 31, Channels: 1 << 15, Fmtp: string(make500()), RID: name,
		})
	}
	return r
}

func TestTheLargestLegalMessagesFit(t *testing.T) {
	r := largest()
	if err := r.check(); err != nil {
		t.Fatal(err)
	}
	m := message{Type: msgSubscribed, Ref: 1 << 31, Tracks: r.Tracks, Generation: r.Generation}
	for i := range MaxTracks {
		m.IDs = append(m.IDs, uint16(65535-i))
	}
	if _, err := decodeMessage(m.encode()); err != nil {
		t.Errorf("largest message, %d bytes: %v", len(m.encode()), err)
	}
	drops := slices.Repeat([]withdrawal{{r.Key, r.Generation}}, maxBatch)
	if size := len(encodeJSON(dirRequest{Drop: drops})); size > MaxDirectoryBytes/2 {
		t.Errorf("largest batch of withdrawals has %d bytes", size)
	}
	if size := len(encodeJSON(r)); size > MaxDirectoryBytes/2 {
		t.Errorf("largest registration has %d bytes", size)
	}
	answer := dirAnswer{Entries: slices.Repeat([]Registration{r}, maxPerChannel)}.encode()
	got, bad, err := decodeAnswer(answer, r.room())
	if err != nil || bad != 0 || !got.Cut || len(got.Entries) == 0 {
		t.Errorf("cut answer: %d entries, %d bad, cut %v, %v", len(got.Entries), bad, got.Cut, err)
	}
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"type":"subscribe","ref":1,"app":"a","channel":"c","stream":"s"}`))
	f.Add(message{Type: msgSubscribed, Ref: 2, IDs: []uint16{1, 2}, Tracks: av, Generation: 3}.encode())
	f.Add([]byte(`{"type":"keyframe","ref":1,"track":15}`))
	f.Add([]byte(`{"type":"ended","ref":1,"reason":"closed"}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMessage(b)
		if err != nil {
			return
		}
		again, err := decodeMessage(m.encode())
		if err != nil || !sameJSON(again, m) {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
	})
}

func FuzzDirectory(f *testing.F) {
	f.Add(encodeJSON(dirRequest{Put: []Registration{reg("s", "n", 1)}, Get: &question{"app", "room"}}))
	f.Add(encodeJSON(dirRequest{Drop: []withdrawal{{Key{"app", "room", "s"}, 1}}}))
	f.Add(dirAnswer{Entries: []Registration{reg("s", "n", 1)}, Refused: []string{"stale"}}.encode())
	f.Add([]byte(`{"put":[{}],"get":{}}`))
	n := &memNet{nodes: map[string]*memNode{}, fences: map[string]braid.FenceID{"app": 7}, order: []string{"a"}}
	hub, err := New(Config{
		Self: "a", Braid: &memNode{}, Peers: n.peers, NodeID: func(string) (braid.NodeID, bool) { return 0, false },
		Name: n.nameOf, Fence: func(string) (braid.FenceID, bool) { return 7, true }, Call: noCall, Load: func() float64 { return 0 },
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if answer := hub.ServeDirectory(t.Context(), "n", b); len(answer) == 0 || len(answer) > MaxDirectoryBytes {
			t.Fatalf("answer of %d bytes", len(answer))
		}
		a, _, err := decodeAnswer(b, room{"app", "room"})
		if err != nil {
			return
		}
		for _, r := range a.Entries {
			if r.check() != nil || r.App != "app" {
				t.Fatalf("kept %+v", r)
			}
		}
	})
}

// sameJSON compares as the wire does: nil and empty are one.
func sameJSON(a, b any) bool { return reflect.DeepEqual(encodeJSON(a), encodeJSON(b)) }

func noCall(context.Context, string, []byte) ([]byte, error) { return nil, errors.New("no network") }
