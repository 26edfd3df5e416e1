package direct

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/sim"
)

// carriedWorld has the voters a and b, the node c and the node d, which do not vote. a and b, and d and b, do not reach each other.
func carriedWorld(t *testing.T, do func(t *testing.T, w *world, nodes map[string]*Layer)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.carriers = []string{"c"}
		defer w.net.Close()
		nodes := make(map[string]*Layer)
		for i, name := range []string{"a", "b", "c", "d"} {
			nodes[name] = w.mayCarry(name, byte(i+1))
			defer w.run(nodes[name])()
		}
		w.cut(true)
		do(t, w, nodes)
	})
}

func (w *world) cut(down bool) {
	for _, pair := range [][2]string{{"a", "b"}, {"b", "a"}, {"d", "b"}, {"b", "d"}} {
		w.net.UpdateLink(pair[0], pair[1], func(l *sim.Link) { l.Down = down })
	}
}

// mayCarry is a node whose streams of kind "echo" and "hold" may be carried.
func (w *world) mayCarry(name string, i byte) *Layer {
	l := w.layer("one", name, i, name == "a" || name == "b", Config{
		Resolve: func(n string) (netip.AddrPort, bool) {
			i := strings.Index("abcd", n)
			return addrOf(byte(i + 1)), i >= 0 && len(n) == 1
		},
		Carriers: func(string) []string { return slices.Clone(w.carriers) },
		Carried:  []string{"echo", "hold"},
	})
	l.HandleCalls("other", MaxMessage, echo)
	l.Handle("hold", func(_ context.Context, _ identity.Peer, conn net.Conn) {
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	})
	return l
}

func (w *world) call(from *Layer, to, kind string, request []byte) (string, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	answer, err := from.Call(ctx, to, kind, request)
	return string(answer), err
}

func TestVotersWithoutADirectWayAreCarried(t *testing.T) {
	carriedWorld(t, func(t *testing.T, w *world, nodes map[string]*Layer) {
		a, c := nodes["a"], nodes["c"]
		big := bytes.Repeat([]byte("x"), 1<<20)
		for _, request := range [][]byte{[]byte("hello"), big} {
			if got, err := w.call(a, "b", "echo", request); err != nil || got != "a:"+string(request) {
				t.Fatalf("%d bytes by way of c came back as %d, %v", len(request), len(got), err)
			}
		}
		if got, err := w.call(a, "b", "other", nil); err == nil {
			t.Errorf("a kind that may not be carried was: %q", got)
		}
		if _, err := w.call(nodes["d"], "b", "echo", nil); err == nil {
			t.Error("a node that does not vote was carried")
		}
		s := c.Stats()
		if s.Carried != 2 || s.Bytes < 2<<20 || a.Stats().Dialed != 2 || nodes["b"].Stats().Taken != 2 {
			t.Errorf("counted: c %+v, a %+v, b %+v", s, a.Stats(), nodes["b"].Stats())
		}
		w.cut(false)
		hold, err := a.Dial(t.Context(), "b", "hold") // the direct way failed a moment ago: still by way of c
		if err != nil {
			t.Fatal(err)
		}
		if by := a.Stats().Carriers["b"]; by != "c" {
			t.Errorf("b is carried by %q", by)
		}
		time.Sleep(straightenEvery + handshakeTimeout)
		if _, err := hold.Write([]byte("x")); err == nil {
			t.Error("a carried stream goes on beside a direct connection")
		}
		if _, err := w.call(a, "b", "echo", nil); err != nil || c.Stats().Carried != 3 || a.Stats().Carriers != nil {
			t.Errorf("after the direct way came back: %v, c %+v, a %+v", err, c.Stats(), a.Stats())
		}
	})
}

// Who is chosen to carry is asked, and nobody else: not even the one that served before, when the owner names none.
func TestOnlyThoseThatTheOwnerNamesAreAsked(t *testing.T) {
	carriedWorld(t, func(t *testing.T, w *world, nodes map[string]*Layer) {
		a := nodes["a"]
		for _, step := range []struct {
			carriers []string
			reached  bool
			by       string
		}{{[]string{"d", "c"}, true, "c"}, {[]string{"d", "a", "b", "c"}, true, "c"}, {nil, false, "c"}} {
			w.carriers = step.carriers
			begun := time.Now()
			_, err := w.call(a, "b", "echo", nil)
			if (err == nil) != step.reached || a.last["b"] != step.by {
				t.Errorf("with %v: %v, by %q", step.carriers, err, a.last["b"])
			}
			t.Logf("with %v after %v", step.carriers, time.Since(begun))
		}
		if got := nodes["c"].Stats(); got.Carried != 2 {
			t.Errorf("c carried %d streams, want 2", got.Carried)
		}
	})
}

// Whose time is over before a carrier was asked gets an error, not a connection that is none.
func TestADialThatIsOverAsksNoCarrier(t *testing.T) {
	carriedWorld(t, func(t *testing.T, _ *world, nodes map[string]*Layer) {
		over, cancel := context.WithCancel(t.Context())
		cancel()
		conn, by, err := nodes["a"].dialCarried(over, "b", "echo")
		if conn != nil || by != "" || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v by %q, %v", conn, by, err)
		}
	})
}

