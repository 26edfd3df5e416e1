package control

import (
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Limits of the node sections of a policy.
const (
	MaxNodes        = 4096
	MaxRevoked      = 4096
	MaxReasonLength = 128
	maxSerialHex    = 40 // RFC 5280: a serial number takes at most 20 bytes
)

// What an operator wants of a node. A node that the policy does not name serves.
const (
	// NodeDrained: no new sessions, relays or directory entries; what is there moves away, and sessions that are left
	// end at the deadline.
	NodeDrained = "drained"
	// NodeCordoned: no new sessions; nothing moves.
	NodeCordoned = "cordoned"
)

// NodeState is what the policy says of one node.
type NodeState struct {
	State    string    `json:"state"`             // NodeDrained or NodeCordoned
	Deadline time.Time `json:"deadline,omitzero"` // with NodeDrained: when the sessions that are left end; zero: never
}

// Revocation takes a node, or one certificate, out of the mesh: exactly one of Node and Serial is set.
type Revocation struct {
	Node   string `json:"node,omitempty"`   // every certificate of that name
	Serial string `json:"serial,omitempty"` // one certificate: its serial number in lower-case hex, no leading zeros
	Reason string `json:"reason,omitempty"`
}

// Matches says whether r revokes a certificate with that name and serial number (lower-case hex, no leading zeros).
func (r Revocation) Matches(node, serial string) bool {
	return r.Node != "" && r.Node == node || r.Serial != "" && r.Serial == serial
}

// carryOver fills in the sections that a document leaves out: who keeps the policy in a file and applies it on every
// change must not end a drain, readmit a revoked node or lock an operator out by that. An empty section clears it.
func carryOver(next *Policy, old Policy) {
	if next.Nodes == nil {
		next.Nodes = old.Nodes
	}
	if next.Revoked == nil {
		next.Revoked = old.Revoked
	}
	if next.Admins == nil {
		next.Admins = old.Admins
	}
}

var nodeName = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

func (v *validator) nodes(p Policy) {
	v.count("nodes", len(p.Nodes), MaxNodes)
	for _, name := range slices.Sorted(maps.Keys(p.Nodes)) {
		path, n := "nodes."+name, p.Nodes[name]
		if !nodeName.MatchString(name) {
			v.add(path, "%.80q is not the name of a node: 1 to 63 of a-z, 0-9 and -", name)
		}
		v.mode(path+".state", n.State, NodeDrained, NodeCordoned)
		if n.State == NodeCordoned && !n.Deadline.IsZero() {
			v.add(path+".deadline", "goes with state drained: nothing ends on a cordoned node")
		}
	}
	v.count("revoked", len(p.Revoked), MaxRevoked)
	for i, r := range p.Revoked {
		v.revocation(fmt.Sprintf("revoked[%d]", i), r)
	}
}

func (v *validator) revocation(path string, r Revocation) {
	switch {
	case (r.Node == "") == (r.Serial == ""):
		v.add(path, "needs either node or serial: whom does it revoke?")
	case r.Node != "" && !nodeName.MatchString(r.Node):
		v.add(path+".node", "%.80q is not the name of a node: 1 to 63 of a-z, 0-9 and -", r.Node)
	case r.Serial != "" && !validSerial(r.Serial):
		v.add(path+".serial", "%.80q is not a certificate's serial number: up to 40 hex digits in lower case, no leading zeros, no colons", r.Serial)
	}
	v.plain(path+".reason", r.Reason, MaxReasonLength)
}

func validSerial(s string) bool {
	padded := s
	if len(s)%2 == 1 {
		padded = "0" + s
	}
	_, err := hex.DecodeString(padded)
	return err == nil && len(s) <= maxSerialHex && s == strings.ToLower(s) && s[0] != '0'
}

// plain checks a text that people read.
func (v *validator) plain(path, s string, most int) {
	if len(s) > most {
		v.add(path, "is %d bytes long, at most %d are allowed", len(s), most)
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		v.add(path, "holds a control character")
	}
}

// nodes reads the mapping of node names to states.
func (r *reader) nodes(to *map[string]NodeState) func(string, ast.Node) {
	return func(path string, n ast.Node) {
		out := make(map[string]NodeState)
		r.entries(path, n, MaxNodes, func(path, name string, n ast.Node) {
			var s NodeState
			r.fields(path, n, map[string]func(string, ast.Node){"state": r.text(&s.State), "deadline": r.instant(&s.Deadline)})
			out[name] = s
		})
		*to = out
	}
}

func (r *reader) revoked(to *[]Revocation) func(string, ast.Node) {
	return func(path string, n ast.Node) {
		*to = []Revocation{}
		r.list(path, n, MaxRevoked, func(path string, n ast.Node) {
			var one Revocation
			r.fields(path, n, map[string]func(string, ast.Node){
				"node": r.text(&one.Node), "serial": r.text(&one.Serial), "reason": r.text(&one.Reason),
			})
			*to = append(*to, one)
		})
	}
}

// entries walks a mapping whose keys are names; each at most once.
func (r *reader) entries(path string, n ast.Node, most int, each func(path, key string, n ast.Node)) {
	pairs, isMap := mapping(n)
	if !isMap {
		r.add(path, n, "must be a mapping of names to values")
		return
	}
	seen := make(map[string]bool, len(pairs))
	for i, pair := range pairs {
		key, isScalar := scalar(pair.Key)
		where := path + "." + key
		switch {
		case i > most: // one more than allowed reaches the validator, which says so
			return
		case !isScalar:
			r.add(path, pair.Key, "has a key that is not plain text")
		case seen[key]:
			r.add(where, pair.Key, "is given twice")
		default:
			seen[key] = true
			r.lines[where] = lineOfNode(pair.Key)
			each(where, key, pair.Value)
		}
	}
}

// instant reads an RFC 3339 time.
func (r *reader) instant(to *time.Time) func(string, ast.Node) {
	return func(path string, n ast.Node) {
		var s string
		r.text(&s)(path, n)
		t, err := time.Parse(time.RFC3339, s)
		switch {
		case err == nil:
			*to = t.UTC()
		case s != "":
			r.add(path, n, "%.40q is not a time such as 2026-11-22T03:30:00Z", s)
		}
	}
}
