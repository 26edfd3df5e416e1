package ebpf

import (
	"fmt"
	"math"
	"net/netip"
)

// Action is what happens to a packet.
type Action uint8

// The actions.
const (
	Pass Action = iota
	Drop
)

// String returns "pass" or "drop".
func (a Action) String() string {
	if a == Drop {
		return "drop"
	}
	return "pass"
}

// Class is the kind of datagram that a packet carries. The numbers are those of bpf/verdict.h and never change.
type Class uint8

// The classes. ClassMesh and ClassAccess mean "for that port, kind not known (yet)"; ClassNone is a packet that is not
// for our ports, or that ended before its port was seen.
const (
	ClassNone Class = iota
	ClassMesh
	ClassAccess
	ClassGossip
	ClassPath
	ClassQUIC
	ClassSTUN
	ClassDTLS
	ClassRTP
	ClassRTCP
	classes // how many
)

var classNames = [classes]string{"none", "mesh", "access", "gossip", "path", "quic", "stun", "dtls", "rtp", "rtcp"}

// String returns the name of the class in lower case.
func (c Class) String() string {
	if c < classes {
		return classNames[c]
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

// Reason says why a verdict is what it is. Each reason has exactly one action. The numbers are those of bpf/verdict.h
// and never change.
type Reason uint8

// The reasons that pass.
const (
	ReasonOK             Reason = 0 // for our ports, and in order
	ReasonNotOurs        Reason = 1 // another protocol or port of the host: not looked into
	ReasonFragmentRest   Reason = 2 // a later fragment: it names no port, and is harmless without its first fragment
	ReasonFragmentPassed Reason = 3 // a first fragment for our ports, let through by choice
	ReasonUfrag          Reason = 4 // STUN of a source not yet admitted that names a ufrag of this node
	ReasonStranger       Reason = 5 // an unknown source within the rates for such
)

// The reasons that drop.
const (
	ReasonTruncated  Reason = 16 // ends inside a header up to UDP's
	ReasonMalformed  Reason = 17 // header fields contradict each other or the frame
	ReasonExtHeaders Reason = 18 // more than six IPv6 extension headers
	ReasonFragment   Reason = 19 // a first fragment for our ports
	ReasonBlocklist  Reason = 20 // the source is in the blocklist
	ReasonEmpty      Reason = 21 // a datagram without payload
	ReasonBadClass   Reason = 22 // the first byte belongs to no class of this port
	ReasonShort      Reason = 23 // shorter than the smallest datagram of its class
	ReasonBadVersion Reason = 24 // path frame of another version
	ReasonBadHops    Reason = 25 // path frame with three relays, or a hop index behind its egress
	ReasonBadKind    Reason = 26 // path frame of unknown kind
	ReasonBadLength  Reason = 27 // a length field that promises more than the datagram holds
	ReasonBadFence   Reason = 28 // the mesh fence with a relay, or with anything but a link probe
	ReasonBadCookie  Reason = 29 // STUN without the magic cookie

	ReasonNotMember   Reason = 30 // a path frame from an address that is no member's
	ReasonNotAdmitted Reason = 31 // DTLS, RTP or RTCP from an address and port that passed no STUN check
	ReasonRate        Reason = 32 // a member or an admitted client above its rate
	ReasonRateSource  Reason = 33 // an unknown source above its rate
	ReasonBudget      Reason = 34 // unknown sources, together, above what the node takes from them
	ReasonQuarantine  Reason = 35 // an unknown source that met its limits again and again

	firstDrop Reason = 16
	reasons   Reason = 64 // room for numbers
)

var reasonNames = map[Reason]string{
	ReasonOK: "ok", ReasonNotOurs: "not_ours", ReasonFragmentRest: "fragment_rest",
	ReasonFragmentPassed: "fragment_passed", ReasonTruncated: "truncated", ReasonMalformed: "malformed",
	ReasonExtHeaders: "ext_headers", ReasonFragment: "fragment", ReasonBlocklist: "blocklist", ReasonEmpty: "empty",
	ReasonBadClass: "bad_class", ReasonShort: "short", ReasonBadVersion: "bad_version", ReasonBadHops: "bad_hops",
	ReasonBadKind: "bad_kind", ReasonBadLength: "bad_length", ReasonBadFence: "bad_fence", ReasonBadCookie: "bad_cookie",
	ReasonUfrag: "ufrag", ReasonStranger: "stranger", ReasonNotMember: "not_member",
	ReasonNotAdmitted: "not_admitted", ReasonRate: "rate", ReasonRateSource: "rate_source", ReasonBudget: "budget",
	ReasonQuarantine: "quarantine",
}

// String returns the name of the reason as metrics and drop records show it.
func (r Reason) String() string {
	if name, ok := reasonNames[r]; ok {
		return name
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// Action returns what happens to a packet for this reason.
func (r Reason) Action() Action {
	if r >= firstDrop {
		return Drop
	}
	return Pass
}

// Verdict is what the filter decides about one packet, and why.
type Verdict struct {
	Action Action       `json:"action"`
	Class  Class        `json:"class"`
	Reason Reason       `json:"reason"`
	Rule   netip.Prefix `json:"rule"` // the entry of the blocklist that matched; the zero Prefix when none did
}

// String returns one line such as "drop quic blocklist 203.0.113.0/24".
func (v Verdict) String() string {
	s := v.Action.String() + " " + v.Class.String() + " " + v.Reason.String()
	if v.Rule.IsValid() {
		s += " " + v.Rule.String()
	}
	return s
}

// MarshalText writes the name, so that JSON says "drop" and not 1; likewise for Class and Reason.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// MarshalText is explained at Action's.
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// MarshalText is explained at Action's.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText writes. The name of a newer version's class is read as one that has no name here.
func (c *Class) UnmarshalText(text []byte) error {
	*c = classes
	for i, name := range classNames {
		if name == string(text) {
			*c = Class(i)
		}
	}
	return nil
}

// UnmarshalText is explained at Class's.
func (r *Reason) UnmarshalText(text []byte) error {
	*r = Reason(math.MaxUint8)
	for reason, name := range reasonNames {
		if name == string(text) {
			*r = reason
		}
	}
	return nil
}

func judged(c Class, r Reason) Verdict {
	return Verdict{Action: r.Action(), Class: c, Reason: r}
}

// The kernel's form of a verdict: 6 bits reason, 4 bits class, 22 bits number of the rule (0 = none).
const (
	reasonBits = 6
	classBits  = 4
)

// unpack turns the kernel's 32 bits into a Verdict; rules are those that the kernel was given.
func unpack(packed uint32, rules []netip.Prefix) (Verdict, error) {
	v := judged(Class(packed>>reasonBits&(1<<classBits-1)), Reason(packed&(1<<reasonBits-1)))
	switch n := packed >> (reasonBits + classBits); {
	case n == 0:
	case int(n) <= len(rules):
		v.Rule = rules[n-1]
	default:
		return v, fmt.Errorf("the XDP program names rule %d of %d", n, len(rules))
	}
	if _, known := reasonNames[v.Reason]; !known || v.Class >= classes {
		return v, fmt.Errorf("the XDP program returned %#x, which is no verdict", packed)
	}
	return v, nil
}
