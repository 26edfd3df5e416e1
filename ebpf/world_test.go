package ebpf

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// tightLimits are met by a few packets, so that random ones meet them all.
func tightLimits() Limits {
	return Limits{
		Peer: Rate{400, 4}, PeerGossip: Rate{200, 2}, Flow: Rate{400, 4}, FlowControl: Rate{200, 3},
		SourceUfrag: Rate{150, 3}, SourceSTUN: Rate{100, 3}, SourceMesh: Rate{100, 3},
		BudgetUfrag: Rate{300, 8}, BudgetSTUN: Rate{200, 8}, BudgetQUIC: Rate{200, 8}, BudgetGossip: Rate{100, 8},
	}
}

// drawnWorld moves time, members and clients at random between the packets of the differential test.
type drawnWorld struct {
	r     *rand.Rand
	guard *guard
	now   uint64
	few   []netip.Addr // sources that come back, so that rates mean something
}

func newDrawnWorld(r *rand.Rand, g *guard) *drawnWorld {
	w := &drawnWorld{r: r, guard: g, now: 1_000 * ufragEpochNS}
	for range 12 {
		w.few = append(w.few, drawAddr(r))
	}
	return w
}

func (w *drawnWorld) addr() netip.Addr { return w.few[w.r.IntN(len(w.few))] }

func (w *drawnWorld) step() {
	switch w.now += uint64(w.r.IntN(150_000)); w.r.IntN(4_000) {
	case 0:
		w.now += 100 * ufragEpochNS
	case 1:
		w.few[w.r.IntN(len(w.few))] = drawAddr(w.r)
	case 2, 3, 4, 5, 6, 7, 8, 9:
		w.guard.admit(fmt.Sprint(w.r.IntN(5)), netip.AddrPortFrom(w.addr().Unmap(), samplePort), w.now)
	case 10, 11:
		(&Filter{guard: w.guard, born: time.Now()}).Forget(fmt.Sprint(w.r.IntN(5)))
	case 16, 17, 18, 19, 20, 21:
		w.guard.mu.Lock()
		defer w.guard.mu.Unlock()
		if key := subscriber(w.addr().Unmap()); w.guard.walls[key] == nil {
			w.guard.build(key, &wall{})
		} else {
			w.guard.raze(key)
		}
	case 12, 13, 14, 15:
		(&Filter{guard: w.guard, born: time.Now()}).SetMembers([]netip.Addr{w.addr(), w.addr()})
	}
}

func (w *drawnWorld) packet() []byte {
	if w.r.IntN(3) > 0 {
		return drawPacket(w.r)
	}
	s := sample{src: w.addr(), port: testAccess}
	switch w.r.IntN(8) {
	case 0:
		s.port, s.payload = testMesh, samplePath(w.r.IntN(9))
	case 1:
		s.port, s.payload = testMesh, bytesOf(30, 4)
	case 2:
		s.port, s.payload = testMesh, bytesOf(30, byte(64+w.r.IntN(192)))
	case 3:
		s.payload = sampleRTP(9)
	case 4:
		s.payload = bytesOf(13, 22)
	default:
		s.payload = w.stun()
	}
	if w.r.IntN(8) == 0 {
		return damage(w.r, s.frame())
	}
	return s.frame()
}

// stun is a Binding request with a USERNAME that is right, or nearly.
func (w *drawnWorld) stun() []byte {
	hours := w.now/ufragEpochNS - uint64(w.r.IntN(200)) + 3
	name := []byte(makeUfrag(w.guard.ufrag, w.r.Uint64(), uint16(hours)) + ":" + "peer")
	if w.r.IntN(4) == 0 {
		name[w.r.IntN(len(name))] ^= 1 << w.r.IntN(8)
	}
	p := stunRequest(name[:len(name)-w.r.IntN(6)], w.r.IntN(9))
	if w.r.IntN(6) == 0 {
		p[w.r.IntN(min(len(p), 40))] = byte(w.r.Uint32())
	}
	return p
}

// stunRequest is a Binding request with its USERNAME behind some other attributes.
func stunRequest(username []byte, others int) []byte {
	p := append([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...)
	for i := range others {
		p = append(p, 0x80, byte(0x30+i), 0, byte(i)) // padded to a multiple of four
		p = append(p, make([]byte, (i+3)&^3)...)
	}
	p = append(p, 0, 6, 0, byte(len(username)))
	p = append(append(p, username...), make([]byte, (4-len(username)%4)%4)...)
	p = append(p, 0x80, 0x28, 0, 4, 1, 2, 3, 4)
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)-20))
	return p
}

