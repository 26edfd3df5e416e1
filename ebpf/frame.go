package ebpf

import (
	"encoding/binary"
	"net/netip"
)

// The bounds that the XDP program has too (bpf/verdict.h).
const (
	maxVLANs      = 2
	maxExtHeaders = 6
)

const (
	protoUDP      = 17
	protoFragment = 44
	protoAH       = 51
)

// datagram is what the IP header says about the UDP datagram behind it.
type datagram struct {
	udp       []byte // from the UDP header to the end of the frame
	room      int    // bytes that the IP header promises from the UDP header on; may be negative
	fragment  bool   // the first fragment of several
	malformed bool   // matters only for our ports
	src       netip.Addr
}

// Frame judges one Ethernet frame (from the destination address on, without the checksum). It is the twin of the XDP
// program, functions in packet order. It only reads packet, keeps nothing of it, and is safe for concurrent use.
//
// It knows no members and no clients: the live rules do not apply, as if Rules.GuardMesh and GuardAccess were off.
func (t *Table) Frame(packet []byte) Verdict { return t.frame(packet, nil, 0) }

// frame is Frame with the live rules of g, if there is one, at now (nanoseconds).
func (t *Table) frame(packet []byte, g *guard, now uint64) Verdict {
	if len(packet) < 14 {
		return judged(ClassNone, ReasonTruncated)
	}
	proto, rest := binary.BigEndian.Uint16(packet[12:]), packet[14:]
	for i := 0; i < maxVLANs && (proto == 0x8100 || proto == 0x88a8); i++ {
		if len(rest) < 4 {
			return judged(ClassNone, ReasonTruncated)
		}
		proto, rest = binary.BigEndian.Uint16(rest[2:]), rest[4:]
	}
	switch proto {
	case 0x0800:
		return t.ip4(rest, g, now)
	case 0x86dd:
		return t.ip6(rest, g, now)
	}
	return judged(ClassNone, ReasonNotOurs)
}

func (t *Table) ip4(ip []byte, g *guard, now uint64) Verdict {
	if len(ip) < 20 {
		return judged(ClassNone, ReasonTruncated)
	}
	header := int(ip[0]&15) * 4
	if ip[0]>>4 != 4 || header < 20 {
		return judged(ClassNone, ReasonMalformed)
	}
	if header > len(ip) {
		return judged(ClassNone, ReasonTruncated)
	}
	if ip[9] != protoUDP {
		return judged(ClassNone, ReasonNotOurs)
	}
	frag := binary.BigEndian.Uint16(ip[6:])
	if frag&0x1fff != 0 {
		return judged(ClassNone, ReasonFragmentRest)
	}
	total := int(binary.BigEndian.Uint16(ip[2:]))
	return t.udp(datagram{
		udp: ip[header:], room: total - header, fragment: frag&0x2000 != 0, malformed: total < header,
		src: netip.AddrFrom4([4]byte(ip[12:16])),
	}, g, now)
}

// extension says whether an IPv6 next-header value is a header with a next header of its own.
func extension(next byte) bool {
	switch next {
	case 0, 43, protoFragment, protoAH, 60, 135, 139, 140:
		return true
	}
	return false
}

func (t *Table) ip6(ip []byte, g *guard, now uint64) Verdict {
	if len(ip) < 40 {
		return judged(ClassNone, ReasonTruncated)
	}
	if ip[0]>>4 != 6 {
		return judged(ClassNone, ReasonMalformed)
	}
	next, rest, fragment := ip[6], ip[40:], false
	for i := 0; extension(next); i++ {
		if i == maxExtHeaders {
			return judged(ClassNone, ReasonExtHeaders)
		}
		if len(rest) < 8 {
			return judged(ClassNone, ReasonTruncated)
		}
		step := (int(rest[1]) + 1) * 8
		switch next {
		case protoAH:
			step = (int(rest[1]) + 2) * 4
		case protoFragment:
			step = 8
			frag := binary.BigEndian.Uint16(rest[2:])
			if frag&0xfff8 != 0 {
				return judged(ClassNone, ReasonFragmentRest)
			}
			fragment = fragment || frag&1 != 0
		}
		if len(rest) < step {
			return judged(ClassNone, ReasonTruncated)
		}
		next, rest = rest[0], rest[step:]
	}
	if next != protoUDP {
		return judged(ClassNone, ReasonNotOurs)
	}
	room := int(binary.BigEndian.Uint16(ip[4:])) - (len(ip) - 40 - len(rest))
	src := netip.AddrFrom16([16]byte(ip[8:24]))
	// ::ffff:0:0/96 never stands on a wire; a socket would show such a source as IPv4, past the IPv6 blocklist.
	malformed := room < 0 || src.Is4In6()
	return t.udp(datagram{udp: rest, room: room, fragment: fragment, malformed: malformed, src: src}, g, now)
}

func (t *Table) udp(d datagram, g *guard, now uint64) Verdict {
	if len(d.udp) < 8 {
		return judged(ClassNone, ReasonTruncated)
	}
	class := t.portClass(binary.BigEndian.Uint16(d.udp[2:]))
	if class == ClassNone {
		return judged(ClassNone, ReasonNotOurs)
	}
	length := int(binary.BigEndian.Uint16(d.udp[4:]))
	if d.malformed || length < 8 || d.room < 8 || d.room > len(d.udp) {
		return judged(class, ReasonMalformed)
	}
	if d.fragment && !t.rules.PassFragments {
		return judged(class, ReasonFragment)
	}
	if !d.fragment && length > d.room {
		return judged(class, ReasonMalformed)
	}
	if rule, blocked := t.Blocked(d.src); blocked {
		return Verdict{Action: Drop, Class: class, Reason: ReasonBlocklist, Rule: rule}
	}
	if d.fragment {
		return judged(class, ReasonFragmentPassed)
	}
	src := netip.AddrPortFrom(d.src, binary.BigEndian.Uint16(d.udp))
	return t.guarded(class, src, d.udp[8:length], g, now)
}

func (t *Table) portClass(port uint16) Class {
	switch {
	case port == 0:
		return ClassNone
	case port == t.rules.MeshPort:
		return ClassMesh
	case port == t.rules.AccessPort:
		return ClassAccess
	}
	return ClassNone
}
