package braid

import (
	"context"
	"testing"
	"time"
)

// A member that connects again and again without ever saying hello costs its peer four sessions, not more, and keeps
// nobody from using the session that is there.
func TestConnectionsWithoutHelloAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		s := a.session(2)
		tlsConf := withALPN(a.braid.cfg.ClientTLS(2))
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
