package control

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ternmesh/tern/control/document"
)

// reservedAppID cannot name an app: clients could not reach it, because the paths that would be its own are those of
// sessions (/whip/s/{id}, /whep/s/{id}).
const reservedAppID = "s"

// maxProblemsShown bounds the text of an error; the rest is counted.
const maxProblemsShown = 100

// Problem is one thing wrong with a document. It never holds a secret.
type Problem struct {
	Path   string `json:"path"` // such as apps[3].auth; empty for the document as a whole
	Line   int    `json:"line"` // from 1; 0 if the document has no lines (it was not parsed from text)
	Reason string `json:"reason"`
}

// String is one line for people.
func (p Problem) String() string {
	where := p.Path
	if where == "" {
		where = "document"
	}
	if p.Line > 0 {
		where = fmt.Sprintf("line %d: %s", p.Line, where)
	}
	return where + ": " + p.Reason
}

// Problems is everything wrong with a document, in document order. It is an error; take it with errors.As.
type Problems []Problem

// Error lists the problems one per line, at most 100 of them.
func (p Problems) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "policy refused, %d problem(s):", len(p))
	for i, problem := range p {
		if i == maxProblemsShown {
			fmt.Fprintf(&b, "\n  and %d more", len(p)-i)
			break
		}
		b.WriteString("\n  " + problem.String())
	}
	return b.String()
}

func (p *Problems) add(path string, line int, format string, args ...any) {
	*p = append(*p, Problem{Path: path, Line: line, Reason: fmt.Sprintf(format, args...)})
}

// err is nil without problems: a typed nil in an error would not be.
func (p Problems) err() error {
	if len(p) == 0 {
		return nil
	}
	slices.SortStableFunc(p, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return p
}

// Validate checks what the shape of a document cannot say: ids, references, modes, limits. It returns nil or
// Problems with every finding. Certificates may be fingerprints (see Merge). Pure.
func Validate(p Policy) error {
	v := validator{}
	v.policy(p)
	return v.problems.err()
}

// validator collects findings; line tells where a path was written, and may be nil.
type validator struct {
	problems Problems
	line     func(path string) int
	said     map[string]bool // paths that were found wrong while reading; may be nil
}

func (v *validator) add(path, format string, args ...any) {
	if v.said[path] && strings.HasPrefix(path, "blocklist[") {
		return // a prefix that could not be read stands in the list as none
	}
	line := 0
	if v.line != nil {
		line = v.line(path)
	}
	v.problems.add(path, line, format, args...)
}

func (v *validator) policy(p Policy) {
	regions := make(map[string]int, len(p.Regions))
	v.count("regions", len(p.Regions), MaxRegions)
	for i, r := range p.Regions {
		v.id(regions, "regions", i, r.ID)
	}
	if len(p.Apps) > 0 && len(p.Regions) == 0 {
		v.add("regions", "is empty, but there are apps: name at least one region that may carry media")
	}
	apps := make(map[string]int, len(p.Apps))
	v.count("apps", len(p.Apps), MaxApps)
	for i, a := range p.Apps {
		v.id(apps, "apps", i, a.ID)
		if a.ID == reservedAppID {
			v.add(fmt.Sprintf("apps[%d].id", i), "%q is reserved: /whip/%s/ and /whep/%s/ hold the URLs of sessions, choose another id", a.ID, a.ID, a.ID)
		}
		v.app(fmt.Sprintf("apps[%d]", i), a, regions)
	}
	v.count("blocklist", len(p.Blocklist), MaxBlocklist)
	v.blocklist(p.Blocklist)
	v.sections(p)
	v.nodes(p)
	v.admins(p.Admins)
	v.routes(p.Routes, regions)
	v.clients(p.Clients, regions)
}

func (v *validator) count(path string, n, most int) {
	if n > most {
		v.add(path, "has %d entries, at most %d are allowed", n, most)
	}
}

// id checks one id and that no entry before it has the same.
func (v *validator) id(seen map[string]int, list string, i int, id string) {
	path := fmt.Sprintf("%s[%d].id", list, i)
	if reason := badID(id); reason != "" {
		v.add(path, "%s", reason)
		return
	}
	if first, twice := seen[id]; twice {
		v.add(path, "%q is already the id of %s[%d]", id, list, first)
		return
	}
	seen[id] = i
}

// badID says what is wrong with an id, or nothing.
func badID(id string) string {
	switch {
	case id == "":
		return "is missing"
	case len(id) > MaxIDLength:
		return fmt.Sprintf("is %d characters long, at most %d are allowed", len(id), MaxIDLength)
	}
	for _, c := range []byte(id) {
		if !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", rune(c)) {
			return fmt.Sprintf("%q holds a character other than A-Z a-z 0-9 _ -", id)
		}
	}
	return ""
}

