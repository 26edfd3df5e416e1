package ebpf

import (
	"encoding/binary"
	"net/netip"
)

// The smallest UDP payload of each class in bytes (bpf/verdict.h; doc.go says where each comes from).
const (
	minGossip    = 30
	minPath      = 30
	minQUICShort = 21
	minQUICLong  = 11
	minSTUN      = 20
	minDTLS      = 13
	minRTP       = 12
	minRTCP      = 8
)

// AllowPacket judges a datagram as a socket on dstPort sees it: the rules of Frame without the headers, which the
// host's stack has checked. An IPv4 source in IPv6 form counts as IPv4, as a dual-stack socket shows it. It keeps
// nothing of payload and is safe for concurrent use. Like Frame it knows no members and no clients.
func (t *Table) AllowPacket(src netip.AddrPort, dstPort uint16, payload []byte) Verdict {
	return t.allowPacket(src, dstPort, payload, nil, 0)
}

func (t *Table) allowPacket(src netip.AddrPort, dstPort uint16, payload []byte, g *guard, now uint64) Verdict {
	class := t.portClass(dstPort)
	if class == ClassNone {
		return judged(ClassNone, ReasonNotOurs)
	}
	src = plain(src)
	if rule, blocked := t.Blocked(src.Addr()); blocked {
		return Verdict{Action: Drop, Class: class, Reason: ReasonBlocklist, Rule: rule}
	}
	return t.guarded(class, src, payload, g, now)
}

// plain is an address as packets carry it: IPv4 as IPv4, and no zone.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// guarded judges the form of a datagram, and then whether its source may send it.
func (t *Table) guarded(port Class, src netip.AddrPort, p []byte, g *guard, now uint64) Verdict {
	v := judgePayload(port, p)
	on := port == ClassMesh && t.rules.GuardMesh || port == ClassAccess && t.rules.GuardAccess
	if g == nil || !on || v.Reason != ReasonOK {
		return v
	}
	return judged(v.Class, g.judge(port, v.Class, src, p, now))
}

func judgePayload(port Class, p []byte) Verdict {
	switch {
	case len(p) == 0:
		return judged(port, ReasonEmpty)
	case port == ClassMesh:
		return judgeMesh(p)
	default:
		return judgeAccess(p)
	}
}

// judgeMesh: one byte says the class (RFC 9443 leaves 4-15 free beside QUIC).
func judgeMesh(p []byte) Verdict {
	switch first := p[0]; {
	case first == 5:
		return judgePath(p)
	case first == 4:
		return atLeast(ClassGossip, p, minGossip)
	case first >= 192:
		return atLeast(ClassQUIC, p, minQUICLong)
	case first >= 64 && first < 128:
		return atLeast(ClassQUIC, p, minQUICShort)
	}
	return judged(ClassMesh, ReasonBadClass)
}

func atLeast(c Class, p []byte, smallest int) Verdict {
	if len(p) < smallest {
		return judged(c, ReasonShort)
	}
	return judged(c, ReasonOK)
}

func judgePath(p []byte) Verdict {
	if len(p) < minPath {
		return judged(ClassPath, ReasonShort)
	}
	relays, hop, kind := int(p[2]&3), int(p[2]>>2&3), p[3]&0x0f
	switch {
	case p[1]>>4 != 1:
		return judged(ClassPath, ReasonBadVersion)
	case relays == 3 || hop > relays:
		return judged(ClassPath, ReasonBadHops)
	case kind == 0: // of others the node knows more, and a relay passes on what it does not know
		return judged(ClassPath, ReasonBadKind)
	case minPath+10*relays+int(binary.BigEndian.Uint16(p[4:])) > len(p): // more bytes than that are padding
		return judged(ClassPath, ReasonBadLength)
	case binary.BigEndian.Uint32(p[12:]) == 0 && (relays > 0 || kind != 3):
		return judged(ClassPath, ReasonBadFence)
	}
	return judged(ClassPath, ReasonOK)
}

// judgeAccess: RFC 7983 tells the classes apart by the first byte, RFC 5761 RTCP from RTP by the second.
func judgeAccess(p []byte) Verdict {
	switch first := p[0]; {
	case first >= 128 && first < 192:
		return judgeRTP(p)
	case first < 4:
		return judgeSTUN(p)
	case first >= 20 && first < 64:
		return atLeast(ClassDTLS, p, minDTLS)
	}
	return judged(ClassAccess, ReasonBadClass)
}

func judgeRTP(p []byte) Verdict {
	switch {
	case len(p) < minRTCP:
		return judged(ClassRTP, ReasonShort)
	case p[1] >= 192 && p[1] < 224:
		return judged(ClassRTCP, ReasonOK)
	case len(p) < minRTP:
		return judged(ClassRTP, ReasonShort)
	case len(p) < minRTP+4*int(p[0]&15): // the low nibble counts contributing sources, 4 bytes each
		return judged(ClassRTP, ReasonBadLength)
	}
	return judged(ClassRTP, ReasonOK)
}

func judgeSTUN(p []byte) Verdict {
	if len(p) < minSTUN {
		return judged(ClassSTUN, ReasonShort)
	}
	length := int(binary.BigEndian.Uint16(p[2:]))
	switch {
	case length%4 != 0 || minSTUN+length > len(p):
		return judged(ClassSTUN, ReasonBadLength)
	case binary.BigEndian.Uint32(p[4:]) != 0x2112a442:
		return judged(ClassSTUN, ReasonBadCookie)
	}
	return judged(ClassSTUN, ReasonOK)
}
