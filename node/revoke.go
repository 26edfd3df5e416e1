package node

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/mesh/identity"
)

// revocations are the nodes and certificates that one policy takes out of the mesh.
type revocations struct {
	nodes, serials map[string]bool
}

func revocationsOf(list []control.Revocation) revocations {
	r := revocations{nodes: make(map[string]bool), serials: make(map[string]bool)}
	for _, one := range list {
		if one.Node != "" {
			r.nodes[one.Node] = true
		} else {
			r.serials[identity.SerialScope(one.Serial)] = true
		}
	}
	return r
}

// refuses: the serial number of a leased certificate stands for its key, of which there is a new certificate each day.
func (r revocations) refuses(node, serial string) bool {
	return r.nodes[node] || r.serials[identity.SerialScope(serial)]
}

func (r revocations) empty() bool { return len(r.nodes)+len(r.serials) == 0 }

// revoked says whether the policy takes a certificate out of the mesh.
func (e *enforcer) revoked(node, serial string) bool {
	return e.current.Load().revoked.refuses(node, serial)
}

// expel ends what there is with nodes that the policy in force revokes: they stop being members, so that no frame of theirs
// is relayed or taken in any more (the braid asks for members), and their connections close. New connections and signatures
// of theirs are refused by the identity, which asks the enforcer. The braid's sessions end with the Refresh that follows.
func (n *Node) expel() {
	if n.enforcer.current.Load().revoked.empty() {
		return
	}
	names := n.mesh.Expel()
	n.memory.forget(names)
	closed := n.direct.Expel(func(p identity.Peer) bool { return n.id.Revoked(p) })
	if len(names) > 0 || closed > 0 {
		n.log.Warn("nodes revoked by the policy are out", "nodes", names, "connections_closed", closed)
	}
}

// revokedSelf says that the policy in force at this node takes it out of the mesh itself.
func (n *Node) revokedSelf() bool {
	return n.enforcer.revoked(n.cfg.Node, identity.Peer{Cert: n.id.Cert().Leaf}.Serial())
}

// RevokeOrder asks for a revocation; the body of POST /v1/revoked. Exactly one of Node and Serial is set.
type RevokeOrder struct {
	control.Revocation
	Force bool `json:"force,omitempty"` // also a name that nobody knows, or the node that is asked
}

func (n *Node) postRevoked(w http.ResponseWriter, r *http.Request) {
	var o RevokeOrder
	if !readOrder(w, r, &o) {
		return
	}
	if err := n.checkRevocation(o.Revocation); err != nil && !o.Force {
		writeError(w, http.StatusConflict, err)
		return
	}
	n.editRevoked(w, r, "revoke "+o.Node+o.Serial, func(list []control.Revocation) []control.Revocation {
		if slices.ContainsFunc(list, func(have control.Revocation) bool { return have.Node == o.Node && have.Serial == o.Serial }) {
			return list
		}
		return append(slices.Clone(list), o.Revocation)
	})
}

// deleteRevoked readmits: ?node=NAME or ?serial=HEX, as it was revoked.
func (n *Node) deleteRevoked(w http.ResponseWriter, r *http.Request) {
	want := control.Revocation{Node: r.URL.Query().Get("node"), Serial: r.URL.Query().Get("serial")}
	same := func(have control.Revocation) bool { return have.Node == want.Node && have.Serial == want.Serial }
	if !slices.ContainsFunc(n.control.Policy().Revoked, same) {
		writeError(w, http.StatusNotFound, errors.New("the policy does not revoke that: tern policy get shows what it revokes"))
		return
	}
	n.editRevoked(w, r, "readmit "+want.Node+want.Serial, func(list []control.Revocation) []control.Revocation {
		return slices.DeleteFunc(slices.Clone(list), same)
	})
}

func (n *Node) editRevoked(w http.ResponseWriter, r *http.Request, action string, edit func([]control.Revocation) []control.Revocation) {
	p, err := n.editPolicy(r, action, func(p *control.Policy) { p.Revoked = edit(p.Revoked) })
	if err != nil {
		writeError(w, statusOf(err), err)
		return
	}
	writeRevoked(w, p)
}

// serveRevoked says what the policy revokes: lease authorities ask.
func (n *Node) serveRevoked(w http.ResponseWriter, _ *http.Request) {
	writeRevoked(w, n.control.Policy())
}

func writeRevoked(w http.ResponseWriter, p control.Policy) {
	list := p.Revoked
	if list == nil {
		list = []control.Revocation{}
	}
	writeJSON(w, http.StatusOK, RevokedAnswer{Version: p.Version, Revoked: list})
}

// RevokedAnswer is what the policy revokes.
type RevokedAnswer struct {
	Version uint64               `json:"version"`
	Revoked []control.Revocation `json:"revoked"`
}

// checkRevocation refuses what is probably a mistake.
func (n *Node) checkRevocation(r control.Revocation) error {
	own := identity.Peer{Cert: n.id.Cert().Leaf}.Serial()
	if r.Matches(n.cfg.Node, own) || r.Serial != "" && identity.SerialScope(r.Serial) == identity.SerialScope(own) {
		return fmt.Errorf("that is the node that was asked: ask another one to revoke %q (--force says that this is meant)", n.cfg.Node)
	}
	if r.Node == "" {
		return nil
	}
	return n.checkKnown(r.Node)
}
