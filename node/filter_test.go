package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/ebpf"
	"github.com/ternmesh/tern/mesh/identity"
)

func TestKnownMembersOutliveTheProcess(t *testing.T) {
	file := filepath.Join(t.TempDir(), knownFile)
	if got := recallKnown(file); got != nil {
		t.Errorf("before the first start: %v", got)
	}
	var k known
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	if err := k.keep(file, []netip.Addr{b, a, a}); err != nil {
		t.Fatal(err)
	}
	if err := k.keep(file, []netip.Addr{a}); err != nil { // a restarted node that has not found the others yet
		t.Fatal(err)
	}
	if got := recallKnown(file); !slices.Equal(got, []netip.Addr{a, b}) {
		t.Errorf("recalled %v", got)
	}
	if err := os.WriteFile(file, []byte(`["192.0.2.1",`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := recallKnown(file); got != nil {
		t.Errorf("from a damaged file: %v", got)
	}
}

// newFilterNode is as much of a Node as the filter's part of the admin API and the news of quarantine touch.
func newFilterNode(t testing.TB, log *bytes.Buffer) *Node {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(log, nil))
	f, err := ebpf.New(ebpf.Config{Mode: ebpf.ModeGo, MeshPort: 7900, AccessPort: 8081, GuardMesh: true, GuardAccess: true, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{filter: f, log: logger}
	n.cfg.Node, n.cfg.Filter.ShareQuarantine = "fra", true
	n.quarantine = newQuarantineShare(n)
	n.quarantine.record = func(control.AuditBody) {}
	return n
}

func TestQuarantineIsToldAndTakenBack(t *testing.T) {
	synctest.Test(t, quarantineIsToldAndTakenBack) // news waits a second for more
}

func quarantineIsToldAndTakenBack(t *testing.T) {
	var log bytes.Buffer
	n := newFilterNode(t, &log)
	peer := identity.Peer{Node: "iad"}
	source := netip.MustParsePrefix("203.0.113.7/32")
	n.quarantine.tell(ebpf.Quarantined{Source: source, Until: time.Now().Add(time.Minute), Strikes: 1})
	n.quarantine.recant(netip.MustParsePrefix("203.0.113.8/32"))
	news := n.quarantine.gather(context.Background(), <-n.quarantine.news)
	if len(news.In) != 1 || len(news.Out) != 1 {
		t.Fatalf("gathered %+v", news)
	}
	text, err := json.Marshal(news)
	if err != nil {
		t.Fatal(err)
	}
	n.quarantine.hear(context.Background(), peer, text)
	if list := n.filter.Quarantine(); len(list) != 1 || list[0].From != "iad" || list[0].Source != source {
		t.Errorf("after the news: %+v", list)
	}
	for _, from := range []string{"rio", "iad"} { // who did not tell cannot take back
		text, _ := json.Marshal(quarantineNews{Out: []netip.Prefix{source}})
		n.quarantine.hear(context.Background(), identity.Peer{Node: from}, text)
		if left := len(n.filter.Quarantine()); (left == 1) != (from == "rio") {
			t.Errorf("after %s took it back: %d left", from, left)
		}
	}
	n.quarantine.hear(context.Background(), peer, []byte("{"))
	if !strings.Contains(log.String(), "refused news of quarantine") {
		t.Errorf("nothing said about damaged news:\n%s", &log)
	}
	for range quarantineQueue + 3 {
		n.quarantine.recant(source)
	}
	if lost := n.quarantine.lost.Load(); lost != 3 {
		t.Errorf("%d lost, not 3", lost)
	}
}

// New attackers are in the audit log, and a flood of made-up ones does not fill it.
func TestQuarantineIsAudited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var entries []control.AuditBody
		n := newFilterNode(t, &bytes.Buffer{})
		n.quarantine.record = func(b control.AuditBody) { entries = append(entries, b) }
		strike := func(last byte) {
			q := ebpf.Quarantined{Source: netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, last}), 32), Strikes: 1, Class: "quic", Reason: "rate_source"}
			n.quarantine.tell(q)
		}
		for i := range byte(200) {
			strike(i)
		}
		if len(entries) != auditBurst || entries[0].From != "203.0.113.0/32 at fra" || entries[0].Action != "filter quarantine" {
			t.Fatalf("%d entries of 200 sources: %+v", len(entries), entries)
		}
		time.Sleep(auditEvery)
		strike(201)
		if want := fmt.Sprintf("; %d more since the last entry", 200-auditBurst); len(entries) != auditBurst+1 || !strings.HasSuffix(entries[auditBurst].Detail, want) {
			t.Errorf("after %v: %d entries, the last %+v", auditEvery, len(entries), entries[len(entries)-1])
		}
	})
}

