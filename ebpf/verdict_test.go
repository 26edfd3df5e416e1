package ebpf

import (
	"encoding/json"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	good4 = netip.MustParseAddr("198.18.0.1")
	good6 = netip.MustParseAddr("2001:db8::1")
)

func testRules() Rules {
	return Rules{
		MeshPort: testMesh, AccessPort: testAccess,
		Blocklist: []netip.Prefix{
			netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("203.0.113.128/25"),
			netip.MustParsePrefix("2001:db8:bad::/48"),
		},
	}
}

func bytesOf(n int, first ...byte) []byte { return append(first, make([]byte, n-len(first))...) }

// edited is a path frame with single bytes changed: edited(at, value, at, value...).
func edited(changes ...int) []byte {
	p := samplePath(20)
	for i := 0; i < len(changes); i += 2 {
		p[changes[i]] = byte(changes[i+1])
	}
	return p
}

var payloadCases = []struct {
	name    string
	port    uint16
	payload []byte
	want    string
}{
	{"gossip", testMesh, bytesOf(30, 4), "pass gossip ok"},
	{"gossip shorter than its seal", testMesh, bytesOf(29, 4), "drop gossip short"},
	{"path frame", testMesh, samplePath(20), "pass path ok"},
	{"path frame with padding", testMesh, append(samplePath(20), 0, 0), "pass path ok"},
	{"path frame cut short", testMesh, samplePath(20)[:29], "drop path short"},
	{"path frame that promises too much", testMesh, samplePath(20)[:59], "drop path bad_length"},
	{"path frame of version 2", testMesh, edited(1, 0x20), "drop path bad_version"},
	{"path frame with congestion bit and epoch", testMesh, edited(1, 0x1d), "pass path ok"},
	{"path frame with three relays", testMesh, edited(2, 0x03), "drop path bad_hops"},
	{"path frame at its egress", testMesh, edited(2, 0xf5), "pass path ok"},
	{"path frame behind its egress", testMesh, edited(2, 0x09), "drop path bad_hops"},
	{"path frame of kind 0", testMesh, edited(3, 0), "drop path bad_kind"},
	{"path frame that probes a size", testMesh, edited(3, 4), "pass path ok"},
	{"path frame of a kind to come", testMesh, edited(3, 15), "pass path ok"},
	{"path frame that says on which paths its copies are", testMesh, edited(3, 0x72), "pass path ok"},
	{"mesh fence with a relay", testMesh, edited(3, 3, 12, 0, 13, 0, 14, 0, 15, 0), "drop path bad_fence"},
	{"mesh fence with media", testMesh, edited(2, 0, 12, 0, 13, 0, 14, 0, 15, 0), "drop path bad_fence"},
	{"mesh fence with a probe", testMesh, edited(2, 0, 3, 3, 12, 0, 13, 0, 14, 0, 15, 0), "pass path ok"},
	{"QUIC short header", testMesh, bytesOf(21, 64), "pass quic ok"},
	{"QUIC short header, too short", testMesh, bytesOf(20, 127), "drop quic short"},
	{"QUIC long header", testMesh, bytesOf(11, 192), "pass quic ok"},
	{"QUIC long header, too short", testMesh, bytesOf(10, 255), "drop quic short"},
	{"a free class", testMesh, bytesOf(60, 6), "drop mesh bad_class"},
	{"STUN on the mesh port", testMesh, bytesOf(60, 0, 1), "drop mesh bad_class"},
	{"nothing", testMesh, nil, "drop mesh empty"},
	{"STUN", testAccess, bytesOf(28, 0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42), "pass stun ok"},
	{"STUN that promises too much", testAccess, bytesOf(24, 0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42), "drop stun bad_length"},
	{"STUN of odd length", testAccess, bytesOf(28, 0, 1, 0, 7, 0x21, 0x12, 0xa4, 0x42), "drop stun bad_length"},
	{"STUN without cookie", testAccess, bytesOf(28, 0, 1, 0, 8, 1, 2, 3, 4), "drop stun bad_cookie"},
	{"STUN too short", testAccess, bytesOf(19, 0, 1), "drop stun short"},
	{"DTLS", testAccess, bytesOf(13, 22), "pass dtls ok"},
	{"DTLS too short", testAccess, bytesOf(12, 63), "drop dtls short"},
	{"RTP", testAccess, sampleRTP(1), "pass rtp ok"},
	{"RTP with 15 sources", testAccess, append([]byte{0x8f}, sampleRTP(58)[1:]...), "drop rtp bad_length"},
	{"RTP too short", testAccess, sampleRTP(0)[:11], "drop rtp short"},
	{"RTCP", testAccess, bytesOf(8, 0x80, 200), "pass rtcp ok"},
	{"neither RTP nor RTCP", testAccess, bytesOf(7, 0x80, 200), "drop rtp short"},
	{"QUIC on the access port", testAccess, bytesOf(60, 192), "drop access bad_class"},
	{"nothing", testAccess, nil, "drop access empty"},
	{"another service", 53, bytesOf(3), "pass none not_ours"},
}

