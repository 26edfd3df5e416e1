package run

import (
	"io"
	"net"
	"testing"
	"testing/synctest"

	"github.com/ternmesh/tern/sim"
)

// A process that dies says no goodbye: what its end still writes reaches nobody, and its ports refuse until it is back.
func TestConnectionsOfADeadProcessBreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &listeners{at: make(map[string]*sim.StreamListener)}
		const addr, other = "10.7.0.1:8080", "10.7.0.11:8080"
		for _, at := range []string{addr, other} {
			server := l.listen(at, &net.TCPAddr{})
			defer func() { _ = server.Close() }()
			go func() {
				for {
					c, err := server.Accept()
					if err != nil {
						return
					}
					defer func() { _ = c.Close() }()
				}
			}()
		}
		dying, err := l.dial(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		staying, err := l.dial(t.Context(), "tcp", other)
		if err != nil {
			t.Fatal(err)
		}
		l.cut("10.7.0.1")
		if _, err := dying.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("reading from a dead process: %v, want a broken connection", err)
		}
		if _, err := l.dial(t.Context(), "tcp", addr); err == nil {
			t.Error("a dead process takes connections")
		}
		if _, err := staying.Write([]byte("x")); err != nil || len(l.open) != 1 {
			t.Errorf("another process's connection: %v, %d open", err, len(l.open))
		}
		_, _ = dying.Close(), staying.Close()
		if len(l.open) != 0 {
			t.Errorf("%d connections are still known after both were closed", len(l.open))
		}
	})
}