func TestSourcesAreReleasedThroughTheAdminAPI(t *testing.T) {
	n := newFilterNode(t, &bytes.Buffer{})
	mux := http.NewServeMux()
	n.filterRoutes(openRoutes(t, mux))
	n.filter.Adopt("iad", ebpf.Quarantined{Source: netip.MustParsePrefix("2001:db8:1:2::/64"), Until: time.Now().Add(time.Minute)})
	for _, c := range []struct {
		source string
		code   int
		want   string
	}{
		{"nonsense", http.StatusBadRequest, "is not an address"},
		{"203.0.113.7", http.StatusNotFound, "203.0.113.7 is not in quarantine at fra"},
		{"2001:db8:1:2::99", http.StatusOK, `"source": "2001:db8:1:2::/64"`},
		{"2001:db8:1:2::99", http.StatusNotFound, "is not in quarantine"},
	} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodDelete, "/v1/filter/quarantine/"+c.source, nil))
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s: %d %s", c.source, w.Code, w.Body)
		}
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/filter/drops?after=x", nil))
	if w.Code != http.StatusBadRequest {
		t.Errorf("after=x: %d", w.Code)
	}
}

// Every rate that a policy may set is one of the filter's.
func TestRatesOfThePolicyAreTheFiltersOwn(t *testing.T) {
	var p control.Policy
	p.Filter.Rates = map[string]control.FilterRate{}
	for _, name := range control.FilterRateNames {
		p.Filter.Rates[name] = control.FilterRate{PerSecond: 10, Burst: 20}
	}
	rules := filterRules(p)
	if err := newFilterNode(t, &bytes.Buffer{}).filter.Update(rules); err != nil {
		t.Error(err)
	}
	if want := (ebpf.Rate{PerSecond: 10, Burst: 20}); len(rules.Rates) != len(control.FilterRateNames) || rules.Rates["flow"] != want {
		t.Errorf("%+v", rules.Rates)
	}
}

func TestBlocklistsThatLockOutAreRefused(t *testing.T) {
	block := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8")}
	members := []netip.Addr{netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("10.2.2.2")}
	loopback := netip.MustParseAddr("127.0.0.1")
	for _, c := range []struct {
		name               string
		members, operators []netip.Addr
		want               string
	}{
		{"every member", members, nil, "covers every member"},
		{"one member", append([]netip.Addr{netip.MustParseAddr("192.0.2.1")}, members...), nil, ""},
		{"the operator", nil, []netip.Addr{loopback, members[0]}, "operator's own address 10.1.1.1"},
		{"an operator on the node itself", nil, []netip.Addr{loopback}, ""},
	} {
		err := lockedOut(block, c.members, c.operators)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || statusOf(err) != http.StatusConflict) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// FuzzQuarantineNews: whatever a member says, the filter holds no more than its bounds, and nothing but single sources.
func FuzzQuarantineNews(f *testing.F) {
	soon := time.Now().Add(time.Minute)
	for _, news := range []quarantineNews{
		{},
		{In: []ebpf.Quarantined{{Source: netip.MustParsePrefix("203.0.113.7/32"), Until: soon}}},
		{In: []ebpf.Quarantined{{Source: netip.MustParsePrefix("0.0.0.0/0"), Until: soon}}, Out: []netip.Prefix{{}}},
		{In: []ebpf.Quarantined{{Source: netip.MustParsePrefix("2001:db8::/64"), Until: soon.Add(1e6 * time.Hour), Strikes: -1}}},
	} {
		text, err := json.Marshal(news)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	n := newFilterNode(f, &bytes.Buffer{})
	n.log = slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, text []byte) {
		n.quarantine.hear(context.Background(), identity.Peer{Node: fmt.Sprintf("n%d", len(text)%3)}, text)
		for _, q := range n.filter.Quarantine() {
			if bits := q.Source.Bits(); bits != q.Source.Addr().BitLen() && bits != 64 || time.Until(q.Until) > 13*time.Hour {
				t.Fatalf("taken: %+v", q)
			}
		}
	})
}
