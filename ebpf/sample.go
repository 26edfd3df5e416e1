package ebpf

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/dchest/siphash"
)

// sample describes a UDP datagram; frame writes it as it stands on the wire (without checksums, which no verdict reads).
// The benchmarks and the tests make their packets with it.
type sample struct {
	src     netip.Addr // the family of the packet
	port    uint16     // destination
	vlans   int
	options int    // 32-bit words of IPv4 options
	headers []byte // IPv6 extension headers by their numbers, 8 bytes each
	frag    uint16 // the fragment field of IPv4, or of the last IPv6 fragment header
	payload []byte
}

// samplePort is the source port of every sample.
const samplePort = 12345

func (s sample) frame() []byte {
	b := make([]byte, 12, 128+len(s.payload)) // two addresses that nobody reads
	for range s.vlans {
		b = append(b, 0x81, 0x00, 0x00, 0x07)
	}
	if s.src.Is4() {
		return append(s.ip4(b), s.udp()...)
	}
	return append(s.ip6(b), s.udp()...)
}

func (s sample) udp() []byte {
	b := []byte{samplePort >> 8, samplePort & 255, byte(s.port >> 8), byte(s.port), 0, 0, 0, 0}
	binary.BigEndian.PutUint16(b[4:], uint16(8+len(s.payload)))
	return append(b, s.payload...)
}

func (s sample) ip4(b []byte) []byte {
	header := 20 + 4*s.options
	b = append(b, 0x08, 0x00, 0x40|byte(header/4), 0)
	b = binary.BigEndian.AppendUint16(b, uint16(header+8+len(s.payload)))
	b = append(b, 0, 1)
	b = binary.BigEndian.AppendUint16(b, s.frag)
	b = append(b, 64, protoUDP, 0, 0)
	src := s.src.As4()
	b = append(append(b, src[:]...), 192, 0, 2, 1)
	return append(b, make([]byte, 4*s.options)...)
}

func (s sample) ip6(b []byte) []byte {
	b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(8*len(s.headers)+8+len(s.payload)))
	next := append(append([]byte{}, s.headers...), protoUDP)
	b = append(b, next[0], 64)
	src := s.src.As16()
	b = append(append(b, src[:]...), make([]byte, 16)...)
	for i, kind := range s.headers {
		header := [8]byte{next[i+1]}
		if kind == protoFragment {
			binary.BigEndian.PutUint16(header[2:], s.frag)
		}
		b = append(b, header[:]...)
	}
	return b
}

// samplePath is a path frame of kind 2 with one relay and body bytes of payload.
func samplePath(body int) []byte {
	p := make([]byte, 40+body)
	p[0], p[1], p[2], p[3] = 5, 0x10, 0x01, 2
	binary.BigEndian.PutUint16(p[4:], uint16(body))
	binary.BigEndian.PutUint32(p[12:], sampleFence)
	return p
}

// sampleFence is the fence of the samples' path frames.
const sampleFence = 0x7e4a11ce

// sampleRelayed is a path frame with two relays, of which self is the first and next, with a MAC for self.
func sampleRelayed(key [16]byte, self, source, next uint32, unixMS uint64, body int) []byte {
	p := []byte{5, 0x10, 2, 2}
	p = binary.BigEndian.AppendUint16(p, uint16(body))
	p = binary.BigEndian.AppendUint32(p, 1)
	p = binary.BigEndian.AppendUint16(p, uint16(unixMS))
	for _, x := range []uint32{sampleFence, source, 5, self, next} {
		p = binary.BigEndian.AppendUint32(p, x)
	}
	mac := siphash.Hash(binary.LittleEndian.Uint64(key[:]), binary.LittleEndian.Uint64(key[8:]), binary.BigEndian.AppendUint64(slices.Clone(p), unixMS))
	p = append(p, binary.LittleEndian.AppendUint64(nil, mac)[:6]...)
	return append(p, make([]byte, 12+body)...)
}

// sampleRTP is an RTP packet with body bytes behind its header.
func sampleRTP(body int) []byte {
	p := make([]byte, 12+body)
	p[0], p[1] = 0x80, 96
	return p
}