// A handshake that takes longer than a carrier is waited for is no failure where no carrier is.
func TestASlowDirectWayIsWaitedForWhenNobodyCarries(t *testing.T) {
	carriedWorld(t, func(t *testing.T, w *world, nodes map[string]*Layer) {
		w.carriers = nil
		w.cut(false)
		for _, pair := range [][2]string{{"a", "b"}, {"b", "a"}} {
			w.net.UpdateLink(pair[0], pair[1], func(l *sim.Link) { l.Delay = 700 * time.Millisecond })
		}
		if got, err := w.call(nodes["a"], "b", "echo", []byte("hello")); err != nil || got != "a:hello" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// A carrier copies for voters and to voters alone, and not to itself.
func TestACarrierRefuses(t *testing.T) {
	carriedWorld(t, func(t *testing.T, w *world, nodes map[string]*Layer) {
		for i, one := range []struct{ from, to string }{{"a", "d"}, {"a", "c"}, {"a", "a"}, {"a", "nobody"}, {"d", "a"}} {
			conn, err := nodes[one.from].Dial(t.Context(), "c", kindCarry)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = conn.Write(append([]byte{byte(len(one.to))}, one.to...))
			if _, err := io.ReadAll(conn); err == nil {
				t.Errorf("%s was carried to %s", one.from, one.to)
			}
			if got := nodes["c"].Stats(); got.Refused != uint64(i+1) || got.Carried != 0 {
				t.Errorf("%s to %s: counted %+v", one.from, one.to, got)
			}
		}
		before := nodes["c"].carrying.begin.Tokens()
		for range 10 { // who may not be carried leaves the voters theirs
			conn, err := nodes["d"].Dial(t.Context(), "c", kindCarry)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.ReadAll(conn)
		}
		if after := nodes["c"].carrying.begin.Tokens(); after < before {
			t.Errorf("a node that does not vote has used up %v streams of the voters", before-after)
		}
	})
}

// Who ends a carried stream is judged by its certificate inside: the carrier cannot speak for another, and a revoked peer's ends.
func TestARevokedVoterIsNotCarried(t *testing.T) {
	carriedWorld(t, func(t *testing.T, w *world, nodes map[string]*Layer) {
		a, b := nodes["a"], nodes["b"]
		hold, err := a.Dial(t.Context(), "b", "hold")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // b has it by now
		b.cfg.Identity.Revoke(func(node, _ string) bool { return node == "a" })
		b.Expel(func(p identity.Peer) bool { return b.cfg.Identity.Revoked(p) })
		_ = hold.SetReadDeadline(time.Now().Add(time.Second))
		var late net.Error
		if _, err := io.ReadAll(hold); errors.As(err, &late) && late.Timeout() {
			t.Error("a carried stream outlived the revocation")
		}
		if _, err := w.call(a, "b", "echo", nil); err == nil {
			t.Error("a revoked voter was carried")
		}
		liar, err := nodes["c"].Dial(t.Context(), "b", kindCarried)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = liar.Write([]byte("not a handshake"))
		if b, err := io.ReadAll(liar); err == nil && !bytes.HasPrefix(b, []byte{21}) { // 21: a TLS alert
			t.Errorf("a stream without a handshake was answered: %x", b)
		}
		if got := b.Stats(); got.Taken != 1 || got.Refused < 2 {
			t.Errorf("counted %+v", got)
		}
	})
}

func TestCarriedStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // virtual time: the rate's bucket fills when told
		q := newQuota()
		var releases []func()
		for i := range maxCarriedPerPeer {
			release, ok := q.take("a")
			if !ok {
				t.Fatalf("stream %d was refused", i)
			}
			releases = append(releases, release)
		}
		if _, ok := q.take("a"); ok {
			t.Error("one peer may have more than its share")
		}
		for i := maxCarriedPerPeer; i < carriedBurst; i++ {
			if _, ok := q.take("b"); !ok {
				t.Fatalf("stream %d was refused", i)
			}
		}
		if _, ok := q.take("c"); ok {
			t.Error("more begin at once than the rate allows")
		}
		releases[0]()
		releases[0]() // once counts
		time.Sleep(time.Minute)
		if _, ok := q.take("a"); !ok || q.total != carriedBurst || q.by["a"] != maxCarriedPerPeer {
			t.Errorf("after one ended: %v, %d in all, %d of a", ok, q.total, q.by["a"])
		}
	})
}

func FuzzReadName(f *testing.F) {
	f.Add([]byte("\x03sin"))
	f.Add([]byte{255})
	f.Fuzz(func(t *testing.T, b []byte) {
		name, err := readName(bytes.NewReader(b))
		if err == nil && (len(name) == 0 || identity.CheckName("node", name) != nil) {
			t.Errorf("%q is taken for a node's name", name)
		}
	})
}