func stunCases(k key) [][]byte {
	name := []byte(makeUfrag(k, 7, 1) + ":peer")
	return [][]byte{stunRequest(name, 0), stunRequest(name, 3), stunRequest(name, 8), stunRequest(name[:32], 0), stunRequest(nil, 0)}
}

// guardedTable is a table with the live rules on, and a twin of them at its own pace.
func guardedTable(l Limits) (*Table, *guard) {
	rules := testRules()
	rules.GuardMesh, rules.GuardAccess = true, true
	return compile(rules), newGuard(l)
}

func TestUfragIsKnownByItsMACAlone(t *testing.T) {
	k := newKey()
	u := makeUfrag(k, 0xabcdef, 100)
	if len(u) != Ufrag || strings.Trim(u, "abcdefghijklmnop") != "" {
		t.Fatalf("ufrag %q", u)
	}
	for _, c := range []struct {
		name  string
		hours uint64
		want  bool
	}{
		{u + ":remote", 100, true},
		{u + ":remote", 99, true}, // the clock that is read in the kernel may be a little behind
		{u + ":remote", 98, false},
		{u + ":remote", 100 + ufragEpochs, true},
		{u + ":remote", 101 + ufragEpochs, false},
		{u + ":", 100, true},
		{u, 100, false},
		{u + "x", 100, false},
		{"b" + u[1:] + ":remote", 100, u[0] == 'b'},
		{makeUfrag(newKey(), 0xabcdef, 100) + ":remote", 100, false},
		{strings.ToUpper(u) + ":remote", 100, false},
		{"", 100, false},
	} {
		if got := requestUfrag(k, stunRequest([]byte(c.name), 2), c.hours); got != c.want {
			t.Errorf("USERNAME %q at hour %d: %v, want %v", c.name, c.hours, got, c.want)
		}
	}
	if requestUfrag(k, stunRequest([]byte(u+":remote"), maxAttributes), 100) {
		t.Error("a USERNAME behind eight other attributes was found")
	}
}

func TestWhoMaySendWhat(t *testing.T) {
	table, g := guardedTable(DefaultLimits())
	now := uint64(ufragEpochNS)
	member, client := addr("198.18.7.7"), netip.MustParseAddrPort("198.18.8.8:5000")
	g.addPeer(member)
	g.admit("s", client, now)
	request := stunRequest([]byte(makeUfrag(g.ufrag, 1, 1)+":x"), 0)
	for _, c := range []struct {
		name    string
		src     string
		port    uint16
		payload []byte
		want    string
	}{
		{"a member's frame", "198.18.7.7:1", testMesh, samplePath(9), "pass path ok"},
		{"a member's gossip, as a dual-stack socket shows it", "[::ffff:198.18.7.7]:1", testMesh, bytesOf(30, 4), "pass gossip ok"},
		{"a stranger's frame", "198.18.7.8:1", testMesh, samplePath(9), "drop path not_member"},
		{"a joining node's handshake", "198.18.7.8:1", testMesh, bytesOf(30, 192), "pass quic stranger"},
		{"a joining node's gossip", "198.18.7.8:1", testMesh, bytesOf(30, 4), "pass gossip stranger"},
		{"an admitted client's media", client.String(), testAccess, sampleRTP(9), "pass rtp ok"},
		{"an admitted client's handshake", client.String(), testAccess, bytesOf(13, 22), "pass dtls ok"},
		{"the same client from another port", "198.18.8.8:5001", testAccess, sampleRTP(9), "drop rtp not_admitted"},
		{"a handshake before its STUN check", "198.18.8.8:5001", testAccess, bytesOf(13, 22), "drop dtls not_admitted"},
		{"feedback of a stranger", "198.18.8.8:5001", testAccess, bytesOf(8, 0x80, 200), "drop rtcp not_admitted"},
		{"a check after NAT rebinding", "198.18.8.8:5001", testAccess, request, "pass stun ufrag"},
		{"a check without a ufrag of ours", "198.18.8.8:5001", testAccess, stunRequest([]byte("x:y"), 0), "pass stun stranger"},
		{"another service", "198.18.8.8:5001", 53, nil, "pass none not_ours"},
	} {
		if v := table.allowPacket(netip.MustParseAddrPort(c.src), c.port, c.payload, g, now); v.String() != c.want {
			t.Errorf("%s: %q, want %q", c.name, v, c.want)
		}
	}
}

