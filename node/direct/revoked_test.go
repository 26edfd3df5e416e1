package direct

import (
	"io"
	"testing"
	"testing/synctest"

	"github.com/ternmesh/tern/mesh/identity"
)

func TestARevokedPeersConnectionsCloseAndNewOnesAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.net.Close()
		a, b := w.node("one", "a", 1), w.node("one", "b", 2)
		defer w.run(a)()
		defer w.run(b)()
		if _, err := a.Call(t.Context(), "b", "echo", nil); err != nil { // a connection of a's at b
			t.Fatal(err)
		}
		if _, err := b.Call(t.Context(), "a", "echo", nil); err != nil { // and one of b's at a
			t.Fatal(err)
		}
		open, err := a.Dial(t.Context(), "b", "echo")
		if err != nil {
			t.Fatal(err)
		}
		b.cfg.Identity.Revoke(func(node, _ string) bool { return node == "a" })
		if closed := b.Expel(func(p identity.Peer) bool { return b.cfg.Identity.Revoked(p) }); closed != 2 {
			t.Errorf("%d connections were closed, want one of each direction", closed)
		}
		if _, err := io.ReadAll(open); err == nil {
			t.Error("an open stream outlived the revocation")
		}
		if _, err := a.Call(t.Context(), "b", "echo", nil); err == nil {
			t.Error("the revoked node was let in again")
		}
		if _, err := b.Call(t.Context(), "a", "echo", nil); err == nil {
			t.Error("the revoked node was dialed")
		}
		b.cfg.Identity.Revoke(nil)
		if _, err := a.Call(t.Context(), "b", "echo", nil); err != nil {
			t.Errorf("after it was readmitted: %v", err)
		}
	})
}
