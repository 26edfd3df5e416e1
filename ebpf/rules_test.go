package ebpf

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, s := range texts {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestValidateNamesWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		rules Rules
		want  string
	}{
		{Rules{Blocklist: prefixes("10.0.0.1/8")}, "10.0.0.0/8 is the range"},
		{Rules{Blocklist: prefixes("10.0.0.0/8", "0.0.0.0/0")}, "entry 2: 0.0.0.0/0 blocks every address"},
		{Rules{Blocklist: prefixes("::ffff:10.0.0.0/104")}, "write it as IPv4"},
		{Rules{Blocklist: make([]netip.Prefix, 1)}, "is not an address range"},
		{Rules{MeshPort: 7, AccessPort: 7}, "both 7"},
		{Rules{Blocklist: make([]netip.Prefix, 30)}, "and 10 more"},
		{Rules{Blocklist: sampleBlocklist(MaxRules+1, rand.New(rand.NewPCG(1, 1)))}, "at most 100000 fit"},
	} {
		if _, err := c.rules.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v does not say %q", err, c.want)
		}
	}
}

func TestValidateNamesDuplicatesAndOverlaps(t *testing.T) {
	r := Rules{Blocklist: prefixes("10.1.0.0/16", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "11.0.0.0/8", "2001:db8::/32")}
	findings, err := r.Validate()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range findings {
		got = append(got, f.Problem+": "+f.Detail)
	}
	want := []string{
		"overlapping: 10.1.0.0/16 lies inside 10.0.0.0/8",
		"duplicate: 10.1.0.0/16 is listed more than once",
		"overlapping: 10.1.2.0/24 lies inside 10.1.0.0/16",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("findings:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestLockedOutNamesTheAddresses(t *testing.T) {
	r := Rules{Blocklist: prefixes("10.0.0.0/8")}
	out := r.LockedOut([]netip.Addr{addr("10.2.3.4"), addr("11.2.3.4"), addr("::ffff:10.0.0.1")})
	if len(out) != 2 || out[0] != addr("10.2.3.4") {
		t.Errorf("locked out: %v", out)
	}
}

func TestParseRules(t *testing.T) {
	r, err := ParseRules([]byte("mesh_port: 7400\naccess_port: 7401\nfragments: pass\nblocklist: [203.0.113.0/24, 2001:db8::1]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if r.MeshPort != 7400 || !r.PassFragments || len(r.Blocklist) != 2 || r.Blocklist[1].Bits() != 128 {
		t.Errorf("read %+v", r)
	}
	for doc, want := range map[string]string{
		"blocklist: [10.0.0.0/33]":     `"10.0.0.0/33" is not a CIDR range`,
		"blocklist: [example.org]":     `"example.org" is neither an address`,
		"blocklist: [fe80::1%eth0]":    "neither an address",
		"blocklist: [10.0.0.7/8]":      "10.0.0.0/8 is the range",
		"blocklists: [10.0.0.0/8]":     "blocklists",
		"fragments: maybe":             `"maybe", not drop or pass`,
		"mesh_port: 7\naccess_port: 7": "both 7",
	} {
		if _, err := ParseRules([]byte(doc)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not say %q", doc, err, want)
		}
	}
}

// The oracle looks at every rule.
func slowest(rules []netip.Prefix, a netip.Addr) (best netip.Prefix, found bool) {
	for _, p := range rules {
		if p.Contains(a) && (!found || p.Bits() > best.Bits()) {
			best, found = p, true
		}
	}
	return best, found
}

func TestLookupsAgreeWithALinearSearch(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 3))
	for round := range 200 {
		rules := drawRules(r)
		rules.Blocklist = append(rules.Blocklist, sampleBlocklist(r.IntN(60), r)...)
		if round%10 == 0 {
			rules.Blocklist = append(rules.Blocklist, prefixes("255.255.255.255/32", "0.0.0.0/1", "ffff::/16", "::/3")...)
		}
		table, err := Compile(rules)
		if err != nil {
			t.Fatal(err)
		}
		for range 300 {
			a := drawAddr(r).Unmap()
			if n := len(rules.Blocklist); n > 0 && r.IntN(2) == 0 { // at and around the edges of a rule
				a = []netip.Addr{a, rules.Blocklist[r.IntN(n)].Addr(), rules.Blocklist[r.IntN(n)].Addr().Prev()}[r.IntN(3)]
			}
			got, ok := table.Blocked(a)
			want, found := slowest(rules.Blocklist, a)
			if allowed, hole := slowest(rules.Allowlist, a); found && hole && allowed.Bits() >= want.Bits() {
				want, found = netip.Prefix{}, false
			}
			if got != want || ok != found {
				t.Fatalf("seed %d: %v: %v %v, want %v %v, rules %v, allowed %v", seed, a, got, ok, want, found, rules.Blocklist, rules.Allowlist)
			}
		}
	}
}

func TestJudge(t *testing.T) {
	frame := sample{src: addr("203.0.113.1"), port: testMesh, payload: samplePath(9)}.frame()
	for _, mode := range []string{ModeGo, ModeXDP} {
		v, err := Judge(testRules(), mode, frame)
		if errors.Is(err, ErrUnsupported) {
			if os.Getenv("CI") == "true" {
				t.Fatalf("CI has to run the kernel tests: %v", err)
			}
			t.Skipf("only the twin runs here: %v", err)
		}
		if err != nil || v.String() != "drop mesh blocklist 203.0.113.0/24" {
			t.Errorf("%s: %v, %v", mode, v, err)
		}
	}
	if _, err := Judge(testRules(), "psychic", frame); err == nil {
		t.Error("an unknown mode was accepted")
	}
}

func TestRatesByPolicy(t *testing.T) {
	f := goFilter(t, new(bytes.Buffer))
	f.cfg.GuardMesh = true
	pass := func(src netip.Addr) (n int) {
		for range 2000 {
			if f.AllowPacket(netip.AddrPortFrom(src, 1), testMesh, bytesOf(30, 192)).Action == Pass {
				n++
			}
		}
		return n
	}
	if err := f.Update(Rules{Rates: map[string]Rate{"source_mesh": {1, 7}}}); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	n := pass(good4)
	if most := 7 + int(time.Since(begin)/time.Second); n < 7 || n > most {
		t.Errorf("%d packets of a stranger passed a rate of 1/s with a burst of 7, want %d", n, most)
	}
	if err := f.Update(Rules{Rates: map[string]Rate{"sauce": {1, 7}}}); err == nil || !strings.Contains(err.Error(), "source_mesh") {
		t.Errorf("an unknown rate: %v", err)
	}
	if err := f.Update(Rules{}); err != nil {
		t.Fatal(err)
	}
	if n := pass(good6); n < 500 { // good4 waits until its bucket of the old rate is empty
		t.Errorf("%d packets passed the normal rate", n)
	}
}

func TestLockoutIsNamed(t *testing.T) {
	rules := Rules{Blocklist: prefixes("10.0.0.0/8", "2001:db8::/32")}
	all := []netip.Addr{addr("10.1.2.3"), addr("2001:db8::7")}
	for _, c := range []struct {
		name               string
		members, operators []netip.Addr
		want               string
	}{
		{"every member", all, nil, "every member"},
		{"some members", append([]netip.Addr{addr("192.0.2.1")}, all...), nil, ""},
		{"no members are known", nil, nil, ""},
		{"the operator", nil, []netip.Addr{addr("192.0.2.1"), addr("::ffff:10.9.9.9")}, "own address"},
		{"nobody", nil, []netip.Addr{addr("192.0.2.1")}, ""},
	} {
		err := rules.CheckLockout(c.members, c.operators)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestAllowlistIsAHoleInTheBlocklist(t *testing.T) {
	rules, err := ParseRules([]byte("blocklist: [10.0.0.0/8, 10.1.2.0/24, 192.0.2.0/24]\nallowlist: [10.1.0.0/16, 192.0.2.0/24, 10.1.2.3]\n"))
	if err != nil {
		t.Fatal(err)
	}
	table := compile(rules)
	for a, want := range map[string]string{
		"10.0.0.1": "10.0.0.0/8", "10.1.0.1": "", "10.1.2.4": "10.1.2.0/24", "10.1.2.3": "", "10.2.0.0": "10.0.0.0/8", "192.0.2.9": "", "11.0.0.0": "",
	} {
		rule, blocked := table.Blocked(addr(a))
		if blocked != (want != "") || blocked && rule.String() != want {
			t.Errorf("%s: %v %v, want %q", a, rule, blocked, want)
		}
	}
	if _, err := ParseRules([]byte("allowlist: [10.1.0.0/8]\n")); err == nil || !strings.Contains(err.Error(), "allowlist entry 1") {
		t.Errorf("a malformed entry: %v", err)
	}
}
