package ebpf

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// MaxRules is how many entries blocklist and allowlist may have, IPv4 and IPv6 together. More are refused, never cut off.
const MaxRules = 100_000

// maxNamed bounds how many findings an error text names; the rest is counted.
const maxNamed = 20

// Rules is everything that a verdict depends on. The zero value judges nothing: no port is ours.
type Rules struct {
	Blocklist     []netip.Prefix // sources whose packets to our ports are dropped
	Allowlist     []netip.Prefix // holes in the blocklist: of all entries that hold a source the longest decides, and a tie allows
	MeshPort      uint16         // UDP; 0 = none (in Update: the port of the Config)
	AccessPort    uint16         // UDP; 0 = none (in Update: the port of the Config)
	PassFragments bool           // let IP fragments for our ports through; nothing of ours is sent in fragments
	GuardMesh     bool           // apply the live rules of the mesh port (in Update: or those of the Config)
	GuardAccess   bool           // apply the live rules of the access port (in Update: or those of the Config)

	// Rates of the live rules by their names (peer, peer_gossip, flow, ...); what is left out is the Config's.
	Rates map[string]Rate

	// For Judge alone; a Filter is told by SetMembers and Admit.
	Members  []netip.Addr
	Admitted []netip.AddrPort
	// Quarantined are sources in quarantine, likewise.
	Quarantined []netip.Addr
}

// Finding is one thing about a rule that somebody should know.
type Finding struct {
	Rule    netip.Prefix `json:"rule"`
	Other   netip.Prefix `json:"other,omitzero"` // the earlier or wider rule that Rule repeats; the zero Prefix for malformed ones
	Problem string       `json:"problem"`        // "malformed", "duplicate" or "overlapping"
	Detail  string       `json:"detail"`         // one sentence
}

// Validate names everything that is odd about the rules. Malformed entries, equal ports and too many entries are an
// error; duplicates and entries inside wider ones change no packet's fate, and are findings alone.
func (r Rules) Validate() ([]Finding, error) {
	findings, bad := r.malformed()
	if r.MeshPort != 0 && r.MeshPort == r.AccessPort {
		bad = append(bad, fmt.Errorf("mesh port and access port are both %d", r.MeshPort))
	}
	for name := range r.Rates {
		if !slices.Contains(limitNames[:], name) {
			bad = append(bad, fmt.Errorf("no rate is called %q; there are %s", name, strings.Join(limitNames[:], ", ")))
		}
	}
	if n := len(r.Blocklist) + len(r.Allowlist); n > MaxRules {
		bad = append(bad, fmt.Errorf("blocklist and allowlist have %d entries, at most %d fit", n, MaxRules))
	}
	for i, p := range r.Allowlist {
		if detail := flaw(p); detail != "" {
			findings = append(findings, Finding{Rule: p, Problem: "malformed", Detail: detail})
			bad = append(bad, fmt.Errorf("allowlist entry %d: %s", i+1, detail))
		}
	}
	if len(bad) > 0 {
		return findings, errors.Join(shorten(bad)...)
	}
	return append(findings, r.repeated()...), nil
}

func (r Rules) malformed() (findings []Finding, bad []error) {
	for i, p := range r.Blocklist {
		detail := flaw(p)
		if detail == "" {
			continue
		}
		findings = append(findings, Finding{Rule: p, Problem: "malformed", Detail: detail})
		bad = append(bad, fmt.Errorf("blocklist entry %d: %s", i+1, detail))
	}
	return findings, bad
}

func flaw(p netip.Prefix) string {
	switch {
	case !p.IsValid():
		return "is not an address range"
	case p.Addr().Is4In6():
		return fmt.Sprintf("%v is IPv4 written as IPv6; write it as IPv4", p)
	case p.Bits() == 0:
		return fmt.Sprintf("%v blocks every address", p)
	case p != p.Masked():
		return fmt.Sprintf("%v has bits beyond its length; %v is the range", p, p.Masked())
	}
	return ""
}

func shorten(bad []error) []error {
	if len(bad) <= maxNamed {
		return bad
	}
	return append(bad[:maxNamed:maxNamed], fmt.Errorf("and %d more", len(bad)-maxNamed))
}

// repeated finds duplicates and overlaps in one pass over the sorted rules: prefixes nest or are disjoint, so the
// ranges that are still open form a stack.
func (r Rules) repeated() []Finding {
	sorted := slices.Clone(r.Blocklist)
	slices.SortStableFunc(sorted, netip.Prefix.Compare)
	var findings []Finding
	var open []netip.Prefix
	for _, p := range sorted {
		for len(open) > 0 && !open[len(open)-1].Contains(p.Addr()) {
			open = open[:len(open)-1]
		}
		if len(open) > 0 {
			findings = append(findings, repeat(p, open[len(open)-1]))
		}
		open = append(open, p)
	}
	return findings
}