// A flood of made-up sources must not take the place of anybody who is known, nor of a source with a ufrag of ours.
func TestMadeUpSourcesEvictNobody(t *testing.T) {
	table, g := guardedTable(DefaultLimits())
	now := uint64(ufragEpochNS)
	client := netip.MustParseAddrPort("198.18.8.8:5000")
	g.admit("s", client, now)
	start := stunRequest([]byte(makeUfrag(g.ufrag, 1, 1)+":x"), 0)
	counts := map[Reason]int{}
	const packets = 200_000 // in one second
	for i := range packets {
		now += uint64(time.Second) / packets
		src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), 9)
		counts[table.allowPacket(src, testAccess, stunRequest([]byte("x:y"), 0), g, now).Reason]++
		if i%100 == 0 {
			if v := table.allowPacket(client, testAccess, sampleRTP(9), g, now); v.Action != Pass {
				t.Fatalf("after %d made-up sources the client's media: %v", i, v)
			}
		}
		if i%1000 == 0 {
			if v := table.allowPacket(netip.MustParseAddrPort("198.18.9.9:1"), testAccess, start, g, now); v.Reason != ReasonUfrag {
				t.Fatalf("after %d made-up sources a session's start: %v", i, v)
			}
		}
	}
	l := DefaultLimits().BudgetSTUN
	if most := int(l.PerSecond + l.Burst); counts[ReasonStranger] > most+1 || counts[ReasonStranger] < most*9/10 {
		t.Errorf("%d of %d passed, want about %d: %v", counts[ReasonStranger], packets, most, counts)
	}
}

func TestOneSourceCannotUseUpTheBudget(t *testing.T) {
	table, g := guardedTable(DefaultLimits())
	now := uint64(ufragEpochNS)
	loud, quiet := netip.MustParseAddrPort("[2001:db8::1]:1"), netip.MustParseAddrPort("198.18.9.9:1")
	for i := range 100_000 {
		now += 10_000
		a := loud.Addr().As16()
		a[15] = byte(i) // the whole /64 counts as one
		table.allowPacket(netip.AddrPortFrom(netip.AddrFrom16(a), 1), testMesh, bytesOf(30, 192), g, now)
		if i%1000 == 0 {
			if v := table.allowPacket(quiet, testMesh, bytesOf(30, 192), g, now); v.Reason != ReasonStranger {
				t.Fatalf("beside a loud source: %v", v)
			}
		}
	}
	if v := table.allowPacket(loud, testMesh, bytesOf(30, 192), g, now); v.Reason != ReasonRateSource {
		t.Errorf("the loud source: %v", v)
	}
}

func TestAdmissionsAreBoundedAndEnd(t *testing.T) {
	g := newGuard(DefaultLimits())
	f := &Filter{guard: g, born: time.Now()}
	at := func(port int) netip.AddrPort { return netip.AddrPortFrom(good4, uint16(port)) }
	for port := range flowsPerOwner {
		g.admit("a", at(port), uint64(port+1))
	}
	g.flows[at(0)].buckets[0] = 1000 // it sends
	g.admit("a", at(99), 500)
	if _, ok := g.flows[at(0)]; !ok {
		t.Error("the address that sends made room")
	}
	if _, ok := g.flows[at(1)]; ok || len(g.flows) != flowsPerOwner {
		t.Errorf("the address that was silent longest stayed, %d flows", len(g.flows))
	}
	g.admit("b", at(99), 600) // the same client, another session
	f.Forget("a")
	if want := []netip.AddrPort{at(99)}; len(g.flows) != 1 || !slices.Equal(g.owners["b"], want) {
		t.Errorf("after the end of a: %v", g.owners)
	}
	g.sweep(600 + uint64(flowIdle))
	if len(g.flows) != 1 {
		t.Error("ended too early")
	}
	g.sweep(601 + uint64(flowIdle))
	if len(g.flows)+len(g.owners) != 0 || f.LiveStats().FlowsEvicted != 1 {
		t.Errorf("left over: %v, stats %+v", g.owners, f.LiveStats())
	}
}

func TestPeersStayWhileTheyAreMembersOrSpokeLately(t *testing.T) {
	g := newGuard(DefaultLimits())
	f := &Filter{guard: g, born: time.Now()}
	f.SetMembers([]netip.Addr{good4, good6})
	f.Peer(good6)
	f.Peer(addr("::ffff:198.18.0.9"))
	f.SetMembers(nil)
	if _, ok := g.peers[good4]; ok || len(g.peers) != 2 {
		t.Errorf("peers after the member left: %v", g.peers)
	}
	g.sweep(f.clock() + uint64(PeerFor))
	if len(g.peers) != 0 {
		t.Errorf("peers after %v: %v", PeerFor, g.peers)
	}
	many := make([]netip.Addr, maxPeers+1)
	for i := range many {
		many[i] = netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)})
	}
	f.SetMembers(many)
	if s := f.LiveStats(); s.Peers != maxPeers || s.PeersRefused != 1 {
		t.Errorf("beyond the room: %+v", s)
	}
}
