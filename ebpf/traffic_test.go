package ebpf

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
)

const (
	testMesh   = 7400
	testAccess = 7401
)

// drawRules makes a small rule set around addresses that drawPacket uses often.
func drawRules(r *rand.Rand) Rules {
	rules := Rules{MeshPort: testMesh, AccessPort: testAccess, PassFragments: r.IntN(4) == 0}
	rules.GuardMesh, rules.GuardAccess = r.IntN(5) > 0, r.IntN(5) > 0
	for range r.IntN(40) {
		a := drawAddr(r)
		bits := a.BitLen() - r.IntN(8)
		if r.IntN(20) == 0 {
			bits = 1 + r.IntN(a.BitLen())
		}
		if p := netip.PrefixFrom(a, bits).Masked(); flaw(p) == "" {
			if r.IntN(5) == 0 {
				rules.Allowlist = append(rules.Allowlist, p)
				continue
			}
			rules.Blocklist = append(rules.Blocklist, p)
		}
	}
	return rules
}

// drawAddr draws from a small neighbourhood, so that rules and packets meet.
func drawAddr(r *rand.Rand) netip.Addr {
	if r.IntN(2) == 0 {
		return netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), byte(r.IntN(3)), byte(r.IntN(256))})
	}
	a := [16]byte{0x20, 0x01, 0x0d, 0xb8, 15: byte(r.IntN(256))}
	a[7] = byte(r.IntN(3))
	if r.IntN(50) == 0 {
		a = [16]byte{10: 0xff, 11: 0xff, 12: 10, 15: byte(r.IntN(256))} // IPv4-mapped
	}
	return netip.AddrFrom16(a)
}

// drawPacket makes a frame: most are nearly right, many are damaged afterwards, a few are noise.
func drawPacket(r *rand.Rand) []byte {
	if r.IntN(50) == 0 {
		return noise(r, 14+r.IntN(120))
	}
	s := sample{src: drawAddr(r), port: drawPort(r), vlans: r.IntN(8) / 5, payload: drawPayload(r)}
	if r.IntN(20) == 0 {
		s.vlans = r.IntN(5)
	}
	if r.IntN(4) == 0 {
		s.options = r.IntN(11)
	}
	if r.IntN(8) == 0 {
		s.frag = []uint16{0x2000, 0x4000, 0x0001, 0x2008, 0x0008, 0xfff8, 0x0006}[r.IntN(7)]
	}
	for s.src.Is6() && len(s.headers) < 9 && r.IntN(5) < 2 {
		s.headers = append(s.headers, []byte{0, 43, 44, 51, 60, 135, 139, 140, 60, 50}[r.IntN(10)])
	}
	return damage(r, s.frame())
}

func drawPort(r *rand.Rand) uint16 {
	switch r.IntN(10) {
	case 0:
		return uint16(r.IntN(3))
	case 1, 2, 3:
		return testAccess
	}
	return testMesh
}

func drawPayload(r *rand.Rand) []byte {
	switch r.IntN(8) {
	case 0:
		return noise(r, r.IntN(64))
	case 1, 2:
		p := samplePath(r.IntN(80))
		for range r.IntN(3) {
			p[r.IntN(16)] = byte(r.Uint32())
		}
		if r.IntN(4) == 0 {
			clear(p[12:16])
		}
		return p
	case 3:
		p := append([]byte{0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42}, noise(r, 8+r.IntN(20))...)
		p[3] = byte(r.IntN(24))
		if r.IntN(4) == 0 {
			p[4+r.IntN(4)]++
		}
		return p
	case 4:
		p := sampleRTP(r.IntN(40))
		p[0], p[1] = 0x80|byte(r.IntN(64)), byte(r.Uint32())
		return p[:r.IntN(len(p)+1)]
	default:
		p := noise(r, 1+r.IntN(50))
		p[0] = []byte{0, 1, 3, 4, 5, 6, 15, 19, 20, 63, 64, 127, 128, 191, 192, 255}[r.IntN(16)]
		return p
	}
}

// damage flips, cuts, lengthens, or writes a random number over a header field.
func damage(r *rand.Rand, p []byte) []byte {
	for r.IntN(3) == 0 {
		switch r.IntN(5) {
		case 0:
			p[r.IntN(len(p))] ^= 1 << r.IntN(8)
		case 1:
			p = p[:14+r.IntN(len(p)-13)]
		case 2:
			p = append(p, noise(r, r.IntN(40))...)
		case 3:
			p[r.IntN(min(len(p), 80))] = byte(r.Uint32())
		case 4:
			at := r.IntN(min(len(p), 80) - 1)
			binary.BigEndian.PutUint16(p[at:], uint16(r.IntN(80)))
		}
	}
	return p
}

func noise(r *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}
