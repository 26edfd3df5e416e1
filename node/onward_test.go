package node

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ternmesh/tern/ebpf"
	"github.com/ternmesh/tern/media/braid"
)

// newOnwardNode is as much of a Node as relaying in the kernel touches before it reaches the kernel.
func newOnwardNode(t *testing.T, log *bytes.Buffer) *Node {
	t.Helper()
	n := newFilterNode(t, log)
	n.cfg.Filter.Relay = RelayKernel
	n.relay = newKernelRelay(n)
	return n
}

func TestDecisionsAreHandedOverNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newOnwardNode(t, &bytes.Buffer{})
		o := braid.Onward{Source: 1, Before: 1, Next: 2, Fence: 7, To: netip.MustParseAddrPort("192.0.2.2:7900")}
		for range 1000 {
			n.relay.saw(o)
		}
		if len(n.relay.asks) != 1 {
			t.Errorf("%d of 1,000 equal decisions at once are handed over", len(n.relay.asks))
		}
		time.Sleep(onwardAgain)
		n.relay.saw(o)
		if len(n.relay.asks) != 2 {
			t.Errorf("%v later: %d", onwardAgain, len(n.relay.asks))
		}
		for i := range onwardQueue + 10 {
			o.Source = braid.NodeID(10 + i)
			n.relay.saw(o)
		}
		if len(n.relay.asks) != onwardQueue {
			t.Errorf("%d decisions wait, the bound is %d", len(n.relay.asks), onwardQueue)
		}
		before := (<-n.relay.asks).life
		if n.relay.forget(); before == n.relay.life.Load() {
			t.Error("a decision from before a new policy is as good as one from after it")
		}
	})
	if newKernelRelay(newFilterNode(t, &bytes.Buffer{})).onward() != nil {
		t.Error("decisions are asked for although nobody wants them")
	}
}

// A new policy ends all decisions at once: none comes between the last judgement of one and the kernel, and one that the braid made
// under the old policy and told of under the new does not get there.
func TestNoDecisionOutlivesItsPolicy(t *testing.T) {
	r := newOnwardNode(t, &bytes.Buffer{}).relay
	var order []string
	allowed := true
	step := func(what string) {
		if order = append(order, what); r.turn.TryLock() {
			t.Errorf("%s: the other may come between", what)
		}
	}
	r.still = func(braid.Onward) bool { return allowed }
	r.send = func(ebpf.Onward) bool { step("sent"); return true }
	r.drop = func() { step("dropped") }
	r.give(onwardAsk{}, ebpf.Onward{})
	r.forget()
	r.give(onwardAsk{}, ebpf.Onward{}) // from before the new policy
	allowed = false
	r.give(onwardAsk{life: r.life.Load()}, ebpf.Onward{}) // judged before, told after
	allowed = true
	r.give(onwardAsk{life: r.life.Load()}, ebpf.Onward{})
	if got := strings.Join(order, " "); got != "sent dropped sent" {
		t.Errorf("the kernel saw: %s", got)
	}
}

// An interface that does not send what the kernel gives it is left to user space, and the log says so once.
func TestKernelStopsRelayingWhereItsFramesAreLost(t *testing.T) {
	var log bytes.Buffer
	n := newOnwardNode(t, &log)
	n.log = slog.New(slog.NewTextHandler(&log, nil))
	lost := map[int]uint64{3: 100, 4: 500}
	n.relay.dropped = func(index int) (uint64, bool) { x, ok := lost[index]; return x, ok }
	if !n.relay.exit(3) || !n.relay.exit(4) || n.relay.exit(5) {
		t.Fatal("interfaces 3 and 4 may relay, of 5 nothing is known")
	}
	n.relay.sent = 1000
	lost[3] += 40 // one in 25
	n.relay.inspect()
	if !n.relay.exit(3) {
		t.Error("left to user space for a few lost frames")
	}
	delete(lost, 4) // its count cannot be read for a moment
	n.relay.inspect()
	lost[4] = 500
	for range 2 {
		n.relay.sent = 1000
		lost[3] += 60
		n.relay.inspect()
	}
	if n.relay.exit(3) || !n.relay.exit(4) || strings.Count(log.String(), "event=relay_off") != 1 {
		t.Errorf("after losing one frame in 16: interface 3 %v, interface 4 %v\n%s", n.relay.exit(3), n.relay.exit(4), &log)
	}
}

// Without an attached program nothing is handed over, and nothing fails.
func TestDecisionsWithoutAKernelStayWithTheBraid(t *testing.T) {
	n := newOnwardNode(t, &bytes.Buffer{})
	o := ebpf.Onward{From: netip.MustParseAddr("192.0.2.1"), To: netip.MustParseAddrPort("192.0.2.2:7900")}
	if n.filter.SendOnward(o) {
		t.Error("the twin relays")
	}
	n.filter.Relayed(func(c ebpf.OnwardCount) { t.Errorf("counted %+v", c) })
	n.filter.ForgetOnward()
}
