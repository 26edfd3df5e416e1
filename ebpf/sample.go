package ebpf

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
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
	b := []byte{0x30, 0x39, byte(s.port >> 8), byte(s.port), 0, 0, 0, 0}
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
	binary.BigEndian.PutUint32(p[12:], 0x7e4a11ce)
	return p
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

// crowd is how many entries of the benchmarks' blocklist stand side by side.
const crowd = 30_000

// sampleCase is a frame that the benchmarks send.
type sampleCase struct {
	name  string
	frame []byte
}

// sampleCases come with the rules under which they are judged. Four blocked sources of each family, because entries
// differ in length and in what lies near them.
func sampleCases() (Rules, []sampleCase) {
	rules := Rules{
		MeshPort: 7400, AccessPort: 7401, Blocklist: sampleBlocklist(MaxRules-crowd, rand.New(rand.NewPCG(7, 7))),
	}
	for i := range uint32(crowd) { // every other address of 100.64.0.0/16: the longest search
		a := netip.AddrFrom4([4]byte{100, 64, byte(i >> 7), byte(i << 1)})
		rules.Blocklist = append(rules.Blocklist, netip.PrefixFrom(a, 32))
	}
	media, noise := sampleRTP(1100), append([]byte{0xb0, 0xff}, sampleRTP(200)...)
	good4, good6 := netip.MustParseAddr("198.18.3.4"), netip.MustParseAddr("2001:db8::34")
	packets := []sampleCase{
		{"rtp, ipv4", sample{src: good4, port: 7401, payload: media}.frame()},
		{"rtp, ipv6", sample{src: good6, port: 7401, payload: media}.frame()},
		{"rtp noise, ipv4", sample{src: good4, port: 7401, payload: noise}.frame()},
		{"path frame, ipv4", sample{src: good4, port: 7400, payload: samplePath(1100)}.frame()},
		{"path frame, ipv6", sample{src: good6, port: 7400, payload: samplePath(1100)}.frame()},
		{"blocklisted in a crowd", sample{src: netip.AddrFrom4([4]byte{100, 64, 77, 76}), port: 7401, payload: media}.frame()},
		{"another service", sample{src: good4, port: 53, payload: media}.frame()},
	}
	for i, p := range rules.Blocklist[:8] {
		s := sample{src: p.Addr(), port: 7401, payload: media}
		packets = append(packets, sampleCase{fmt.Sprintf("blocklisted %d, /%d", i+1, p.Bits()), s.frame()})
	}
	return rules, packets
}
