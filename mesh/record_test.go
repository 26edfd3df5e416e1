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
)

func sampleRecord(node string, links int) record {
	r := record{
		order: order{7, 9},
		node:  node,
		health: Health{
			Incarnation: 7, Mesh: netip.MustParseAddrPort("[2001:db8::1]:7000"), AccessURL: "https://a.example", State: StateServing,
			Load: 0.5, PolicyVersion: 12, Voter: true, Sessions: 300, Risks: []string{"site:fra1", "provider:acme"},
		},
	}
	for i := range links {
		r.links = append(r.links, linkEntry{uint32(i + 1), 100 * time.Millisecond, time.Millisecond, 3, 0, i%2 == 0})
	}
	return r
}

func TestRecordRoundTrip(t *testing.T) {
	want := sampleRecord("ams", 5)
	got, err := decodeRecord(want.encode(nil))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestRecordRefusesTheAbsurd(t *testing.T) {
	for name, change := range map[string]func(*record){
		"infinite load":    func(r *record) { r.health.Load = math.Inf(1) },
		"negative load":    func(r *record) { r.health.Load = -1 },
		"no number":        func(r *record) { r.health.Load = math.NaN() },
		"latency 1e9 ms":   func(r *record) { r.links[0].latency = 1e9 * time.Millisecond },
		"negative latency": func(r *record) { r.links[0].latency = -time.Second },
		"jitter 1e9 ms":    func(r *record) { r.links[0].jitter = 1e9 * time.Millisecond },
		"sessions":         func(r *record) { r.health.Sessions = maxSessions + 1 },
		"no address":       func(r *record) { r.health.Mesh = netip.MustParseAddrPort("0.0.0.0:1") },
		"multicast":        func(r *record) { r.health.Mesh = netip.MustParseAddrPort("224.0.0.1:1") },
		"port 0":           func(r *record) { r.health.Mesh = netip.MustParseAddrPort("10.0.0.1:0") },
		"escape in state":  func(r *record) { r.health.State = "\x1b[31m" },
		"name":             func(r *record) { r.node = "Ams" },
	} {
		r := sampleRecord("ams", 1)
		change(&r)
		if got, err := decodeRecord(r.encode(nil)); err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
	whole := (&record{node: "a", health: sampleRecord("a", 0).health}).encode(nil)
	for cut := range whole {
		if _, err := decodeRecord(whole[:cut]); err == nil {
			t.Fatalf("a record cut at %d of %d bytes was accepted", cut, len(whole))
		}
	}
	if _, err := decodeRecord(append(whole, 0)); err == nil {
		t.Error("bytes after the end were accepted")
	}
}

func TestSealedRecordFitsAPacket(t *testing.T) {
	w := newWorld(t)
	id := w.identity("ams", "eu", true)
	r := sampleRecord("ams", 200)
	sealed, err := r.seal(id)
	if err != nil || len(sealed) > maxRecord || len(r.links) < 35 {
		t.Fatalf("%d bytes with %d links, %v; want at most %d with 35 or more", len(sealed), len(r.links), err, maxRecord)
	}
	t.Logf("%d links fit; certificate %d bytes", len(r.links), len(id.Cert.Certificate[0]))
}

func TestForgedRecordsAreRefused(t *testing.T) {
	w := newWorld(t)
	n := w.add("ams", 1, nil)
	fra, nrt := w.identity("fra", "eu", false), w.identity("nrt", "jp", false)
	addr := netip.MustParseAddrPort("10.0.0.2:7000")
	n.joinedBy("fra", addr)
	seal := func(by *identity.Identity, change func(*record)) []byte {
		r := record{order: order{7, 9}, node: "fra", health: Health{Mesh: addr, State: StateServing}}
		if change != nil {
			change(&r)
		}
		sealed, err := r.seal(by)
		if err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	good := seal(fra, nil)
	flipped := bytes.Clone(good)
	flipped[10] ^= 1
	foreign := newWorld(t).identity("fra", "eu", true)
	for _, c := range []struct {
		story  string
		sealed []byte
		why    string
	}{
		{"one bit changed", flipped, refuseForged},
		{"signed by nrt in fra's name", seal(nrt, nil), refuseSigner},
		{"signed by another mesh's CA", seal(foreign, nil), refuseForged},
		{"a load of infinity", seal(fra, func(r *record) { r.health.Load = math.Inf(1) }), refuseAbsurd},
		{"another address", seal(fra, func(r *record) { r.health.Mesh = addrOfHost(77) }), refuseAddress},
		{"cut short", good[:100], refuseForm},
		{"nothing", nil, refuseForm},
		{"too long", make([]byte, maxRecord+1), refuseForm},
		{"of nobody we know", seal(nrt, func(r *record) { r.node = "nrt" }), refuseUnknown},
		{"good", good, ""},
		{"again", good, refuseDuplicate},
		{"older counter", seal(fra, func(r *record) { r.counter = 8 }), refuseStale},
		{"older run", seal(fra, func(r *record) { r.order = order{6, 99} }), refuseStale},
		{"claims a vote", seal(fra, func(r *record) { r.counter, r.health.Voter = 10, true }), ""},
	} {
		before := n.Stats().RecordsRefused[c.why]
		n.offer(c.sealed)
		if after := n.Stats().RecordsRefused[c.why]; c.why != "" && after != before+1 {
			t.Errorf("%s: not refused as %q: %v", c.story, c.why, n.Stats().RecordsRefused)
		}
	}
	if s := n.Stats(); s.RecordsAccepted != 2 {
		t.Errorf("%d records accepted, want 2", s.RecordsAccepted)
	}
	if m, ok := n.Lookup("fra"); !ok || m.Health.Voter || m.Region != "eu" {
		t.Errorf("fra is %+v; its certificate gives no vote", m)
	}
	n.goneBy("fra")
	n.joinedBy("fra", addr)
	if n.offer(good); n.Stats().RecordsRefused[refuseStale] != 3 {
		t.Error("an old record was accepted after the node was gone for a while")
	}
}

func TestLinksCannotBeTalkedUp(t *testing.T) {
	got := mergeLink("a", "b",
		linkEntry{latency: time.Millisecond, lossOut: 0},
		linkEntry{latency: 80 * time.Millisecond, jitter: time.Millisecond, lossIn: quantLoss(0.1), lossOut: quantLoss(0.5), down: true})
	if got.Latency != 80*time.Millisecond || math.Abs(got.Loss-0.1) > 0.005 || !got.Down || got.Jitter != time.Millisecond {
		t.Errorf("the receiver's worse view must win; got %+v", got)
	}
}

// After a restart with the clock set back, a node's records would be older than what others remember.
func TestOwnOldRecordsAreOutnumbered(t *testing.T) {
	w := newWorld(t)
	n := w.add("ams", 1, nil)
	old := record{order: order{math.MaxUint32 - 5, 70}, node: "ams", health: n.cfg.Self()}
	sealed, err := old.seal(n.cfg.Identity)
	if err != nil {
		t.Fatal(err)
	}
	n.offer(sealed)
	fresh, err := n.publish("")
	if err != nil {
		t.Fatal(err)
	}
	body, _, _, _ := openEnvelope(fresh)
	if r, err := decodeRecord(body); err != nil || !r.newer(old.order) {
		t.Errorf("the next record is %v, the old one %v", r.order, old.order)
	}
}

func TestLossQuantisation(t *testing.T) {
	for _, p := range []float64{0, 1e-5, 0.001, 0.01, 0.3, 1, 2, math.NaN(), -1} {
		got := lossOf(quantLoss(p))
		want := min(max(p, 0), 1)
		if math.IsNaN(p) {
			want = 0
		}
		if got < want || got > want+0.01 {
			t.Errorf("loss %v travels as %v", p, got)
		}
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
func FuzzRecord(f *testing.F) {
	a, b := sampleRecord("ams", 3), record{node: "x", health: Health{Mesh: netip.MustParseAddrPort("10.0.0.1:1")}}
	f.Add(a.encode(nil))
	f.Add(b.encode(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		_, _, _, _ = openEnvelope(in)
		r, err := decodeRecord(in)
		if err != nil {
			return
		}
		if !(r.health.Load >= 0 && r.health.Load <= maxLoad) || len(r.links) > maxLinkEntries || !r.health.Mesh.IsValid() {
			t.Fatalf("absurd record accepted: %+v", r)
		}
		for _, l := range r.links {
			if l.latency < 0 || l.latency > maxDelay || l.jitter < 0 || l.jitter > maxDelay {
				t.Fatalf("absurd link accepted: %+v", l)
			}
		}
		again, err := decodeRecord(r.encode(nil))
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v came back as %+v, %v", r, again, err)
		}
	})
}
