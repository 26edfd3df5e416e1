package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/control/document"
	"github.com/ternmesh/tern/mesh"
	"github.com/ternmesh/tern/node/gate"
)

const (
	// editTries bounds how often a change of one section starts anew because another change came in between.
	editTries = 8
	// catchUpFor is how long such a change waits for this node to see the version that came in between.
	catchUpFor  = 3 * time.Second
	catchUpPoll = 20 * time.Millisecond
	// maxOrder bounds the body of a small order, in bytes.
	maxOrder = 16 << 10
)

// NodeOrder is what an operator wants of a node; the body of PUT /v1/nodes/{node}.
type NodeOrder struct {
	State           string  `json:"state"`                      // control.NodeDrained or control.NodeCordoned
	DeadlineSeconds float64 `json:"deadline_seconds,omitempty"` // from now, with NodeDrained; 0: sessions end by themselves
	Force           bool    `json:"force,omitempty"`            // also a node that nobody knows, or the last one that takes clients
}

// NodeAnswer is what became of an order.
type NodeAnswer struct {
	Node     string    `json:"node"`
	State    string    `json:"state"` // control.NodeDrained, control.NodeCordoned, or "serving"
	Deadline time.Time `json:"deadline,omitzero"`
	Version  uint64    `json:"version"` // of the policy that says so
}

func (n *Node) putNode(w http.ResponseWriter, r *http.Request) {
	var o NodeOrder
	if !readOrder(w, r, &o) {
		return
	}
	name := r.PathValue("node")
	want := control.NodeState{State: o.State}
	if o.DeadlineSeconds < 0 || o.DeadlineSeconds > (365*24*time.Hour).Seconds() {
		writeError(w, http.StatusBadRequest, fmt.Errorf("deadline_seconds %v is not between 0 and a year", o.DeadlineSeconds))
		return
	}
	if o.DeadlineSeconds > 0 {
		want.Deadline = time.Now().Add(time.Duration(o.DeadlineSeconds * float64(time.Second))).UTC().Truncate(time.Second)
	}
	if err := n.checkOrder(name); err != nil && !o.Force {
		writeError(w, http.StatusConflict, err)
		return
	}
	n.setNode(w, r, name, &want)
}

func (n *Node) deleteNode(w http.ResponseWriter, r *http.Request) {
	n.setNode(w, r, r.PathValue("node"), nil)
}

// setNode writes a node's state into the policy; nil takes it out.
func (n *Node) setNode(w http.ResponseWriter, r *http.Request, name string, want *control.NodeState) {
	action := "undrain " + name
	if want != nil {
		action = want.State + " " + name
	}
	p, err := n.editPolicy(r, action, func(p *control.Policy) {
		p.Nodes = maps.Clone(p.Nodes)
		if p.Nodes == nil {
			p.Nodes = make(map[string]control.NodeState)
		}
		delete(p.Nodes, name)
		if want != nil {
			p.Nodes[name] = *want
		}
	})
	if err != nil {
		writeError(w, statusOf(err), err)
		return
	}
	answer := NodeAnswer{Node: name, State: StateServing, Version: p.Version}
	if s, ok := p.Nodes[name]; ok {
		answer.State, answer.Deadline = s.State, s.Deadline
	}
	writeJSON(w, http.StatusOK, answer)
}

// checkOrder refuses what is probably a mistake.
func (n *Node) checkOrder(name string) error {
	if err := n.checkKnown(name); err != nil {
		return err
	}
	serves := func(m mesh.Member) bool {
		return m.Alive && m.Node != name && n.enforcer.nodeState(m.Node).State == ""
	}
	if !slices.ContainsFunc(n.mesh.Members(), serves) {
		return fmt.Errorf("no other node takes clients: with %q gone there would be none (--force says that this is meant)", name)
	}
	return nil
}

// checkKnown refuses a name that no node has or lately had.
func (n *Node) checkKnown(name string) error {
	members := n.mesh.Members()
	known := append(slices.Clone(members), n.memory.gone(members)...)
	var names []string
	for _, m := range known {
		names = append(names, m.Node)
	}
	if !slices.Contains(names, name) {
		hint := ""
		if best := document.Nearest(name, names); best != "" {
			hint = fmt.Sprintf(", did you mean %q?", best)
		}
		return fmt.Errorf("node %q is %w%s (--force says that this is meant)", name, errNoMember, hint)
	}
	return nil
}

// readOrder reads a small JSON body strictly; it has answered if it returns false.
func readOrder(w http.ResponseWriter, r *http.Request, into any) bool {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOrder))
	if err == nil {
		d := json.NewDecoder(strings.NewReader(string(body)))
		d.DisallowUnknownFields()
		err = d.Decode(into)
	}
	if err != nil {
		writeError(w, bodyStatus(err), fmt.Errorf("the body is not the JSON that is expected here: %w", err))
		return false
	}
	return true
}

// bodyStatus is the status of a body that could not be read, or not understood.
func bodyStatus(err error) int {
	if errors.As(err, new(*http.MaxBytesError)) {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}

// editPolicy changes a part of the policy in force for a request, and starts anew where another change came in between.
// Secrets travel as fingerprints: this node need not know them. action names the act in the audit log.
func (n *Node) editPolicy(r *http.Request, action string, edit func(*control.Policy)) (control.Policy, error) {
	for try := 1; ; try++ {
		p, err := n.control.Shown()
		if err != nil {
			return p, err
		}
		version := p.Version
		edit(&p)
		written(&p)
		out, err := n.propose(r, control.Proposal{
			Policy: &p, Who: gate.From(r.Context()).String(), From: fromOf(r, n.cfg.Node), Action: action, IfVersion: &version,
		})
		var conflict *control.ConflictError
		switch {
		case err == nil:
			n.awaitVersion(r.Context(), out.Version) // who asks this node next finds it in force
			return out.Policy, nil
		case !errors.As(err, &conflict) || try == editTries:
			return out.Policy, err
		}
		n.awaitVersion(r.Context(), conflict.Current)
	}
}

// awaitVersion waits until this node enforces a version, or for catchUpFor.
func (n *Node) awaitVersion(ctx context.Context, version uint64) {
	ctx, cancel := context.WithTimeout(ctx, catchUpFor)
	defer cancel()
	n.control.Wake()
	tick := time.NewTicker(catchUpPoll)
	defer tick.Stop()
	for n.control.Policy().Version < version {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// written makes the optional sections count as written: one that is left out would be kept as it is.
func written(p *control.Policy) {
	if p.Nodes == nil {
		p.Nodes = map[string]control.NodeState{}
	}
	if p.Revoked == nil {
		p.Revoked = []control.Revocation{}
	}
	if p.Admins == nil {
		p.Admins = []control.Admin{}
	}
}