func repeat(p, wider netip.Prefix) Finding {
	if p == wider {
		return Finding{Rule: p, Other: p, Problem: "duplicate", Detail: fmt.Sprintf("%v is listed more than once", p)}
	}
	return Finding{Rule: p, Other: wider, Problem: "overlapping", Detail: fmt.Sprintf("%v lies inside %v", p, wider)}
}

// LockedOut returns those of addrs that the blocklist covers, so that a caller can refuse rules that would drop its
// own members or operator. The rules must be valid.
func (r Rules) LockedOut(addrs []netip.Addr) []netip.Addr { return compile(r).lockedOut(addrs) }

func (t *Table) lockedOut(addrs []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range addrs {
		if _, blocked := t.Blocked(a.Unmap()); blocked {
			out = append(out, a)
		}
	}
	return out
}

// CheckLockout returns an error that names who would be shut out, if the rules block every one of members (when there are
// any) or any of operators. The rules must be valid.
func (r Rules) CheckLockout(members, operators []netip.Addr) error {
	t := compile(r)
	var errs []error
	if out := t.lockedOut(members); len(members) > 0 && len(out) == len(members) {
		errs = append(errs, fmt.Errorf("the blocklist covers every member: %v", out[:min(len(out), maxNamed)]))
	}
	for _, a := range t.lockedOut(operators) {
		errs = append(errs, fmt.Errorf("the blocklist covers the operator's own address %v", a))
	}
	return errors.Join(errs...)
}

// document is the file form of Rules.
type document struct {
	MeshPort   uint16   `yaml:"mesh_port"`
	AccessPort uint16   `yaml:"access_port"`
	Fragments  string   `yaml:"fragments"` // drop (or empty) | pass
	Blocklist  []string `yaml:"blocklist"`
	Allowlist  []string `yaml:"allowlist"`

	// The live rules, for offline verdicts: a list that is there, be it empty, switches its port's rules on.
	Members  *[]netip.Addr     `yaml:"members"`  // addresses on the mesh port
	Admitted *[]netip.AddrPort `yaml:"admitted"` // clients on the access port

	Quarantined []netip.Addr `yaml:"quarantined"` // strangers that are kept out, where live rules are on
}

// ParseRules reads the YAML (or JSON) form of Rules: mesh_port, access_port, fragments (drop | pass), blocklist and allowlist,
// lists of CIDR ranges or single addresses; members (addresses) and admitted (addresses with ports) switch the live rules of
// their port on, in which quarantined (addresses) counts. Unknown keys and malformed ranges are errors that name them. The result
// is valid.
func ParseRules(doc []byte) (Rules, error) {
	var d document
	if err := yaml.UnmarshalWithOptions(doc, &d, yaml.Strict()); err != nil {
		return Rules{}, fmt.Errorf("read the filter's rules: %w", err)
	}
	r := Rules{MeshPort: d.MeshPort, AccessPort: d.AccessPort, PassFragments: d.Fragments == "pass", Quarantined: d.Quarantined}
	if d.Members != nil {
		r.GuardMesh, r.Members = true, *d.Members
	}
	if d.Admitted != nil {
		r.GuardAccess, r.Admitted = true, *d.Admitted
	}
	var bad []error
	if d.Fragments != "" && d.Fragments != "drop" && d.Fragments != "pass" {
		bad = append(bad, fmt.Errorf("fragments is %q, not drop or pass", d.Fragments))
	}
	r.Blocklist, bad = parseRanges("blocklist", d.Blocklist, bad)
	r.Allowlist, bad = parseRanges("allowlist", d.Allowlist, bad)
	if len(bad) == 0 {
		_, err := r.Validate()
		return r, err
	}
	return Rules{}, errors.Join(shorten(bad)...)
}

// parseRanges appends what is wrong with a list to bad.
func parseRanges(list string, texts []string, bad []error) ([]netip.Prefix, []error) {
	var out []netip.Prefix
	for i, text := range texts {
		p, err := ParseRange(text)
		if err != nil {
			bad = append(bad, fmt.Errorf("%s entry %d: %w", list, i+1, err))
			continue
		}
		out = append(out, p)
	}
	return out, bad
}

// ParseRange reads a CIDR range or a single address, which stands for itself alone.
func ParseRange(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a CIDR range", text)
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not a CIDR range", text)
	}
	return p, nil
}
