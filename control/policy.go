package control

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
)

// Limits of a policy document. Every one is checked by Parse, so no node ever holds more.
const (
	MaxDocumentBytes = 5 << 20 // as written by the operator and as stored
	MaxApps          = 10_000
	MaxRegions       = 256
	MaxBlocklist     = 100_000

	MaxClientPrefixes = 10_000 // of one place
	MaxCertificates   = 2      // primary and secondary
	MaxIDLength       = 64
	MaxResidualPPM    = 10000 // frames in a million that adaptive redundancy may be told to leave undelivered
	MaxNameLength     = 128
	MinSecretLength   = 16
	MaxSecretLength   = 256
)

// How a client of an app proves that it may enter.
const (
	AuthToken = "token"  // a signed token; the default
	AuthAppID = "app_id" // the app's id alone
)

// How many copies of an app's packets cross the mesh.
const (
	RedundancyFull     = "full" // the default
	RedundancyAdaptive = "adaptive"
	RedundancyOff      = "off"
)

// fingerprintPrefix marks a secret that is named, not written: prefix and eight hex digits. No real secret may
// begin with it, or a document could not say which of the two it means.
const fingerprintPrefix = "sha256:"

// Policy is one version of the mesh's rules. A Policy is a value that nobody changes after it was made: the slices
// are shared between all its holders. Version 0 means "no policy yet" and admits nothing.
type Policy struct {
	Version   uint64         `json:"-"` // given by the raft log, never by the document
	Change    string         `json:"-"` // Proposal.ID of the change that made it, where Config.Enforce is told; a peer's word, not signed
	Regions   []Region       `json:"regions"`
	Apps      []App          `json:"apps"`
	Blocklist []netip.Prefix `json:"blocklist"` // masked, no two overlap
	Routes    []RouteBound   `json:"routes,omitempty"`
	Clients   []ClientPlace  `json:"clients,omitempty"`

	Voters Voters      `json:"voters,omitzero"` // see sections.go for these
	Filter FilterRules `json:"filter,omitzero"`
	Alarms Alarms      `json:"alarms,omitzero"`
	Audit  AuditRules  `json:"audit,omitzero"`
	// Sections that a document may leave out to keep what is in force; an empty one clears it (see Merge).
	Nodes   map[string]NodeState `json:"nodes,omitempty"` // by node name
	Revoked []Revocation         `json:"revoked,omitempty"`
	Admins  []Admin              `json:"admins,omitempty"` // tokens of the admin API

	vault []vaultKey // keys of sealed certificates, in stored documents alone
}

// Region is a place that may carry media at all.
type Region struct {
	ID string `json:"id"` // 1-64 of [A-Za-z0-9_-]
}

// App is one tenant.
type App struct {
	ID           string   `json:"id"` // 1-64 of [A-Za-z0-9_-]
	Name         string   `json:"name,omitempty"`
	Certificates []string `json:"certificates,omitempty"` // secrets, tried in order; see Redact
	Auth         string   `json:"auth"`                   // AuthToken or AuthAppID
	Fence        []string `json:"fence,omitempty"`        // empty: all regions of the policy; see FenceRegions
	Redundancy   string   `json:"redundancy"`             // RedundancyFull, RedundancyAdaptive or RedundancyOff
	ResidualPPM  int      `json:"residual_ppm,omitempty"` // with RedundancyAdaptive, frames that may be left undelivered; 0: 100
	Limits       Limits   `json:"limits,omitzero"`

	Admission Admission `json:"admission,omitzero"` // more about who may enter
}

// FenceRegions is the sorted list of regions that app's media may touch: its fence, or all regions if it has none.
// The caller owns the result.
func (p Policy) FenceRegions(app App) []string {
	out := slices.Clone(app.Fence)
	if len(out) == 0 {
		for _, r := range p.Regions {
			out = append(out, r.ID)
		}
	}
	slices.Sort(out)
	return out
}

// Fingerprint shows a secret without showing it: "sha256:" and the first eight hex digits of its SHA-256.
func Fingerprint(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return fingerprintPrefix + hex.EncodeToString(sum[:4])
}

// isFingerprint tells a named secret from a written one.
func isFingerprint(s string) bool {
	digits, found := strings.CutPrefix(s, fingerprintPrefix)
	if !found || len(digits) != 8 {
		return false
	}
	_, err := hex.DecodeString(digits)
	return err == nil
}

// Redact returns p with every secret replaced by its fingerprint. The result may be shown to any operator, and may
// be edited and applied again: Merge finds the secrets.
func Redact(p Policy) Policy {
	p.Apps, p.vault = slices.Clone(p.Apps), nil
	for i := range p.Apps {
		p.Apps[i].Certificates = slices.Clone(p.Apps[i].Certificates)
		for j, c := range p.Apps[i].Certificates {
			p.Apps[i].Certificates[j] = fingerprintOf(c)
		}
	}
	return p
}

