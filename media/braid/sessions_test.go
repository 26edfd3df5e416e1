package braid

import (
	"context"
	"net/netip"
	"testing"
	"time"
)

// A member that connects again and again without ever saying hello costs its peer four sessions, not more, and keeps
// nobody from using the session that is there.
func TestConnectionsWithoutHelloAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		s := a.session(2)
		tlsConf := withALPN(a.braid.cfg.ClientTLS(2), offered)
		const attempts = 30
		for range attempts {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_, _ = a.braid.transport.Dial(ctx, virtualAddr(s.f.key, 1), tlsConf, quicConfig())
			cancel()
		}
		victim := b.braid.flow(flowKey{1, n.fence}, false)
		victim.rxMu.Lock()
		registered := len(victim.sessions)
		victim.rxMu.Unlock()
		if refused := b.braid.Stats().Frames["too_many_sessions"]; registered != maxSessions || refused < attempts-maxSessions {
			t.Errorf("after %d connections: %d sessions, %d refused; want %d and the rest", attempts, registered, refused, maxSessions)
		}
		stream(s, 0, 100, 300, time.Millisecond)
		pause(dialTimeout + time.Second) // those without a hello are given up
		victim.rxMu.Lock()
		registered = len(victim.sessions)
		victim.rxMu.Unlock()
		if b.rec.got() != 100 || registered != 1 {
			t.Errorf("%d of 100 packets over the true session, %d sessions left; want one", b.rec.got(), registered)
		}
	})
}

// The tag that tells sessions apart has one byte. Two with the same, of which one is being replaced, lose nothing.
func TestEqualTagsLoseNothing(t *testing.T) {
	h := &nullHandler{}
	b := still(t, 2, h, &nullWire{})
	var keys []*mediaKey
	for _, name := range []string{"x", "y"} {
		s := stillSession(t, b, 1, false)
		s.rx.keys[1], _ = newMediaKey(testExporter(name), 0, 0)
		key, _ := newMediaKey(testExporter(name), 0, 0)
		keys = append(keys, key)
	}
	pathSeq := uint32(0)
	for seq := range uint64(100) {
		for _, key := range keys {
			frame := key.seal(appendRecord(make([]byte, mediaHeader, MaxDatagram), record{stream: 1, data: make([]byte, 300)}), 0, 0, seq)
			for path := range uint8(3) {
				b.HandleFrame(frameFor(b, pathHeader{kind: kindMedia, fence: 1, source: 1, dest: 2, path: path, seq: pathSeq}, frame), netip.AddrPort{})
			}
			pathSeq++
		}
	}
	if h.packets != 200 {
		t.Errorf("%d of 200 packets; %v", h.packets, b.Stats().Frames)
	}
}
