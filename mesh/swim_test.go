package mesh

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

// sized is a test's number of nodes: what the variable says, or by itself.
func sized(t testing.TB, variable string, itself int) int {
	t.Helper()
	said := os.Getenv(variable)
	if said == "" {
		return itself
	}
	n, err := strconv.Atoi(said)
	if err != nil || n < 2 || n > 2000 {
		t.Fatalf("%s=%q; want 2 to 2000 nodes", variable, said)
	}
	return n
}

// meteredStream counts what goes through a stream, both ways.
type meteredStream struct {
	net.Conn
	bytes *atomic.Uint64
}

func (s meteredStream) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	s.bytes.Add(uint64(n))
	return n, err
}

func (s meteredStream) Write(b []byte) (int, error) {
	n, err := s.Conn.Write(b)
	s.bytes.Add(uint64(n))
	return n, err
}

// swimOnly starts a node's memberlist with its timers, keys and delegates, over the mesh's own transport, and nothing else of it.
func swimOnly(t *testing.T, n *node) *memberlist.Memberlist {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	n.wire.start(ctx)
	go func() { n.done <- n.wire.read(ctx) }()
	n.keys.ensure(time.Now())
	list, err := n.create()
	if err != nil {
		t.Fatal(err)
	}
	n.stop = func() { _ = list.Shutdown(); stop() }
	return list
}

// memberlist's own traffic, without cards, rows and probes, which it does not carry for itself: checks of members, and the exchange
// of their list, over links of 50 ms that lose 1 %. TERN_SWIM=1000 go test ./mesh -run MemberlistByItself -v says it for 1,000.
func TestMemberlistByItself(t *testing.T) {
	n := sized(t, "TERN_SWIM", 10)
	window := time.Minute
	if n > 100 {
		window = 4 * time.Minute // exchanges get rare in large meshes: every 180 s at 1,000
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.set(func(string, string) (time.Duration, float64, bool) { return 50 * time.Millisecond, 0.01, false })
		var streamed atomic.Uint64
		key := stamp(time.Now(), make([]byte, keyBytes))
		var nodes []*node
		var lists []*memberlist.Memberlist
		for i := range n {
			added := w.add(fmt.Sprintf("node-%04d", i), i+1, func(c *Config) {
				dial := c.Dial
				c.Dial = func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
					conn, err := dial(ctx, to)
					return meteredStream{conn, &streamed}, err
				}
				c.InitialKeys = [][]byte{key}
			})
			nodes = append(nodes, added)
			lists = append(lists, swimOnly(t, added))
			if i > 0 {
				if _, err := lists[i].Join([]string{nodes[rand.IntN(i)].addr.String()}); err != nil {
					t.Fatal(err)
				}
			}
		}
		took := within(t, 10*time.Minute, "every memberlist has everybody", func() bool {
			for _, list := range lists {
				if list.NumMembers() != n {
					return false
				}
			}
			return true
		})
		time.Sleep(time.Minute) // what it says of newcomers it says several times
		var packets, bytes uint64
		tally := func() (packets, bytes uint64) {
			for _, node := range nodes {
				s := node.Stats()
				packets, bytes = packets+s.PacketsOut, bytes+s.BytesOut
			}
			return packets, bytes
		}
		packets, bytes = tally()
		before := streamed.Load()
		time.Sleep(window)
		packetsNow, bytesNow := tally()
		each := window.Seconds() * float64(n)
		packetsOut, bytesOut, streamOut := float64(packetsNow-packets)/each, float64(bytesNow-bytes)/each, float64(streamed.Load()-before)/each
		total := bytesOut + 29*packetsOut + streamOut // IP, UDP and the class byte
		t.Logf("%d nodes, all known %v after the last join; out of each: %.1f packets/s of %.0f bytes, %.0f bytes/s of streams, %.0f bytes/s with headers",
			n, took, packetsOut, bytesOut/max(packetsOut, 0.01), streamOut, total)
		if total > 4000 || packetsOut < 1 {
			t.Errorf("%.0f bytes/s in %.1f packets/s out of each node; want 1 packet/s and 4 kB/s at most", total, packetsOut)
		}
		for _, node := range nodes {
			node.stop()
		}
		time.Sleep(30 * time.Second)
	})
}
