package ebpf

import (
	"net/netip"
	"testing"
)

// FuzzVerdict: no frame makes the twin panic; what it says of a frame's payload it also says on the socket's side; and
// where the kernel runs the program, both say the same.
func FuzzVerdict(f *testing.F) {
	for _, c := range payloadCases {
		f.Add(sample{src: good4, port: c.port, payload: c.payload}.frame())
		f.Add(sample{src: good6, port: c.port, headers: []byte{0, 60}, payload: c.payload}.frame())
	}
	f.Add(sample{src: netip.MustParseAddr("203.0.113.7"), port: testMesh, vlans: 1, options: 3}.frame())
	f.Add(sample{src: good6, port: testMesh, headers: []byte{44, 51}, frag: 1}.frame())
	for _, p := range stunCases(newKey()) {
		f.Add(sample{src: good4, port: testAccess, payload: p}.frame())
	}
	rules := testRules()
	rules.GuardMesh, rules.GuardAccess = true, true
	table := compile(rules)
	inKernel := openFuzzKernel(f, table)
	f.Fuzz(func(t *testing.T, frame []byte) {
		v := table.Frame(frame)
		if v.Action != v.Reason.Action() || v.Rule.IsValid() != (v.Reason == ReasonBlocklist) {
			t.Fatalf("%v contradicts itself", v)
		}
		table.AllowPacket(netip.AddrPortFrom(good4, 1), testMesh, frame)
		table.AllowPacket(netip.AddrPortFrom(good4, 1), testAccess, frame)
		inKernel(t, frame)
	})
}
