package ebpf

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var offence = judged(ClassQUIC, ReasonRateSource)

// strike gives a guard the samples of one strike.
func strike(g *guard, src netip.Addr, now uint64) (q Quarantined, struck bool) {
	for range strikeSamples {
		q, struck = g.suspect(src, offence, now)
	}
	return q, struck
}

func TestQuarantineGrowsAndEnds(t *testing.T) {
	g := newGuard(DefaultLimits())
	src, now := addr("198.18.0.9"), uint64(time.Hour)
	for i, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute} {
		q, struck := strike(g, src, now)
		if got := q.Until.Sub(q.Since); !struck || got != want || q.Strikes != i+1 || q.Reason != "rate_source" {
			t.Fatalf("strike %d: %v %+v, want %v", i+1, struck, q, want)
		}
		g.sweep(now + uint64(want))
		if !g.walled(src) {
			t.Fatalf("free before its time %d ran out", i+1)
		}
		now += uint64(want) + 1
		if g.sweep(now); g.walled(src) {
			t.Fatalf("still shut out after time %d", i+1)
		}
	}
	if d := sentence(99); d != longestWall {
		t.Errorf("the longest is %v", d)
	}
	now += uint64(strikeMemory) + 1
	if q, _ := strike(g, src, now); q.Strikes != 1 {
		t.Errorf("strikes after a quiet day: %d", q.Strikes)
	}
}

func TestOnlyOffencesCloseTogetherAreAStrike(t *testing.T) {
	g := newGuard(DefaultLimits())
	now := uint64(time.Hour)
	for range 10 * strikeSamples { // spread out
		now += uint64(strikeWindow) / (strikeSamples - 2)
		g.suspect(addr("198.18.0.1"), offence, now)
	}
	member := addr("198.18.0.2")
	g.addPeer(member)
	strike(g, member, now)
	for range 10 * strikeSamples {
		g.suspect(addr("198.18.0.3"), judged(ClassRTP, ReasonNotAdmitted), now) // a client that a restart forgot
		g.suspect(addr("198.18.0.4"), judged(ClassNone, ReasonMalformed), now)  // perhaps not for us
		g.suspect(netip.Addr{}, offence, now)
	}
	if len(g.walls) != 0 {
		t.Errorf("in quarantine: %v", g.walls)
	}
	for i := range byte(strikeSamples) { // one subscriber, many addresses
		a := addr("2001:db8:0:7::").As16()
		a[15] = i
		g.suspect(netip.AddrFrom16(a), offence, now)
	}
	if !g.walled(addr("2001:db8:0:7:ffff::1")) || g.walled(addr("2001:db8:0:8::1")) {
		t.Errorf("an IPv6 source is its /64: %v", g.walls)
	}
}

// A wall stands before strangers alone: forging an address shuts nobody out who is known or holds a ufrag.
func TestQuarantineSparesWhoIsKnown(t *testing.T) {
	table, g := guardedTable(DefaultLimits())
	now, src := uint64(ufragEpochNS), addr("198.18.9.9")
	strike(g, src, now)
	at := netip.AddrPortFrom(src, 5000)
	request := stunRequest([]byte(makeUfrag(g.ufrag, 1, 1)+":x"), 0)
	check := func(name string, port uint16, p []byte, want string) {
		t.Helper()
		if v := table.allowPacket(at, port, p, g, now); v.String() != want {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
	check("a stranger's QUIC", testMesh, bytesOf(30, 192), "drop quic quarantine")
	check("a stranger's gossip", testMesh, bytesOf(30, 4), "drop gossip quarantine")
	check("a stranger's STUN", testAccess, stunRequest([]byte("x:y"), 0), "drop stun quarantine")
	check("a session's start", testAccess, request, "pass stun ufrag")
	g.admit("s", at, now)
	check("an admitted client", testAccess, sampleRTP(9), "pass rtp ok")
	g.addPeer(src)
	check("a member", testMesh, bytesOf(30, 192), "pass quic ok")
	if w := g.walls[subscriber(src)]; w.dropped != 3 {
		t.Errorf("%d drops counted, not 3", w.dropped)
	}
}

func TestQuarantineIsBounded(t *testing.T) {
	g := newGuard(DefaultLimits())
	now := uint64(time.Hour)
	for i := range maxWalls + 5 {
		now += 1000
		strike(g, netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}), now)
	}
	if len(g.walls) != maxWalls || len(g.suspects) != maxSuspects || g.stats.WallsEvicted != 5 {
		t.Errorf("%d walls, %d suspects, %+v", len(g.walls), len(g.suspects), g.stats)
	}
	if g.walled(addr("11.0.0.0")) || !g.walled(addr("11.0.4.4")) {
		t.Error("not the one that would have left first made room")
	}
}