func (v *validator) app(path string, a App, regions map[string]int) {
	if len(a.Name) > MaxNameLength {
		v.add(path+".name", "is %d bytes long, at most %d are allowed", len(a.Name), MaxNameLength)
	}
	if strings.ContainsFunc(a.Name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		v.add(path+".name", "holds a control character")
	}
	v.mode(path+".auth", a.Auth, AuthToken, AuthAppID)
	v.mode(path+".redundancy", a.Redundancy, RedundancyFull, RedundancyAdaptive, RedundancyOff)
	switch {
	case a.ResidualPPM < 0 || a.ResidualPPM > MaxResidualPPM:
		v.add(path+".residual_ppm", "is %d, want 1 to %d frames in a million, or 0 for the default", a.ResidualPPM, MaxResidualPPM)
	case a.ResidualPPM != 0 && a.Redundancy != RedundancyAdaptive:
		v.add(path+".residual_ppm", "says nothing with redundancy %q: only %q has a target", a.Redundancy, RedundancyAdaptive)
	}
	v.certificates(path+".certificates", a)
	v.limits(path+".limits", a.Limits)
	v.admission(path+".admission", a.Admission)
	fence := make(map[string]bool, len(a.Fence))
	for i, r := range a.Fence {
		where := fmt.Sprintf("%s.fence[%d]", path, i)
		if _, known := regions[r]; !known {
			v.add(where, "region %q is not in regions%s", r, didYouMean(r, keysOf(regions)))
		} else if fence[r] {
			v.add(where, "region %q is in the fence twice", r)
		}
		fence[r] = true
	}
}

func (v *validator) mode(path, got string, allowed ...string) {
	if !slices.Contains(allowed, got) {
		v.add(path, "%q is not one of %s%s", got, strings.Join(allowed, ", "), didYouMean(got, allowed))
	}
}

// certificates never prints one: the error goes to terminals and logs.
func (v *validator) certificates(path string, a App) {
	if a.Auth == AuthToken && len(a.Certificates) == 0 && a.Admission.KeySet == "" {
		v.add(path, "is empty, but auth is %q: give one certificate, two while one replaces the other, or admission.key_set", AuthToken)
	}
	v.count(path, len(a.Certificates), MaxCertificates)
	for i, c := range a.Certificates {
		if reason := badSecret(c); reason != "" {
			v.add(fmt.Sprintf("%s[%d]", path, i), "%s", reason)
		} else if j := slices.Index(a.Certificates[:i], c); j >= 0 {
			v.add(fmt.Sprintf("%s[%d]", path, i), "is the same as %s[%d]", path, j)
		}
	}
}

// badSecret accepts 16 to 256 visible ASCII characters (32 hex digits, as some token formats have it, among them)
// and fingerprints.
func badSecret(s string) string {
	switch {
	case isFingerprint(s):
		return ""
	case isSealed(s):
		return "begins with sealed: as only stored certificates do: write the certificate itself, or its fingerprint"
	case strings.HasPrefix(s, fingerprintPrefix):
		return "begins with sha256: but is not followed by exactly 8 hex digits: neither a fingerprint nor a certificate"
	case len(s) < MinSecretLength || len(s) > MaxSecretLength:
		return fmt.Sprintf("is %d bytes long, %d to %d are allowed", len(s), MinSecretLength, MaxSecretLength)
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "holds a space, a control character or a character outside of ASCII"
	}
	return ""
}

// blocklist finds bad and overlapping prefixes. Sorted by address and then by length, a prefix that contains others
// stands right before them, so one pass with a stack of one (the last prefix that was not contained) suffices.
func (v *validator) blocklist(list []netip.Prefix) {
	order := make([]int, 0, len(list))
	for i, p := range list {
		if reason := badPrefix(p); reason != "" {
			v.add(fmt.Sprintf("blocklist[%d]", i), "%s", reason)
		} else {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(list[a].Addr().Compare(list[b].Addr()), cmp.Compare(list[a].Bits(), list[b].Bits()), cmp.Compare(a, b))
	})
	outer := -1
	for _, i := range order {
		switch {
		case outer < 0 || !list[outer].Overlaps(list[i]):
			outer = i
		case list[outer] == list[i]:
			v.add(fmt.Sprintf("blocklist[%d]", i), "%s is already blocklist[%d]", list[i], outer)
		default:
			v.add(fmt.Sprintf("blocklist[%d]", i), "%s lies inside %s (blocklist[%d]): remove it", list[i], list[outer], outer)
		}
	}
}

func badPrefix(p netip.Prefix) string {
	switch {
	case !p.IsValid():
		return "is not a prefix"
	case p.Addr().Is4In6():
		return fmt.Sprintf("%s is an IPv4 address in IPv6 form: write it as IPv4", p)
	case p.Bits() == 0:
		return fmt.Sprintf("%s would block every address", p)
	case p != p.Masked():
		return fmt.Sprintf("%s has bits set behind the prefix: did you mean %s?", p, p.Masked())
	}
	return ""
}

func keysOf(m map[string]int) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// didYouMean names the nearest valid word, if one is near.
func didYouMean(got string, valid []string) string {
	if len(got) > MaxIDLength {
		return ""
	}
	if best := document.Nearest(strings.ToLower(got), valid); best != "" {
		return fmt.Sprintf(" (did you mean %q?)", best)
	}
	return ""
}
