package direct

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node/tracing"
	"github.com/ternmesh/tern/sim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is an emulated network with authorities and nodes on it.
type world struct {
	t   *testing.T
	net *sim.Network
	dir string

	carriers []string // whom nodes that may be carried ask
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, net: sim.New(1), dir: t.TempDir()}
	for _, mesh := range []string{"one", "two"} {
		if err := identity.InitCA(filepath.Join(w.dir, mesh), mesh, time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func addrOf(i byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, i}), 7900)
}

// layer makes one with a certificate of a mesh; conf lacks what all have. run starts it and returns what stops it and waits.
func (w *world) layer(mesh, name string, i byte, voter bool, conf Config) *Layer {
	w.t.Helper()
	ca := filepath.Join(w.dir, mesh)
	o := identity.IssueOptions{Node: name, Region: "eu", Voter: voter, Valid: 50 * 365 * 24 * time.Hour, NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)}
	if err := identity.Issue(ca, ca, o); err != nil {
		w.t.Fatal(err)
	}
	var err error
	if conf.Identity, err = identity.Load(filepath.Join(ca, "ca.crt"), filepath.Join(ca, name+".crt"), filepath.Join(ca, name+".key")); err != nil {
		w.t.Fatal(err)
	}
	if conf.Conn, err = w.net.Host(name, addrOf(i).Addr()).ListenPacket(w.t.Context(), addrOf(i)); err != nil {
		w.t.Fatal(err)
	}
	conf.Logger = slog.New(slog.DiscardHandler)
	l, err := New(conf)
	if err != nil {
		w.t.Fatal(err)
	}
	l.HandleCalls("echo", MaxMessage, echo)
	return l
}

// echo says who asked, and what.
func echo(_ context.Context, peer identity.Peer, request []byte) []byte {
	return append([]byte(peer.Node+":"), request...)
}

// node is a layer that knows a and b.
func (w *world) node(mesh, name string, i byte) *Layer {
	w.t.Helper()
	return w.layer(mesh, name, i, false, Config{Resolve: func(n string) (netip.AddrPort, bool) {
		a, ok := map[string]netip.AddrPort{"a": addrOf(1), "b": addrOf(2), "wrong": addrOf(2)}[n]
		return a, ok
	}})
}

func (w *world) run(l *Layer) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	}
}

func TestCallsReachTheNodeThatWasNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.net.Close()
		a, b := w.node("one", "a", 1), w.node("one", "b", 2)
		defer w.run(a)()
		defer w.run(b)()
		big := bytes.Repeat([]byte("x"), 1<<20)
		for _, request := range [][]byte{nil, []byte("hello"), big} {
			answer, err := a.Call(t.Context(), "b", "echo", request)
			if err != nil {
				t.Fatal(err)
			}
			if want := append([]byte("a:"), request...); !bytes.Equal(answer, want) {
				t.Fatalf("%d bytes came back as %d", len(want), len(answer))
			}
		}
		if _, err := a.Call(t.Context(), "wrong", "echo", nil); err == nil || !strings.Contains(err.Error(), "wrong") {
			t.Errorf("an address with another node behind it was believed: %v", err)
		}
		if _, err := a.Call(t.Context(), "nobody", "echo", nil); err == nil || !strings.Contains(err.Error(), "not a member") {
			t.Errorf("a call to a stranger: %v", err)
		}
		if _, err := a.Call(t.Context(), "b", "unknown", nil); err == nil {
			t.Error("a kind that nobody serves was answered")
		}
	})
}

func TestAnotherMeshIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.net.Close()
		a, b := w.node("one", "a", 1), w.node("two", "b", 2)
		defer w.run(a)()
		defer w.run(b)()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := a.Call(ctx, "b", "echo", nil); err == nil {
			t.Fatal("a node of another mesh answered")
		}
	})
}

func TestAStrangersCertificateIsRefusedAndLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.net.Close()
		stranger, b := w.node("two", "a", 1), w.node("one", "b", 2)
		var log bytes.Buffer
		b.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		stop := w.run(b)
		careless := stranger.cfg.Identity.ClientTLS("", alpn)
		careless.VerifyConnection = nil // does not mind whom it reaches
		for range 5 {
			conn, err := stranger.transport.Dial(t.Context(), net.UDPAddrFromAddrPort(addrOf(2)), careless, quicConfig())
			if err == nil {
				<-conn.Context().Done() // the server refuses after the client believes itself connected
			}
		}
		_ = stranger.cfg.Conn.Close()
		_ = stranger.transport.Close()
		stop()
		if n := strings.Count(log.String(), "refused a node's certificate"); n != 1 {
			t.Errorf("%d log lines for five attempts within a minute, want one:\n%s", n, log.String())
		}
	})
}

func TestARestartedPeerIsReachedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.net.Close()
		a, b := w.node("one", "a", 1), w.node("one", "b", 2)
		defer w.run(a)()
		stop := w.run(b)
		if _, err := a.Call(t.Context(), "b", "echo", nil); err != nil {
			t.Fatal(err)
		}
		w.net.Kill("b") // dies without a goodbye
		stop()
		w.net.Revive("b")
		defer w.run(w.node("one", "b", 2))()
		a.Forget(addrOf(2)) // the mesh saw a new incarnation
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Call(ctx, "b", "echo", nil); err != nil {
			t.Errorf("after a restart: %v", err)
		}
	})
}

func TestStreamsCarryBothWaysUntilClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.net.Close()
		a, b := w.node("one", "a", 1), w.node("one", "b", 2)
		b.Handle("pipe", func(_ context.Context, _ identity.Peer, conn net.Conn) {
			defer conn.Close()
			_, _ = io.Copy(conn, conn)
		})
		defer w.run(a)()
		defer w.run(b)()
		conn, peer, err := a.DialAddr(t.Context(), addrOf(2), "pipe")
		if err != nil || peer.Node != "b" {
			t.Fatalf("peer %q, err %v", peer.Node, err)
		}
		defer conn.Close()
		for _, s := range []string{"one", "two"} {
			if _, err := conn.Write([]byte(s)); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(s))
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != s {
				t.Fatalf("sent %q, got %q, %v", s, got, err)
			}
		}
	})
}

func TestATraceGoesAlongUnlessThePeerIsOlder(t *testing.T) {
	for _, protocol := range []string{alpn2, alpn} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			defer w.net.Close()
			a, b := w.node("one", "a", 1), w.node("one", "b", 2)
			b.HandleCalls("trace", 10, func(ctx context.Context, _ identity.Peer, _ []byte) []byte {
				return []byte(tracing.Parent(ctx))
			})
			defer w.run(a)()
			defer w.run(b)()
			const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
			ctx, want := tracing.WithParent(t.Context(), parent), parent
			if protocol == alpn { // what a node of the version before offers
				older := a.cfg.Identity.ClientTLS("b", alpn)
				conn, err := a.transport.Dial(ctx, net.UDPAddrFromAddrPort(addrOf(2)), older, quicConfig())
				if err != nil {
					t.Fatal(err)
				}
				k := &link{ready: make(chan struct{}), conn: conn, peer: identity.Peer{Node: "b"}}
				close(k.ready)
				a.out[addrOf(2)], want = k, ""
			}
			if got, err := a.Call(ctx, "b", "trace", nil); err != nil || string(got) != want {
				t.Errorf("%s: %q, %v, want %q", protocol, got, err, want)
			}
		})
	}
}

func FuzzReadHeader(f *testing.F) {
	f.Add([]byte("\x04echo"))
	f.Add([]byte("\x84echo0123456789012345678901234"))
	f.Add([]byte{0})
	f.Add([]byte{0x80})
	f.Add([]byte{255, 1, 2})
	f.Fuzz(func(t *testing.T, data []byte) {
		kind, trace, err := readHeader(bytes.NewReader(data))
		if err == nil && (len(kind) == 0 || len(kind) > maxKind || len(trace) != 0 && len(trace) != tracing.WireSize) {
			t.Fatalf("kind of %d bytes, trace of %d", len(kind), len(trace))
		}
		_ = tracing.Read(t.Context(), trace)
	})
}