func TestQuarantineIsVisibleRemovableAndTold(t *testing.T) {
	var log bytes.Buffer
	f := goFilter(t, &log)
	var told []Quarantined
	f.cfg.OnQuarantine = func(q Quarantined) { told = append(told, q) }
	if err := f.Update(Rules{Allowlist: prefixes("198.18.1.0/24")}); err != nil {
		t.Fatal(err)
	}
	for range strikeSamples {
		f.sample(good4, offence, "go")
		f.sample(addr("198.18.1.1"), offence, "go")
	}
	list := f.Quarantine()
	if len(list) != 1 || len(told) != 1 || list[0] != told[0] || list[0].Source.String() != good4.String()+"/32" || time.Until(list[0].Until) < 50*time.Second {
		t.Errorf("listed %+v, told %+v", list, told)
	}
	if n := strings.Count(log.String(), "event=quarantine"); n != 1 {
		t.Errorf("%d lines:\n%s", n, log.String())
	}
	if f.Report().Quarantined != 1 || !f.Release(addr("::ffff:"+good4.String())) || f.Release(good4) || len(f.Quarantine()) != 0 {
		t.Errorf("after the release: %+v", f.Quarantine())
	}
	if q, _ := strike(f.guard, good4, f.clock()); q.Strikes != 1 {
		t.Errorf("the release forgot nothing: %+v", q)
	}
}

func TestOtherNodesAreBelievedWithinBounds(t *testing.T) {
	f := goFilter(t, &bytes.Buffer{})
	f.SetMembers([]netip.Addr{good4})
	if err := f.Update(Rules{Allowlist: prefixes("198.18.1.0/24")}); err != nil {
		t.Fatal(err)
	}
	in := func(source string, d time.Duration) Quarantined {
		p := netip.Prefix{}
		if source != "" {
			p = netip.MustParsePrefix(source)
		}
		return Quarantined{Source: p, Until: time.Now().Add(d), Strikes: 2, Class: "quic", Reason: strings.Repeat("x", 99)}
	}
	for _, c := range []struct {
		q    Quarantined
		want bool
	}{
		{in("198.18.5.5/32", time.Minute), true},
		{in("2001:db8:1:2::/64", 99*time.Hour), true},
		{in("", time.Minute), false},
		{in("198.18.5.6/32", -time.Minute), false},
		{in("198.18.0.0/16", time.Minute), false},
		{in("2001:db8::/32", time.Minute), false},
		{in("::ffff:198.18.5.5/128", time.Minute), false},
		{in(good4.String()+"/32", time.Minute), false},
		{in("198.18.1.9/32", time.Minute), false},
	} {
		if got := f.Adopt("fra", c.q); got != c.want {
			t.Errorf("%v: %v", c.q.Source, got)
		}
	}
	for _, q := range f.Quarantine() {
		if q.From != "fra" || time.Until(q.Until) > longestWall || len(q.Reason) > 24 {
			t.Errorf("%+v", q)
		}
	}
	p := netip.MustParsePrefix("198.18.5.5/32")
	for i := range 2 * maxTold {
		f.Adopt("rio", in(netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}).String()+"/32", time.Minute))
	}
	if n := f.LiveStats().Adopted; n != 2+maxTold {
		t.Errorf("%d sources on the word of two nodes", n)
	}
	if f.Recant("par", p) || !f.Recant("fra", p) || len(f.Quarantine()) != 1+maxTold {
		t.Errorf("after taking back: %+v", f.Quarantine())
	}
}

func TestRecentDropsAreNumbered(t *testing.T) {
	f := goFilter(t, &bytes.Buffer{})
	if got := f.Recent(0); len(got) != 0 {
		t.Errorf("before the first: %v", got)
	}
	f.AllowPacket(netip.AddrPortFrom(good4, 1), testMesh, []byte{9})
	if d := f.Recent(0); len(d) != 1 || d[0].Number != 1 || d[0].Source != good4 || d[0].Reason != ReasonBadClass || d[0].Where != "go" {
		t.Errorf("the first: %+v", d)
	}
	for range 2 * recentDrops {
		f.sample(good4, offence, "go")
	}
	all := f.Recent(0)
	if len(all) != recentDrops || all[0].Number != recentDrops+2 || all[recentDrops-1].Number != 2*recentDrops+1 {
		t.Errorf("%d kept, %d to %d", len(all), all[0].Number, all[len(all)-1].Number)
	}
	if d := f.Recent(2 * recentDrops); len(d) != 1 || d[0].Number != 2*recentDrops+1 {
		t.Errorf("the last: %+v", d)
	}
	if d := f.Recent(9 * recentDrops); len(d) != 0 {
		t.Errorf("of the future: %+v", d)
	}
}
