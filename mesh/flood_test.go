package mesh

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// Somebody with the gossip key names 20,000 nodes that are not there. What is kept of them is bounded, members do not notice, no
// address of theirs is tried, and when they have been given up a real node joins as ever.
func TestAFloodOfMadeUpNodes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nodes := sixNodes(t, w)
		victim := nodes[0]
		events := delegate{victim.Mesh}
		var taken []*memberlist.Node
		for i := range 20_000 {
			fake := &memberlist.Node{Name: fmt.Sprintf("fake-%d", i), Addr: net.IPv4(10, 9, byte(i>>8), byte(i)).To4(), Port: 7000, PMax: 5, PCur: 2}
			if events.NotifyAlive(fake) == nil {
				events.NotifyJoin(fake)
				taken = append(taken, fake)
			}
		}
		if len(taken) > maxUnverified || victim.Stats().Overfull < 20_000-maxUnverified {
			t.Errorf("%d of 20,000 made-up nodes were taken, %d refused; want %d at most", len(taken), victim.Stats().Overfull, maxUnverified)
		}
		for _, m := range nodes[1:] {
			known := &memberlist.Node{Name: m.name, Addr: m.addr.Addr().AsSlice(), Port: m.addr.Port(), PMax: 5, PCur: 2}
			if err := events.NotifyAlive(known); err != nil {
				t.Errorf("a member is refused meanwhile: %v", err)
			}
		}
		if worth := victim.addresses(); len(worth) != 5 {
			t.Errorf("%d addresses are worth dialling; five are members'", len(worth))
		}
		pause(t.Context(), 10*time.Second)
		if !allSee(nodes, 6)() {
			t.Error("members were lost")
		}
		if links := len(victim.Links()); links != 5 {
			t.Errorf("%d links; want those to the five members", links)
		}
		for _, fake := range taken {
			events.NotifyLeave(fake)
		}
		victim.mu.Lock()
		lost := len(victim.lost)
		victim.mu.Unlock()
		if lost > 0 {
			t.Errorf("%d made-up addresses are kept for joining", lost)
		}
		all := append(nodes, w.add("new", 9, nil).start(victim.addr.String()))
		within(t, 5*time.Second, "a real node joins", allSee(all, 7))
	})
}

// sealedGossip is a gossip packet of this mesh as memberlist makes them: label, then AES-GCM.
func sealedGossip(t *testing.T, key []byte, message []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key[stampBytes:])
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := sha256.Sum256(message)
	out := append([]byte{244, byte(len("demo"))}, "demo"...)
	out = append(append(out, 1), nonce[:gcm.NonceSize()]...)
	return gcm.Seal(out, nonce[:gcm.NonceSize()], message, []byte("demo"))
}

// aliveGossip says, in memberlist's words, that a node is there.
func aliveGossip(name string, addr [4]byte, versions string) []byte {
	text := func(s string) []byte { return append([]byte{0xa0 | byte(len(s))}, s...) }
	return slices.Concat([]byte{4, 0x86}, text("Incarnation"), []byte{1}, text("Node"), text(name), text("Addr"), text(string(addr[:])),
		text("Port"), []byte{0xcd, 7000 >> 8, 7000 & 0xff}, text("Meta"), []byte{0xa0}, text("Vsn"), text(versions))
}

// accusation says, in memberlist's words, that a node failed.
func accusation(name string, incarnation byte) []byte {
	text := func(s string) []byte { return append([]byte{0xa0 | byte(len(s))}, s...) }
	return slices.Concat([]byte{5, 0x83}, text("Incarnation"), []byte{0xcc, incarnation}, text("Node"), text(name), text("From"), text("iad"))
}

