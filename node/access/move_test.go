package access

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtp"

	"github.com/ternmesh/tern/bench/client"
	"github.com/ternmesh/tern/media"
)

// numbers notes which of a source's packets came, and which came twice.
type numbers struct {
	mu    sync.Mutex
	came  map[string]map[uint64]bool
	twice int
}

func (n *numbers) add(kind string, p *rtp.Packet, _ time.Time) {
	number, _, ok := client.Stamp(p.Payload)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.came[kind] == nil {
		n.came[kind] = map[uint64]bool{}
	}
	if !ok || n.came[kind][number] {
		n.twice++
	}
	n.came[kind][number] = true
}

// gaps counts what is missing between the first and the last packet.
func (n *numbers) gaps(kind string) (came, missing int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	first, last := ^uint64(0), uint64(0)
	for number := range n.came[kind] {
		first, last = min(first, number), max(last, number)
	}
	came = len(n.came[kind])
	return came, int(last-first) + 1 - came
}

// pair is two nodes' client edges over one hub: b is where a's clients go.
func pair(t *testing.T) (a, b *world) {
	t.Helper()
	var hub *media.Hub
	b = newWorld(t, func(c *Config) { hub = c.Hub })
	return newWorld(t, func(c *Config) {
		c.Hub = hub
		c.Elsewhere = func(string) (string, bool) { return b.http.URL, true }
	}), b
}

// The other node refuses at first: the viewer stays where it is and tries again.
func TestAViewerMovesToAnotherNodeWithoutALoss(t *testing.T) {
	a, b := pair(t)
	b.publish("/whip/demo/room?stream=cam", b.publisherToken("room"), client.Synthetic{Size: 100, PerSec: 50, AudioHz: 20}) // what a socket holds while the machine is busy elsewhere
	got := &numbers{came: map[string]map[uint64]bool{}}
	v := a.view("/whep/demo/room", a.viewerToken("room"), client.Config{OnPacket: got.add})
	stays := a.view("/whep/demo/room", a.viewerToken("room"), client.Config{Stay: true})
	a.until("media", func() bool { came, _ := got.gaps("video"); return came > 20 && stays.Stats().Packets["audio"] > 5 })
	a.until("the viewer listens", func() bool { return a.a.Stats().EventStreams == 1 })
	b.drain.Store(true) // at first nobody takes it
	a.a.Depart(a.a.now().Add(time.Minute))
	b.until("it was refused", func() bool { return b.a.Stats().Refused["draining"] > 0 })
	if v.Moves() != 0 {
		t.Error("it moved to a node that refuses it")
	}
	b.drain.Store(false)
	a.until("the viewer has moved", func() bool { return v.Moves() == 1 })
	if !strings.HasPrefix(v.Resource(), b.http.URL) {
		t.Errorf("the session is at %s", v.Resource())
	}
	before, _ := got.gaps("video")
	a.until("media at the other node", func() bool { came, _ := got.gaps("video"); return came > before+20 })
	for _, kind := range []string{"video", "audio"} {
		if came, missing := got.gaps(kind); missing > 0 || got.twice > 0 {
			t.Errorf("%s: %d packets came, %d did not, %d twice", kind, came, missing, got.twice)
		}
	}
	a.until("one viewer is left at the first node", func() bool { return a.a.Stats().Sessions[kindWHEP] == 1 })
	select {
	case <-v.Done():
		t.Error("the session that moved has ended")
	case <-stays.Done():
		t.Error("the session of a client that does not listen has ended before the deadline")
	default:
	}
	a.a.EndAll("drained")
	<-stays.Done()
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	b.until("the session at the other node is gone", func() bool { return b.a.Stats().Sessions[kindWHEP] == 0 })
}