// Merge returns next with every fingerprint replaced by the secret of the same app in old that it names. Only the
// same app is searched: fingerprints are shown to people who must not be able to hand one app's secret to another.
// Nodes, Revoked and Admins stay as they are in old where next does not have the section at all (nil).
// A fingerprint that names nothing is an error (Problems); all of them are reported at once.
func Merge(next, old Policy) (Policy, error) {
	known := make(map[string][]string, len(old.Apps))
	for _, a := range old.Apps {
		known[a.ID] = a.Certificates
	}
	carryOver(&next, old)
	var problems Problems
	next.Apps = slices.Clone(next.Apps)
	for i := range next.Apps {
		app := &next.Apps[i]
		app.Certificates = slices.Clone(app.Certificates)
		for j, c := range app.Certificates {
			if !isFingerprint(c) {
				continue
			}
			k := slices.IndexFunc(known[app.ID], func(s string) bool { return strings.EqualFold(fingerprintOf(s), c) })
			if k < 0 {
				problems.add(fmt.Sprintf("apps[%d].certificates[%d]", i, j), 0,
					"%s names no certificate that app %q has in version %d: write the certificate itself", c, app.ID, old.Version)
				continue
			}
			app.Certificates[j] = known[app.ID][k]
		}
		if len(app.Certificates) == 2 && fingerprintOf(app.Certificates[0]) == fingerprintOf(app.Certificates[1]) {
			problems.add(fmt.Sprintf("apps[%d].certificates[1]", i), 0, "is the same as the first")
		}
	}
	return next, problems.err()
}

// sentPolicy is a policy on its way to the leader: the same sections may be left out, or be there and empty.
type sentPolicy struct {
	Policy
	Nodes   *map[string]NodeState `json:"nodes,omitempty"`
	Revoked *[]Revocation         `json:"revoked,omitempty"`
	Admins  *[]Admin              `json:"admins,omitempty"`
}

// EncodePolicy writes p as a JSON document that Parse reads as the same policy: a section that is nil is left out, one that
// is empty is written.
func EncodePolicy(p Policy) ([]byte, error) {
	s := sentPolicy{Policy: p}
	if p.Nodes != nil {
		s.Nodes = &p.Nodes
	}
	if p.Revoked != nil {
		s.Revoked = &p.Revoked
	}
	if p.Admins != nil {
		s.Admins = &p.Admins
	}
	doc, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode policy: %w", err)
	}
	return doc, nil
}

// decodePolicy is the inverse of EncodePolicy; unlike Parse it knows no lines and no defaults. It validates nothing.
func decodePolicy(doc []byte) (Policy, error) {
	s := sentPolicy{Policy: roomFor(doc)}
	if err := decodeStrictly(doc, &s); err != nil {
		return Policy{}, fmt.Errorf("decode policy: %w", err)
	}
	p := s.Policy
	if s.Nodes != nil {
		p.Nodes = *s.Nodes
	}
	if s.Revoked != nil {
		p.Revoked = *s.Revoked
	}
	if s.Admins != nil {
		p.Admins = *s.Admins
	}
	return p, nil
}

// roomFor makes room for the long lists of an encoded policy: growing them one by one takes five times as much memory as they do.
// Counts are guesses, and only room.
func roomFor(doc []byte) (p Policy) {
	if n := bytes.Count(doc, []byte(`"auth":`)); n > 0 {
		p.Apps = make([]App, 0, min(n, MaxApps))
	}
	if _, list, found := bytes.Cut(doc, []byte(`"blocklist":["`)); found {
		list, _, _ = bytes.Cut(list, []byte("]"))
		p.Blocklist = make([]netip.Prefix, 0, min(1+bytes.Count(list, []byte(",")), MaxBlocklist))
	}
	return p
}

// decodeStrictly reads one JSON value, refusing fields that into does not have and whatever comes behind the value.
func decodeStrictly(doc []byte, into any) error {
	if len(doc) > MaxDocumentBytes {
		return fmt.Errorf("%d bytes, at most %d are allowed", len(doc), MaxDocumentBytes)
	}
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("bytes after the document")
	}
	return nil
}

// storedPolicy is what a log entry, a snapshot or a copy holds.
type storedPolicy struct {
	Policy
	Vault []vaultKey `json:"vault,omitempty"`
}

// encodeDocument is the stored form: compact JSON, the same bytes for equal policies.
func encodeDocument(p Policy) ([]byte, error) {
	doc, err := json.Marshal(storedPolicy{Policy: p, Vault: p.vault})
	if err != nil {
		return nil, fmt.Errorf("encode policy: %w", err)
	}
	if len(doc) > MaxDocumentBytes {
		return nil, fmt.Errorf("policy takes %d bytes when stored, at most %d are allowed", len(doc), MaxDocumentBytes)
	}
	return doc, nil
}

// decodeDocument reads the stored form. It refuses fields that it does not know, because a field that is skipped is
// a rule that is not enforced. It does not validate: whoever proposed the document did, and two versions of this
// program that disagree about a rule must still agree about the log.
func decodeDocument(doc []byte, version uint64) (Policy, error) {
	p := storedPolicy{Policy: roomFor(doc)}
	p.Version = version
	if err := decodeStrictly(doc, &p); err != nil {
		return Policy{}, fmt.Errorf("decode stored policy: %w", err)
	}
	p.vault = p.Vault
	return p.Policy, nil
}