// A member says ten times a second that another failed, and where it is not. It stays for everybody, where it is, with all its links,
// and nobody speaks of it as gone. When it really dies it goes as ever.
func TestAMemberThatSpeaksOthersDead(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nodes := sixNodes(t, w)
		liar, victim, rest := nodes[2], nodes[1], append(nodes[:1:1], nodes[3:]...)
		key := liar.keys.list()[0]
		for i := range byte(200) {
			for _, message := range [][]byte{accusation(victim.name, 20+i), aliveGossip(victim.name, [4]byte{10, 9, 9, 9}, "\x01\x05\x02\x00\x00\x00")} {
				for _, n := range rest {
					n.conn.q <- memPacket{sealedGossip(t, key, message), net.UDPAddrFromAddrPort(liar.addr)}
				}
			}
			time.Sleep(100 * time.Millisecond)
			for _, n := range rest {
				at, known := n.Lookup(victim.name)
				if n.alive() != 6 || n.usable() != 30 || !known || at.Health.Mesh != victim.addr {
					t.Fatalf("%s sees %d nodes, %d links, %s at %v", n.name, n.alive(), n.usable(), victim.name, at.Health.Mesh)
				}
			}
		}
		said := nodes[0].Stats().RecordsRefused[refuseFailure]
		if said == 0 || strings.Contains(nodes[0].logs.String(), "node is gone") {
			t.Errorf("%d words of failure were refused; the log says:\n%s", said, nodes[0].logs)
		}
		victim.kill()
		took := within(t, 30*time.Second, "it dies, and goes", allSee(append(rest, liar), 5))
		t.Logf("%d words of failure refused; gone %v after its death", said, took)
	})
}

// Packets come in floods, from an address of nobody: nonsense, packets of another mesh, and nodes made up by somebody who has the
// gossip key and no certificate. Few of them are looked at, no member's packet is crowded out, nobody is lost, no table grows
// beyond its bound, and a real node joins meanwhile. Then they come from a member's address, and take no more than that one's share.
func TestAFloodOfPackets(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var nodes []*node
		for i, name := range []string{"ams", "fra", "iad"} {
			nodes = append(nodes, w.add(name, i+1, nil).start("10.0.0.1:7000"))
		}
		victim := nodes[0]
		within(t, 10*time.Second, "three nodes measure each other", func() bool { return allSee(nodes, 3)() && victim.usable() == 6 })
		const flooded = 2000
		key := victim.keys.list()[0]
		flood := func(from netip.AddrPort, make func(i int) []byte) {
			for i := range flooded { // in 200 ms
				select {
				case victim.conn.q <- memPacket{make(i), net.UDPAddrFromAddrPort(from)}:
				default:
					t.Fatal("the flood does not reach the mesh")
				}
				if i%100 == 99 {
					time.Sleep(10 * time.Millisecond)
				}
			}
		}
		madeUp := func(i int) []byte {
			return sealedGossip(t, key, aliveGossip(fmt.Sprintf("fake-%d", i), [4]byte{10, 9, byte(i >> 8), byte(i)}, "\x01\x05\x02\x00\x00\x00"))
		}
		nobody := netip.MustParseAddrPort("10.8.8.8:9")
		for story, make := range map[string]func(i int) []byte{
			"nonsense":        func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 1360) },
			"of another mesh": func(int) []byte { return append([]byte{244, 5}, "other and more"...) },
			"made-up nodes":   madeUp,
			"of a version that would stop all joins": func(i int) []byte {
				return sealedGossip(t, key, aliveGossip("false", [4]byte{10, 9, 9, byte(i)}, "\x01\x05\x02\x02\x05\x04"))
			},
			"made up, sealed ": func(i int) []byte { return sealedGossip(t, bytes.Repeat([]byte{7}, 40), []byte{byte(i)}) },
		} {
			before := victim.Stats()
			flood(nobody, make)
			after := victim.Stats()
			if looked := flooded - (after.PacketsStrange - before.PacketsStrange); looked > gossipBurst+gossipRate || after.PacketsDropped > before.PacketsDropped {
				t.Errorf("%s: %d packets of %d were looked at, %d of members crowded out", story, looked, flooded, after.PacketsDropped-before.PacketsDropped)
			}
			if !allSee(nodes, 3)() || len(victim.Links()) != 2 {
				t.Errorf("%s: members or links are lost", story)
			}
		}
		all := append(nodes, w.add("new", 9, nil).start(nodes[1].addr.String(), victim.addr.String()))
		flood(nodes[2].addr, madeUp)
		s := victim.Stats()
		if s.PacketsExcess+gossipBurst+gossipRate < flooded || s.PacketsDropped > 0 {
			t.Errorf("of %d packets from a member's address %d were refused, and %d waited in vain", flooded, s.PacketsExcess, s.PacketsDropped)
		}
		victim.mu.Lock()
		peers := len(victim.peers)
		victim.mu.Unlock()
		if s.Overfull == 0 || peers > maxUnverified+3 {
			t.Errorf("%d nodes are kept, %d made-up ones refused; want %d at most", peers, s.Overfull, maxUnverified)
		}
		time.Sleep(20 * time.Second)
		within(t, 20*time.Second, "a real node joins", allSee(all, 4))
	})
}