// sampleBlocklist draws n distinct entries of mixed lengths, half of each family: IPv4 /12 to /32, IPv6 /24 to /128.
// 198.18.0.0/15 and 2001:db8::/32 stay free for sources that are not blocked.
func sampleBlocklist(n int, r *rand.Rand) []netip.Prefix {
	seen := map[netip.Prefix]bool{}
	free4, free6 := netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("2001:db8::/32")
	out := make([]netip.Prefix, 0, n)
	for len(out) < n {
		var p netip.Prefix
		if len(out)%2 == 0 {
			var a [4]byte
			binary.BigEndian.PutUint32(a[:], r.Uint32())
			p = netip.PrefixFrom(netip.AddrFrom4(a), 12+r.IntN(21)).Masked()
		} else {
			var a [16]byte
			binary.BigEndian.PutUint64(a[:], 0x2000<<48|r.Uint64()>>3)
			binary.BigEndian.PutUint64(a[8:], r.Uint64())
			p = netip.PrefixFrom(netip.AddrFrom16(a), 24+r.IntN(105)).Masked()
		}
		if !seen[p] && !p.Overlaps(free4) && !p.Overlaps(free6) {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out
}

// Of the benchmarks' blocklist, so many entries stand side by side: every other address of an IPv4 /16, and addresses of
// one IPv6 /64. They make the longest searches.
const crowd4, crowd6 = 30_000, 20_000

// The rows of the report of Bench.
const (
	rowBlocked  = "blocklisted source, 100,000 entries of mixed lengths"
	rowAdmitted = "admitted RTP"
	rowNoise    = "unknown source, RTP noise"
	rowPath     = "mesh path frame from a member"
	rowRelay    = "mesh path frame relayed, with MAC and rewrite"
)

// sampleCase is a frame that the benchmarks send.
type sampleCase struct {
	name  string
	row   string // of the report; empty = none
	frame []byte
}

// sampleCases come with the rules under which they are judged: a full blocklist, a member and an admitted client of each
// family. Four blocked sources of each family, because entries differ in length and in what lies near them.
func sampleCases() (Rules, []sampleCase) {
	rules := Rules{
		MeshPort: 7400, AccessPort: 7401, Blocklist: sampleBlocklist(MaxRules-crowd4-crowd6, rand.New(rand.NewPCG(7, 7))),
		GuardMesh: true, GuardAccess: true,
	}
	for i := range uint32(crowd4) {
		rules.Blocklist = append(rules.Blocklist, netip.PrefixFrom(crowded4(i), 32))
	}
	for i := range uint64(crowd6) {
		rules.Blocklist = append(rules.Blocklist, netip.PrefixFrom(crowded6(i), 128))
	}
	media, noise := sampleRTP(1100), append([]byte{0xb0, 0xff}, sampleRTP(200)...)
	var packets []sampleCase
	for family, a := range map[string][2]string{
		"ipv4": {"198.18.3.4", "198.18.3.5"}, "ipv6": {"2001:db8::34", "2001:db8::35"},
	} {
		known, unknown := netip.MustParseAddr(a[0]), netip.MustParseAddr(a[1])
		rules.Members = append(rules.Members, known)
		rules.Admitted = append(rules.Admitted, netip.AddrPortFrom(known, samplePort))
		packets = append(packets,
			sampleCase{"rtp, " + family, rowAdmitted, sample{src: known, port: 7401, payload: media}.frame()},
			sampleCase{"rtp noise, " + family, rowNoise, sample{src: unknown, port: 7401, payload: noise}.frame()},
			sampleCase{"path frame, " + family, rowPath, sample{src: known, port: 7400, payload: samplePath(1100)}.frame()},
			sampleCase{"stun with a ufrag, " + family, "", sample{src: unknown, port: 7401, payload: sampleSTUN()}.frame()},
			sampleCase{"stranger's quic, " + family, "", sample{src: unknown, port: 7400, payload: sampleQUIC()}.frame()},
			sampleCase{"another service, " + family, "", sample{src: unknown, port: 53, payload: media}.frame()},
		)
	}
	slices.SortFunc(packets, func(a, b sampleCase) int { return strings.Compare(a.name, b.name) })
	for name, a := range map[string]netip.Addr{"ipv4": crowded4(9894), "ipv6": crowded6(9894)} {
		s := sample{src: a, port: 7401, payload: media}
		packets = append(packets, sampleCase{"blocklisted in a crowd, " + name, rowBlocked, s.frame()})
	}
	for i, p := range rules.Blocklist[:8] {
		s := sample{src: p.Addr(), port: 7401, payload: media}
		packets = append(packets, sampleCase{fmt.Sprintf("blocklisted %d, /%d", i+1, p.Bits()), rowBlocked, s.frame()})
	}
	return rules, packets
}

func crowded4(i uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{100, 64, byte(i >> 7), byte(i << 1)})
}

func crowded6(i uint64) netip.Addr {
	a := [16]byte{0x20, 0x01, 0x0d, 0xb9, 7: 1}
	binary.BigEndian.PutUint64(a[8:], i*0x9e3779b97f4a7c15) // spread over the /64, no two alike
	return netip.AddrFrom16(a)
}

// sampleKey is the key of the ufrag in sampleSTUN.
var sampleKey = key{1, 2}

func sampleSTUN() []byte {
	p := append([]byte{0, 1, 0, 44, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...)
	p = append(p, 0, 6, 0, ufragSize+5)
	return append(append(p, makeUfrag(sampleKey, 5, 1)...), ":peer\x00\x00\x00"...)
}

func sampleQUIC() []byte { return append([]byte{0xc0}, make([]byte, 1199)...) }