func TestPayloadsOfEveryClass(t *testing.T) {
	table, err := Compile(testRules())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range payloadCases {
		if v := table.AllowPacket(netip.AddrPortFrom(good4, 9), c.port, c.payload); v.String() != c.want {
			t.Errorf("%s on port %d: socket side says %q, want %q", c.name, c.port, v, c.want)
		}
		for _, src := range []netip.Addr{good4, good6} {
			frame := sample{src: src, port: c.port, payload: c.payload}.frame()
			if v := table.Frame(frame); v.String() != c.want {
				t.Errorf("%s on port %d from %v: %q, want %q", c.name, c.port, src, v, c.want)
			}
		}
	}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// overwrite changes bytes of a frame.
func overwrite(p []byte, at int, values ...byte) []byte {
	copy(p[at:], values)
	return p
}

func TestHeadersInEveryShape(t *testing.T) {
	table, err := Compile(testRules())
	if err != nil {
		t.Fatal(err)
	}
	payload := samplePath(20)
	v4 := sample{src: good4, port: testMesh, payload: payload}
	v6 := sample{src: good6, port: testMesh, payload: payload}
	with := func(s sample, change func(*sample)) []byte { change(&s); return s.frame() }
	for _, c := range []struct {
		name  string
		frame []byte
		want  string
	}{
		{"two VLAN tags", with(v4, func(s *sample) { s.vlans = 2 }), "pass path ok"},
		{"three VLAN tags", with(v4, func(s *sample) { s.vlans = 3 }), "pass none not_ours"},
		{"cut in a VLAN tag", with(v4, func(s *sample) { s.vlans = 1 })[:16], "drop none truncated"},
		{"all options of IPv4", with(v4, func(s *sample) { s.options = 10 }), "pass path ok"},
		{"cut in the IPv4 options", with(v4, func(s *sample) { s.options = 10 })[:40], "drop none truncated"},
		{"IPv4 header of 16 bytes", overwrite(v4.frame(), 14, 0x44), "drop none malformed"},
		{"version 5", overwrite(v4.frame(), 14, 0x55), "drop none malformed"},
		{"TCP", overwrite(v4.frame(), 23, 6), "pass none not_ours"},
		{"ARP", overwrite(v4.frame(), 12, 0x08, 0x06), "pass none not_ours"},
		{"total length beyond the frame", overwrite(v4.frame(), 16, 0x40), "drop mesh malformed"},
		{"UDP length beyond IPv4's", overwrite(v4.frame(), 38, 0x40), "drop mesh malformed"},
		{"UDP length of 7", overwrite(v4.frame(), 38, 0, 7), "drop mesh malformed"},
		{"cut in the UDP header", v4.frame()[:41], "drop none truncated"},
		{"Ethernet padding", append(v4.frame(), 0, 0, 0), "pass path ok"},
		{"first fragment", with(v4, func(s *sample) { s.frag = 0x2000 }), "drop mesh fragment"},
		{"first fragment of another service", with(v4, func(s *sample) { s.frag, s.port = 0x2000, 53 }), "pass none not_ours"},
		{"later fragment", with(v4, func(s *sample) { s.frag = 0x0010 }), "pass none fragment_rest"},
		{"blocked by the longer rule", with(v4, func(s *sample) { s.src = addr("203.0.113.200") }), "drop mesh blocklist 203.0.113.128/25"},
		{"blocked by the shorter rule", with(v4, func(s *sample) { s.src = addr("203.0.113.1") }), "drop mesh blocklist 203.0.113.0/24"},
		{"blocked, another service", with(v4, func(s *sample) { s.src, s.port = addr("203.0.113.1"), 53 }), "pass none not_ours"},
		{"blocked IPv6", with(v6, func(s *sample) { s.src = addr("2001:db8:bad::9") }), "drop mesh blocklist 2001:db8:bad::/48"},
		{"IPv4-mapped source", with(v6, func(s *sample) { s.src = addr("::ffff:203.0.113.1") }), "drop mesh malformed"},
		{"six extension headers", with(v6, func(s *sample) { s.headers = []byte{0, 60, 43, 135, 139, 60} }), "pass path ok"},
		{"seven extension headers", with(v6, func(s *sample) { s.headers = []byte{0, 60, 43, 135, 139, 60, 60} }), "drop none ext_headers"},
		{"authentication header", with(v6, func(s *sample) { s.headers = []byte{51} }), "pass path ok"},
		{"encrypted", with(v6, func(s *sample) { s.headers = []byte{50} }), "pass none not_ours"},
		{"IPv6 atomic fragment", with(v6, func(s *sample) { s.headers = []byte{44} }), "pass path ok"},
		{"IPv6 first fragment", with(v6, func(s *sample) { s.headers, s.frag = []byte{44}, 1 }), "drop mesh fragment"},
		{"IPv6 later fragment", with(v6, func(s *sample) { s.headers, s.frag = []byte{44}, 8 }), "pass none fragment_rest"},
		{"cut in an extension header", with(v6, func(s *sample) { s.headers = []byte{0} })[:60], "drop none truncated"},
		{"IPv6 payload length beyond the frame", overwrite(v6.frame(), 18, 0x40), "drop mesh malformed"},
		{"too short for Ethernet", make([]byte, 13), "drop none truncated"},
		{"nothing", nil, "drop none truncated"},
	} {
		if v := table.Frame(c.frame); v.String() != c.want {
			t.Errorf("%s: %q, want %q", c.name, v, c.want)
		}
	}
}

func TestFragmentsPassByChoice(t *testing.T) {
	rules := testRules()
	rules.PassFragments = true
	table, err := Compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	s := sample{src: good4, port: testMesh, frag: 0x2000, payload: []byte{99}}
	if v := table.Frame(s.frame()); v.Reason != ReasonFragmentPassed || v.Action != Pass {
		t.Errorf("first fragment: %v", v)
	}
	s.src = addr("203.0.113.1")
	if v := table.Frame(s.frame()); v.Reason != ReasonBlocklist {
		t.Errorf("first fragment of a blocked source: %v", v)
	}
}

func TestSocketSideSeesThroughMappedAddresses(t *testing.T) {
	table, err := Compile(testRules())
	if err != nil {
		t.Fatal(err)
	}
	src := netip.MustParseAddrPort("[::ffff:203.0.113.1]:9")
	if v := table.AllowPacket(src, testMesh, samplePath(9)); v.Reason != ReasonBlocklist {
		t.Errorf("a dual-stack socket's form of a blocked address: %v", v)
	}
}

// The C header and the Go constants are written by hand; this is what keeps them one list.
func TestNumbersAreThoseOfTheHeader(t *testing.T) {
	text, err := os.ReadFile("bpf/verdict.h")
	if err != nil {
		t.Fatal(err)
	}
	inC := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)TERN_(\w+)(?: = | )(\d+)`).FindAllStringSubmatch(string(text), -1) {
		inC[m[1]], _ = strconv.Atoi(m[2])
	}
	inGo := map[string]int{
		"FIRST_DROP": int(firstDrop), "REASON_BITS": reasonBits, "CLASS_BITS": classBits, "MAX_VLANS": maxVLANs,
		"MAX_EXT_HEADERS": maxExtHeaders, "MAX_RULES": MaxRules, "MIN_GOSSIP": minGossip, "MIN_PATH": minPath,
		"MIN_QUIC_SHORT": minQUICShort, "MIN_QUIC_LONG": minQUICLong, "MIN_STUN": minSTUN, "MIN_DTLS": minDTLS,
		"MIN_RTP": minRTP, "MIN_RTCP": minRTCP, "SEARCH": 9, "STEPS": maxSteps, "NODES": maxNodes, "JUMPS": maxJumps,
		"LEVELS": indexLevels,
	}
	maps.Copy(inGo, map[string]int{
		"GUARD_MESH": guardMesh, "GUARD_ACCESS": guardAccess, "MAX_PEERS": maxPeers, "MAX_FLOWS": maxFlows, "MAX_WALLS": maxWalls,
		"SETS": sourceSets, "WAYS": sourceWays, "UFRAG": ufragSize, "UFRAG_EPOCH_NS": ufragEpochNS,
		"UFRAG_EPOCHS": ufragEpochs, "MAX_ATTRIBUTES": maxAttributes, "STUN_USERNAME": stunUsername, "LIMITS": limits,
		"SAMPLE_EVERY": sampleEvery, "SAMPLE_INTERVAL_NS": sampleIntervalNS, "SAMPLE_BURST": sampleBurst,
		"SAMPLE_BYTES": sampleBytes, "SAMPLE_RING": 65536, "MAX_ONWARD": maxOnward,
		"RELAY_FRESH_MS": 9_500, "RELAY_BURST_NS": 187_500_000, "RELAY_MAX": 1372,
	})
	for i, name := range limitNames {
		inGo["LIMIT_"+strings.ToUpper(name)] = i
	}
	for r, name := range reasonNames {
		inGo["REASON_"+strings.ToUpper(name)] = int(r)
	}
	for c, name := range classNames {
		inGo["CLASS_"+strings.ToUpper(name)] = c
	}
	for name, n := range inGo {
		if got, ok := inC[name]; !ok || got != n {
			t.Errorf("TERN_%s is %d in Go; verdict.h has it: %v, as %d", name, n, ok, got)
		}
		delete(inC, name)
	}
	if len(inC) > 0 {
		t.Errorf("verdict.h has numbers that Go lacks: %v", inC)
	}
}

func TestVerdictReadsAsWordsInJSON(t *testing.T) {
	v := compile(testRules()).AllowPacket(netip.MustParseAddrPort("203.0.113.1:9"), testMesh, samplePath(9))
	text, err := json.Marshal(v)
	if want := `{"action":"drop","class":"mesh","reason":"blocklist","rule":"203.0.113.0/24"}`; err != nil || string(text) != want {
		t.Errorf("%s, %v, want %s", text, err, want)
	}
}

// tern filter watch reads over HTTP what a node writes, perhaps of a newer version.
func TestDropsAreReadAsTheyAreWritten(t *testing.T) {
	d := Dropped{Number: 7, Where: "xdp", Source: netip.MustParseAddr("192.0.2.1")}
	for class := range classes {
		for reason := range reasonNames {
			d.Class, d.Reason = class, reason
			text, err := json.Marshal([]Dropped{d})
			if err != nil {
				t.Fatal(err)
			}
			var back []Dropped
			if err := json.Unmarshal(text, &back); err != nil || len(back) != 1 || back[0] != d {
				t.Fatalf("%s comes back as %+v, %v", text, back, err)
			}
		}
	}
	var newer Dropped
	if err := json.Unmarshal([]byte(`{"class":"sctp","reason":"of tomorrow","source":""}`), &newer); err != nil {
		t.Errorf("a newer version's names: %v", err)
	}
	if newer.Class.String() != "class(10)" || newer.Reason.String() != "reason(255)" {
		t.Errorf("a newer version's names are taken for %v, %v", newer.Class, newer.Reason)
	}
}
