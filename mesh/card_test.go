package mesh

import (
	"bytes"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/mesh/linkstate"
	"github.com/ternmesh/tern/routing"
)

func sampleCard(node string) card {
	return card{node, Health{
		Incarnation: 7, Mesh: netip.MustParseAddrPort("[2001:db8::1]:7000"), AccessURL: "https://a.example", State: StateServing,
		Voter: true, Risks: []string{"site:fra1", "provider:acme"},
	}}
}

func TestCardRoundTrip(t *testing.T) {
	want := sampleCard("ams")
	got, err := decodeCard(want.encode(nil))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestCardRefusesTheAbsurd(t *testing.T) {
	for name, change := range map[string]func(*card){
		"no address":      func(r *card) { r.health.Mesh = netip.MustParseAddrPort("0.0.0.0:1") },
		"multicast":       func(r *card) { r.health.Mesh = netip.MustParseAddrPort("224.0.0.1:1") },
		"port 0":          func(r *card) { r.health.Mesh = netip.MustParseAddrPort("10.0.0.1:0") },
		"escape in state": func(r *card) { r.health.State = "\x1b[31m" },
		"name":            func(r *card) { r.node = "Ams" },
	} {
		r := sampleCard("ams")
		change(&r)
		if got, err := decodeCard(r.encode(nil)); err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
	r := sampleCard("a")
	whole := r.encode(nil)
	for cut := range whole {
		if _, err := decodeCard(whole[:cut]); err == nil {
			t.Fatalf("a card cut at %d of %d bytes was accepted", cut, len(whole))
		}
	}
	if _, err := decodeCard(append(whole, 0)); err == nil {
		t.Error("bytes after the end were accepted")
	}
}

func TestTheLargestCardFitsAPacket(t *testing.T) {
	w := newWorld(t)
	long := string(bytes.Repeat([]byte("n"), 63))
	id := w.identity(long, long, true)
	r := card{long, Health{Mesh: netip.MustParseAddrPort("[2001:db8::1]:7000"), AccessURL: string(bytes.Repeat([]byte("u"), maxURL)), State: "0123456789abcdef"}}
	for range maxRisks {
		r.health.Risks = append(r.health.Risks, string(bytes.Repeat([]byte("r"), maxRisk)))
	}
	it := sealCard(t, id, linkstate.Version{Epoch: 1, Counter: 1}, r)
	t.Logf("%d bytes, certificate %d", len(it.Sealed), len(it.Certificate))
}

func sealCard(t *testing.T, by *identity.Identity, v linkstate.Version, r card) linkstate.Item {
	t.Helper()
	head := linkstate.Head{Kind: linkstate.Card, Origin: identity.NodeID("demo", r.node), Version: v}
	return seal(t, by, cardContext, r.encode(linkstate.AppendHead(nil, head)))
}

func seal(t *testing.T, by *identity.Identity, context string, body []byte) linkstate.Item {
	t.Helper()
	certificate, sig, err := by.Sign(context, body)
	if err != nil {
		t.Fatal(err)
	}
	if context != cardContext {
		certificate = nil
	}
	it, err := linkstate.Seal(body, certificate, sig)
	if err != nil {
		t.Fatal(err)
	}
	return it
}

func v(epoch, counter uint32) linkstate.Version {
	return linkstate.Version{Epoch: epoch, Counter: counter}
}

// fraCard is a card in fra's name, whoever signs it.
func fraCard(t *testing.T, addr netip.AddrPort, by *identity.Identity, v linkstate.Version, change func(*card)) linkstate.Item {
	r := card{"fra", Health{Mesh: addr, State: StateServing}}
	if change != nil {
		change(&r)
	}
	return sealCard(t, by, v, r)
}

// fraRow is a row in fra's name; change works on the body before it is signed.
func fraRow(t *testing.T, n *node, by *identity.Identity, v linkstate.Version, change func([]byte) []byte) linkstate.Item {
	var writer linkstate.Writer
	row := linkstate.Row{Vitals: linkstate.Vitals{Load: 0.5}, Links: map[uint32]linkstate.Link{n.ID(): {To: n.ID(), Latency: time.Millisecond}}}
	body := writer.Write(identity.NodeID("demo", "fra"), v, row)
	if change != nil {
		body = change(body)
	}
	return seal(t, by, rowContext, body)
}

// flip changes one bit of a row's load.
func flip(t *testing.T, it linkstate.Item) linkstate.Item {
	b := bytes.Clone(it.Sealed)
	b[21] ^= 1
	out, err := linkstate.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestForgedCardsAndRowsAreRefused(t *testing.T) {
	w := newWorld(t)
	n := w.add("ams", 1, nil)
	fra, nrt := w.identity("fra", "eu", false), w.identity("nrt", "jp", false)
	addr := netip.MustParseAddrPort("10.0.0.2:7000")
	n.joinedBy("fra", addr)
	cardOf := func(by *identity.Identity, v linkstate.Version, change func(*card)) linkstate.Item {
		return fraCard(t, addr, by, v, change)
	}
	rowOf := func(by *identity.Identity, v linkstate.Version, change func([]byte) []byte) linkstate.Item {
		return fraRow(t, n, by, v, change)
	}
	good, row := cardOf(fra, v(7, 9), nil), rowOf(fra, v(7, 10), nil)
	foreign := newWorld(t).identity("fra", "eu", true)
	for _, c := range []struct {
		story string
		it    linkstate.Item
		why   string
	}{
		{"a row before its card", row, refuseUnknown},
		{"signed by nrt in fra's name", cardOf(nrt, v(7, 9), nil), refuseSigner},
		{"signed by another mesh's CA", cardOf(foreign, v(7, 9), nil), refuseForged},
		{"another address", cardOf(fra, v(7, 9), func(r *card) { r.health.Mesh = addrOfHost(77) }), refuseAddress},
		{"an address of nothing", cardOf(fra, v(7, 9), func(r *card) { r.health.Mesh = netip.AddrPortFrom(netip.IPv4Unspecified(), 1) }), refuseAbsurd},
		{"of nobody we know", sealCard(t, nrt, v(1, 1), card{"nrt", Health{Mesh: addr}}), refuseUnknown},
		{"a name that is not the origin's", func() linkstate.Item {
			head := linkstate.Head{Kind: linkstate.Card, Origin: identity.NodeID("demo", "fra"), Version: v(7, 9)}
			r := card{"nrt", Health{Mesh: addr}}
			return seal(t, nrt, cardContext, r.encode(linkstate.AppendHead(nil, head)))
		}(), refuseSigner},
		{"good", good, ""},
		{"again", good, refuseDuplicate},
		{"older counter", cardOf(fra, v(7, 8), nil), refuseStale},
		{"older run", cardOf(fra, v(6, 99), nil), refuseStale},
		{"a row signed by nrt", rowOf(nrt, v(7, 10), nil), refuseForged},
		{"a row with one bit changed", flip(t, row), refuseForged},
		{"a row of an absurd load", rowOf(fra, v(7, 10), func(b []byte) []byte { b[18], b[19] = 0xff, 0xff; return b }), refuseAbsurd},
		{"a good row", row, ""},
		{"a row of the next run", rowOf(fra, v(8, 11), nil), refuseUnknown},
		{"claims a vote", cardOf(fra, v(7, 11), func(r *card) { r.health.Voter = true }), ""},
	} {
		before := n.Stats()
		n.offer(c.it, true)
		after := n.Stats()
		if c.why != "" && after.RecordsRefused[c.why] != before.RecordsRefused[c.why]+1 || c.why == "" && after.RecordsAccepted != before.RecordsAccepted+1 {
			t.Errorf("%s: want refusal %q: %v", c.story, c.why, after.RecordsRefused)
		}
	}
	if m, ok := n.Lookup("fra"); !ok || m.Health.Voter || m.Region != "eu" || m.Health.Load != 0.5 {
		t.Errorf("fra is %+v; its certificate gives no vote", m)
	}
	n.goneBy("fra")
	n.joinedBy("fra", addr)
	stale := n.Stats().RecordsRefused[refuseStale]
	if n.offer(good, true); n.Stats().RecordsRefused[refuseStale] != stale+1 {
		t.Error("an old card was accepted after the node was gone for a while")
	}
	if n.offer(cardOf(fra, v(7, 11), nil), true); !n.Stats().has("fra", n) {
		t.Error("the last card of a node that is back must count")
	}
}

func (s Stats) has(name string, n *node) bool { _, ok := n.Lookup(name); return ok }

func TestNonsenseMessagesAreCounted(t *testing.T) {
	n := newWorld(t).add("ams", 1, nil)
	for _, m := range [][]byte{nil, {1}, make([]byte, 1300), {0x21, 0, 0, 0, 1, 0xff, 0xff}, {0x77, 0, 0, 0, 1}} {
		before := n.Stats().RecordsRefused[refuseForm]
		if n.receive(m); n.Stats().RecordsRefused[refuseForm] != before+1 {
			t.Errorf("message % x was not refused as malformed", m[:min(len(m), 8)])
		}
	}
}

func TestLinksCannotBeTalkedUp(t *testing.T) {
	got := mergeLink("a", "b",
		linkstate.Link{Latency: time.Millisecond},
		linkstate.Link{Latency: 80 * time.Millisecond, Jitter: time.Millisecond, LossIn: linkstate.QuantLoss(0.1), LossOut: linkstate.QuantLoss(0.5), Down: true})
	if got.Latency != 80*time.Millisecond || math.Abs(got.Loss-0.1) > 0.005 || !got.Down || got.Jitter != time.Millisecond {
		t.Errorf("the receiver's worse view must win; got %+v", got)
	}
}

// A liar says that it has perfect links to everybody: those that the other end does not measure carry nothing.
func TestALinkNeedsBothEnds(t *testing.T) {
	ids := map[string]uint32{"self": 1, "liar": 2, "honest": 3}
	d := material{self: 1, nodes: map[uint32]routing.Node{}, views: map[uint32]map[uint32]linkstate.Link{}}
	for name, id := range ids {
		d.nodes[id], d.views[id] = routing.Node{Name: name}, map[uint32]linkstate.Link{}
	}
	say := func(from, to string, l linkstate.Link) { l.To = ids[to]; d.views[ids[from]][ids[to]] = l }
	say("liar", "honest", linkstate.Link{Latency: time.Microsecond})
	say("liar", "self", linkstate.Link{Latency: time.Microsecond})
	g := d.graph()
	for _, ends := range [][2]string{{"liar", "honest"}, {"honest", "liar"}, {"liar", "self"}, {"self", "liar"}} {
		if l, ok := g.Link(ends[0], ends[1]); ok && !l.Down {
			t.Errorf("link %v counts though only the liar reports it: %+v", ends, l)
		}
	}
	say("self", "liar", linkstate.Link{Latency: 40 * time.Millisecond})
	say("honest", "liar", linkstate.Link{Latency: 50 * time.Millisecond})
	g = d.graph()
	own, _ := g.Link("self", "liar")
	far, _ := g.Link("liar", "honest")
	if own.Latency != 40*time.Millisecond || far.Latency != 50*time.Millisecond {
		t.Errorf("the honest measurements must win: %v, %v", own.Latency, far.Latency)
	}
	delete(d.views[2], 1)
	if own, _ := d.graph().Link("self", "liar"); own.Down || own.Latency != 40*time.Millisecond {
		t.Errorf("our own measurement counts before the other reports: %+v", own)
	}
}

// After a restart with the clock set back, a node's items would be older than what others remember.
func TestOwnOldItemsAreOutnumbered(t *testing.T) {
	w := newWorld(t)
	n := w.add("ams", 1, nil)
	n.speak(time.Now())
	old := linkstate.Version{Epoch: math.MaxUint32 - 5, Counter: 70}
	n.offer(sealCard(t, n.cfg.Identity, old, card{"ams", n.cfg.Self()}), true)
	n.speak(time.Now())
	if v, _ := n.core.Held(n.ID()); !v.Newer(old) {
		t.Errorf("the next card is %v, the old one %v", v, old)
	}
}

// twins finds two names with one compact id (a birthday among some hundred thousand).
func twins() (one, two string) {
	seen := make(map[uint32]string)
	for i := 0; ; i++ {
		name := fmt.Sprintf("n%d", i)
		id := identity.NodeID("demo", name)
		if other, ok := seen[id]; ok {
			return other, name
		}
		seen[id] = name
	}
}

// Whatever decodes is sane, and is written and read again as the same.
func FuzzCard(f *testing.F) {
	a, b := sampleCard("ams"), card{node: "x", health: Health{Mesh: netip.MustParseAddrPort("10.0.0.1:1")}}
	f.Add(a.encode(nil))
	f.Add(b.encode(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := decodeCard(in)
		if err != nil {
			return
		}
		if !r.health.Mesh.IsValid() || len(r.health.Risks) > maxRisks {
			t.Fatalf("absurd card accepted: %+v", r)
		}
		again, err := decodeCard(r.encode(nil))
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v came back as %+v, %v", r, again, err)
		}
	})
}
