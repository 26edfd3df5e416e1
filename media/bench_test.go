package media

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/ternmesh/tern/media/braid"
)

type nullSink struct{ n atomic.Uint64 }

func (s *nullSink) Write(int, []byte) { s.n.Add(1) }
func (s *nullSink) Ended(string)      {}

type nullLink struct{ n atomic.Uint64 }

func (l *nullLink) Peer() braid.NodeID                                                 { return 1 }
func (l *nullLink) Fence() braid.FenceID                                               { return 7 }
func (l *nullLink) Send(uint16, braid.Class, []byte) braid.DropReason                  { l.n.Add(1); return 0 }
func (l *nullLink) SendMessage([]byte) error                                           { return nil }
func (l *nullLink) Session(context.Context, braid.NodeID, braid.FenceID) (Link, error) { return l, nil }

// runningHub is a hub of its own, without a network.
func runningHub(tb testing.TB, link *nullLink) *Hub {
	h, err := New(Config{
		Self: "a", Braid: link, Peers: func(string) []string { return []string{"a"} },
		NodeID: func(string) (braid.NodeID, bool) { return 1, true }, Name: func(braid.NodeID) (string, bool) { return "b", true },
		Fence: func(string) (braid.FenceID, bool) { return 7, true }, Call: noCall, Load: func() float64 { return 0 },
	})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	exited := make(chan struct{})
	go func() { defer close(exited); _ = h.Run(ctx) }()
	tb.Cleanup(func() { cancel(); <-exited })
	return h
}

// fanOut is a publication with local viewers and remote nodes.
func fanOut(tb testing.TB, viewers, nodes int) *Publication {
	h := runningHub(tb, new(nullLink))
	p, err := h.Publish(key("cam"), av, nil)
	if err != nil {
		tb.Fatal(err)
	}
	for range viewers {
		if _, err := h.Subscribe(context.Background(), key("cam"), new(nullSink)); err != nil {
			tb.Fatal(err)
		}
	}
	for i := range nodes {
		l := new(nullLink)
		h.opened(l)
		h.message(l, message{Type: msgSubscribe, Ref: uint32(i), App: "app", Channel: "room", Stream: "cam"}.encode())
	}
	if h.Stats().Serving != nodes || h.Stats().Subscriptions != viewers {
		tb.Fatalf("stats %+v", h.Stats())
	}
	return p
}

// BenchmarkFanOut is the cost of one packet to n local viewers (their own work left out), per packet.
func BenchmarkFanOut(b *testing.B) {
	packet := make([]byte, 1200)
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("viewers=%d", n), func(b *testing.B) {
			p := fanOut(b, n, 0)
			b.ReportAllocs()
			for b.Loop() {
				p.Write(0, packet)
			}
		})
	}
	b.Run("nodes=100", func(b *testing.B) {
		p := fanOut(b, 0, 100)
		b.ReportAllocs()
		for b.Loop() {
			p.Write(0, packet)
		}
	})
}

// receiver is a hub with one viewer of a remote stream, and the session that feeds it.
func receiver(tb testing.TB) (*Hub, *nullLink) {
	link := new(nullLink)
	h := runningHub(tb, link)
	h.opened(link)
	w := newWatch(h, key("cam"))
	h.mu.Lock()
	w.waiting = 1
	pl := h.linkOf(link)
	pl.pending[1] = &attempt{watch: w, result: make(chan any, 1)}
	h.mu.Unlock()
	h.message(link, message{Type: msgSubscribed, Ref: 1, IDs: []uint16{10, 11}, Tracks: av}.encode())
	close(w.ready)
	if _, err := w.attend(context.Background(), new(nullSink)); err != nil {
		tb.Fatal(err)
	}
	return h, link
}

// BenchmarkReceive is the cost of one packet from a session to one viewer.
func BenchmarkReceive(b *testing.B) {
	h, link := receiver(b)
	packet := make([]byte, 1200)
	b.ReportAllocs()
	for b.Loop() {
		h.packet(link, 10, packet)
	}
}

func TestThePacketPathAllocatesNothing(t *testing.T) {
	packet := make([]byte, 1200)
	p := fanOut(t, 100, 10)
	if n := testing.AllocsPerRun(1000, func() { p.Write(0, packet) }); n != 0 {
		t.Errorf("Write to 100 viewers and 10 nodes: %v allocations", n)
	}
	h, link := receiver(t)
	if n := testing.AllocsPerRun(1000, func() { h.packet(link, 10, packet) }); n != 0 {
		t.Errorf("receive: %v allocations", n)
	}
}
